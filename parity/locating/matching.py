"""Pair the values of two traces by their fingerprints."""

import bisect
import math
from collections.abc import Iterable
from dataclasses import dataclass

from parity.locating import kinds
from parity.locating.fingerprints import distance, rearranged, transposed
from parity.locating.trace import Trace, Value, tolerance


@dataclass
class Matching:
    """Which values of the two traces are the same, seen from either side.

    found:   for each value of a side those of the other side that equal it, in order; only roots.
    partner: one for one, where both sides have a value equally often; `index -> index`, for both sides.
    excess:  the values that a side has more often than the other: which of them is too many is unknown.
    """

    traces: tuple[Trace, Trace]
    found: tuple[dict[int, list[int]], dict[int, list[int]]]
    partner: tuple[dict[int, int], dict[int, int]]
    excess: tuple[set[int], set[int]]

    def has(self, side: int, index: int) -> bool:
        """Whether the other side has the value."""
        return index in self.found[side]

    def same(self, side: int, index: int, other: int) -> bool:
        """Whether the value at `index` of a side is the one at `other` of the other side."""
        return other in self.found[side].get(index, ())


def match(reference: Trace, port: Trace) -> Matching:
    """Match the values of two traces, masks and numbers of the program as well."""
    _without_common_rounding(reference, port)
    found = _found(port, reference), _found(reference, port)
    partner: tuple[dict[int, int], dict[int, int]] = {}, {}
    excess: tuple[set[int], set[int]] = set(), set()
    for first, others in _classes(found[0], found[1]):
        if len(first) == len(others):
            for a, b in zip(first, others, strict=True):
                partner[0][a], partner[1][b] = b, a
        elif len(first) > len(others):
            excess[0].update(first)
        else:
            excess[1].update(others)
    return Matching((reference, port), found, partner, excess)


def _without_common_rounding(reference: Trace, port: Trace) -> None:
    """What both sides rounded to the same float32 is exact for what follows: images, in a float64 check."""
    sketches = [
        {v.index: v.print.sketch.tobytes() for v in t if v.print.dtype == 'f32'} for t in (reference, port)
    ]
    common = set(sketches[0].values()) & set(sketches[1].values())
    for trace, own in zip((reference, port), sketches, strict=True):
        if common:
            trace.without_noise({index for index, sketch in own.items() if sketch in common})


def equal(a: Value, b: Value) -> bool:
    """Whether two values are the same up to rounding and layout."""
    allowed = tolerance(a, b)
    if math.isinf(allowed):
        return math.prod(a.print.shape) == math.prod(b.print.shape)
    if distance(a.print, b.print) > 2 * allowed or (a.print.dtype[0] == 'f') != (b.print.dtype[0] == 'f'):
        return False
    if a.print.dtype[0] == 'f' and a.print.dtype != b.print.dtype:
        return False
    return not rearranged(a.print, b.print, 2 * allowed)


def _comparable(a: Value, b: Value) -> bool:
    """Zeros are everywhere: those that were computed are the same only if they were computed alike."""
    if a.print.largest or a.print.dtype[0] != 'f' or a.constant:
        return True
    return math.prod(a.print.shape) == math.prod(b.print.shape) and kinds.alike(a.operation, b.operation)


def turned(a: Value, b: Value) -> bool:
    """Whether equal values of one shape are laid out differently: a transposed square matrix."""
    return transposed(a.print, b.print, 2 * tolerance(a, b))


def reordered(a: Value, b: Value) -> bool:
    """Whether neither a reshape nor a transpose makes one layout of a value of the other."""
    return rearranged(a.print, b.print, 2 * tolerance(a, b))


def _found(candidates: Trace, values: Trace) -> dict[int, list[int]]:
    """For each root of `values` the equal roots among the candidates."""
    by_size: dict[int, list[tuple[float, int]]] = {}
    for value in _roots(candidates):
        by_size.setdefault(value.print.size, []).append((float(value.print.sketch[0]), value.index))
    for group in by_size.values():
        group.sort()
    found = {}
    for value in _roots(values):
        near = sorted(_near(by_size.get(value.print.size, []), value))
        same = [i for i in near if equal(value, candidates[i]) and _comparable(value, candidates[i])]
        if same:
            found[value.index] = same
    return found


def _near(group: list[tuple[float, int]], value: Value) -> list[int]:
    """The values whose means are near enough. The other's noise can only narrow the tolerance."""
    mean = float(value.print.sketch[0])
    reach = 2 * max(tolerance(value, value), 1e-300) * (1 + 1e-6)
    low = bisect.bisect_left(group, (mean - reach, -1))
    high = bisect.bisect_right(group, (mean + reach, len(group) and 1 << 62))
    return [index for _, index in group[low:high]]


def _roots(trace: Trace) -> Iterable[Value]:
    return (value for value in trace if value.root == value.index and value.index not in trace.drawing)


def _classes(
    first: dict[int, list[int]], second: dict[int, list[int]]
) -> Iterable[tuple[list[int], list[int]]]:
    """Groups of values that are all the same: of one side, and of the other."""
    done: set[int] = set()
    for index, others in first.items():
        if index not in done:
            mine = second.get(others[0], [index])
            done.update(mine)
            yield mine, others
