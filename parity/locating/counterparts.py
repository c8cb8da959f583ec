"""What the reference computes in the place of a wrong value, and where the two computations first part."""

import collections
import functools

from parity.locating import kinds
from parity.locating.frontier import PORT, REFERENCE, Region
from parity.locating.lines import LineMap
from parity.locating.matching import Matching
from parity.locating.trace import Value

# How many operations a line may leave out, one after the other: a gelu is ten in jax.
LEFT_OUT = 12
# How much must speak for a counterpart: operands in common, or the same operation on the corresponding line.
ENOUGH = 0.8


class Counterparts:
    """Finds them in the values of the reference that the port has not, or not as often."""

    def __init__(self, matching: Matching, regions: tuple[Region, Region], lines: LineMap) -> None:
        self.matching, self.regions, self.lines = matching, regions, lines
        self.reference, self.port = matching.traces

    def of(self, index: int) -> int | None:
        """The reference's value that was computed in the place of one of the port's."""
        others = self.regions[REFERENCE].values | self.matching.excess[REFERENCE]
        likeness, negated = max(
            ((self._likeness(index, other), -other) for other in others), default=(0.0, 0)
        )
        return -negated if likeness >= ENOUGH else None

    def _likeness(self, index: int, other: int) -> float:
        mine, theirs = self.port[index], self.reference[other]
        operands = self.operands(index)
        found = {value.index for value in self.reference.operands(other)}
        shared = sum(bool(found.intersection(self.matching.found[PORT].get(x.index, ()))) for x in operands)
        return (
            (0.5 + shared / max(len(operands), len(found)) if shared else 0.0)
            + 0.3 * (other in self.regions[REFERENCE].frontier)
            + 0.4 * kinds.alike(mine.operation, theirs.operation)
            + 0.4 * self.correspond(mine, theirs)
            + 0.2 * self._common_calls(mine, theirs)
            + 0.1 * (mine.print.shape == theirs.print.shape)
        )

    def correspond(self, mine: Value, theirs: Value) -> bool:
        """Whether the values were computed on corresponding lines."""
        return bool(mine.stack and theirs.stack) and self.lines.correspond(theirs.stack[0], mine.stack[0])

    def _common_calls(self, mine: Value, theirs: Value) -> float:
        """The share of the reference's calls that correspond to one of the port's."""
        there = {line[:2] for line in (self.lines.other(REFERENCE, line) for line in theirs.stack) if line}
        return len(there.intersection(line[:2] for line in mine.stack)) / max(len(theirs.stack), 1)

    def parting(self, index: int, other: int) -> tuple[int, int | None]:
        """The operations further up where the computations of two counterparts first part.

        A wrong value may be one that the reference has, too, but elsewhere: it is then computed too often.
        """
        while True:
            mine, theirs = self.different(index, other)
            pairs = [(a, b) for a in mine for b in theirs if self._are_counterparts(a, b)]
            if not pairs:
                break
            a, b = max(
                self._earliest(pairs),
                key=lambda ab: (ab[0].print.shape == ab[1].print.shape, self.correspond(*ab)),
            )
            index, other = a.index, b.index
        first = self._first_surplus(mine) if theirs else None
        return (index, other) if first is None else (first, self.of(first))

    def _earliest(self, pairs: list[tuple[Value, Value]]) -> list[tuple[Value, Value]]:
        """Without those of which the port's value was computed from that of another pair."""
        if len({a.index for a, _ in pairs}) == 1:
            return pairs
        earlier = {a.index: self.port.ancestors([a.index]) - {a.index} for a, _ in pairs}
        return [(a, b) for a, b in pairs if earlier[a.index].isdisjoint(earlier)]

    def _are_counterparts(self, a: Value, b: Value) -> bool:
        if a.leaf is not None or b.leaf is not None:
            return False
        if not kinds.alike(a.operation, b.operation) and not self._takes_the_same(a, b):
            return False
        wrong = not self.matching.has(PORT, a.index) or self._is_surplus(a) or self._is_coincidence(a)
        if not wrong or self.is_operand(a, b.index):
            return False
        return self.correspond(a, b) or not self.between(a, b)

    def _takes_the_same(self, a: Value, b: Value) -> bool:
        """Whether the port made a value that is its own of just what the reference made the other of."""
        if self.matching.has(PORT, a.index) or all(x.constant for x in self.port.operands(a.index)):
            return False
        return not any(self.different(a.index, b.index))

    def _is_coincidence(self, value: Value) -> bool:
        """Whether the reference has such a value from other operations: a zero, or what a choice leaves."""
        if value.constant or value.print.dtype[0] != 'f':
            return False
        theirs = (self.reference[i].operation for i in self.matching.found[PORT][value.index])
        return value.plain or not any(kinds.alike(operation, value.operation) for operation in theirs)

    def _is_surplus(self, value: Value) -> bool:
        """Whether the port makes this value by this operation more often than the reference does by any."""
        if value.index not in self.matching.excess[PORT] or value.leaf is not None or value.plain:
            return False
        theirs = self.matching.found[PORT][value.index]
        mine = self.matching.found[REFERENCE][theirs[0]]
        often = sum(self.port[i].operation == value.operation for i in mine)
        return often > max(collections.Counter(self.reference[i].operation for i in theirs).values())

    def _first_surplus(self, operands: list[Value]) -> int | None:
        """The first of the operations that made one of the operands once too often."""
        for operand in operands:
            if self._is_surplus(operand):
                earlier = self._first_surplus(self.port.operands(operand.index))
                return operand.index if earlier is None else earlier
        return None

    def different(self, index: int, other: int) -> tuple[list[Value], list[Value]]:
        """The operands of the port's operation and the reference's that are not each other's, one for one."""
        mine, theirs = self.operands(index), self._unfused(index, other)
        pairs = [(a, b) for a in mine for b in theirs if self.matching.same(PORT, a.index, b.index)]
        for a, b in sorted(pairs, key=lambda pair: not kinds.alike(pair[0].operation, pair[1].operation)):
            if a in mine and b in theirs:
                mine.remove(a)
                theirs.remove(b)
        return mine, theirs

    def operands(self, index: int) -> list[Value]:
        """Of the port's operation, without the padding that is a setting of the reference's."""
        return [self.inside(value) for value in self.port.operands(index)]

    def inside(self, value: Value) -> Value:
        """What the port pads, where the reference pads in the operation that follows; else the value."""
        is_own = value.operation in kinds.PADDING and not self.matching.has(PORT, value.index)
        return self.port.operands(value.index)[0] if is_own else value

    def _unfused(self, index: int, other: int) -> list[Value]:
        """The operands of the reference's operation, and of its product where the port's adds to one."""
        theirs = self.reference.operands(other)
        product = self.reference[other].operation in kinds.PRODUCTS
        if product or self.port[index].operation not in kinds.FUSED:
            return theirs
        parts = [self.reference.operands(b.index) if b.operation in kinds.PRODUCTS else [b] for b in theirs]
        return [b for part in parts for b in part]

    def between(self, operand: Value, other: Value) -> list[int]:
        """The operations by which the reference makes `other` of the operand, the last first; or none."""
        region = {*self.regions[REFERENCE].values, other.index}
        paths, front = {other.index: [other.index]}, [other.index]
        for _ in range(LEFT_OUT):
            for index in front:
                if self.is_operand(operand, index):
                    return paths[index]
            steps = [(x, user) for user in front if user in region for x in self.reference.operands(user)]
            front = [x.index for x, _ in steps if x.index not in paths and x.leaf is None]
            paths |= {x.index: [*paths[user], x.index] for x, user in steps if x.index not in paths}
        return []

    def is_operand(self, operand: Value, index: int) -> bool:
        """Whether a value of the port is an operand of the reference's operation."""
        return any(self.matching.same(PORT, operand.index, x.index) for x in self.reference.operands(index))

    @functools.cached_property
    def users(self) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
        """For each root of either side what was computed from it."""
        return self.reference.users(), self.port.users()
