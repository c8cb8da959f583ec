"""The lines of an update: those that write parameters of the port, and those that made its optimiser."""

import ast
import contextlib
import inspect
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from parity.locating.calls import called, receivers
from parity.locating.counterfactuals import sources_of
from parity.locating.losses import homes, network_of, without_collection
from parity.locating.sources import Line, Stack, is_user, nodes_of
from parity.locating.updates import UpdateFinding
from parity.locating.writes import writing
from parity.runs import Runs
from parity.stages import step_name

# What is said where the optimiser is made, not where it steps.
MADE = ('optimiser constant', 'plain gradient descent', 'parameter left out of the optimiser')
# In this order: where gradients are written last; where the values that are written were made; what the
# method of the update calls; the optimiser's step itself; what the function calls that makes this step.
CHANGED = ('gradient scaled before the step', 'gradient changed before the step')
VALUES = (
    'target rate',
    'target average in the wrong direction',
    'target average of other weights',
    'target copied',
)
TIMES = (
    'target not updated',
    'target updated in a step in which it rests',
    'parameter not set after the step',
)
SKIPPED = ('parameter without gradient skipped',)
LATE = ('target from the values after the step',)
# A value that a parameter should have had is known by so many of its digits.
SAME = 1e-9


@dataclass(frozen=True)
class Write:
    """That an update writes a parameter of this name: from where, and where the values were made.

    in_step: whether the optimiser's step does.
    """

    name: str
    stack: Stack
    made: Stack
    in_step: bool


def line_of(runs: Runs, finding: UpdateFinding) -> Line | None:
    """The line of the port that a finding is about: where its optimiser is made, or parameters are written.

    Where nothing writes them, the method of the update; or where only the optimiser does, what is idle in it.
    """
    side: Any = runs.port64.side
    name = finding.steps[0]
    i, call = next((i, call) for i, call in runs.port64.script() if name == step_name(i, call))
    made = next(_makings(side), None) if finding.cause in MADE else None
    if made is not None:
        return made
    side.restore(runs.reference64.states[i])
    writes = _writes(side, call, runs.port64.batch, gradients=finding.cause in CHANGED)
    # a step that the optimiser does not do itself is the first that writes
    steps = [write for write in writes if write.in_step] or writes[:1]
    last = {write.name: write for write in writes if _is_of(side, write.name, finding.paths)}
    if finding.cause in TIMES and all(write.stack == steps[0].stack for write in last.values()):
        found = [*_idle(side, call, runs.port64.batch)] or _unstored(runs, finding, i, call)
        if found:  # the optimiser alone writes them
            return found[0]
    chosen = [_chosen(write, finding.cause, steps[0]) for write in last.values()]
    if finding.cause in SKIPPED and not any(write.in_step for write in last.values()):
        chosen = [write.stack[0] for write in steps[:1]]  # the step of others, which leaves these out
    common = Counter(line for line in chosen if is_user(line.file)).most_common(1)
    if common:
        return common[0][0]
    # a library's optimiser that the engine steps; or nothing writes them
    return next(_makings(side), None) if last else _method(side, call.method)


def _chosen(write: Write, cause: str, step: Write) -> Line:
    """The line of a write that tells most about the cause; step: a write of the optimiser."""
    if cause in VALUES and write.made:
        return write.made[0]
    if cause in TIMES:
        return write.stack[-1]
    if cause in LATE:
        both = {(line.file, line.function) for line in step.stack}
        return next((line for line in write.stack if (line.file, line.function) in both), write.stack[0])
    return write.stack[0]


def _is_of(side: Any, name: str, paths: tuple[str, ...]) -> bool:
    """Whether a parameter of the port is one of the paths, or of an agent in the same network as one."""
    if hasattr(side, 'bridge'):
        return bool(homes(side.bridge).get(name, set()) & {without_collection(path) for path in paths})
    return name.split('.')[0] in {path.split('/')[0] for path in paths}


def _writes(side: Any, call: Any, batch: Any, *, gradients: bool) -> list[Write]:
    """What an update writes into parameters, or into their gradients, in its order."""
    parameters, optimizer = _parameters(side), _optimizer(side)
    writes: list[Write] = []
    stepping: list[Any] = []

    def see(tensor: Any, stack: Stack, made: Stack) -> None:
        for name, parameter in parameters.items():
            if tensor is (parameter.grad if gradients else parameter):
                writes.append(Write(name, stack, made, bool(stepping)))

    hooks = (
        optimizer.register_step_pre_hook(lambda *step: stepping.append(step)),
        optimizer.register_step_post_hook(lambda *step: stepping.clear()),
    )
    with writing(see):
        side.update(call, batch)
    for hook in hooks:
        hook.remove()
    return writes


def _parameters(side: Any) -> dict[str, Any]:
    """The live parameters by name, with buffers."""
    module = network_of(side)
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _optimizer(side: Any) -> Any:
    return side.optimizer if hasattr(side, 'bridge') else side.agent.network.tx


def _makings(side: Any) -> Iterator[Line]:
    """The lines of the port's files that make an optimiser of the kind that it has."""
    optimizer = _optimizer(side)
    if hasattr(side, 'bridge'):
        owners = [side.target.loss, type(side.module)]
    else:
        owners = [*type(side.agent).__mro__, type(side.agent.network)]
    for file in dict.fromkeys(_files(owners)):
        for node in nodes_of(file):
            if isinstance(node, ast.Attribute) and node.attr == type(optimizer).__name__:
                yield Line(file, node.lineno, type(optimizer).__name__)


def _files(owners: Iterable[Any]) -> Iterator[str]:
    """The files of code under check that functions and classes are in."""
    for owner in owners:
        with contextlib.suppress(TypeError, OSError):  # what is built in is in no file
            file = inspect.getsourcefile(owner) or ''
            if file and is_user(file):
                yield file


def _idle(side: Any, call: Any, batch: Any) -> Iterator[Line]:
    """What is `pass` and nothing else in the functions of an update: something may have been meant there."""
    for source in sources_of(called(lambda: side.update(call, batch))):
        for node in ast.walk(source.tree):
            body = getattr(node, 'body', None)
            if isinstance(body, list) and all(isinstance(step, ast.Pass) for step in body):
                yield source.line_of(body[0])


def _unstored(runs: Runs, finding: UpdateFinding, i: int, call: Any) -> list[Line]:
    """Where functions return that were given what a parameter should be after the step."""
    after = runs.reference64.stage('update')
    expected = [after[f'{step_name(i, call)}/params/{path}'] for path in finding.paths]

    def is_it(value: Any) -> bool:
        if not hasattr(value, 'detach') or not value.is_floating_point():
            return False
        array = value.detach().cpu().numpy()
        return any(
            array.shape == one.shape and np.allclose(array, one, rtol=SAME, atol=0) for one in expected
        )

    side: Any = runs.port64.side
    side.restore(runs.reference64.states[i])
    return receivers(lambda: side.update(call, runs.port64.batch), is_it)


def _method(side: Any, name: str) -> Line | None:
    """The first line of a method of the port; a model has none."""
    if hasattr(side, 'bridge'):
        return None
    function = getattr(type(side.agent), name)
    _, line = inspect.getsourcelines(function)
    return Line(inspect.getsourcefile(function) or '', line, function.__qualname__)
