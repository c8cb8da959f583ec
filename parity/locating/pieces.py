"""Parts of the port that differ, each with what it must return: what causes are searched in."""

import contextlib
import dataclasses
import functools
import itertools
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np

from parity.comparison import Leaf, compare
from parity.locating.candidates import (
    other_axes,
    other_operations,
    other_settings,
    source_changes,
)
from parity.locating.causes import Piece
from parity.locating.counterfactuals import Counterfactual, Source, helpers
from parity.locating.differences import differences
from parity.locating.interception import ModuleCall
from parity.locating.layers import Layers, judged
from parity.locating.losses import network_of
from parity.locating.sources import Line
from parity.locating.structures import arrays_of
from parity.runs import Runs
from parity.sides import LossCall
from parity.stages import Runner
from parity.tolerances import Tolerance, tolerance
from parity.trees import Arrays, subtree, with_prefix

# A search in one piece ends after so many candidates, or seconds of this thread's own: what is found must not
# depend on how busy the machine is.
TRIES, SECONDS = 500, 4.0


class Budget:
    """So many seconds for all pieces together."""

    def __init__(self, seconds: float) -> None:
        self.end = time.thread_time() + seconds

    @property
    def is_spent(self) -> bool:
        """Whether no time is left."""
        return time.thread_time() >= self.end

    def limit(self, candidates: Iterator[Counterfactual]) -> Iterator[Counterfactual]:
        """The first candidates, for a while."""
        end = min(self.end, time.thread_time() + SECONDS)
        return itertools.takewhile(lambda _: time.thread_time() < end, itertools.islice(candidates, TRIES))

    def spend(self, candidates: Iterator[Counterfactual]) -> Iterator[Counterfactual]:
        """As many of the candidates as there is time for."""
        return itertools.takewhile(lambda _: not self.is_spent, candidates)


class Judge:
    """What the port must return for one computation, in float64, by the engine's tolerances.

    Leaves are called as its stage calls them, without the name of the loss; gradients are `grads/<path>`.
    call: the loss; None for the stage `forward` of networks, models or functions, and for `actions`.
    """

    def __init__(self, runs: Runs, call: LossCall | None = None, stage: str = 'forward') -> None:
        self.runs, self.call, self.stage = runs, call, stage

    @functools.cached_property
    def _judged_by(self) -> tuple[Arrays, dict[str, Tolerance]]:
        values, allowed = self._of(self.stage if self.call is None else 'loss')
        if self.call is None and not self._is_function:
            return values, allowed
        grads, allowed_grads = self._of('grads')
        return (
            {**values, **with_prefix('grads', grads)},
            {**allowed, **with_prefix('grads', allowed_grads)},
        )

    @property
    def _is_function(self) -> bool:
        from parity.functions import FunctionRuns

        return isinstance(self.runs, FunctionRuns) and self.runs.grads

    def _of(self, stage: str) -> tuple[Arrays, dict[str, Tolerance]]:
        """What the reference has in a stage for the call, and what is allowed there."""
        leaves = self.runs.reference64.stage(stage)
        allowed = self.runs.tolerances(stage, 'float64', leaves)
        name = self.call.name if self.call else None
        return (subtree(leaves, name), subtree(allowed, name)) if name else (leaves, allowed)

    def values(self) -> tuple[str, ...]:
        """The leaves that are no gradients."""
        expected, _ = self._judged_by
        return tuple(name for name in expected if not name.startswith('grads/'))

    def gradients(self, paths: Collection[str]) -> tuple[str, ...]:
        """The leaves that are the gradients of parameters or inputs; paths: of these, or ends of them."""
        expected, _ = self._judged_by
        ends = tuple(f'/{path}' for path in paths)
        return tuple(name for name in expected if name.startswith('grads/') and name.endswith(ends))

    def leaves(self, names: Collection[str] = ()) -> list[Leaf]:
        """All leaves, or those of these names, computed anew as the port now is, worst first."""
        expected, allowed = self._judged_by
        chosen = {name: expected[name] for name in names or expected if name in expected}
        computed = self._computed(not names or any(name.startswith('grads/') for name in names))
        found = {name: leaf for name, leaf in computed.items() if name in chosen}
        return compare(chosen, found, chosen, allowed, places=True)

    def margin(self, names: Collection[str] = ()) -> float:
        """Of the worst of them."""
        return self.leaves(names)[0].margin

    def margin_of_all(self) -> float:
        """Of the worst of all leaves; of the values, which are computed sooner, if these differ."""
        margin = self.margin(self.values())
        return margin if margin > 1 else self.margin()

    def margin_if_any(self) -> float | None:
        """Of all of them; None where the port, changed as it may be, raises."""
        try:
            return self.margin()
        except Exception:  # changes that are right by themselves can fail together, in any way
            return None

    def agrees(self) -> bool:
        """Whether all of them do, with the port as it now is."""
        margin = self.margin_if_any()
        return margin is not None and margin <= 1

    def _computed(self, gradients: bool) -> Arrays:
        port = self.runs.port64
        with kept(port.side):
            if self.call is not None:
                return _loss_leaves(port, self.call, gradients)
            port.side.restore(port.start)
            fresh = Runner(port.side, self.runs.pair, self.runs.inputs)
            grads = fresh.stage('grads') if gradients and self._is_function else {}
            return {**fresh.stage(self.stage), **with_prefix('grads', grads)}


@contextlib.contextmanager
def kept(side: Any) -> Iterator[None]:
    """Modules hold in the end what they held before: a change may put anything in a parameter's place."""
    network = network_of(side)
    tables = [
        table
        for module in (network.modules() if network is not None else ())
        for table in (module._parameters, module._buffers, module._modules)
    ]
    before = [dict(table) for table in tables]
    try:
        yield
    finally:
        for table, held in zip(tables, before, strict=True):
            table.clear()
            table.update(held)


def _loss_leaves(runner: Runner, call: LossCall, gradients: bool) -> Arrays:
    runner.side.restore(runner.start)
    if not gradients:  # without parameters to differentiate the values are the same
        call = dataclasses.replace(call, frozen=True)
    values, grads = runner.side.losses((call,), runner.batch, runner.inputs.key)
    return {**subtree(values, call.name), **with_prefix('grads', subtree(grads, call.name))}


def module_piece(layers: Layers, path: str, number: int = 0) -> Piece:
    """A call of a module, repeated on the reference's inputs."""
    return modules_piece(layers, [(path, number)])


def modules_piece(layers: Layers, calls: Sequence[tuple[str, int]]) -> Piece:
    """Calls of modules of one class, (path, number) each: a mistake in their class is one in all of them."""
    chosen = [(_call_of(layers, path, number), number) for path, number in calls]

    def margin() -> float:
        return max(_forced_margin(layers, call, number) for call, number in chosen)

    return Piece(margin, lambda: module_changes(layers, [call for call, _ in chosen]))


def module_changes(
    layers: Layers, calls: Sequence[ModuleCall], suspected: Sequence[Line] = ()
) -> Iterator[Counterfactual]:
    """What may undo a mistake of the modules of some calls, all of one class; suspected: to begin with."""
    modules = list(dict.fromkeys(layers.loss.modules[call.path] for call in calls))
    source = Source.of(type(modules[0]).forward)
    yield from other_settings(modules, calls[0].settings)
    yield from other_operations()
    for line in suspected:
        yield from source_changes(source, line.line) if source.is_of(line) else ()
    yield from other_axes(helpers(source))
    yield from source_changes(source)


def _call_of(layers: Layers, path: str, number: int) -> ModuleCall:
    return [call for call in layers.reference if call.path == path][number]


def _forced_margin(layers: Layers, call: ModuleCall, number: int) -> float:
    forced = layers.forced(call, number)
    assert forced is not None  # a module that is never called has no call to repeat
    return judged(forced, layers.runs.inputs.reduction)[0].margin


def operation_piece(
    reference: np.ndarray, function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]
) -> Piece:
    """A torch function with its recorded arguments, and the value that the reference has for it."""

    def margin() -> float:
        found = {name: x.detach().cpu().numpy() for name, x in arrays_of(function(*args, **kwargs)).items()}
        expected = {'output': reference}
        reduction = max((int(np.prod(x.shape)) for x in arrays_of(args).values()), default=1)
        allowed = {'output': tolerance(reference, 0.0, 'float64', reduction)}
        return compare(expected, found, expected, allowed)[0].margin

    return Piece(margin, other_operations)


def loss_piece(
    runs: Runs,
    call: LossCall,
    source: Source,
    line: int | None,
    leaves: Sequence[str] = (),
    reference: Source | None = None,
) -> Piece:
    """A line of the port, judged by what its loss makes of it.

    line:   in the function's file; None for all of the function.
    leaves: `loss`, `info/<name>` and `grads/<path>`, by default all; where only values are named no gradient
            is computed.
    reference: the function that it ports, for what is missing in the port.
    """
    judge = Judge(runs, call)

    def candidates() -> Iterator[Counterfactual]:
        yield from source_changes(source, line, reference)
        yield from differences(source, reference) if reference else ()

    return Piece(lambda: judge.margin(leaves), candidates)
