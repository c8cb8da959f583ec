"""Verdicts on the terminal."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from parity.report.json import worst_of_stages
from parity.stages import STAGES
from parity.verdict import CaseResult, StageResult, Verdict, describe

COLOURS = {'match': 'green', 'mismatch': 'bold red', 'error': 'bold magenta', 'not_run': 'yellow'}
SHOWN = 5


def overview(verdicts: Sequence[Verdict]) -> Table:
    """One row per pair and precision, one column per stage: the outcome and the worst margin in it."""
    table = Table(title='worst margin (error / allowed) of each stage; above 1 is a mismatch')
    for title in ('pair', 'dtype', 'cases', *STAGES):
        table.add_column(title, justify='left' if title in ('pair', 'dtype') else 'right')
    for verdict in verdicts:
        worst = worst_of_stages(verdict)
        for dtype in dict.fromkeys(name.split()[1] for name in worst):
            cells = [_cell(worst.get(f'{stage} {dtype}')) for stage in STAGES]
            table.add_row(verdict.pair, dtype, str(len(verdict.cases)), *cells)
    return table


def failures(verdict: Verdict) -> Group:
    """Every stage that is not a match, with its worst leaves."""
    parts: list[RenderableType] = []
    for case, stage in verdict.stages():
        if stage.outcome == 'mismatch':
            parts += [Text(describe(verdict.pair, case, stage), style='red'), *_more(stage)]
        elif stage.outcome in ('error', 'not_run'):
            parts.append(Text(_not_compared(verdict.pair, case, stage), style=COLOURS[stage.outcome]))
    return Group(*parts)


def _cell(entry: dict[str, object] | None) -> Text:
    if entry is None:
        return Text('', style='dim')
    outcome = str(entry['outcome'])
    text = f'{entry["margin"]:.2g}' if outcome in ('match', 'mismatch') else outcome
    return Text(
        f'{text} {"ok" if outcome == "match" else "MISMATCH"}' if text != outcome else text, COLOURS[outcome]
    )


def _more(stage: StageResult) -> list[Text]:
    others = [leaf for leaf in stage.leaves[1:] if not leaf.matches]
    lines = [f'  also: {leaf.kind} of {leaf.path}, margin {leaf.margin:.3g}' for leaf in others[:SHOWN]]
    if len(others) > SHOWN:
        lines.append(f'  and {len(others) - SHOWN} more; all of them are in the JSON report')
    return [Text(line, style='red') for line in lines]


def _not_compared(pair: str, case: CaseResult, stage: StageResult) -> str:
    what = f'{pair}: {stage.stage} {stage.dtype}: {stage.outcome}: {stage.reason}'
    return f'{what}\n  at: {case.description}\n  next: {case.command}'
