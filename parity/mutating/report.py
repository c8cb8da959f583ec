"""The results for a person: survivors' diffs first, in the terminal and as a page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from parity.mutating.mutants import operators_of
from parity.mutating.results import EQUIVALENT, Fate, Result
from parity.report import files

if TYPE_CHECKING:
    from rich.console import Console

FATES: tuple[Fate, ...] = ('killed', 'equivalent', 'survived', 'unreached')


@dataclass(frozen=True)
class Row:
    """The counts of one file or of one operator."""

    name: str
    mutants: int
    killed: int
    equivalent: int
    survived: int
    unreached: int
    seconds: float


def rows(found: Sequence[Result], name: Callable[[Result], str]) -> list[Row]:
    """The counts by what `name` says, in its order; at last those of all."""
    names = sorted({name(result) for result in found})
    groups = {each: [result for result in found if name(result) == each] for each in names}
    return [_row(each, group) for each, group in {**groups, 'all': list(found)}.items()]


def killers(found: Sequence[Result]) -> dict[str, int]:
    """How many mutants each stage killed, `loss float64`, or which other end they came to; the most first."""
    counts: dict[str, int] = {}
    for result in found:
        by = result.found
        if by is not None:
            name = f'{by.stage} {by.dtype}' if by.kind == 'mismatch' else f'{by.kind} {by.stage}'.strip()
            counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def unreached(found: Sequence[Result]) -> dict[str, list[int]]:
    """The lines, by file, whose mutants were not tried because no case runs them."""
    lines: dict[str, set[int]] = {}
    for result in found:
        if result.fate == 'unreached':
            lines.setdefault(result.file, set()).add(result.lines[0])
    return {file: sorted(numbers) for file, numbers in sorted(lines.items())}


def ranks(found: Sequence[Result]) -> str:
    """How often the mutated line was named, of those for which it was asked; '' if it was of none."""
    asked = [result.located for result in found if result.located is not None]
    first, third = (sum(1 <= rank <= last for rank in asked) for last in (1, 3))
    return f'the mutated line named first: {first} of {len(asked)}, among three: {third}' if asked else ''


def show(found: Sequence[Result], console: 'Console') -> None:
    """Print the survivors' diffs, then the counts."""
    from rich.syntax import Syntax
    from rich.table import Table

    for result in found:
        if result.fate == 'survived':
            console.print(f'survived {result.id} {result.operator}, {result.file}:{result.lines[0]}')
            console.print(Syntax(result.diff, 'diff', background_color='default'))
    table = Table('file', 'mutants', *FATES, 'seconds', title='mutants')
    for row in rows(found, lambda result: result.file):
        counts = map(str, (row.mutants, row.killed, row.equivalent, row.survived, row.unreached))
        table.add_row(row.name, *counts, f'{row.seconds:.0f}')
    console.print(table)
    for result in found:
        if result.is_misdeclared:
            place = f'{result.file}:{result.lines[0]}'
            console.print(f'killed, and declared equivalent in {EQUIVALENT}: {result.operator}, {place}')
    for file, numbers in unreached(found).items():
        console.print(f'no case runs {file}: ' + ', '.join(map(str, numbers)))
    if ranks(found):
        console.print(ranks(found))
    console.print('killed by: ' + ', '.join(f'{name} {count}' for name, count in killers(found).items()))


def write(found: Sequence[Result], folder: Path) -> Path:
    """Write the page `mutants.html`."""
    from parity.report import html

    page = html.render(
        'mutants.html',
        survivors=[result for result in found if result.fate == 'survived'],
        equivalents=[result for result in found if result.fate == 'equivalent'],
        killed=[result for result in found if result.fate == 'killed'],
        misdeclared=[result for result in found if result.is_misdeclared],
        unreached=unreached(found),
        fates=FATES,
        ranks=ranks(found),
        by_file=rows(found, lambda result: result.file),
        by_operator=rows(found, lambda result: result.operator),
        killers=killers(found),
        mistakes={operator.name: operator.mistake for operator in operators_of()},
    )
    return files.write(folder / 'mutants.html', page)


def _row(name: str, group: Sequence[Result]) -> Row:
    fates = [result.fate for result in group]
    killed, equivalent, survived, unreached = (fates.count(fate) for fate in FATES)
    seconds = sum(result.seconds for result in group)
    return Row(name, len(group), killed, equivalent, survived, unreached, seconds)
