"""Outputs that have the reference's values in another shape: where the shapes part.

Values are matched whatever their layout. So a dimension too many, `(1, B, 1)` for `(B, 1)`, parts no values.
"""

from collections.abc import Iterator

from parity.locating.frontier import PORT, REFERENCE
from parity.locating.lines import LineMap
from parity.locating.matching import Matching
from parity.locating.suspects import Reason, Suspect, named
from parity.locating.trace import Value

Shape = tuple[int, ...]


class Shapes:
    """Judges the outputs whose values agree."""

    def __init__(self, matching: Matching, lines: LineMap) -> None:
        self.matching, self.lines = matching, lines
        self.reference, self.port = matching.traces
        # of each root of the reference the shapes that it is laid out in
        self.known: dict[int, set[Shape]] = {}
        for value in self.reference:
            self.known.setdefault(value.root, set()).add(value.print.shape)

    def wrong(self) -> dict[str, tuple[Value, Value]]:
        """The outputs of another shape, (the reference's, the port's) by name.

        One that depends on no input takes its shape from others, and only tells if it is alone.
        """
        mine, theirs = self.port.outputs, self.reference.outputs
        both = {
            name: (self.reference[theirs[name]], self.port[mine[name]]) for name in theirs if name in mine
        }
        odd = {name: pair for name, pair in both.items() if pair[0].print.shape != pair[1].print.shape}
        return {name: pair for name, pair in odd.items() if not pair[1].constant} or odd

    def suspects(self, other: Value, output: Value) -> list[Suspect]:
        """The lines that may be to blame for the shape of an output, the likeliest first."""
        first = self._first_odd(output)
        is_last = first.root == output.root
        partner = other.index if is_last else self._others(first)[0]
        return named(self._reasons(first, other, is_last=is_last), first.index, partner)

    def _first_odd(self, output: Value) -> Value:
        """The first value from which on, up to an output, no line has a shape that the reference knows."""
        seen, waiting, odd = {output.index}, [output], output
        while waiting:
            value = waiting.pop()
            operands = [self.port[i] for i in value.operands if i not in seen]
            further = [x for x in operands if self._is_odd(x) or self._is_own(x) or x.stack == value.stack]
            seen.update(x.index for x in further)
            waiting += further
            odd = min([odd, *filter(self._is_odd, further)], key=lambda x: x.index)
        return odd

    def _others(self, value: Value) -> list[int]:
        """The same value in the reference."""
        return self.matching.found[PORT].get(value.root, [])

    def _is_odd(self, value: Value) -> bool:
        """Whether the reference has the value, and in no layout of this shape.

        Inputs are as they are given, and weights are laid out otherwise in torch.
        """
        is_weight = (self.port[value.root].leaf or '').startswith('params/')
        others = [] if value.leaf or is_weight else self._others(value)
        return bool(others) and all(value.print.shape not in self.known[other] for other in others)

    def _is_own(self, value: Value) -> bool:
        """Whether it is a step of the port's own between values of the reference."""
        return not self._others(value) and value.leaf is None and not value.constant

    def _reasons(self, first: Value, other: Value, *, is_last: bool) -> Iterator[Reason]:
        mine, theirs = first.print.shape, other.print.shape
        if is_last and other.index != other.root and other.stack:
            there = self.lines.other(REFERENCE, other.stack[0])
            yield from [(there, f'the reference applies {other.operation} here')] if there else []
        why = f'from here on the shape is another one: {mine}'
        why = f'the shape is {mine}, in the reference {theirs}' if is_last else why
        yield from ((line, why) for line in first.stack)
