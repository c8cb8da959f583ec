"""What both sides run in the stages without gradients: the networks' outputs, and sampled actions."""

import functools
import importlib
from collections.abc import Callable
from typing import Any

from parity import trees
from parity.locating.programs import Programs, as_tensor
from parity.runs import Runs
from parity.sides import outputs_of
from parity.stages import DEFAULT_TEMPERATURE


def read_programs(runs: Runs, stage: str, name: str) -> Programs:
    """The programs of the stage `forward` or `actions`; name: of a leaf of it, whose call is to be made."""
    from parity.models import ModelPair

    for runner in (runs.reference64, runs.port64):
        runner.side.restore(runner.start)
    if isinstance(runs.pair, ModelPair):
        return _outputs_of_models(runs)
    return _outputs_of_agents(runs) if stage == 'forward' else _actions(runs, name)


def _of_agents(
    runs: Runs,
    arrays: dict[str, Any],
    reference: Callable[[Any, dict[str, Any]], Any],
    port: Callable[[dict[str, Any]], Any],
) -> Programs:
    """Of functions of (agent, arrays) and of (tensors)."""
    side: Any = runs.port64.side
    agent = runs.reference64.side.agent  # type: ignore[attr-defined]
    tensors = side.to_tensors(arrays)

    def run_reference(trained: Any, given: Any) -> dict[str, Any]:
        return trees.flat(reference(given['agent'], given['arrays']), lambda leaf: leaf)

    def run_port() -> dict[str, Any]:
        return trees.flat(port(tensors), as_tensor)

    params = side.agent.network.params
    leaves = {
        **{f'params/{name.replace(".", "/")}': parameter for name, parameter in params.items()},
        **{f'given/arrays/{name}': tensor for name, tensor in tensors.items()},
    }
    given = {'agent': agent, 'arrays': arrays}
    return Programs(run_reference, {}, given, run_port, leaves, _draws(runs), runs.case.seed)


def _outputs_of_agents(runs: Runs) -> Programs:
    networks, arrays = runs.reference64.networks()
    agent: Any = runs.port64.side.agent  # type: ignore[attr-defined]
    outputs = functools.partial(outputs_of, networks)
    return _of_agents(runs, arrays, outputs, functools.partial(outputs, agent))


def _actions(runs: Runs, name: str) -> Programs:
    """Of one call of `sample_actions`: `single/temperature 0.7`, or `batch/default temperature`."""
    which, _, rest = name.partition('/')
    given = {} if rest == DEFAULT_TEMPERATURE else {'temperature': float(rest.removeprefix('temperature '))}
    batch = runs.reference64.batch
    inputs: dict[str, Any] = {key: batch[key] for key in ('observations', 'latents') if key in batch}
    if which == 'single':
        inputs = {key: array[0] for key, array in inputs.items()}
    agent: Any = runs.port64.side.agent  # type: ignore[attr-defined]

    def sampled(agent: Any, arrays: dict[str, Any]) -> Any:
        args = [arrays[key] for key in inputs]
        return {name: agent.sample_actions(*args, seed=arrays['key'], **given)}

    arrays = {**inputs, 'key': runs.inputs.key}
    return _of_agents(runs, arrays, sampled, functools.partial(sampled, agent))


def _outputs_of_models(runs: Runs) -> Programs:
    from parity.backends import jax_model

    reference: Any = runs.reference64.side
    port: Any = runs.port64.side
    batch = port.to_tensors(runs.port64.batch)

    def run_reference(trained: Any, given: Any) -> dict[str, Any]:
        return jax_model.outputs_of(reference.target, reference.skeleton, **given)

    def run_port() -> dict[str, Any]:
        with port.ready():
            outputs = trees.real_leaves(port.target.apply(port.module, batch))
        return trees.flat(outputs, as_tensor)

    leaves = {
        **{f'params/{name}': tensor for name, tensor in port.tensors().items()},
        **{f'given/batch/{name}': tensor for name, tensor in batch.items()},
    }
    given = {'fixed': reference.fixed, 'params': reference.params, 'batch': runs.reference64.batch}
    return Programs(run_reference, {}, given, run_port, leaves, _draws(runs), runs.case.seed)


def _draws(runs: Runs) -> Any:
    return importlib.import_module(runs.pair.draws) if runs.pair.draws else None
