"""The moments of the parameters, leaf by leaf: out of an Optax state into torch's entries, and back.

They are laid out as the parameters, so pieces and stacks are theirs too. What Flax lacks (the second bias of
a recurrent layer) has moments in torch alone: zeros, or a problem.
"""

from collections.abc import Iterator
from typing import Any

import torch

from weight_bridge.arrays import Array, described, lost_values
from weight_bridge.checks import surplus
from weight_bridge.convert import copy_leaves
from weight_bridge.errors import Problem
from weight_bridge.optax_state import Moments, OptaxState
from weight_bridge.pairing import covered, learning_rate_inside
from weight_bridge.pieces import Leaf, Target
from weight_bridge.plan import Plan
from weight_bridge.torch_entries import entry, held, step, zeros
from weight_bridge.torch_state import ORDER, Kind, entries_of, group_of


def replace_entries(
    state: OptaxState, optimizer: torch.optim.Optimizer, wanted: Plan, kind: Kind, count: int
) -> None:
    """Gives the optimiser the entries that torch would have after `count` steps, with the state's moments."""
    groups = group_of(optimizer)
    new: dict[str, dict[str, torch.Tensor]] = {}
    for leaf in held(optimizer, wanted):
        group = groups[id(leaf.parameter)]
        names = entries_of(kind, group)
        new[leaf.name] = {
            name: step(count, leaf.parameter, group) if name == 'step' else zeros(leaf.parameter)
            for name in ORDER
            if name in names
        }
    for one in state.moments:
        part = covered(one, wanted)
        for name, (_, flat) in one.trees.items():
            copy_leaves(flat, part, {leaf.name: new[leaf.name][name] for leaf in part.leaves})
        for leaf in part.leaves if _is_scaled(one) else ():
            new[leaf.name]['momentum_buffer'].div_(_scale(groups, leaf))
    for leaf in held(optimizer, wanted):
        optimizer.state[leaf.parameter] = new[leaf.name]


def moments_of(
    state: OptaxState, optimizer: torch.optim.Optimizer, wanted: Plan
) -> Iterator[tuple[str, Array, Problem | None]]:
    """The arrays of all moments by their places in the Optax state, in its dtypes."""
    groups = group_of(optimizer)
    for one in state.moments:
        for name, (place, flat) in one.trees.items():
            for path, target in covered(one, wanted).targets.items():
                leaves = [leaf for leaf, _ in target.parts]
                tensors = {leaf.name: entry(optimizer, leaf, name) for leaf in leaves}
                if _is_scaled(one):
                    tensors = {leaf.name: tensors[leaf.name] * _scale(groups, leaf) for leaf in leaves}
                yield _as_like(f'{place}/{path}', target.to_flax(tensors), flat[path], target)


def surplus_moments(optimizer: torch.optim.Optimizer, wanted: Plan, kind: Kind) -> list[Problem]:
    """Moments that Flax has no place for and that are not zero."""
    groups = group_of(optimizer)
    return [
        problem
        for leaf in held(optimizer, wanted)
        if leaf.zeros
        for name in sorted(entries_of(kind, groups[id(leaf.parameter)]) - {'step'})
        for problem in surplus(leaf, entry(optimizer, leaf, name), f'{name} of ')
    ]


def _is_scaled(one: Moments) -> bool:
    return one.kind == 'TraceState' and learning_rate_inside(one)


def _scale(groups: dict[int, dict[str, Any]], leaf: Leaf) -> float:
    """What Optax's trace of steps is times torch's buffer."""
    return -float(groups[id(leaf.parameter)]['lr'])


def _as_like(place: str, array: Array, like: Any, target: Target) -> tuple[str, Array, Problem | None]:
    shape = described(like, abstract=True)
    assert shape is not None  # `misfits` has found none that is not
    lost = lost_values(array, shape.dtype)
    found = f'{lost} of {array.size} values that {shape.dtype.name} cannot hold'
    problem = Problem('value', place, target.summary, found, target.where) if lost else None
    return place, array.astype(shape.dtype, copy=False), problem
