"""The optimiser's state: Optax's ScaleByAdamState <-> torch.optim.Adam's `step`, `exp_avg`, `exp_avg_sq`.

Optax keeps one step count for the whole tree, torch one for each parameter. Hyperparameters (learning rate,
betas, eps) are no state: give them to both optimisers. Both define the same step: eps is added after the
bias-corrected square root.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import nn

from weight_bridge.convert import fit, tree_of
from weight_bridge.errors import BridgeError, Problem, next_steps
from weight_bridge.optax_state import adam_state
from weight_bridge.paths import Tree, flatten
from weight_bridge.plan import Leaf, Plan, plan

_NAMES = {'step', 'exp_avg', 'exp_avg_sq'}  # torch.optim.Adam's state of one parameter


def optimizer_to_torch(opt_state: Any, optimizer: torch.optim.Adam, module: nn.Module) -> torch.optim.Adam:
    """Copies an Optax state into `optimizer`: a step count and both moments for every parameter of `module`.

    Args:
        opt_state: any nesting (chain, inject_hyperparams) of tuples and dicts with one ScaleByAdamState in
            it. Scalars outside it (schedule counts, hyperparameters) are left out; other arrays are an error.
        optimizer: holds exactly the parameters of `module`. Its earlier state is replaced.
        module: as in `to_torch`; `mu` and `nu` have the paths of its parameters.

    Returns:
        The optimiser.

    Raises:
        BridgeError: lists all that does not fit; the optimiser is then as before.
    """
    wanted = plan(module)
    state, problems = adam_state(opt_state)
    exp_avg, mu_problems = fit(flatten(state.mu), wanted, 'mu/')
    exp_avg_sq, nu_problems = fit(flatten(state.nu), wanted, 'nu/')
    if problems := [*_misfits(optimizer, wanted), *problems, *mu_problems, *nu_problems]:
        raise _error('optimizer_to_torch', problems)
    paths = {id(leaf.parameter): leaf.path for leaf in wanted.leaves}
    for group in optimizer.param_groups:
        for parameter in group['params']:
            path = paths[id(parameter)]
            optimizer.state[parameter] = {
                'step': _step(int(state.count), parameter, group),
                'exp_avg': _zeros(parameter).copy_(exp_avg[path]),
                'exp_avg_sq': _zeros(parameter).copy_(exp_avg_sq[path]),
            }
    return optimizer


def optimizer_to_optax(optimizer: torch.optim.Adam, module: nn.Module) -> tuple[Any, Any]:
    """The state that `optax.adam(learning_rate)` would have after the same steps, to go on with in Optax.

    A parameter without state has not been stepped: count 0 and zero moments.

    Returns:
        `(ScaleByAdamState(count, mu, nu), EmptyState())`: count an int32 scalar, mu and nu nested dicts of
        numpy arrays with the paths, shapes and dtypes of `to_flax(module)`.

    Raises:
        BridgeError: the optimiser is no plain Adam over exactly the module's parameters, or their step counts
            differ, which Optax cannot express.
    """
    wanted = plan(module)
    if problems := list(_misfits(optimizer, wanted)):
        raise _error('optimizer_to_optax', problems)
    states = {leaf.path: optimizer.state.get(leaf.parameter, {}) for leaf in wanted.leaves}
    if problems := [p for leaf in wanted.leaves for p in _state_problems(leaf, states[leaf.path])]:
        raise _error('optimizer_to_optax', problems)
    count = _common_count({path: float(state.get('step', 0)) for path, state in states.items()})
    mu, nu = (_moments(wanted, states, name) for name in ('exp_avg', 'exp_avg_sq'))
    optax = import_module('optax')
    return optax.ScaleByAdamState(np.asarray(count, np.int32), mu, nu), optax.EmptyState()


def _common_count(steps: dict[str, float]) -> int:
    count = max(steps.values())
    problems = [
        Problem('count', path, f'step {count:g} as elsewhere', f'step {step:g}')
        for path, step in steps.items()
        if step != count or step % 1
    ]
    if problems:
        raise _error('optimizer_to_optax', problems)
    return int(count)


def _moments(wanted: Plan, states: dict[str, Mapping[str, torch.Tensor]], name: str) -> Tree:
    found = {leaf.path: states[leaf.path].get(name, _zeros(leaf.parameter)) for leaf in wanted.leaves}
    return tree_of(wanted, found)


def _misfits(optimizer: torch.optim.Optimizer, wanted: Plan) -> Iterator[Problem]:
    """How the optimiser differs from plain Adam over exactly the planned parameters."""
    if not isinstance(optimizer, torch.optim.Adam):
        yield Problem('optimizer', 'the optimiser', 'torch.optim.Adam', type(optimizer).__name__)
        return
    for index, group in enumerate(optimizer.param_groups):
        for flag in [flag for flag in ('amsgrad', 'maximize') if group[flag]]:
            yield Problem('optimizer', f'param_groups[{index}]', f'{flag}=False', f'{flag}=True')
    held = {id(parameter): parameter for group in optimizer.param_groups for parameter in group['params']}
    for leaf in wanted.leaves:
        if held.pop(id(leaf.parameter), None) is None:
            yield Problem('optimizer', leaf.path, 'held by the optimiser', 'not held', f'torch: {leaf.name}')
    for parameter in held.values():
        found = f'another one of shape {tuple(parameter.shape)}'
        yield Problem('optimizer', 'the optimiser', 'parameters of the module', found)


def _state_problems(leaf: Leaf, state: Mapping[str, torch.Tensor]) -> Iterator[Problem]:
    """Torch checks no names or shapes of a loaded state, and `module.double()` leaves the state as it is."""
    where = f'torch: {leaf.name}'
    if state and set(state) != _NAMES:
        yield Problem('optimizer', leaf.path, ', '.join(sorted(_NAMES)), ', '.join(sorted(state)), where)
    expected = (tuple(leaf.parameter.shape), leaf.parameter.dtype)
    for name in sorted(_NAMES & set(state) - {'step'}):
        found = (tuple(state[name].shape), state[name].dtype)
        if found != expected:
            yield Problem('optimizer', leaf.path, f'{expected}', f'{name} {found}', where)


def _zeros(parameter: nn.Parameter) -> torch.Tensor:
    return torch.zeros_like(parameter.detach())


def _step(count: int, parameter: nn.Parameter, group: Mapping[str, Any]) -> torch.Tensor:
    """As torch.optim.Adam creates it: on the host, unless the step runs in a CUDA graph or a fused kernel."""
    wide = torch.get_default_dtype() == torch.float64 and not group['fused']
    device = parameter.device if group['capturable'] or group['fused'] else torch.device('cpu')
    return torch.tensor(float(count), dtype=torch.float64 if wide else torch.float32, device=device)


def _error(function: str, problems: list[Problem]) -> BridgeError:
    subject = f'{function}: {len(problems)} problems; nothing was copied'
    return BridgeError(subject, problems, next_steps(problems))
