"""From a value without a partner to the line that is to blame for it."""

import functools
from collections.abc import Iterable
from typing import NamedTuple

from parity.locating import kinds
from parity.locating.frontier import PORT, REFERENCE, Region
from parity.locating.lines import LineMap
from parity.locating.matching import Matching, turned
from parity.locating.sources import Line, Stack
from parity.locating.trace import Trace, Value


class Suspect(NamedTuple):
    """A line of the port, the value that made it suspect, and the reference's value in its place, if known."""

    line: Line
    why: str
    value: int
    partner: int | None


class Blame:
    """Judges the frontier of the port."""

    def __init__(self, matching: Matching, regions: tuple[Region, Region], lines: LineMap) -> None:
        self.matching, self.regions, self.lines = matching, regions, lines
        self.reference, self.port = matching.traces

    def suspects(self, index: int) -> list[Suspect]:
        """The lines that may be to blame for a frontier value of the port, the likeliest first."""
        partner = self.partner(index)
        if partner is None:
            return self._named(self._own(PORT, index, 'no such value in the reference'), index, None)
        index, partner = self._ascend(index, partner)
        found = [*self._by_operands(index, partner), *self._own(PORT, index, 'computed otherwise')]
        found += self._around(index)
        return self._named(found, index, partner)

    def partner(self, index: int) -> int | None:
        """The reference's value that was computed in the place of one of the port's: from the most common operands."""
        operands = self.port.operands(index)
        scores: list[tuple[float, int]] = []
        for other in self.regions[REFERENCE].values:
            theirs = {value.index for value in self.reference.operands(other)}
            shared = sum(bool(theirs.intersection(self.matching.found[PORT].get(x.index, ()))) for x in operands)
            if shared:
                scores.append((self._likeness(index, other, shared / max(len(operands), len(theirs))), -other))
        return -max(scores)[1] if scores else None

    def _likeness(self, index: int, other: int, shared: float) -> float:
        mine, theirs = self.port[index], self.reference[other]
        lines = bool(mine.stack and theirs.stack) and self.lines.correspond(theirs.stack[0], mine.stack[0])
        first = other in self.regions[REFERENCE].frontier
        return shared + 0.3 * first + 0.4 * kinds.alike(mine.operation, theirs.operation) + 0.4 * lines

    def _ascend(self, index: int, partner: int) -> tuple[int, int]:
        """The operations further up where the two computations first part.

        A wrong value may be one that the reference has, too, but elsewhere: it is then computed too often.
        """
        while True:
            mine, theirs = self._different(index, partner)
            pairs = [(a, b) for a in mine for b in theirs if self._comparable(a, b)]
            if not pairs:
                return index, partner
            index, partner = (value.index for value in max(pairs, key=lambda pair: self._closeness(*pair)))

    def _comparable(self, a: Value, b: Value) -> bool:
        surplus = a.index in self.matching.excess[PORT] or not self.matching.has(PORT, a.index)
        return surplus and a.leaf is None and b.leaf is None and kinds.alike(a.operation, b.operation)

    def _closeness(self, a: Value, b: Value) -> tuple[bool, bool]:
        return a.print.shape == b.print.shape, bool(a.stack and b.stack) and self.lines.correspond(b.stack[0], a.stack[0])

    def _different(self, index: int, partner: int) -> tuple[list[Value], list[Value]]:
        """The operands of the two operations that the other one does not have."""
        mine, theirs = self.port.operands(index), self.reference.operands(partner)
        same = self.matching.same
        return (
            [a for a in mine if not any(same(PORT, a.index, b.index) for b in theirs)],
            [b for b in theirs if not any(same(PORT, a.index, b.index) for a in mine)],
        )

    def _by_operands(self, index: int, partner: int) -> Iterable[tuple[Line, str]]:
        mine, theirs = self._different(index, partner)
        value, other = self.port[index], self.reference[partner]
        if not kinds.alike(value.operation, other.operation) and self._follows(partner, value.operation):
            yield from self._missing(partner)
        if not mine and not theirs:
            yield from self._turned(index)
        for operand in mine:
            yield from self._wrong_operand(value, operand, bool(theirs))

    def _follows(self, partner: int, operation: str) -> bool:
        """Whether the reference applies the port's operation later: then the port leaves one out."""
        users = self._users.get(partner, ())
        return any(kinds.alike(self.reference[user].operation, operation) for user in users)

    @functools.cached_property
    def _users(self) -> dict[int, list[int]]:
        return self.reference.users()

    def _missing(self, partner: int) -> Iterable[tuple[Line, str]]:
        for line, _ in self._own(REFERENCE, partner, ''):
            mapped = self.lines.other(REFERENCE, line)
            if mapped is not None:
                yield mapped, f'the reference applies {self.reference[partner].operation} here'
                return

    def _turned(self, index: int) -> Iterable[tuple[Line, str]]:
        """Operands that are laid out otherwise than the reference's."""
        for operand in self.port[index].operands:
            value = self.port[operand]
            for other in self.matching.found[PORT].get(value.root, ()):
                if value.stack and turned(self.port[value.root], self.reference[other]):
                    yield value.stack[0], 'the operand is transposed'

    def _wrong_operand(self, value: Value, operand: Value, replaced: bool) -> Iterable[tuple[Line, str]]:
        entry = self.entry(value, operand)
        if operand.plain and operand.leaf is None:
            if operand.stack and not self.matching.has(PORT, operand.index) and operand.print.size > 1:
                yield operand.stack[0], 'this mask or number differs'
        elif replaced and entry is not None and (operand.leaf is None or operand.leaf.startswith('given')):
            yield entry, 'the reference uses another value here'

    def entry(self, value: Value, operand: Value) -> Line | None:
        """The line at which an operand, or a layout of it, entered the calls around an operation."""
        for index, line in zip(value.operands, value.entries, strict=False):
            if self.port[index].root != operand.index:
                continue
            laid = self.port[index]
            while line is not None and laid.index != laid.root and laid.entries and line in laid.stack:
                laid, line = self.port[laid.operands[0]], laid.entries[0]
            return line
        return None

    def _own(self, side: int, index: int, why: str) -> list[tuple[Line, str]]:
        """The innermost line that did not do the same operation well in another call, then the innermost."""
        value = self.matching.traces[side][index]
        lines: list[tuple[Line, str]] = []
        for depth in range(1, len(value.stack) + 1):
            if (value.operation, value.stack[:depth]) not in self._good[side]:
                lines.append((value.stack[depth - 1], why))
                break
        return lines + [(line, why) for line in value.stack[:1]]

    @functools.cached_property
    def _good(self) -> tuple[set[tuple[str, Stack]], set[tuple[str, Stack]]]:
        good: tuple[set[tuple[str, Stack]], set[tuple[str, Stack]]] = (set(), set())
        for side, trace in enumerate(self.matching.traces):
            for value in trace:
                if not value.plain and self.matching.has(side, value.root):
                    good[side].update((value.operation, value.stack[:k]) for k in range(1, len(value.stack) + 1))
        return good

    def _around(self, index: int) -> Iterable[tuple[Line, str]]:
        """Where the operands came from, and who called."""
        for operand in self.port.operands(index):
            if operand.stack and not operand.plain:
                yield meeting(self.port[index].stack, operand.stack), 'made an operand'
        yield from ((line, 'called this') for line in self.port[index].stack[1:])

    def _named(self, lines: Iterable[tuple[Line, str]], index: int, partner: int | None) -> list[Suspect]:
        found: dict[tuple[str, int], Suspect] = {}
        for line, why in lines:
            found.setdefault((line.file, line.line), Suspect(line, why, index, partner))
        return list(found.values())


def meeting(user: Stack, maker: Stack) -> Line:
    """The line, in the innermost call that both have in common, at which a value was made."""
    line = maker[-1]
    for mine, theirs in zip(reversed(user), reversed(maker), strict=False):
        if (mine.file, mine.function) != (theirs.file, theirs.function):
            break
        line = theirs
        if mine.line != theirs.line:
            break
    return line


def ranked(found: list[list[Suspect]]) -> list[Suspect]:
    """The suspects of all frontier values: each one's likeliest first, each line once."""
    order: dict[tuple[str, int], Suspect] = {}
    for place in range(max(map(len, found), default=0)):
        for suspects in found:
            if place < len(suspects):
                suspect = suspects[place]
                order.setdefault((suspect.line.file, suspect.line.line), suspect)
    return list(order.values())


def last_agreed(trace: Trace, index: int) -> tuple[str, ...]:
    """The operands of a value, in words."""
    return tuple(
        f'{value.print} {value.leaf or (value.stack[0] if value.stack else "")}'.strip()
        for value in trace.operands(index)
        if not value.constant
    )
