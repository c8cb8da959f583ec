"""Verdicts on the terminal."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from parity.report.json import worst_of_stages
from parity.stages import STAGES
from parity.verdict import CaseResult, StageResult, Verdict, describe

COLOURS = {'match': 'green', 'mismatch': 'bold red', 'error': 'bold magenta', 'not_run': 'yellow'}
SHOWN = 3
SHORT = {'contractions': 'contr.'}


def overview(verdicts: Sequence[Verdict]) -> Table:
    """One row per pair and precision, one column per stage that any has: its worst margin, or its outcome."""
    entries = [worst_of_stages(verdict) for verdict in verdicts]
    found = {name.split()[0] for worst in entries for name in worst}
    stages = [stage for stage in STAGES if stage in found]
    table = Table(
        title='worst margin (error / allowed) of each stage: above 1 is a mismatch', caption=_counts(verdicts)
    )
    table.add_column('pair', no_wrap=True)
    for title in ('', 'cases', *(SHORT.get(stage, stage) for stage in stages)):
        table.add_column(title, justify='right', no_wrap=True)
    for verdict, worst in zip(verdicts, entries, strict=True):
        for dtype in dict.fromkeys(name.split()[1] for name in worst) or ['']:
            cells = [_cell(worst.get(f'{stage} {dtype}')) for stage in stages]
            table.add_row(verdict.pair, dtype.replace('float', 'f'), str(len(verdict.cases)), *cells)
    return table


def failures(verdict: Verdict) -> list[Text]:
    """For every case that does not match: its first such stage in full, the others in a line each."""
    lines: list[Text] = []
    for case in verdict.cases:
        bad = [stage for stage in case.stages if stage.outcome != 'match']
        lines += [_in_full(verdict.pair, case, stage) for stage in bad[:1]]
        if bad and all((stage.outcome, stage.reason) == ('not_run', bad[0].reason) for stage in bad):
            lines += [Text(f'  and {len(bad) - 1} more, for the same reason', COLOURS['not_run'])]
            continue
        lines += [_in_short(stage) for stage in bad[1:]]
    return lines


def _counts(verdicts: Sequence[Verdict]) -> str:
    cases, generated = sum(len(v.cases) for v in verdicts), sum(v.generated for v in verdicts)
    leaves = sum(v.compared for v in verdicts)
    return f'{cases:,} cases, {generated:,} of them generated; {leaves:,} leaves compared'


def _cell(entry: dict[str, object] | None) -> Text:
    if entry is None:
        return Text('')
    outcome, margin = str(entry['outcome']), entry['margin']
    return Text(f'{margin:.2g}' if outcome in ('match', 'mismatch') else outcome, COLOURS[outcome])


def _in_full(pair: str, case: CaseResult, stage: StageResult) -> Text:
    more = _more(stage) if stage.outcome == 'mismatch' else []
    return Text('\n'.join([describe(pair, case, stage), *more]), COLOURS[stage.outcome])


def _in_short(stage: StageResult) -> Text:
    differing = sum(not leaf.matches for leaf in stage.leaves)
    found = f'{differing} of {stage.total} leaves differ' if stage.leaves else stage.reason
    return Text(f'  {stage.stage} {stage.dtype}: {stage.outcome}: {found}', COLOURS[stage.outcome])


def _more(stage: StageResult) -> list[str]:
    others = [leaf for leaf in stage.leaves[1:] if not leaf.matches]
    lines = [f'  also: {leaf.kind} of {leaf.path}, margin {leaf.margin:.3g}' for leaf in others[:SHOWN]]
    if len(others) > SHOWN:
        lines.append(f'  and {len(others) - SHOWN} more; all of them are in the JSON report')
    return lines
