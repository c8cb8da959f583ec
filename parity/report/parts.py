"""What every view of a divergence shows: source around a line, and the calls of modules as a tree."""

import linecache
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from parity.locating.divergence import Place
from parity.locating.layers import LayerRow, Status

CONTEXT = 2


@dataclass(frozen=True)
class Excerpt:
    """A line of source and a few around it, without the indentation that all share.

    where: `iql.py:31 in IQLAgent.value_loss`; lines: (number, text), none where the file cannot be read.
    """

    where: str
    line: int
    lines: tuple[tuple[int, str], ...]


def excerpt(at: Place) -> Excerpt:
    """The source around a place."""
    texts = linecache.getlines(at.file)
    numbers = range(max(at.line - CONTEXT, 1), min(at.line + CONTEXT, len(texts)) + 1)
    indentation = min((_indentation(texts[i - 1]) for i in numbers if texts[i - 1].strip()), default=0)
    where = f'{os.path.basename(at.file)}:{at.line} in {at.function}'
    return Excerpt(where, at.line, tuple((i, texts[i - 1].rstrip()[indentation:]) for i in numbers))


def _indentation(text: str) -> int:
    return len(text) - len(text.lstrip())


@dataclass(frozen=True)
class Call:
    """One call of a module, and those that it makes."""

    row: LayerRow
    inner: tuple['Call', ...]

    @property
    def count(self) -> int:
        """How many calls it is, with those in it."""
        return 1 + sum(call.count for call in self.inner)

    @property
    def agrees(self) -> bool:
        """Whether neither it nor any in it differs."""
        return self.row.forward == self.row.backward == 'match' and all(call.agrees for call in self.inner)

    @property
    def status(self) -> Status:
        """The worse of forward and backward."""
        found = self.row.forward, self.row.backward
        return min(found, key=('culprit', 'carrier', 'missing', *get_args(Status)).index)

    @property
    def name(self) -> str:
        """The path, with the number of the call where it is not the first."""
        return f'{self.row.path or "the model"}{f" call {self.row.number}" if self.row.number else ""}'

    @property
    def says(self) -> str:
        """What differs in it: `carrier forward, culprit backward`, and a culprit's error."""
        row = self.row
        ways = (row.forward, 'forward'), (row.backward, 'backward')
        kinds = ', '.join(f'{status} {way}' for status, way in ways if status != 'match')
        error = row.problem or f'{row.leaf}: error {row.error:.2e}, allowed {row.allowed:.2e}'
        return f'{kinds}  {error}' if row.is_culprit else kinds


def calls(rows: Sequence[LayerRow]) -> tuple[Call, ...]:
    """The outermost calls; one whose caller is not among the rows is such."""
    shown = {row.order for row in rows}
    children: dict[int | None, list[LayerRow]] = {}
    for row in rows:
        children.setdefault(row.parent if row.parent in shown else None, []).append(row)

    def below(parent: int | None) -> tuple[Call, ...]:
        return tuple(Call(row, below(row.order)) for row in children.get(parent, []))

    return below(None)
