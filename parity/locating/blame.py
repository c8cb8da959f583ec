"""From a value without a partner to the line that is to blame for it."""

import functools
from collections.abc import Iterator

from parity.locating import kinds
from parity.locating.counterparts import LEFT_OUT, Counterparts
from parity.locating.frontier import PORT, REFERENCE, Region
from parity.locating.hollow import hollow
from parity.locating.lines import LineMap
from parity.locating.matching import Matching, reordered, turned
from parity.locating.sources import Line, Stack, is_called
from parity.locating.suspects import Reason, Suspect, common, meeting, named
from parity.locating.trace import Value

# So many lines that take another input than the reference's were all given it by their caller.
MANY, OTHER_INPUT = 3, 'the reference uses another input here'


class Blame:
    """Judges the frontier of the port."""

    def __init__(self, matching: Matching, regions: tuple[Region, Region], lines: LineMap) -> None:
        self.matching, self.lines = matching, lines
        self.reference, self.port = matching.traces
        self.counterparts = Counterparts(matching, regions, lines)

    def suspects(self, index: int) -> list[Suspect]:
        """The lines that may be to blame for a frontier value of the port, the likeliest first."""
        other = self.counterparts.of(index)
        if other is not None:
            index, other = self.counterparts.parting(index, other)
        reasons = list(self._unfinished(index))
        if other is not None:
            reasons += self._left_out(index, other)
            reasons += self._rearranged(index, other)
            reasons += self._replaced(index, other)
            reasons += self._renumbered(index, other)
        reasons += self._own(PORT, index, 'computed otherwise')
        reasons += self._around(index)
        return named(reasons, index, other)

    def of_reference(self, index: int) -> list[Suspect]:
        """The lines that correspond to a frontier value of the reference, where the port has no frontier."""
        there = (self.lines.other(REFERENCE, line) for line, _ in self._own(REFERENCE, index, ''))
        return [Suspect(line, 'the reference computes this here', None, index) for line in there if line]

    def of_callers(self, found: list[list[Suspect]]) -> list[Suspect]:
        """The call in which many lines take other inputs than the reference's: they were passed to it."""
        first = [s[0] for s in found if s and s[0].why == OTHER_INPUT]
        if len({suspect.line for suspect in first}) < MANY or len({s.line.function for s in first}) > 1:
            return []
        line = common([self.port[s.value].stack[1:] for s in first if s.value is not None])
        return [first[0]._replace(line=line, why='other inputs are passed here')] if line else []

    # --- operations that the port leaves out

    def _unfinished(self, index: int) -> Iterator[Reason]:
        """Of an output that is a value of the reference, but not its output: what is left out at the end."""
        value = self.port[index]
        names = [name for name, output in self.port.outputs.items() if self.port[output].root == index]
        for name in names if self.matching.has(PORT, index) else ():
            if name in self.reference.outputs:
                other = self.reference.root(self.reference.outputs[name])
                yield from self._skipped(value, value, self.counterparts.between(value, other))

    def _left_out(self, index: int, partner: int) -> Iterator[Reason]:
        """Operations that the reference applies between an operand of the port's and its use."""
        value, other = self.port[index], self.reference[partner]
        mine, theirs = self.counterparts.different(index, partner)
        for operand in mine:
            for replacement in (b for b in theirs if not self._at_hand(b)):
                yield from self._skipped(value, operand, self.counterparts.between(operand, replacement))
        if kinds.alike(value.operation, other.operation) or other.operation in kinds.MOVES:
            return
        in_its_place = not mine and not theirs and value.print.shape == other.print.shape
        if self._follows(partner, value, 1 if in_its_place else LEFT_OUT):
            for operand in self.counterparts.operands(index):
                if not operand.plain and self.counterparts.is_operand(operand, partner):
                    yield from self._skipped(value, operand, [partner])

    def _at_hand(self, value: Value) -> bool:
        """Whether the port computes the value as often as the reference: it is not left out, but not used."""
        lacking = value.index in self.matching.excess[REFERENCE]
        return self.matching.has(REFERENCE, value.index) and not lacking and not value.plain

    def _follows(self, partner: int, value: Value, steps: int) -> bool:
        """Whether the reference applies the port's operation so many steps later: some are left out."""
        users = self.counterparts.users[REFERENCE]
        front, seen = [partner], {partner}
        for _ in range(steps):
            front = [user for i in front for user in users.get(i, ()) if user not in seen]
            seen.update(front)
            if any(kinds.alike(self.reference[i].operation, value.operation) for i in front):
                return True
        return False

    def _skipped(self, value: Value, operand: Value, skipped: list[int]) -> Iterator[Reason]:
        """Where the port leaves operations out: on the line that corresponds to the one with all of them.

        What a library's layer does for the reference, the port may do inside the call that corresponds.
        """
        line = common([self.reference[i].stack for i in skipped])
        there = self.lines.other(REFERENCE, line) if line else None
        if there is None:
            return
        first = self.reference[skipped[-1]]
        why = f'the reference applies {first.operation} here'
        # a sum that should be a mean is wrong where it is made, not where it is used
        is_mean = operand.operation in kinds.ADDING and first.operation == 'div'
        inside = [x for x in ((operand, value) if is_mean else (value, operand)) if x.stack]
        inner = [(x.stack[0], why) for x in inside if there[:2] in {call[:2] for call in x.stack[1:]}]
        yield from ((line, f'returns what it is given: {why}') for line in hollow(there))
        yield from ((x.stack[0], why) for x in inside[:1] if is_mean)
        yield from (*inner, (there, why)) if first.library else ((there, why), *inner)

    # --- the same operands, otherwise

    def _rearranged(self, index: int, partner: int) -> Iterator[Reason]:
        """The same operands in another order, or one of them transposed."""
        if any(self.counterparts.different(index, partner)):
            return
        value, other = self.port[index], self.reference[partner]
        for i in value.operands:
            for j in other.operands:
                same = self.matching.same(PORT, self.port[i].root, self.reference[j].root)
                if same and turned(self.port[i], self.reference[j]):
                    line = self.port[self._first_turned(i)].stack[:1]
                    yield from ((line, 'the operand is transposed') for line in line)
            laid = self._first_odd(i)
            if laid is not None and laid.stack:
                yield laid.stack[0], 'from here on its entries are in another order'
        first, theirs = self.port.operands(index)[:1], self.reference.operands(partner)[:1]
        moved = value.operation in kinds.MOVES and first and theirs
        if moved and not self.matching.same(PORT, first[0].index, theirs[0].index):
            # what joins the values that it is given is called with them in their order
            lines = (*value.stack[1:2], *value.stack[:1])
            yield from ((line, 'the operands are in another order') for line in lines)

    def _first_turned(self, index: int) -> int:
        """The first of the values that are transposed, of those that made this one."""
        root = self.port[index].root
        earlier = (operand.index for operand in self.port.operands(root) if any(self._turns(operand.index)))
        first = next(earlier, None)
        if first is not None:
            return self._first_turned(first)
        return root if all(self._turns(root)) else index

    def _first_odd(self, index: int) -> Value | None:
        """The first layout of a value, up to this one, in whose order the reference has its entries never."""
        laid, chain = self.port[index], []
        while laid.index != laid.root:
            chain.append(laid)
            laid = self.port[laid.operands[0]]
        if self.counterparts.inside(laid) is not laid:
            return self._first_odd(laid.operands[0])
        known = [b for other in self.matching.found[PORT].get(laid.index, ()) for b in self._layouts[other]]
        odd = [a for a in chain if known and all(reordered(a, b) for b in known)]
        return odd[-1] if odd and odd[0] is chain[0] else None

    @functools.cached_property
    def _layouts(self) -> dict[int, list[Value]]:
        """For each root of the reference what lays it out, itself included."""
        found: dict[int, list[Value]] = {}
        for value in self.reference:
            found.setdefault(value.root, []).append(value)
        return found

    def _turns(self, root: int) -> Iterator[bool]:
        others = self.matching.found[PORT].get(root, ())
        return (turned(self.port[root], self.reference[other]) for other in others)

    def _renumbered(self, index: int, partner: int) -> Iterator[Reason]:
        """Numbers of the program that the reference does not have in the same operation."""
        value, theirs = self.port[index], self.reference[partner].numbers
        if any(self.counterparts.different(index, partner)) or not value.stack or not theirs:
            return
        for number, line in value.numbers.items():
            if line not in (None, value.stack[0]) and number not in theirs:
                assert line is not None
                yield line, f'the reference has {next(iter(theirs)):g} for {number:g}'

    # --- other operands

    def _replaced(self, index: int, partner: int) -> Iterator[Reason]:
        """Operands in whose place the reference has another value."""
        mine, theirs = self.counterparts.different(index, partner)
        value = self.port[index]
        for operand in mine:
            if operand.constant:
                if operand.print.shape and operand.stack:
                    yield operand.stack[0], 'the reference makes another value here'
                continue
            if operand.leaf is None and not self.matching.has(PORT, operand.index):
                continue  # computed otherwise; not taken for another
            if operand.leaf is None and operand.stack and self._same_statement(operand, theirs):
                yield meeting(value.stack, operand.stack), 'the reference makes another value here'
            line = self.entry(value, operand)
            is_parameter = operand.leaf is not None and operand.leaf.startswith('params/')
            if theirs and line is not None and not is_parameter:
                yield line, OTHER_INPUT if operand.leaf else 'the reference uses another value here'

    def _same_statement(self, operand: Value, theirs: list[Value]) -> bool:
        """Whether the values were made on one line, as by an unpacking, and taken for each other.

        Not if the port uses the one more often than the reference: it was then chosen where it is used.
        """
        users = self.counterparts.users
        same = self.matching.found[PORT].get(operand.index, ())
        often = max((len(users[REFERENCE].get(i, ())) for i in same), default=0)
        if len(users[PORT].get(operand.index, ())) > max(often, 1):
            return False
        return any(self.counterparts.correspond(operand, b) and b.leaf is None for b in theirs)

    def entry(self, value: Value, operand: Value) -> Line | None:
        """The line at which an operand, or a layout of it, entered the calls around an operation."""
        within = is_called if operand.leaf is not None else _is_line
        for index, line in zip(value.operands, value.entries, strict=False):
            if self.port[index].root == operand.index:
                laid = self.port[index]
                while line and laid.index != laid.root and laid.entries and within(line, laid.stack):
                    laid, line = self.port[laid.operands[0]], laid.entries[0]
                return line
        return None

    # --- the value's own lines

    def _own(self, side: int, index: int, why: str) -> Iterator[Reason]:
        """The innermost line that did not do the same operation well in another call, then the innermost."""
        trace, surplus = self.matching.traces[side], self.matching.excess[side]
        value = trace[index]
        unusual = None
        for depth in range(1, len(value.stack) + 1):
            good = self._good[side].get((value.operation, value.stack[:depth]), ())
            if not any(i != index and (i not in surplus or trace[i].stack != value.stack) for i in good):
                unusual = value.stack[depth - 1]
                break
        if unusual:
            yield unusual, why
        else:  # one line of a loop did it well and wrong: the call is as suspect as what it calls
            yield from ((line, why) for line in value.stack[1:2])
        yield from ((line, why) for line in value.stack[:1])

    @functools.cached_property
    def _good(self) -> tuple[dict[tuple[str, Stack], set[int]], dict[tuple[str, Stack], set[int]]]:
        """The values that both sides have, or of which only such are made: by operation and inner lines."""
        good: tuple[dict[tuple[str, Stack], set[int]], dict[tuple[str, Stack], set[int]]] = ({}, {})
        for side, trace in enumerate(self.matching.traces):
            for value in trace:
                if not value.plain and self._is_good(side, value.root):
                    for depth in range(1, len(value.stack) + 1):
                        good[side].setdefault((value.operation, value.stack[:depth]), set()).add(value.index)
        return good

    def _is_good(self, side: int, root: int) -> bool:
        """Whether both sides have the value, or it is a step on one side's way to such ones alone."""
        if self.matching.has(side, root):
            return True
        users = self.counterparts.users[side].get(root, ())
        return bool(users) and all(self.matching.has(side, user) for user in users)

    def _around(self, index: int) -> Iterator[Reason]:
        """Where the operands came from, and who called."""
        for operand in self.port.operands(index):
            if operand.stack and not operand.plain:
                yield meeting(self.port[index].stack, operand.stack), 'made an operand'
        yield from ((line, 'called this') for line in self.port[index].stack[1:])


def _is_line(line: Line, stack: Stack) -> bool:
    """Whether the line is among the calls."""
    return line in stack
