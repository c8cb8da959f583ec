"""Teacher forcing: every module call of the reference, repeated by the port's module of the same path."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from parity import chunks
from parity.comparison import Leaf, compare
from parity.locating.forcing import BACKWARD, FORWARD, Forced
from parity.locating.interception import ModuleCall, module_calls
from parity.locating.losses import PortLoss, port_loss, reference_loss
from parity.locating.port_calls import PortCall, numbered, port_calls
from parity.locating.structures import fit
from parity.runs import Runs
from parity.sides import LossCall
from parity.tolerances import tolerance
from parity.trees import Arrays, subtree

Status = Literal['match', 'carrier', 'culprit', 'missing']
# By how much, in roundings, and how often inputs and parameters are scaled to measure the noise of a module.
SCALE, SAMPLES = 2.0**-50, 3
# A difference by such a share of a leaf is no rounding: a scaled value that moves it so far crossed a corner.
CERTAIN = 1e-6


@dataclass(frozen=True)
class LayerRow:
    """One call of one module.

    path, number: which module, and how many of its calls went before; order, parent: among all calls.
    forward:  'culprit' where the port's module returns something else than the reference's, or gives
              something else to the modules in it, from the same inputs and with the same results of these;
              'carrier' where only its results in the port's own run differ; 'missing' where the port never
              calls it.
    backward: the same for cotangents.
    leaf:     what differs first in a culprit, and most: `outputs/...`, `gives <module>/...`,
              `sends <module>/...` or `grads/...`; empty for others.
    reads:    whether its parameters are trained in this call, (reference, port).
    problem:  what the port's module raised, if it did.
    """

    path: str
    number: int
    order: int
    parent: int | None
    forward: Status
    backward: Status
    leaf: str = ''
    reference: str = ''
    port: str = ''
    error: float = 0.0
    allowed: float = 0.0
    margin: float = 0.0
    reads: tuple[bool, bool] = (False, False)
    problem: str = ''

    @property
    def is_culprit(self) -> bool:
        """Whether it creates a difference."""
        return 'culprit' in (self.forward, self.backward)


class Layers:
    """The calls of both sides in one loss."""

    def __init__(self, runs: Runs, call: LossCall) -> None:
        self.runs, self.call = runs, call

    @functools.cached_property
    def reference(self) -> list[ModuleCall]:
        """The calls of the reference's modules."""
        return module_calls(reference_loss(self.runs, self.call))

    @functools.cached_property
    def loss(self) -> PortLoss:
        """The port's loss, at the case's state."""
        return port_loss(self.runs, self.call)

    @functools.cached_property
    def port(self) -> dict[tuple[str, int], PortCall]:
        """The calls of the port's modules, by path and number."""
        return _by_number(port_calls(self.loss))

    @functools.cached_property
    def nearby(self) -> list[dict[tuple[str, int], PortCall]]:
        """The same at states that are some roundings away."""
        found = []
        for sample in range(SAMPLES):
            near = port_loss(self.runs, self.call, lambda state, k=sample: state.scaled(k, SCALE))  # type: ignore[misc]
            found.append(_by_number(port_calls(near)))
        port_loss(self.runs, self.call)  # back to the case's state
        return found

    def rows(self) -> list[LayerRow]:
        """A row for every call of a module that the port has, in the order of execution."""
        calls = [call for call in self.reference if call.path in self.loss.modules]
        numbers = [number for _, number in numbered(call.path for call in calls)]
        return [self._row(call, number) for call, number in zip(calls, numbers, strict=True)]

    def forced(self, call: ModuleCall, number: int = 0) -> Forced | None:
        """The call, to be repeated by the port's module; None where the port never calls that."""
        template = self.port.get((call.path, number), self.port.get((call.path, 0)))
        inner = (child for child in self.reference if child.parent == call.order)
        known = tuple(child for child in inner if child.path in self.loss.modules)
        return None if template is None else Forced(call, known, self.loss, template)

    def _row(self, call: ModuleCall, number: int) -> LayerRow:
        row = LayerRow(call.path, number, call.order, call.parent, 'match', 'match')
        forced = self.forced(call, number)
        if forced is None:
            return dataclasses.replace(row, forward='missing', backward='missing')
        own = self.port.get((call.path, number))
        row = dataclasses.replace(row, reads=(bool(call.trained), bool(own and own.trained)))
        try:
            leaves = judged(forced, self.runs.inputs.reduction)
        except Exception as cause:  # a module that does not take the reference's inputs is wrong by itself
            return dataclasses.replace(row, forward='culprit', problem=f'{type(cause).__name__}: {cause}')
        row = dataclasses.replace(
            row,
            forward=self._status(leaves, FORWARD, lambda: self._carries(call, number, 'outputs')),
            backward=self._status(leaves, BACKWARD, lambda: self._carries(call, number, 'cotangents')),
        )
        return _with_worst(row, leaves) if row.is_culprit else row

    def _status(self, leaves: list[Leaf], kinds: tuple[str, ...], carries: Callable[[], bool]) -> Status:
        if any(not leaf.matches for leaf in _of(leaves, kinds)):
            return 'culprit'
        return 'carrier' if carries() else 'match'

    def _carries(self, call: ModuleCall, number: int, what: str) -> bool:
        """Whether the outputs, or their cotangents, differ in the port's own run."""
        key = call.path, number
        if key not in self.port:
            return False
        values: Arrays = getattr(self.port[key], what)
        source = call.values if what == 'outputs' else call.cotangents
        expected = {
            name: fit(leaf, values[name].shape)
            for name, leaf in subtree(source, 'outputs').items()
            if name in values
        }
        found = {name: values[name] for name in expected}
        if not expected:
            return False
        near = [getattr(calls[key], what) for calls in self.nearby if key in calls]
        whole = 0.0 if what == 'outputs' else self.largest_cotangent
        leaves = _compared(expected, found, lambda: near, self.runs.inputs.reduction, whole)
        return any(not leaf.matches for leaf in leaves)

    @functools.cached_property
    def largest_cotangent(self) -> float:
        """Of all in the loss: what is left of one that cancels is the rounding of others."""
        sizes = (chunks.largest(call.cotangents).values() for call in self.reference)
        return max(itertools.chain.from_iterable(sizes), default=0.0)


def layers(runs: Runs, call: LossCall) -> list[LayerRow]:
    """Every module call of the reference in the loss, and whether the port's module is wrong by itself."""
    return Layers(runs, call).rows()


def judged(forced: Forced, reduction: int) -> list[Leaf]:
    """All that the port's module makes, gives and sends, against the reference, worst first."""
    found = forced.run()
    near = functools.partial(_nearby, forced)
    return _compared(forced.expected(found), found, near, reduction, forced.largest_term())


def _nearby(forced: Forced) -> list[Arrays]:
    return [forced.run(_scaling(sample)) for sample in range(SAMPLES)]


def _compared(
    expected: Arrays, found: Arrays, near: Callable[[], list[Arrays]], reduction: int, whole: float
) -> list[Leaf]:
    """The leaves, worst first. The noise is measured only where a leaf differs by what may be noise."""
    own = chunks.largest(expected)
    sizes = {name: max(size, _whole(name, whole)) for name, size in own.items()}

    def compared(samples: list[Arrays]) -> list[Leaf]:
        noise = _noise(found, samples, sizes)
        allowed = {
            name: tolerance(leaf, noise[name], 'float64', reduction, _whole(name, whole), own=own[name])
            for name, leaf in expected.items()
        }
        return compare(expected, found, expected, allowed, places=True)

    leaves = compared([])
    certain = all(leaf.matches or leaf.error > CERTAIN * sizes.get(leaf.path, 0.0) for leaf in leaves)
    return leaves if certain else compared(near())


def _noise(found: Arrays, near: list[Arrays], sizes: dict[str, float]) -> dict[str, float]:
    """How far roundings in what the port is given move it, for each of the sizes."""
    noise = dict.fromkeys(sizes, 0.0)
    for moved in near:
        both = {name: leaf for name, leaf in found.items() if name in moved and name in sizes}
        for name, distance in chunks.differences(moved, both).items():
            if distance <= CERTAIN * sizes[name]:
                noise[name] = max(noise[name], distance)
    return noise


def _whole(name: str, whole: float) -> float:
    """Cotangents are one vector."""
    return 0.0 if name.startswith(FORWARD) else whole


def _scaling(sample: int) -> Callable[[np.ndarray], np.ndarray]:
    rng = np.random.default_rng([sample])

    def scale(array: np.ndarray) -> np.ndarray:
        return array * (1 + SCALE * rng.uniform(-1, 1)) if array.dtype.kind == 'f' else array

    return scale


def _by_number(calls: list[PortCall]) -> dict[tuple[str, int], PortCall]:
    return dict(zip(numbered(call.path for call in calls), calls, strict=True))


def _of(leaves: Iterable[Leaf], kinds: tuple[str, ...]) -> list[Leaf]:
    return [leaf for leaf in leaves if leaf.path.startswith(kinds)]


def _with_worst(row: LayerRow, leaves: list[Leaf]) -> LayerRow:
    """The row with the first leaf on the data's way that differs, the worst of its kind."""
    kinds = FORWARD if row.forward == 'culprit' else BACKWARD
    differing = [leaf for leaf in _of(leaves, kinds) if not leaf.matches]
    worst = min(differing, key=lambda leaf: kinds.index(leaf.path.split('/')[0].split(' ')[0]))
    return dataclasses.replace(
        row,
        leaf=worst.path,
        reference=worst.reference,
        port=worst.port,
        error=worst.error,
        allowed=worst.allowed,
        margin=worst.margin,
    )
