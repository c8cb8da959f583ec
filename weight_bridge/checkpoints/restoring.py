"""A state dict into an agent and out of one: total, strict, all problems at once, nothing half done."""

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch

from weight_bridge.arrays import described, number_kind, numpy_dtype, summary, summary_of, to_array
from weight_bridge.checks import misfits
from weight_bridge.convert import to_flax, to_torch
from weight_bridge.errors import BridgeError, Problem, next_steps
from weight_bridge.optimizer import optimizer_to_optax, optimizer_to_torch
from weight_bridge.paths import Tree, flatten, unflatten
from weight_bridge.plan import plan

_TREES = {name: f'network/{name}/' for name in ('params', 'opt_state/0/mu', 'opt_state/0/nu')}
_COUNT, _STEP, _KEY = 'network/opt_state/0/count', 'network/step', 'rng'


class ScaleByAdamState(NamedTuple):
    """As optax has it; found by its name."""

    count: Any
    mu: Any
    nu: Any


def state_of_torch(agent: Any) -> Tree:
    """The state dict that the reference would have: copies, in Flax layout.

    Args:
        agent: has the key `rng` and `network`, a module with `step` and the Adam `tx` over its parameters.
    """
    adam, _ = optimizer_to_optax(agent.network.tx, agent.network)
    return {
        'rng': np.array(to_array(agent.rng)),
        'network': {
            'step': int(agent.network.step),
            'params': to_flax(agent.network),
            'opt_state': {'0': adam._asdict()},
        },
    }


def restore_torch(agent: Any, state: Tree) -> Any:
    """Copies a state dict into a torch agent: parameters, Adam state, step and key. Returns the agent.

    Raises:
        BridgeError: lists every leaf that is missing, unexpected or does not fit; the agent is as before.
    """
    parts, problems = _parts(flatten(state))
    wanted = plan(agent.network)
    for name, prefix in _TREES.items():
        problems += misfits(parts[name], wanted, prefix)
    if problems:
        raise _misfit(type(agent).__name__, problems)
    single = parts['']
    params, mu, nu = (unflatten(parts[name]) for name in _TREES)
    adam = ScaleByAdamState(np.asarray(single[_COUNT]), mu, nu)
    step, key = int(np.asarray(single[_STEP])), torch.from_numpy(np.array(single[_KEY]))
    optimizer_to_torch((adam,), agent.network.tx, agent.network)
    to_torch(params, agent.network)
    agent.network.step, agent.rng = step, key.to(agent.rng.device)
    return agent


def restored(template: Mapping[str, Any], state: Tree, subject: str) -> Tree:
    """The state dict of a new agent with the leaves of a checkpoint, for flax to restore from.

    Leaves are numpy arrays with the bits and dtypes of the checkpoint; Python numbers where the new agent has
    such.

    Raises:
        BridgeError: lists every leaf that is missing, unexpected or has another shape or kind of number.
    """
    flat, wanted = flatten(state), flatten(template)
    problems = [problem for path in wanted if (problem := _leaf_problem(path, wanted[path], flat))]
    problems += [_unexpected(path, flat[path]) for path in flat if path not in wanted]
    if problems:
        raise _misfit(subject, problems)
    leaves: Tree = _filled(template, '', flat)
    return leaves


def grown_shape(state: Tree, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the Param `name` in a state dict, if it is `shape` with axes in front; else `shape`."""
    found = flatten(state).get(f'{_TREES["params"]}modules_{name}/value')
    array = described(found)
    if array is None or len(shape) > len(array.shape):
        return shape
    return tuple(array.shape) if tuple(array.shape)[len(array.shape) - len(shape) :] == shape else shape


def _filled(node: Any, path: str, flat: Mapping[str, Any]) -> Any:
    """Empty subtrees stay: the empty state of a transformation is one."""
    if isinstance(node, Mapping):
        return {key: _filled(part, f'{path}/{key}' if path else key, flat) for key, part in node.items()}
    value = np.asarray(flat[path])
    return type(node)(value) if isinstance(node, int | float) else value


def _parts(flat: Mapping[str, Any]) -> tuple[dict[str, dict[str, Any]], list[Problem]]:
    """The leaves by tree, those that stand alone under '', and what is wrong with these."""
    parts: dict[str, dict[str, Any]] = {name: {} for name in ('', *_TREES)}
    problems = []
    for path, leaf in flat.items():
        name = next((name for name, prefix in _TREES.items() if path.startswith(prefix)), '')
        parts[name][path.removeprefix(_TREES.get(name, ''))] = leaf
    single = {_COUNT: 0, _STEP: 0, _KEY: np.zeros(2, np.uint32)}
    problems += [problem for path in single if (problem := _leaf_problem(path, single[path], parts['']))]
    problems += [_unexpected(path, leaf) for path, leaf in parts[''].items() if path not in single]
    return parts, problems


def _leaf_problem(path: str, wanted: Any, flat: Mapping[str, Any]) -> Problem | None:
    dtype, shape = _shape(wanted)
    expected = 'a whole number' if isinstance(wanted, int) else summary(dtype, shape)
    if path not in flat:
        return Problem('missing path', path, expected, 'nothing')
    leaf = flat[path]
    if described(leaf) is None and not isinstance(leaf, int | float):
        return Problem('dtype', path, expected, f'no array but {type(leaf).__name__}')
    found, found_shape = _shape(leaf)
    if found_shape != shape:
        return Problem('shape', path, expected, summary(found, found_shape))
    if not _same_kind(number_kind(dtype), number_kind(found)) or (path == _KEY and found != dtype):
        return Problem('dtype', path, expected, summary(found, found_shape))
    return None


def _same_kind(kind: str, found: str) -> bool:
    return kind == found or {kind, found} == {'int', 'uint'}


def _shape(leaf: Any) -> tuple[np.dtype[Any], tuple[int, ...]]:
    array = described(leaf)
    array = np.asarray(leaf) if array is None else array
    return array.dtype, tuple(array.shape)


def _unexpected(path: str, leaf: Any) -> Problem:
    return Problem('unexpected path', path, 'nothing', summary_of(leaf))


def _misfit(subject: str, problems: list[Problem]) -> BridgeError:
    count = len({problem.path for problem in problems})
    return BridgeError(
        f'the checkpoint does not fit {subject}: {count} paths; nothing was copied',
        problems,
        [
            'give the configuration that it was trained with: --config FILE.json or --set key=value',
            *next_steps(problems),
        ],
    )


def leaf_rows(agent: Any) -> Iterator[tuple[str, str, str, str, int]]:
    """Of every leaf and each parameter that has a part of it: path, torch name, both summaries, its bytes."""
    for path, target in plan(agent.network).targets.items():
        for leaf, piece in target.parts:
            here = summary(numpy_dtype(target.dtype), piece.extent)
            size = prod(piece.extent) * target.dtype.itemsize
            yield f'network/params/{path}', leaf.name, target.summary, here, size
