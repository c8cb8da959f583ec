"""A divergence on the terminal: the tree of calls, and each place with its lines, values and cause."""

import os
from collections.abc import Iterator

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.text import Text
from rich.tree import Tree

from parity.locating.divergence import Divergence, Finding, Place
from parity.locating.layers import LayerRow
from parity.report.parts import Call, calls, excerpt
from parity.report.text import COLOURS

SOME = 2
STYLES = {'culprit': 'bold red', 'carrier': 'yellow', 'missing': 'magenta', 'match': 'dim'}


def view(divergence: Divergence, top: int) -> Iterator[RenderableType]:
    """What was found, part by part; top: so many places."""
    yield Text(f'{divergence.pair}: {divergence.case}', 'bold')
    if divergence.outcome == 'match':
        yield Text('nothing differs', COLOURS['match'])
        return
    for stage in divergence.stages:
        what = f'{len(stage.leaves)} of {stage.total} leaves differ' if stage.leaves else stage.reason
        worst = f', most of all {stage.leaves[0].path}' if stage.leaves else ''
        yield Text(f'{stage.stage} {stage.dtype}: {what}{worst}', COLOURS[stage.outcome])
    for loss, rows in divergence.modules.items():
        yield tree(loss, rows)
    for cell in (cell for cell in divergence.reach if cell.differs):
        yield Text(cell.describe(), 'yellow')
    for finding in divergence.findings[:top]:
        yield place(finding)
    yield from _ending(divergence, top)


def short(divergence: Divergence) -> list[str]:
    """The first place in two lines, one for each side; where none was found, why."""
    if not divergence.findings:
        return list(divergence.notes)
    first = divergence.findings[0]
    cause = f'{first.cause.name}: {first.cause.description}' if first.cause else first.why
    return [f'port      {_named(first.port)}', f'reference {_named(first.reference)} — {cause}']


def tree(loss: str, rows: tuple[LayerRow, ...]) -> Tree:
    """The calls of modules, those that agree folded to a count."""
    root = Tree(Text(f'modules called in {loss}', 'bold'))
    _branches(root, calls(rows))
    return root


def _branches(branch: Tree, made: tuple[Call, ...]) -> None:
    for call in (call for call in made if not call.agrees):
        text = Text(call.name, STYLES[call.status]).append(f'  {call.says}')
        _branches(branch.add(text), call.inner)
    if agreeing := sum(call.count for call in made if call.agrees):
        branch.add(Text(f'{agreeing} calls agree', STYLES['match']))


def place(finding: Finding) -> Panel:
    """One place: both sides' lines, the values, what it reaches, the cause."""
    lines = [Text(_cause(finding) or finding.why, 'bold')]
    if finding.cause is not None:
        lines.append(Text(finding.cause.description))
        lines.append(Text(f'suspected because: {finding.why}', 'dim'))
    for label, value in (('port', finding.port_value), ('reference', finding.reference_value)):
        lines += [Text(f'{label:9} {value}')] if value else []
    if finding.difference is not None:
        allowed = f', allowed {finding.allowed:.1e}' if finding.allowed is not None else ''
        lines.append(Text(f'difference {finding.difference:.3e}{allowed}'))
    for label, words in (
        ('modules', finding.modules),
        ('reaches', finding.reaches),
        ('parameters', finding.parameters),
        ('agreed before', finding.agreed),
    ):
        lines += [Text(f'{label}: {_some(words)}')] if words else []
    sides = [
        Group(*_source(side, at)) for side, at in (('port', finding.port), ('reference', finding.reference))
    ]
    title = f'{finding.rank}. {finding.kind} in {" ".join(filter(None, (finding.stage, finding.loss)))}'
    return Panel(Group(Columns(sides, padding=(0, 4)), Text(), *lines), title=title, title_align='left')


def _source(side: str, at: Place | None) -> Iterator[Text]:
    """The line with a few before and after it."""
    if at is None:
        yield Text(f'{side}: no line is known', 'dim')
        return
    source = excerpt(at)
    yield Text(f'{side} {source.where}', 'bold cyan')
    for i, text in source.lines:
        yield Text(f'{">" if i == at.line else " "} {i:4} {text}', 'bold red' if i == at.line else '')


def _some(words: tuple[str, ...]) -> str:
    more = f' and {len(words) - SOME} more' if len(words) > SOME + 1 else ''
    return ', '.join(words[:SOME] if more else words) + more


def _cause(finding: Finding) -> str:
    return finding.cause.name if finding.cause is not None else ''


def _named(at: Place | None) -> str:
    return f'{os.path.basename(at.file)}:{at.line} {at.text}' if at is not None else 'no line is known'


def _ending(divergence: Divergence, top: int) -> Iterator[Text]:
    if len(divergence.findings) > top:
        yield Text(
            f'and {len(divergence.findings) - top} less likely places: --top, or --json for all', 'dim'
        )
    if divergence.explained is not None:
        agrees = 'all of it agrees' if divergence.explained else 'something still differs'
        yield Text(f'with the causes undone {agrees}', 'green' if divergence.explained else 'yellow')
    for note in divergence.notes:
        yield Text(note, 'yellow')
    yield Text(f'{divergence.seconds:.1f} s; next: {divergence.command}', 'dim')
