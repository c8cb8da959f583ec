"""The values that one side computes: how they depend on each other, and the line of each."""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from parity.locating import kinds
from parity.locating.fingerprints import Fingerprint, fingerprint
from parity.locating.sources import Line, Stack

# The rounding of one operation, relative, by dtype.
ROUNDING = {'f64': 4 * 2.0**-52, 'f32': 4 * 2.0**-23, 'f16': 4 * 2.0**-10}
# Agreement: this share of the largest entry, or this many times the rounding of all operations so far.
RELATIVE, NOISES = 1e-11, 100.0


@dataclass(eq=False)
class Value:
    """One value.

    operands: the values that it was computed from, in order.
    stack:    the lines that computed it, innermost first.
    root:     the value that this one only lays out anew, or itself.
    constant: whether it depends on no input.
    leaf:     the name of an input: `params/...`, `batch/...`.
    active:   whether a gradient flows from it to what is differentiated.
    noise:    an estimate of its rounding, absolute; infinite behind a comparison that rounding decides.
    library:  whether an installed library computed it for the innermost line, as flax does for a layer.
    entries:  for each operand, the line at which it entered the calls around the operation, if known.
    numbers:  the floating numbers that it was computed with, and the line at which each entered the calls.
    cotangent: of the loss with respect to it, once the backward pass has run.
    """

    index: int
    operation: str
    operands: tuple[int, ...]
    stack: Stack
    print: Fingerprint
    root: int
    constant: bool = False
    leaf: str | None = None
    active: bool = False
    noise: float = 0.0
    library: bool = False
    entries: tuple[Line | None, ...] = ()
    numbers: dict[float, Line | None] = field(default_factory=dict)
    cotangent: Fingerprint | None = None

    @property
    def plain(self) -> bool:
        """Whether the value says little: masks, numbers of the program, zeros up to rounding."""
        return (
            self.print.plain or self.constant or (self.print.largest <= 10 * self.noise and self.leaf is None)
        )


@dataclass
class Use:
    """What one operation sends back to one of its operands: from `user` to `value`, a cotangent."""

    value: int
    user: int
    cotangent: Fingerprint


@dataclass
class Trace:
    """All values of one side, in the order in which they were computed.

    outputs: the value of the loss and of each info value, by name.
    uses:    of the backward pass.
    drawing: the values inside of draws of random numbers, which stand for nothing.
    failure: what the side raised instead of finishing, with the lines that raised it.
    """

    values: list[Value] = field(default_factory=list)
    outputs: dict[str, int] = field(default_factory=dict)
    uses: list[Use] = field(default_factory=list)
    drawing: set[int] = field(default_factory=set)
    failure: tuple[BaseException, Stack] | None = None

    def __getitem__(self, index: int) -> Value:
        return self.values[index]

    def __iter__(self) -> Iterator[Value]:
        return iter(self.values)

    def leaf(self, name: str, array: np.ndarray, *, active: bool) -> Value:
        """An input."""
        value = self.add('leaf', (), (), array, active=active and array.dtype.kind == 'f')
        value.leaf, value.constant = name, False
        return value

    def add(
        self,
        operation: str,
        operands: tuple[int, ...],
        stack: Stack,
        array: np.ndarray,
        *,
        active: bool = False,
        library: bool = False,
        undecided: bool = False,
        entries: tuple[Line | None, ...] = (),
        numbers: Mapping[float, Line | None] | None = None,
    ) -> Value:
        """A new value; undecided: of a comparison that rounding may decide, so that any result is right."""
        index = len(self.values)
        given = [self.values[i] for i in operands]
        printed = fingerprint(array)
        value = Value(
            index,
            operation,
            operands,
            stack,
            printed,
            root=given[0].root if _is_layout(operation, given, printed) else index,
            constant=all(value.constant for value in given),
            active=active,
            noise=math.inf if undecided else _noise(operation, given, printed),
            library=library,
            entries=entries,
            numbers=dict(numbers or {}),
        )
        self.values.append(value)
        return value

    def without_noise(self, exact: Collection[int]) -> None:
        """Estimate the noise anew where some values, at these indices, are known to have none."""
        for value in self.values:
            given = [self.values[i] for i in value.operands]
            is_undecided = math.isinf(value.noise) and not any(math.isinf(x.noise) for x in given)
            if value.index in exact:
                value.noise = 0.0
            elif not is_undecided:
                value.noise = _noise(value.operation, given, value.print)

    def is_undecided(self, operation: str, operands: tuple[int, ...], arrays: Sequence[np.ndarray]) -> bool:
        """Whether an operation compares floating values that are equal up to their rounding somewhere.

        A value equals itself whatever its rounding: `x == x`, as isfinite asks.
        """
        noise = max((self.values[i].noise for i in operands), default=0.0)
        is_one = len(operands) == 2 and self.root(operands[0]) is self.root(operands[1])
        if operation not in kinds.COMPARISONS or len(arrays) != 2 or not noise or is_one:
            return False
        with np.errstate(all='ignore'):
            return bool((np.abs(np.subtract(*arrays, dtype=np.float64)) <= NOISES * noise).any())

    def root(self, index: int) -> Value:
        """The value that the one at `index` lays out."""
        return self.values[self.values[index].root]

    def operands(self, index: int) -> list[Value]:
        """The roots of the operands, each once, in order."""
        roots = dict.fromkeys(self.values[i].root for i in self.values[index].operands)
        return [self.values[i] for i in roots]

    def ancestors(
        self, starts: Iterable[int], stop: Callable[[Value], bool] = lambda value: False
    ) -> set[int]:
        """The roots from which the starts were computed, themselves included, up to where `stop` holds."""
        seen: set[int] = set()
        waiting = [self.values[i].root for i in starts]
        while waiting:
            index = waiting.pop()
            if index in seen or stop(self.values[index]):
                continue
            seen.add(index)
            waiting += [value.index for value in self.operands(index)]
        return seen

    def users(self) -> dict[int, list[int]]:
        """For each root the roots that were computed from it."""
        found: dict[int, list[int]] = {}
        for value in self.values:
            if value.root == value.index:
                for operand in self.operands(value.index):
                    found.setdefault(operand.index, []).append(value.index)
        return found


def _is_layout(operation: str, given: list[Value], printed: Fingerprint) -> bool:
    """Whether an operation leaves its operand as it is, but for its layout and not its precision."""
    if not given or given[0].print.dtype != printed.dtype:
        return False
    whole = operation in kinds.MOVES and len(given) == 1 and given[0].print.shape == printed.shape
    return operation in kinds.LAYOUT or (whole and bool((given[0].print.sketch == printed.sketch).all()))


def tolerance(a: Value, b: Value) -> float:
    """How far the same value of both sides may differ. What only one side rounds is a difference."""
    return max(RELATIVE * max(a.print.largest, b.print.largest), NOISES * min(a.noise, b.noise))


def _noise(operation: str, given: list[Value], printed: Fingerprint) -> float:
    """The rounding of a result: of the largest term of a sum, else relative as that of the operands."""
    floats = [value for value in given if value.print.dtype[0] == 'f' or value.noise]
    if any(math.isinf(value.noise) for value in floats):
        return math.inf
    rounding = ROUNDING.get(printed.dtype, 0.0)
    own = rounding * printed.largest
    if operation in kinds.PRODUCTS and len(floats) >= 2:
        a, b = floats[-2], floats[-1]
        crossed = a.noise * b.print.largest + b.noise * a.print.largest
        return max(crossed + rounding * a.print.largest * b.print.largest, own)
    if operation in kinds.CHOICES:
        return max([value.noise for value in floats] + [own])
    if operation in kinds.SUMS:
        return max([value.noise + rounding * value.print.largest for value in floats] + [own])
    relative = max((v.noise / v.print.largest for v in floats if v.print.largest), default=0.0)
    return own + min(relative, 1.0) * printed.largest
