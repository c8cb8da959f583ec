"""What a soak found, for a person: how many examples of each pair, from which seed, and which differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from parity.report import files
from parity.soaking.parts import Result

if TYPE_CHECKING:
    from rich.table import Table

TITLES = ('pair', 'seed', 'examples', 'structures', 'leaves', 'worst margin', 'differ', 'seconds')


@dataclass(frozen=True)
class Row:
    """The counts of one pair, or of all."""

    pair: str
    seed: int
    examples: int
    parts: int
    leaves: int
    margin: float
    failures: int
    seconds: float

    def cells(self) -> list[str]:
        """As text, under TITLES."""
        counts = (f'{count:,}' for count in (self.examples, self.parts, self.leaves))
        return [
            self.pair,
            str(self.seed),
            *counts,
            f'{self.margin:.2g}',
            str(self.failures),
            f'{self.seconds:.0f}',
        ]


def rows(found: Sequence[Result]) -> list[Row]:
    """Those of each pair in the order of their first parts; at last that of all."""
    pairs = dict.fromkeys(result.part.pair for result in found)
    groups = {pair: [result for result in found if result.part.pair == pair] for pair in pairs}
    return [_row(name, group) for name, group in {**groups, 'all': list(found)}.items() if group]


def table(found: Sequence[Result]) -> 'Table':
    """The rows for a terminal."""
    from rich.table import Table

    shown = Table(title='generated examples of pairs that should agree')
    for title in TITLES:
        shown.add_column(title, justify='left' if title == 'pair' else 'right', no_wrap=True)
    for row in rows(found):
        shown.add_row(*row.cells())
    return shown


def write(found: Sequence[Result], versions: Mapping[str, str], folder: Path) -> Path:
    """Write the page `soak.html`."""
    from parity.report import html

    page = html.render(
        'soak.html',
        titles=TITLES,
        rows=[row.cells() for row in rows(found)],
        failures=[failure for result in found for failure in result.failures],
        stages=sorted({stage for result in found for stage in result.part.stages}),
        versions=versions,
    )
    return files.write(folder / 'soak.html', page)


def _row(name: str, group: Sequence[Result]) -> Row:
    return Row(
        name,
        group[0].part.seed,
        sum(result.part.examples for result in group),
        len(group),
        sum(result.leaves for result in group),
        max(result.margin for result in group),
        sum(len(result.failures) for result in group),
        sum(result.seconds for result in group),
    )
