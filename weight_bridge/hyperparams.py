"""Hyperparameters that Optax keeps in its state (`inject_hyperparams`) <-> torch's parameter groups.

A hyperparameter that follows a schedule is computed anew in each step and is not copied: give torch the
scheduler. Torch's Python floats are rounded to the dtype of the injected scalar, as Optax rounds its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from weight_bridge.arrays import as_array, described, number_kind, summary
from weight_bridge.errors import Problem
from weight_bridge.optax_state import Injected, OptaxState
from weight_bridge.plan import Plan
from weight_bridge.torch_state import Kind

_FIXED = {'eps_root': 0.0, 'smooth_beta': 1.0}  # torch has only this value of them
_INITIAL = {'initial_scale'}  # what the first state is made of; without effect on a step


@dataclass(frozen=True)
class Setting:
    """One injected scalar and where it is in a parameter group: `betas.1` is the second of a pair."""

    place: str
    leaf: Any
    group: dict[str, Any]
    key: str

    def read(self) -> float:
        name, _, index = self.key.partition('.')
        return float(self.group[name][int(index)] if index else self.group[name])

    def write(self, value: float) -> None:
        name, _, index = self.key.partition('.')
        if index:
            pair = list(self.group[name])
            pair[int(index)] = value
            self.group[name] = type(self.group[name])(pair)
        elif isinstance(self.group[name], torch.Tensor):
            self.group[name].fill_(value)
        else:
            self.group[name] = value


def settings(
    state: OptaxState, optimizer: torch.optim.Optimizer, kind: Kind, wanted: Plan
) -> tuple[list[Setting], list[Problem]]:
    """Every injected scalar with each group that it is for, and those that torch has no place for."""
    found: list[Setting] = []
    problems: list[Problem] = []
    for injected in state.injected:
        groups, in_part = _groups(injected, optimizer, wanted)
        problems += [
            Problem('optimizer', injected.place, f'all of param_groups[{index}] or nothing of it', 'a part')
            for index in in_part
        ]
        if not groups and not in_part:
            expected = 'a state beside them that says which parameters they are for'
            problems.append(Problem('optimizer', injected.place, expected, 'none in this partition'))
        for name, leaf in injected.values.items():
            if name in injected.scheduled or name in _INITIAL:
                continue
            place = f'{injected.place}/{name}'
            problems += _value_problems(name, place, leaf, kind, groups)
            if name in kind.values:
                found += [Setting(place, leaf, group, kind.values[name]) for group in groups]
    return found, problems


def values_to_torch(found: list[Setting]) -> tuple[list[tuple[Setting, float]], list[Problem]]:
    """What to write, and scalars that say different things about the same group."""
    wanted: dict[tuple[int, str], tuple[Setting, float]] = {}
    problems = []
    for setting in found:
        value = float(setting.leaf)
        first, known = wanted.setdefault((id(setting.group), setting.key), (setting, value))
        if known != value:
            problems.append(Problem('optimizer', setting.place, f'{known} as {first.place}', str(value)))
    return list(wanted.values()), problems


def values_to_optax(found: list[Setting]) -> tuple[dict[str, Any], list[Problem]]:
    """The new scalars by place, and groups that say different things about the same scalar."""
    scalars: dict[str, Any] = {}
    problems = []
    for setting in found:
        shape = described(setting.leaf, abstract=True)
        value = np.asarray(setting.read(), 'float64' if shape is None else shape.dtype)
        if scalars.setdefault(setting.place, value) != value:
            expected, text = (str(float(number)) for number in (scalars[setting.place], value))
            problems.append(Problem('optimizer', setting.place, f'{expected} in all groups', text))
    return scalars, problems


def _groups(
    injected: Injected, optimizer: torch.optim.Optimizer, wanted: Plan
) -> tuple[list[dict[str, Any]], list[int]]:
    """The groups that the hyperparameters are for, and the indices of those they are in part for."""
    if not injected.partitioned:
        return optimizer.param_groups, []
    paths = {id(leaf.parameter): leaf.paths for leaf in wanted.leaves}
    groups, in_part = [], []
    for index, group in enumerate(optimizer.param_groups):
        held = [path for parameter in group['params'] for path in paths.get(id(parameter), ())]
        inside = [path for path in held if any(state.covers(path) for state in injected.moments)]
        if inside and len(inside) == len(held):
            groups.append(group)
        elif inside:
            in_part.append(index)
    return groups, in_part


def _value_problems(
    name: str, place: str, leaf: Any, kind: Kind, groups: list[dict[str, Any]]
) -> Iterator[Problem]:
    shape = described(leaf, abstract=True)
    if shape is not None and (shape.shape or number_kind(shape.dtype) not in ('float', 'int', 'uint')):
        yield Problem('optimizer', place, 'a number', summary(shape.dtype, shape.shape))
    elif name in _FIXED:
        if as_array(leaf) is not None and float(leaf) != _FIXED[name]:
            yield Problem('optimizer', place, str(_FIXED[name]), str(float(leaf)), 'torch has no other')
    elif name not in kind.values:
        known = ', '.join([*kind.values, *_FIXED, *_INITIAL])
        yield Problem('optimizer', place, f'one of {known}', name, 'or bridge its inner_state alone')
    elif name == 'weight_decay' and kind.name == 'Adam' and not _decoupled(leaf, groups):
        yield Problem('optimizer', place, 'torch.optim.AdamW', 'Adam, whose decay goes into the moments')


def _decoupled(leaf: Any, groups: list[dict[str, Any]]) -> bool:
    """Whether torch decays weights as optax.adamw does, if the scalar says that any decay at all."""
    none = as_array(leaf) is not None and float(leaf) == 0
    return none or all(group.get('decoupled_weight_decay') for group in groups)
