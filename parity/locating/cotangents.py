"""Where two computations of the same values have different gradients: where one lets a gradient flow."""

import functools
from collections.abc import Iterator

from parity.locating.fingerprints import Fingerprint, distance, rearranged
from parity.locating.frontier import PORT, REFERENCE
from parity.locating.lines import LineMap
from parity.locating.matching import Matching
from parity.locating.sources import Line, Stack
from parity.locating.suspects import Reason, Suspect, named
from parity.locating.trace import Trace, Use, Value

# Gradients agree up to this share of the larger one, or of the largest of all: what is left is rounding.
RELATIVE, OF_ALL = 1e-9, 1e-13


class Backward:
    """Judges the gradients of two traces whose values agree."""

    def __init__(self, matching: Matching, lines: LineMap) -> None:
        self.matching, self.lines = matching, lines
        self.reference, self.port = matching.traces
        self._right = functools.cache(self._done_rightly)
        every = (value.cotangent.largest for trace in matching.traces for value in trace if value.cotangent)
        self.floor = OF_ALL * max(every, default=0.0)

    def wrong_leaves(self) -> dict[str, tuple[int, int]]:
        """The differentiated inputs whose gradients differ: name -> reference and port."""
        wrong = {}
        for value in self.reference:
            if value.leaf is None or not value.active:
                continue
            others = [
                i
                for i in self.matching.found[REFERENCE].get(value.index, ())
                if self.port[i].leaf is not None
            ]
            if others and not any(self.agree(value.cotangent, self.port[i].cotangent) for i in others):
                wrong[value.leaf] = value.index, others[0]
        return wrong

    def agree(self, a: Fingerprint | None, b: Fingerprint | None) -> bool:
        """Whether two cotangents are the same; none is zero."""
        if self._is_nothing(a) and self._is_nothing(b):
            return True
        if a is None or b is None:
            return False
        allowed = 2 * max(RELATIVE * max(a.largest, b.largest), self.floor)
        return distance(a, b) <= allowed and not rearranged(a, b, allowed)

    def _is_nothing(self, cotangent: Fingerprint | None) -> bool:
        return cotangent is None or (not any(cotangent.strange) and cotangent.largest <= self.floor)

    # --- whether a gradient flows at all

    @functools.cached_property
    def pairs(self) -> list[tuple[int, int]]:
        """Values of the reference and the port that are the same, one for one."""
        found: list[tuple[int, int]] = []
        for first, others in self._classes():
            mine, theirs = self._by_activity(PORT, others), self._by_activity(REFERENCE, first)
            if [len(group) for group in mine] == [len(group) for group in theirs]:
                found += zip(theirs[0] + theirs[1], mine[0] + mine[1], strict=True)
            elif len(first) == len(others):
                found += zip(first, others, strict=True)
        return found

    def _classes(self) -> Iterator[tuple[list[int], list[int]]]:
        done: set[int] = set()
        for index, others in self.matching.found[REFERENCE].items():
            if index not in done and self.reference[index].leaf is None and not self.reference[index].plain:
                first = self.matching.found[PORT].get(others[0], [index])
                done.update(first)
                yield first, others

    def _by_activity(self, side: int, indices: list[int]) -> tuple[list[int], list[int]]:
        trace = self.matching.traces[side]
        return [i for i in indices if trace[i].active], [i for i in indices if not trace[i].active]

    @functools.cached_property
    def misled(self) -> dict[int, int]:
        """The values of the port to which a gradient flows where none should, or none where one should."""
        return {b: a for a, b in self.pairs if self.reference[a].active != self.port[b].active}

    def by_activity(self) -> list[list[Suspect]]:
        """The suspects for the first values at which the flow of gradients differs."""
        found = []
        for index, other in sorted(self.misled.items()):
            if not any(
                value.index in self.misled for value in self.port.operands(index) if value.index != index
            ):
                flows = self.port[index].active
                reasons = self._flowing(index, other) if flows else self._stopped(index)
                found.append(named(reasons, index, other))
        return found

    def _flowing(self, index: int, other: int) -> Iterator[Reason]:
        why = 'a gradient flows here, and not in the reference'
        for value in self._laid(self.reference, other):
            if value.operation == 'stop_gradient' and value.stack:
                there = self.lines.within(value.stack[0], self.port[index].stack)
                yield from [(there, why)] if there else []
        yield from ((line, why) for line in self._unusual(self.port[index], frozenset(self.misled)))

    def _stopped(self, index: int) -> Iterator[Reason]:
        why = 'the gradient stops here, and not in the reference'
        for value in self._laid(self.port, index):
            if value.operation == 'detach' and self.port[value.operands[0]].active:
                yield from ((line, why) for line in self._unusual(value, self._cutting))
        yield from ((line, why) for line in self._unusual(self.port[index], frozenset(self.misled)))

    @functools.cached_property
    def _cutting(self) -> frozenset[int]:
        """The detached values that misled ones were computed from."""
        laid = (value for index in self.misled for value in self._laid(self.port, index))
        return frozenset(value.index for value in laid if value.operation == 'detach')

    def _laid(self, trace: Trace, index: int) -> Iterator[Value]:
        """The layouts of its operands that a value was computed from."""
        for i in trace[index].operands:
            value = trace[i]
            while value.index != value.root:
                yield value
                value = trace[value.operands[0]]

    def _unusual(self, value: Value, wrong: frozenset[int]) -> Iterator[Line]:
        """The innermost line that did not do the same rightly in another call, then all of them."""
        right = self._right(wrong)
        for depth in range(1, len(value.stack) + 1):
            if (*self._manner(value), value.stack[:depth]) not in right:
                yield value.stack[depth - 1]
                break
        yield from value.stack

    def _done_rightly(self, wrong: frozenset[int]) -> set[tuple[str, bool, tuple[bool, ...], Stack]]:
        """What was done rightly: operations, whether gradients flow to and from them, and the inner lines."""
        right = set()
        for value in self.port:
            if value.index not in wrong and value.root not in wrong:
                for depth in range(1, len(value.stack) + 1):
                    right.add((*self._manner(value), value.stack[:depth]))
        return right

    def _manner(self, value: Value) -> tuple[str, bool, tuple[bool, ...]]:
        inputs = (self.port[i].active for i in value.operands if self.port.root(i).leaf is not None)
        return value.operation, value.active, tuple(inputs)

    # --- what flows

    @functools.cached_property
    def differing(self) -> dict[int, int]:
        """The values of the port whose cotangents differ from the reference's."""
        pairs = (*self.pairs, *self._ends())
        return {
            b: a
            for a, b in pairs
            if not self.agree(self.reference[a].cotangent, self.port[b].cotangent) and not self._is_spare(b)
        }

    def _is_spare(self, index: int) -> bool:
        """Whether the port uses something else that the operation made, as of a LayerNorm not its mean."""
        value = self.port[index]
        beside = (x for x in self.port if (x.operation, x.operands) == (value.operation, value.operands))
        return index not in self._users and any(x.index in self._users for x in beside)

    def _ends(self) -> Iterator[tuple[int, int]]:
        """The first and the last of what one side repeats more often, as by a clip that clips nothing."""
        for first, others in self._classes():
            active = all(self.reference[i].active for i in first) and all(self.port[i].active for i in others)
            if active and len(first) != len(others):
                yield from ((first[0], others[0]), (first[-1], others[-1]))

    def by_value(self) -> list[list[Suspect]]:
        """The suspects for the last values whose cotangents differ, and for leaves with no such value."""
        leaves = {b: a for a, b in self.wrong_leaves().values()}
        last = {
            index: other
            for index, other in {**self.differing, **leaves}.items()
            if not any(user in self.differing for user in self._next(index))
        }
        wrong = frozenset(
            use.user for index, other in last.items() for use in self._unmatched(index, other)[0]
        )
        return [
            named(self._contributions(index, other, wrong), index, other) for index, other in last.items()
        ]

    @functools.cached_property
    def _users(self) -> dict[int, list[int]]:
        return self.port.users()

    def _next(self, index: int) -> set[int]:
        """What the port computes from a value, and from that through what the reference does not have."""
        found: set[int] = set()
        waiting = [index]
        while waiting:
            new = set(self._users.get(waiting.pop(), ())) - found
            found |= new
            waiting += (user for user in new if not self.matching.has(PORT, user))
        return found

    def _unmatched(self, index: int, other: int) -> tuple[list[Use], list[Use]]:
        """What is sent back to a value of the port and not to the reference's, and the other way round."""
        extra, lacking = self._received(PORT, index), self._received(REFERENCE, other)
        for use in list(extra):
            same = next((x for x in lacking if self.agree(use.cotangent, x.cotangent)), None)
            if same is not None:
                extra.remove(use)
                lacking.remove(same)
        return extra, lacking

    def _contributions(self, index: int, other: int, wrong: frozenset[int]) -> Iterator[Reason]:
        extra, lacking = self._unmatched(index, other)
        if len(extra) != len(lacking):
            yield from self._at_cuts(index, other, len(extra) > len(lacking))
        for use in extra:
            yield from (
                (line, 'sends back another gradient') for line in self._unusual(self.port[use.user], wrong)
            )
        for use in lacking:
            user = self.reference[use.user]
            there = self.lines.other(REFERENCE, user.stack[0]) if user.stack else None
            if there:
                yield there, 'sends back no such gradient'
        yield from ((line, 'its gradient differs') for line in self.port[index].stack)

    def _at_cuts(self, index: int, other: int, too_many: bool) -> Iterator[Reason]:
        """Where one side stops the gradient of the value: the reference's line, or the port's own."""
        if too_many:
            for value in self.reference:
                if value.root == other and value.operation == 'stop_gradient' and value.stack:
                    there = self.lines.other(REFERENCE, value.stack[0])
                    yield from [(there, 'the reference stops the gradient here')] if there else []
        else:
            for value in self.port:
                if value.root == index and value.operation == 'detach' and value.stack:
                    yield value.stack[0], 'the gradient stops here, and not in the reference'

    def _received(self, side: int, index: int) -> list[Use]:
        """What is sent back to a value, or to a layout of it, by what is computed from it."""
        trace = self.matching.traces[side]
        uses = self._uses[side].get(index, ())
        return [use for use in uses if trace[use.user].root != index and not self._is_nothing(use.cotangent)]

    @functools.cached_property
    def _uses(self) -> tuple[dict[int, list[Use]], dict[int, list[Use]]]:
        found: tuple[dict[int, list[Use]], dict[int, list[Use]]] = ({}, {})
        for side, trace in enumerate(self.matching.traces):
            for use in trace.uses:
                found[side].setdefault(trace[use.value].root, []).append(use)
        return found
