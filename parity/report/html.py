"""Verdicts as HTML pages for a person: one per pair and an index, without any script or network."""

import bisect
import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from parity.comparison import Leaf
from parity.report import files, plots, series
from parity.report.json import worst_of_stages
from parity.report.locating import short
from parity.stages import STAGES
from parity.verdict import CaseResult, Outcome, StageResult, Verdict, describe

if TYPE_CHECKING:
    from jinja2 import Environment

# Colour never says it alone.
SYMBOLS: dict[Outcome, str] = {'match': '✓', 'mismatch': '✗', 'error': '!', 'not_run': '○'}
BADNESS: dict[Outcome, int] = {'match': 0, 'not_run': 1, 'mismatch': 2, 'error': 3}
# What all leaves on a page may take, in characters; the rest of a page takes about as much as
# a third of it, so that a page stays below 1.5 MB.
BUDGET = 900_000
ROW = 150  # characters of a row's own markup
OTHER_CASES = 20
LISTED_CASES = 100
LONGEST = 400  # characters of one value; the JSON report has all of them

Found = tuple[CaseResult, StageResult]


@dataclass(frozen=True)
class Precision:
    """One stage in one precision: the leaves of the worst case, and the other cases, worst first."""

    dtype: str
    worst: Found
    shown: tuple[Leaf, ...]
    others: list[Found]
    hidden: int

    @property
    def result(self) -> StageResult:
        """The result of the worst case."""
        return self.worst[1]


def write(verdicts: Sequence[Verdict], folder: Path) -> list[Path]:
    """Write `<pair>.html` for each verdict, then `index.html`; returns the paths."""
    pages = {f'{files.stem(verdict.pair)}.html': pair_page(verdict) for verdict in verdicts}
    return files.write_all(folder, {**pages, 'index.html': index_page(verdicts)})


def pair_page(verdict: Verdict) -> str:
    """The page of one pair."""
    names = series.step_names(verdict)
    errors, margins = series.error_growth(verdict), series.margin_growth(verdict)
    drifts = series.drift(verdict)
    growths = [
        _growth(
            "How far the parameters drift, and the reference's own drift",
            'learning rates',
            drifts,
            names,
            None,
        ),
        _growth('The largest error of any parameter after each step', 'error', errors, names, None),
        _growth('The worst margin of any leaf after each step', 'margin', margins, names, 1.0),
    ]
    return render(
        'pair.html',
        verdict=verdict,
        stages=stages_of(verdict),
        first=_first_bad(verdict),
        heat=series.heat(verdict),
        growths=[growth for growth in growths if growth['series']],
        cases=_listed(verdict),
    )


def index_page(verdicts: Sequence[Verdict]) -> str:
    """The page over all pairs."""
    stages = dict.fromkeys([*STAGES, *(stage.stage for v in verdicts for _, stage in v.stages())])
    rows = [(verdict, _by_dtype(verdict)) for verdict in verdicts]
    return render('index.html', rows=rows, stages=list(stages), versions=_all_versions(verdicts))


def stages_of(verdict: Verdict) -> dict[str, list[Precision]]:
    """The stages in the verdict's order, each in its precisions."""
    found: dict[str, dict[str, list[Found]]] = {}
    for case, stage in verdict.stages():
        found.setdefault(stage.stage, {}).setdefault(stage.dtype, []).append((case, stage))
    ordered = {
        stage: {dtype: sorted(results, key=_badness, reverse=True) for dtype, results in dtypes.items()}
        for stage, dtypes in found.items()
    }
    most = fitting([results[0][1] for dtypes in ordered.values() for results in dtypes.values()])
    return {
        stage: [_precision(dtype, results, most) for dtype, results in dtypes.items()]
        for stage, dtypes in ordered.items()
    }


def fitting(results: Sequence[StageResult]) -> int:
    """How many leaves of each result a page may show to stay within BUDGET; at least 1."""
    sizes = [[0, *accumulate(_size(leaf) for leaf in result.leaves)] for result in results]
    counts = range(1, max((len(sums) for sums in sizes), default=1) + 1)

    def total(count: int) -> int:
        return sum(sums[min(count, len(sums) - 1)] for sums in sizes)

    return max(1, bisect.bisect_right(counts, BUDGET, key=total))


def _precision(dtype: str, results: list[Found], most: int) -> Precision:
    others = results[1:]
    shown = results[0][1].leaves[:most]
    return Precision(dtype, results[0], shown, others[:OTHER_CASES], len(others[OTHER_CASES:]))


def _badness(found: Found) -> tuple[int, float]:
    _, stage = found
    return BADNESS[stage.outcome], series.number(stage.worst.margin) if stage.worst else 0.0


def _size(leaf: Leaf) -> int:
    texts = leaf.path, leaf.reference[:LONGEST], leaf.port[:LONGEST], leaf.why, str(leaf.where)
    return ROW + sum(len(escape(text).encode(errors='replace')) for text in texts)


def _listed(verdict: Verdict) -> list[tuple[int, CaseResult]]:
    """The cases that a page lists, with their numbers: the first, and all that do not match."""
    numbered = enumerate(verdict.cases, 1)
    return [(i, case) for i, case in numbered if i <= LISTED_CASES or case.outcome != 'match']


def _first_bad(verdict: Verdict) -> str:
    """The message of the first stage that does not match, in its worst case."""
    for precisions in stages_of(verdict).values():
        for case, stage in (precision.worst for precision in precisions):
            if stage.outcome != 'match':
                return describe(verdict.pair, case, stage)
    return ''


def _growth(
    title: str, ylabel: str, values: series.Series, names: dict[int, str], limit: float | None
) -> dict[str, object]:
    label = f'{title}, a line for each stage and precision; the numbers are in the table below'
    svg = plots.lines(values, ylabel=ylabel, label=label, names=names, limit=limit)
    by_step = {name: dict(points) for name, points in values.items()}
    steps = sorted({step for points in by_step.values() for step in points})
    return {'title': title, 'svg': svg, 'series': by_step, 'steps': steps, 'names': names}


def _by_dtype(verdict: Verdict) -> Iterator[tuple[str, dict[str, dict[str, object]]]]:
    """For each precision, the worst entry of each stage."""
    worst = worst_of_stages(verdict)
    for dtype in dict.fromkeys(name.rpartition(' ')[2] for name in worst) or ['']:
        parts = {
            name.rpartition(' ')[0]: entry for name, entry in worst.items() if name.endswith(f' {dtype}')
        }
        yield dtype, parts


def _all_versions(verdicts: Sequence[Verdict]) -> dict[str, str]:
    return {name: version for verdict in verdicts for name, version in verdict.versions.items()}


def _number(value: float) -> str:
    """Three digits; `∞` where there is no limit."""
    if math.isinf(value):
        return '∞' if value > 0 else '-∞'
    return 'not a number' if math.isnan(value) else f'{value:.3g}'


def _heat(margin: float) -> float:
    """How strongly a cell is coloured, 0 to 1: from a margin of 0.001 up to one of 1; and from 1 to 1e6."""
    if not margin > 0:
        return 0.0
    if margin > 1:
        return 0.45 + 0.3 * min(1.0, math.log10(margin) / 6)
    return round(0.5 * max(0.0, 1 + math.log10(margin) / 3), 2)


@functools.cache
def _environment() -> 'Environment':
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader('parity.report'),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=_number, heat=_heat, short=short)
    environment.filters.update(
        {name.__name__: name for name in (files.stem, files.located_stem, files.case_name)}
    )
    environment.globals.update(symbols=SYMBOLS, what=STAGES, longest=LONGEST)
    return environment


def render(template: str, **values: object) -> str:
    """A page from one of the templates; all text in it is escaped."""
    return _environment().get_template(template).render(values)
