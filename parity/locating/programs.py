"""What both sides run: a loss of an agent or of a model, or a bare function, with its named inputs."""

import importlib
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from parity import trees
from parity.runs import Runs
from parity.sides import LossCall


@dataclass(frozen=True)
class Programs:
    """The same computation on both sides, from the same values in float64.

    reference: (trained, given) -> {name: array}, for jax to trace; with its two arguments.
    port:      () -> {name: tensor}, and its inputs by name.
    draws:     the port's module of random numbers.
    seed:      of the cotangents of outputs that are no losses.
    """

    reference: Callable[[Any, Any], dict[str, Any]]
    trained: Any
    given: Any
    port: Callable[[], dict[str, Any]]
    leaves: dict[str, Any]
    draws: types.ModuleType | None
    seed: int

    def weights(self, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
        """The cotangent that starts at each output: of a loss 1, else random numbers at every output."""
        from parity.backends.pytrees import cotangents

        if 'loss' in shapes:
            return {'loss': np.ones(shapes['loss'])}
        return cotangents({name: np.zeros(shape) for name, shape in shapes.items()}, self.seed)


def programs(runs: Runs, call: LossCall) -> Programs:
    """The programs of one loss of a case; of two functions the call is not used."""
    from parity.functions import FunctionRuns
    from parity.models import ModelPair

    for runner in (runs.reference64, runs.port64):
        runner.side.restore(runner.start)
    if isinstance(runs, FunctionRuns):
        return _of_functions(runs)
    return _of_models(runs) if isinstance(runs.pair, ModelPair) else _of_agents(runs, call)


def as_tensor(value: Any) -> Any:
    """A tensor as it is, a number as one."""
    import torch

    return torch.as_tensor(value)


def _of_agents(runs: Runs, call: LossCall) -> Programs:

    reference, port = runs.reference64, runs.port64
    jax_agent, network = reference.side.agent, port.side.agent.network  # type: ignore[attr-defined]
    batch, key = port.side.to_tensors(port.batch), port.side.to_tensor(runs.inputs.key)  # type: ignore[attr-defined]

    def run_reference(trained: Any, given: Any) -> dict[str, Any]:
        loss, info = call.on(given['agent'], given['batch'], given['key'], trained)
        return trees.flat({'loss': loss, 'info': info}, lambda leaf: leaf)

    def run_port() -> dict[str, Any]:
        loss, info = call.on(port.side.agent, batch, key, network.params)  # type: ignore[attr-defined]
        return trees.flat({'loss': loss, 'info': info}, as_tensor)

    given = {'agent': jax_agent, 'batch': reference.batch, 'key': runs.inputs.key}
    leaves = {
        **{f'params/{name.replace(".", "/")}': parameter for name, parameter in network.params.items()},
        **{f'given/batch/{name}': tensor for name, tensor in batch.items()},
        'given/key': key,
    }
    draws = importlib.import_module(runs.pair.draws) if runs.pair.draws else None
    return Programs(run_reference, jax_agent.network.params, given, run_port, leaves, draws, runs.case.seed)


def _of_functions(runs: Any) -> Programs:
    from parity.backends.jax_function import outputs_of

    reference, port = runs.reference64, runs.port64
    call, arrays = reference.side.target, reference.side.arrays
    floats = {path: leaf for path, leaf in arrays.items() if leaf.dtype.kind == 'f'}
    others = {path: leaf for path, leaf in arrays.items() if path not in floats}
    tensors = {path: port.side.to_tensor(array) for path, array in port.side.arrays.items()}
    for tensor in tensors.values():
        tensor.requires_grad_(tensor.is_floating_point())

    def run_port() -> dict[str, Any]:
        import torch

        from parity.backends.torch_function import default_dtype

        with default_dtype('float64'):
            outputs = trees.real_leaves(port.side.target(dict(tensors)))
            return {path: torch.as_tensor(leaf) for path, leaf in outputs.items()}

    def run_reference(trained: Any, given: Any) -> dict[str, Any]:
        return outputs_of(call, {**trained, **given})

    leaves = {f'{"params" if path in floats else "given"}/{path}': tensor for path, tensor in tensors.items()}
    return Programs(run_reference, floats, others, run_port, leaves, None, runs.case.seed)


def _of_models(runs: Runs) -> Programs:
    from parity.backends import jax_model

    reference, port = runs.reference64, runs.port64
    side, torch_side = reference.side, port.side
    model, skeleton = side.target, side.skeleton  # type: ignore[attr-defined]
    trained = jax_model.trained(model, side.params)  # type: ignore[attr-defined]
    rest = {path: leaf for path, leaf in side.params.items() if path not in trained}  # type: ignore[attr-defined]
    given = {'state': rest, 'fixed': side.fixed, 'batch': reference.batch}  # type: ignore[attr-defined]
    batch = torch_side.to_tensors(port.batch)  # type: ignore[attr-defined]

    def run_reference(trained: Any, given: Any) -> dict[str, Any]:
        loss, info, _ = jax_model.call_loss(
            model, skeleton, given['fixed'], {**given['state'], **trained}, given['batch']
        )
        return trees.flat({'loss': loss, 'info': info}, lambda leaf: leaf)

    def run_port() -> dict[str, Any]:
        with torch_side.ready():  # type: ignore[attr-defined]
            loss, info = torch_side.loss_of(batch)  # type: ignore[attr-defined]
        return trees.flat({'loss': loss, 'info': info}, as_tensor)

    leaves = {
        **{f'params/{name}': tensor for name, tensor in torch_side.tensors().items()},  # type: ignore[attr-defined]
        **{f'given/batch/{name}': tensor for name, tensor in batch.items()},
    }
    draws = importlib.import_module(runs.pair.draws) if runs.pair.draws else None
    return Programs(run_reference, trained, given, run_port, leaves, draws, runs.case.seed)
