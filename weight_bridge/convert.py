"""The copy of values in either direction: total and strict. All is checked before anything is written."""

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import nn

from weight_bridge.arrays import Array, as_array
from weight_bridge.checks import misfits, surplus, unwritable
from weight_bridge.copying import overlapping
from weight_bridge.errors import BridgeError, next_steps
from weight_bridge.mapping import Mapping as Table
from weight_bridge.paths import Tree, flatten, unflatten, with_indices
from weight_bridge.plan import Form, Plan, form_of, plan, without_collections

Module = TypeVar('Module', bound=nn.Module)


def to_torch(
    tree: object, module: Module, *, form: Form | None = None, mapping: Table | None = None
) -> Module:
    """Copies a Flax tree into a module, in place.

    The parameters and buffers stay the same objects on the same device.

    Args:
        tree: nested dict, FrozenDict or NNX State of numpy or jax arrays: `variables['params']`, or the whole
            `variables` with the running statistics in `batch_stats`, or `nnx.state(model)`.
        module: a module whose parameters have the tree's names; see `weight_bridge.rules` for the layouts.
        form: which of the three the tree is: `params`, `variables` or `state`. By default it is `variables`
            if it has a key `params` or `batch_stats` that is no module's name, else `state`: the running
            statistics, if the module has any, must lie in it. `params` leaves them as they are.
        mapping: which leaf is which parameter where their names differ, see `match`; by default the names
            are the same and the rules say the rest.

    Returns:
        The module.

    Raises:
        BridgeError: lists every missing and unexpected path, other shape, other kind of number and every leaf
            with values that the parameter's dtype cannot hold. The module is then as before. NaN and
            infinities are copied.
    """
    flat = flatten(tree)
    wanted = _plan_for(flat, module, form, mapping)
    if problems := [*misfits(flat, wanted), *unwritable(wanted)]:
        count = len({problem.path for problem in problems})
        total = len(flat.keys() | wanted.targets.keys())
        subject = f'to_torch: {count} of {total} paths do not fit {type(module).__name__}; nothing was copied'
        raise BridgeError(subject, problems, next_steps(problems))
    copy_leaves(flat, wanted, _parameters(wanted))
    return module


def to_flax(module: nn.Module, *, form: Form = 'params', mapping: Table | None = None) -> Tree:
    """The module's values as nested dict of numpy arrays in Flax layout: copies, in the module's dtypes.

    Args:
        module, mapping: as in `to_torch`.
        form: `params` for the parameters alone, `variables` for `{'params': ..., 'batch_stats': ...}` with
            the running statistics, `state` for both in one tree with integer keys in lists, as in NNX.

    Raises:
        BridgeError: the module has no parameters, or some that no rule can place; or one that Flax lacks, the
            second bias of a recurrent layer, is not zero.
    """
    wanted = plan(module, mapping).in_form(form)
    if problems := [problem for leaf in wanted.leaves for problem in surplus(leaf, leaf.parameter)]:
        subject = f'to_flax: {len(problems)} parameters have values that Flax has no place for'
        raise BridgeError(subject, problems, next_steps(problems))
    tree = tree_of(wanted, _parameters(wanted))
    return with_indices(tree) if form == 'state' else tree


def grads_to_flax(module: nn.Module, *, mapping: Table | None = None) -> Tree:
    """The gradients in `.grad`, with the paths and shapes of `to_flax`.

    None becomes zeros: a leaf that a loss does not reach has gradient zero in JAX. Gradients of what Flax
    lacks, the second bias of a recurrent layer, are left out.

    Raises:
        BridgeError: the module has no parameters, or some that no rule can place.
    """
    wanted = plan(module, mapping)
    return tree_of(wanted, {leaf.name: _grad(leaf.parameter) for leaf in wanted.leaves})


def copy_leaves(flat: Mapping[str, Any], wanted: Plan, tensors: Mapping[str, torch.Tensor]) -> None:
    """Copies a tree without misfits into tensors by the names of parameters, each laid out as its parameter.

    One leaf after the other, each read once, so that at most one is converted or read from its file at a
    time; those that lie in the memory of a tensor (a tree made of the module's own arrays) are set aside
    first. What Flax lacks becomes zero.
    """
    inside = {path: flat[path] for path in wanted.targets if not hasattr(flat[path], 'in_file')}
    arrays = {path: _array(value) for path, value in inside.items()}
    kept = {path: arrays[path].copy() for path in overlapping(arrays.items(), tensors.values())}
    for path, target in wanted.targets.items():
        target.to_torch(kept.pop(path) if path in kept else _array(flat[path]), tensors)
    for leaf in wanted.leaves:
        for piece in leaf.zeros:
            tensors[leaf.name].detach()[piece.region].zero_()


def tree_of(wanted: Plan, tensors: Mapping[str, torch.Tensor]) -> Tree:
    """The inverse: copies of the tensors' values as nested dict in Flax layout."""
    return unflatten({path: target.to_flax(tensors) for path, target in wanted.targets.items()})


def _parameters(wanted: Plan) -> dict[str, torch.Tensor]:
    return {leaf.name: leaf.parameter for leaf in wanted.leaves}


def _grad(parameter: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.to_dense()


def _array(value: object) -> Array:
    array = as_array(value)
    assert array is not None  # `misfits` has found none that is not
    return array


def _plan_for(flat: Mapping[str, Any], module: nn.Module, form: Form | None, mapping: Table | None) -> Plan:
    """The plan for a tree. What is wrong with a mapping is listed for both sides at once."""
    try:
        wanted = plan(module, mapping)
    except BridgeError as error:
        if mapping is None:
            raise
        form = form or form_of(flat, mapping.paths)
        problems = [*error.problems, *mapping.strays(without_collections(flat, form))]
        raise BridgeError(error.subject, problems, next_steps(problems)) from None
    return wanted.in_form(form or form_of(flat, wanted.targets))
