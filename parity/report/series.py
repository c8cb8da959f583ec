"""What the plots of a report show, as plain data: margins by layer and stage, errors and margins by step."""

import functools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from parity.comparison import Leaf
from parity.verdict import StageResult, Verdict

# {label: [(step, value), ...]}: what a growth plot shows, one line per label
Series = dict[str, list[tuple[int, float]]]

WITHOUT_LAYER = 'values without a layer'
_STEP = re.compile(r'step(\d+)(?: (.*))?')


@dataclass(frozen=True)
class Cell:
    """The worst leaf of one layer in one stage and precision, over all cases."""

    margin: float
    differs: bool
    path: str


@dataclass(frozen=True)
class Heat:
    """rows: layers; columns: (stage, dtype) in the verdict's order; cells: only where there is a leaf."""

    rows: list[str]
    columns: list[tuple[str, str]]
    cells: dict[tuple[str, tuple[str, str]], Cell]


def layer(path: str) -> str:
    """`modules_critic/Dense_0` of `step3 finetune/params/modules_critic/Dense_0/kernel`."""
    parts = path.split('/')
    first = next((i for i, part in enumerate(parts) if part.startswith('modules_')), None)
    if first is None:
        return WITHOUT_LAYER
    return '/'.join(parts[first:-1] or parts[first:])


def heat(verdict: Verdict) -> Heat:
    """The worst margin of each layer in each stage and precision; the values without a layer come last."""
    cells: dict[tuple[str, tuple[str, str]], Cell] = {}
    columns: dict[tuple[str, str], None] = {}
    for _, stage in verdict.stages():
        column = (stage.stage, stage.dtype)
        columns[column] = None
        for leaf in stage.leaves:
            at = (layer(leaf.path), column)
            if at not in cells or _badness(leaf) > (cells[at].differs, cells[at].margin):
                cells[at] = Cell(number(leaf.margin), not leaf.matches, leaf.path)
    rows = sorted({row for row, _ in cells}, key=lambda row: (row == WITHOUT_LAYER, row))
    return Heat(rows, list(columns), cells)


def margin_growth(verdict: Verdict) -> Series:
    """The worst margin of any leaf after each step, over all cases."""
    return _growth((stage, step, leaf.margin) for stage, step, _, leaf in _stepped(verdict))


def error_growth(verdict: Verdict) -> Series:
    """The largest error of any parameter after each step, over all cases."""
    return _growth(
        (stage, step, leaf.error) for stage, step, rest, leaf in _stepped(verdict) if rest == 'params'
    )


def drift(verdict: Verdict) -> Series:
    """The parameters' drift in long runs, in learning rates: the port's and the reference's own."""
    worst: dict[str, dict[int, float]] = {}
    for growth in verdict.growth:
        for step, *drifts in growth.drifts:
            for side, value in zip(('port', 'reference'), drifts, strict=True):
                steps = worst.setdefault(f'{side} {growth.dtype}', {})
                steps[step] = max(steps.get(step, 0.0), number(value))
    return {label: sorted(steps.items()) for label, steps in worst.items()}


def step_names(verdict: Verdict) -> dict[int, str]:
    """What each step is: `{3: 'finetune_partial'}`."""
    firsts = dict.fromkeys(leaf.path.split('/')[0] for _, _, _, leaf in _stepped(verdict))
    found = (_STEP.fullmatch(first) for first in firsts)
    return {int(match[1]): match[2] or '' for match in found if match}


def number(value: float) -> float:
    """The value, or infinity for what is not a number."""
    return math.inf if math.isnan(value) else value


def _badness(leaf: Leaf) -> tuple[bool, float]:
    return not leaf.matches, number(leaf.margin)


def _stepped(verdict: Verdict) -> Iterator[tuple[StageResult, int, str, Leaf]]:
    """Every leaf below `step<i> <name>/`, with its stage, its step and the part of the path that follows."""
    for _, stage in verdict.stages():
        for leaf in stage.leaves:
            first, _, rest = leaf.path.partition('/')
            if (step := _step(first)) is not None:
                yield stage, step, rest.split('/')[0], leaf


@functools.lru_cache(maxsize=1024)
def _step(name: str) -> int | None:
    match = _STEP.fullmatch(name)
    return int(match[1]) if match else None


def _growth(values: Iterator[tuple[StageResult, int, float]]) -> Series:
    worst: dict[str, dict[int, float]] = {}
    for stage, step, value in values:
        steps = worst.setdefault(f'{stage.stage} {stage.dtype}', {})
        steps[step] = max(steps.get(step, 0.0), number(value))
    return {label: sorted(steps.items()) for label, steps in worst.items()}
