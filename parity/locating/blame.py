"""From a value without a partner to the line that is to blame for it."""

import collections
import functools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from parity.locating import kinds
from parity.locating.frontier import PORT, REFERENCE, Region
from parity.locating.lines import LineMap
from parity.locating.matching import Matching, turned
from parity.locating.sources import Line, Stack
from parity.locating.trace import Value

# How many operations a line may leave out, one after the other: a gelu is ten in jax.
LEFT_OUT = 12
Reason = tuple[Line, str]
# So many lines that take another input than the reference's were all given it by their caller.
MANY, OTHER_INPUT = 3, 'the reference uses another input here'


class Suspect(NamedTuple):
    """A line of the port, the value that made it suspect, and the reference's value in its place, if known."""

    line: Line
    why: str
    value: int | None
    partner: int | None


class Blame:
    """Judges the frontier of the port."""

    def __init__(self, matching: Matching, regions: tuple[Region, Region], lines: LineMap) -> None:
        self.matching, self.regions, self.lines = matching, regions, lines
        self.reference, self.port = matching.traces

    def suspects(self, index: int) -> list[Suspect]:
        """The lines that may be to blame for a frontier value of the port, the likeliest first."""
        partner = self.partner(index)
        if partner is not None:
            index, partner = self._ascend(index, partner)
        reasons: list[Reason] = []
        reasons += self._unfinished(index)
        if partner is not None:
            reasons += self._left_out(index, partner)
            reasons += self._rearranged(index, partner)
            reasons += self._replaced(index, partner)
            reasons += self._renumbered(index, partner)
        reasons += self._own(PORT, index, 'computed otherwise')
        reasons += self._around(index)
        found: dict[tuple[str, int], Suspect] = {}
        for line, why in reasons:
            found.setdefault((line.file, line.line), Suspect(line, why, index, partner))
        return list(found.values())

    def of_reference(self, index: int) -> list[Suspect]:
        """The lines that correspond to a frontier value of the reference, where the port has no frontier."""
        there = (self.lines.other(REFERENCE, line) for line, _ in self._own(REFERENCE, index, ''))
        return [Suspect(line, 'the reference computes this here', None, index) for line in there if line]

    def of_callers(self, found: list[list[Suspect]]) -> list[Suspect]:
        """The call in which many lines take other inputs than the reference's: they were passed to it."""
        first = [s[0] for s in found if s and s[0].why == OTHER_INPUT and s[0].value is not None]
        if len({suspect.line[:2] for suspect in first}) < MANY or len({s.line.function for s in first}) > 1:
            return []
        stacks = [self.port[s.value].stack for s in first if s.value is not None]
        line = common([stack[1:] for stack in stacks])
        return (
            [Suspect(line, 'other inputs are passed here', first[0].value, first[0].partner)] if line else []
        )

    # --- what the reference has in the place of a value

    def partner(self, index: int) -> int | None:
        """The reference's value that was computed in the place of one of the port's.

        From the most common operands; without any, by the same operation on the corresponding line.
        """
        others = self.regions[REFERENCE].values | self.matching.excess[REFERENCE]
        scores = [(self._likeness(index, other), -other) for other in others]
        best = max(scores, default=(0.0, 0))
        return -best[1] if best[0] >= 0.8 else None

    def _likeness(self, index: int, other: int) -> float:
        mine, theirs = self.port[index], self.reference[other]
        operands = self.port.operands(index)
        found = {value.index for value in self.reference.operands(other)}
        shared = sum(bool(found.intersection(self.matching.found[PORT].get(x.index, ()))) for x in operands)
        share = 0.5 + shared / max(len(operands), len(found)) if shared else 0.0
        first = 0.3 * (other in self.regions[REFERENCE].frontier)
        same = kinds.alike(mine.operation, theirs.operation)
        near = 0.4 * self._correspond(mine, theirs) + 0.2 * self._common_calls(mine, theirs)
        return share + first + 0.4 * same + near + 0.1 * (mine.print.shape == theirs.print.shape)

    def _common_calls(self, mine: Value, theirs: Value) -> float:
        """The share of the reference's calls that correspond to one of the port's."""
        there = {line[:2] for line in (self.lines.other(REFERENCE, line) for line in theirs.stack) if line}
        return len(there.intersection(line[:2] for line in mine.stack)) / max(len(theirs.stack), 1)

    def _correspond(self, mine: Value, theirs: Value) -> bool:
        return bool(mine.stack and theirs.stack) and self.lines.correspond(theirs.stack[0], mine.stack[0])

    def _ascend(self, index: int, partner: int) -> tuple[int, int | None]:
        """The operations further up where the two computations first part.

        A wrong value may be one that the reference has, too, but elsewhere: it is then computed too often.
        """
        while True:
            mine, theirs = self._different(index, partner)
            pairs = [(a, b) for a in mine for b in theirs if self._comparable(a, b)]
            if not pairs:
                break
            best = max(
                pairs, key=lambda pair: (pair[0].print.shape == pair[1].print.shape, self._correspond(*pair))
            )
            index, partner = best[0].index, best[1].index
        first = self._first_surplus(mine) if theirs else None
        return (index, partner) if first is None else (first, self.partner(first))

    def _comparable(self, a: Value, b: Value) -> bool:
        if a.leaf is not None or b.leaf is not None or not kinds.alike(a.operation, b.operation):
            return False
        wrong = not self.matching.has(PORT, a.index) or self._is_surplus(a) or self._is_coincidence(a)
        if not wrong or self._is_operand(a, b.index):
            return False
        return self._correspond(a, b) or not self._between(a, b)

    def _is_coincidence(self, value: Value) -> bool:
        """Whether the reference has such a value, but from other operations: a zero, or what a choice leaves as it is."""
        if value.constant or value.print.dtype[0] != 'f':
            return False
        theirs = self.matching.found[PORT][value.index]
        return value.plain or not any(
            kinds.alike(self.reference[i].operation, value.operation) for i in theirs
        )

    def _is_surplus(self, value: Value) -> bool:
        """Whether the port does this operation with this result more often than the reference does any with it."""
        if value.index not in self.matching.excess[PORT] or value.leaf is not None or value.plain:
            return False
        theirs = self.matching.found[PORT][value.index]
        mine = self.matching.found[REFERENCE][theirs[0]]
        often = sum(self.port[i].operation == value.operation for i in mine)
        return often > max(collections.Counter(self.reference[i].operation for i in theirs).values())

    def _first_surplus(self, operands: list[Value]) -> int | None:
        """The first of the operations that made one of the operands once too often."""
        for x in operands:
            if self._is_surplus(x):
                earlier = self._first_surplus(self.port.operands(x.index))
                return x.index if earlier is None else earlier
        return None

    def _different(self, index: int, partner: int) -> tuple[list[Value], list[Value]]:
        """The operands of the two operations that the other one does not have, each of the others counted once."""
        mine, theirs = self.port.operands(index), self._unfused(index, partner)
        pairs = [(a, b) for a in mine for b in theirs if self.matching.same(PORT, a.index, b.index)]
        for a, b in sorted(pairs, key=lambda pair: not kinds.alike(pair[0].operation, pair[1].operation)):
            if a in mine and b in theirs:
                mine.remove(a)
                theirs.remove(b)
        return mine, theirs

    def _unfused(self, index: int, partner: int) -> list[Value]:
        """The operands of the reference's operation; where the port's adds to a product, the product's as well."""
        theirs = self.reference.operands(partner)
        if (
            self.port[index].operation not in kinds.FUSED
            or self.reference[partner].operation in kinds.PRODUCTS
        ):
            return theirs
        parts = [self.reference.operands(b.index) if b.operation in kinds.PRODUCTS else [b] for b in theirs]
        return [b for part in parts for b in part]

    # --- reasons

    def _left_out(self, index: int, partner: int) -> Iterator[Reason]:
        """Operations that the reference applies between an operand of the port's and its use."""
        value, other = self.port[index], self.reference[partner]
        mine, theirs = self._different(index, partner)
        for operand in mine:
            for replacement in (b for b in theirs if not self._at_hand(b)):
                yield from self._skipped(value, operand, self._between(operand, replacement))
        in_its_place = not mine and not theirs and value.print.shape == other.print.shape
        if kinds.alike(value.operation, other.operation) or other.operation in kinds.MOVES:
            return
        if self._follows(partner, value, 1 if in_its_place else LEFT_OUT):
            for operand in self.port.operands(index):
                if not operand.plain and self._is_operand(operand, partner):
                    yield from self._skipped(value, operand, [partner])

    def _at_hand(self, value: Value) -> bool:
        """Whether the port computes the value as often as the reference: then it is not left out, but not used."""
        surplus = value.index in self.matching.excess[REFERENCE]
        return self.matching.has(REFERENCE, value.index) and not surplus and not value.plain

    def _unfinished(self, index: int) -> Iterator[Reason]:
        """Of an output that is a value of the reference, but not its output: what is left out at the end."""
        for name, output in self.port.outputs.items():
            if (
                self.port[output].root == index
                and self.matching.has(PORT, index)
                and name in self.reference.outputs
            ):
                other = self.reference.root(self.reference.outputs[name])
                yield from self._skipped(
                    self.port[index], self.port[index], self._between(self.port[index], other)
                )

    def _between(self, operand: Value, other: Value) -> list[int]:
        """The operations by which the reference makes `other` of the port's operand, if it does."""
        region = self.regions[REFERENCE].values
        paths, front = {other.index: [other.index]}, [other.index]
        for _ in range(LEFT_OUT):
            for index in front:
                if self._is_operand(operand, index):
                    return paths[index]
            waiting = [
                (x.index, i)
                for i in front
                for x in self.reference.operands(i)
                if i in region or i == other.index
            ]
            front = [
                index for index, _ in waiting if index not in paths and self.reference[index].leaf is None
            ]
            paths |= {index: [*paths[user], index] for index, user in waiting if index not in paths}
        return []

    def _is_operand(self, operand: Value, index: int) -> bool:
        return any(self.matching.same(PORT, operand.index, x.index) for x in self.reference.operands(index))

    def _follows(self, partner: int, value: Value, steps: int) -> bool:
        """Whether the reference applies the port's operation within so many steps: then the port leaves some out."""
        front, seen = [partner], {partner}
        for _ in range(steps):
            front = [user for i in front for user in self._users[REFERENCE].get(i, ()) if user not in seen]
            seen.update(front)
            if any(kinds.alike(self.reference[i].operation, value.operation) for i in front):
                return True
        return False

    @functools.cached_property
    def _users(self) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
        return self.reference.users(), self.port.users()

    def _skipped(self, value: Value, operand: Value, skipped: list[int]) -> Iterator[Reason]:
        """Where the port leaves operations out: on the line that corresponds to the one with all of them.

        What a library's layer does for the reference, the port may do inside the call that corresponds.
        """
        line = common([self.reference[i].stack for i in skipped])
        there = line and self.lines.other(REFERENCE, line)
        if there is None or line is None:
            return
        why = f'the reference applies {self.reference[skipped[-1]].operation} here'
        inner = [
            (inside.stack[0], why)
            for inside in (value, operand)
            if any(line[:2] == there[:2] for line in inside.stack[1:])
        ]
        within = self.reference[skipped[-1]].library
        yield from inner if within else []
        yield there, why
        yield from inner if not within else []

    def _rearranged(self, index: int, partner: int) -> Iterator[Reason]:
        """The same operands in another order, or one of them transposed."""
        if any(self._different(index, partner)):
            return
        value, other = self.port[index], self.reference[partner]
        for i in value.operands:
            for j in other.operands:
                if self.matching.same(PORT, self.port[i].root, self.reference[j].root) and self._is_turned(
                    i, j
                ):
                    first = self._first_turned(i)
                    yield from [(line, 'the operand is transposed') for line in self.port[first].stack[:1]]
        first_operand = self.reference.operands(partner)[:1]
        root = self.port.operands(index)[:1]
        if (
            value.operation in kinds.MOVES
            and root
            and not self.matching.same(PORT, root[0].index, first_operand[0].index)
        ):
            # what joins the values that it is given is called with them in their order
            yield from [
                (line, 'the operands are in another order') for line in (*value.stack[1:2], *value.stack[:1])
            ]

    def _is_turned(self, index: int, other: int) -> bool:
        return turned(self.port[index], self.reference[other])

    def _first_turned(self, index: int) -> int:
        """The first of the values that are transposed, of those that made this one."""
        root = self.port[index].root
        for operand in self.port.operands(root):
            if any(
                self._is_turned(operand.index, i) for i in self.matching.found[PORT].get(operand.index, ())
            ):
                return self._first_turned(operand.index)
        return root if root == index or self._is_turned_root(root) else index

    def _is_turned_root(self, root: int) -> bool:
        return all(self._is_turned(root, i) for i in self.matching.found[PORT].get(root, ()))

    def _replaced(self, index: int, partner: int) -> Iterator[Reason]:
        """Operands in whose place the reference has another value."""
        mine, theirs = self._different(index, partner)
        value = self.port[index]
        for operand in mine:
            made = meeting(value.stack, operand.stack) if operand.stack and operand.leaf is None else None
            if operand.constant and operand.print.shape and operand.stack:
                yield operand.stack[0], 'the reference makes another value here'
            elif made and not operand.constant and self._same_statement(operand, theirs):
                yield made, 'the reference makes another value here'
            line = self.entry(value, operand)
            is_input = operand.leaf is None or operand.leaf.startswith('given')
            if theirs and line is not None and is_input and not operand.constant:
                yield line, OTHER_INPUT if operand.leaf else 'the reference uses another value here'

    def _renumbered(self, index: int, partner: int) -> Iterator[Reason]:
        """Numbers of the program that the reference does not have in the same operation."""
        value, other = self.port[index], self.reference[partner]
        if any(self._different(index, partner)) or not value.stack:
            return
        for number, line in value.numbers.items():
            if line is not None and line != value.stack[0] and other.numbers and number not in other.numbers:
                yield line, f'the reference has {next(iter(other.numbers)):g} for {number:g}'

    def _same_statement(self, operand: Value, theirs: list[Value]) -> bool:
        """Whether the values were made on one line, as by an unpacking, and taken for each other.

        Not if the port uses the one more often than the reference: then it was chosen where it is used.
        """
        same = self.matching.found[PORT].get(operand.index, ())
        often = max((len(self._users[REFERENCE].get(i, ())) for i in same), default=0)
        if len(self._users[PORT].get(operand.index, ())) > max(often, 1):
            return False
        return any(self._correspond(operand, other) and other.leaf is None for other in theirs)

    def entry(self, value: Value, operand: Value) -> Line | None:
        """The line at which an operand, or a layout of it, entered the calls around an operation."""
        for index, line in zip(value.operands, value.entries, strict=False):
            if self.port[index].root != operand.index:
                continue
            laid = self.port[index]
            near = _is_in if operand.leaf is not None else _has
            while line is not None and laid.index != laid.root and laid.entries and near(line, laid.stack):
                laid, line = self.port[laid.operands[0]], laid.entries[0]
            return line
        return None

    def _own(self, side: int, index: int, why: str) -> list[Reason]:
        """The innermost line that did not do the same operation well in another call, then the innermost."""
        trace = self.matching.traces[side]
        value = trace[index]
        surplus = self.matching.excess[side]
        lines: list[Reason] = []
        for depth in range(1, len(value.stack) + 1):
            good = self._good[side].get((value.operation, value.stack[:depth]), ())
            if not any(i != index and (i not in surplus or trace[i].stack != value.stack) for i in good):
                lines.append((value.stack[depth - 1], why))
                break
        # a loop over one line: it did it well, and did it wrong; the call is as suspect as what it calls
        called = value.stack[1:2] if not lines else ()
        return lines + [(line, why) for line in (*called, *value.stack[:1])]

    @functools.cached_property
    def _good(self) -> tuple[dict[tuple[str, Stack], set[int]], dict[tuple[str, Stack], set[int]]]:
        """The values that both sides have, by their operation and the inner lines that computed them."""
        good: tuple[dict[tuple[str, Stack], set[int]], dict[tuple[str, Stack], set[int]]] = ({}, {})
        for side, trace in enumerate(self.matching.traces):
            for value in trace:
                if not value.plain and self.matching.has(side, value.root):
                    for depth in range(1, len(value.stack) + 1):
                        good[side].setdefault((value.operation, value.stack[:depth]), set()).add(value.index)
        return good

    def _around(self, index: int) -> Iterable[Reason]:
        """Where the operands came from, and who called."""
        for operand in self.port.operands(index):
            if operand.stack and not operand.plain:
                yield meeting(self.port[index].stack, operand.stack), 'made an operand'
        yield from ((line, 'called this') for line in self.port[index].stack[1:])


def _is_in(line: Line, stack: Stack) -> bool:
    """Whether a call of the line's function is among the calls."""
    return any((call.file, call.function) == (line.file, line.function) for call in stack)


def _has(line: Line, stack: Stack) -> bool:
    return line in stack


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


def common(stacks: list[Stack]) -> Line | None:
    """The innermost line that all calls have in common."""
    shared = [
        lines[0] for lines in zip(*(stack[::-1] for stack in stacks), strict=False) if len(set(lines)) == 1
    ]
    return shared[-1] if shared else None


def ranked(found: list[list[Suspect]]) -> list[Suspect]:
    """The suspects of all frontier values: each one's likeliest first, of the values computed first; each line once."""
    found = sorted(filter(None, found), key=lambda suspects: suspects[0].value or 0)
    order: dict[tuple[str, int], Suspect] = {}
    for place in range(max(map(len, found), default=0)):
        for suspects in found:
            if place < len(suspects):
                suspect = suspects[place]
                order.setdefault((suspect.line.file, suspect.line.line), suspect)
    return list(order.values())
