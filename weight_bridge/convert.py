"""The copy of parameters in either direction: total and strict. All is checked before anything is written."""

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import nn

from weight_bridge.arrays import (
    as_array,
    cast_exactly,
    number_kind,
    numpy_dtype,
    summary,
    to_array,
    to_tensor,
)
from weight_bridge.errors import BridgeError, Problem, next_steps
from weight_bridge.paths import Tree, flatten, unflatten
from weight_bridge.plan import Leaf, Plan, plan

Module = TypeVar('Module', bound=nn.Module)


def to_torch(params: object, module: Module) -> Module:
    """Copies a Flax parameter tree into a module, in place.

    The parameters stay the same objects on the same device.

    Args:
        params: nested dict or FrozenDict of numpy or jax arrays, `variables['params']`.
        module: a module whose parameters have the tree's names; see `weight_bridge.rules` for the layouts.

    Returns:
        The module.

    Raises:
        BridgeError: lists every missing and unexpected path, other shape, other kind of number and every leaf
            with values that the parameter's dtype cannot hold. The module is then as before. NaN and
            infinities are copied.
    """
    wanted, flat = plan(module), flatten(params)
    _refuse_collections(flat, wanted)
    tensors, problems = fit(flat, wanted)
    if problems:
        count = len({problem.path for problem in problems})
        total = len(flat.keys() | {leaf.path for leaf in wanted.leaves})
        subject = f'to_torch: {count} of {total} paths do not fit {type(module).__name__}; nothing was copied'
        raise BridgeError(subject, problems, next_steps(problems))
    with torch.no_grad():
        for leaf in wanted.leaves:
            leaf.parameter.copy_(tensors[leaf.path])
    return module


def to_flax(module: nn.Module) -> Tree:
    """The module's parameters as nested dict of numpy arrays in Flax layout: copies, in the module's dtypes.

    Raises:
        BridgeError: the module has no parameters, or some that no rule can place.
    """
    wanted = plan(module)
    return tree_of(wanted, {leaf.path: leaf.parameter for leaf in wanted.leaves})


def grads_to_flax(module: nn.Module) -> Tree:
    """The gradients in `.grad`, with the paths and shapes of `to_flax`.

    None becomes zeros: a leaf that a loss does not reach has gradient zero in JAX.

    Raises:
        BridgeError: as `to_flax`.
    """
    wanted = plan(module)
    return tree_of(wanted, {leaf.path: _grad(leaf.parameter) for leaf in wanted.leaves})


def tree_of(wanted: Plan, tensors: Mapping[str, torch.Tensor]) -> Tree:
    """The nested dict of one tensor per leaf, each of its parameter's shape, in Flax layout."""
    return unflatten({leaf.path: leaf.to_flax(to_array(tensors[leaf.path])) for leaf in wanted.leaves})


def fit(
    flat: Mapping[str, Any], wanted: Plan, prefix: str = ''
) -> tuple[dict[str, torch.Tensor], list[Problem]]:
    """The tensors to copy by path, in the parameters' layouts and dtypes, and all that does not fit.

    Every leaf of the plan takes exactly one leaf of `flat`; `prefix` goes before the paths in the problems.
    """
    tensors: dict[str, torch.Tensor] = {}
    problems: list[Problem] = []
    for leaf in wanted.leaves:
        found = _fit_leaf(leaf, flat[leaf.path], prefix) if leaf.path in flat else _missing(leaf, prefix)
        if isinstance(found, Problem):
            problems.append(found)
        else:
            tensors[leaf.path] = found
    known = {leaf.path for leaf in wanted.leaves}
    problems += [_unexpected(path, flat[path], wanted, prefix) for path in flat if path not in known]
    return tensors, problems


def _fit_leaf(leaf: Leaf, value: object, prefix: str) -> torch.Tensor | Problem:
    path, where = prefix + leaf.path, f'torch: {leaf.name}'
    array, dtype = as_array(value), numpy_dtype(leaf.parameter.dtype)
    if array is None:
        return Problem('dtype', path, leaf.summary, f'no array but {type(value).__name__}', where)
    found = summary(array.dtype, array.shape)
    if array.shape != leaf.shape:
        return Problem('shape', path, leaf.summary, found, where)
    if number_kind(array.dtype) != number_kind(dtype):
        return Problem('dtype', path, leaf.summary, found, where)
    cast, lost = cast_exactly(array, dtype)
    if lost:
        found = f'{found} with {lost} of {array.size} values that {dtype.name} cannot hold'
        return Problem('value', path, leaf.summary, found, where)
    return to_tensor(leaf.to_torch(cast), leaf.parameter.dtype)


def _missing(leaf: Leaf, prefix: str) -> Problem:
    return Problem('missing path', prefix + leaf.path, leaf.summary, 'nothing', f'torch: {leaf.name}')


def _unexpected(path: str, value: object, wanted: Plan, prefix: str) -> Problem:
    array = as_array(value)
    found = type(value).__name__ if array is None else summary(array.dtype, array.shape)
    where = f'in the module it is tied to {wanted.tied[path]}' if path in wanted.tied else ''
    return Problem('unexpected path', prefix + path, 'nothing', found, where)


def _grad(parameter: nn.Parameter) -> torch.Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.to_dense()


def _refuse_collections(flat: Mapping[str, Any], wanted: Plan) -> None:
    """`module.init` returns all collections, and its params one level deeper: every path would be wrong."""
    collections = {path.split('/')[0] for path in flat}
    if 'params' in collections and not any(leaf.path.split('/')[0] == 'params' for leaf in wanted.leaves):
        problem = Problem(
            'unexpected path', 'params', 'the parameters themselves', ', '.join(sorted(collections))
        )
        raise BridgeError(
            'to_torch: this is a tree of collections', [problem], ["pass variables['params'] alone"]
        )
