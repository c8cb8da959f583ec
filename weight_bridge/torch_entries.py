"""The entries of torch's optimisers: what they hold for a parameter, whether it is whole, and new ones."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch

from weight_bridge.errors import Problem
from weight_bridge.pieces import Leaf
from weight_bridge.plan import Plan
from weight_bridge.torch_state import Kind, entries_of, group_of


def _problems_of(leaf: Leaf, state: Mapping[str, Any], expected: set[str]) -> Iterator[Problem]:
    """Torch checks no names or shapes of a loaded state, and `module.double()` leaves the state as it is."""
    where = f'torch: {leaf.name}'
    if state and set(state) != expected:
        wanted, found = (', '.join(sorted(names)) or 'nothing' for names in (expected, state))
        yield Problem('optimizer', leaf.path, wanted, found, where)
    shape = (tuple(leaf.parameter.shape), leaf.parameter.dtype)
    for name in sorted((expected & set(state)) - {'step'}):
        value = state[name]
        found_shape = None if value is None else (tuple(value.shape), value.dtype)
        if found_shape not in (shape, None if name == 'momentum_buffer' else shape):
            yield Problem('optimizer', leaf.path, f'{shape}', f'{name} {found_shape}', where)


def entry_problems(optimizer: torch.optim.Optimizer, wanted: Plan, kind: Kind | None) -> list[Problem]:
    groups = group_of(optimizer)
    return [
        problem
        for leaf in wanted.leaves
        if kind is not None and id(leaf.parameter) in groups
        for problem in _problems_of(
            leaf, optimizer.state.get(leaf.parameter, {}), entries_of(kind, groups[id(leaf.parameter)])
        )
    ]


def held(optimizer: torch.optim.Optimizer, wanted: Plan) -> list[Leaf]:
    """The leaves whose parameters the optimiser holds."""
    groups = group_of(optimizer)
    return [leaf for leaf in wanted.leaves if id(leaf.parameter) in groups]


def common_count(optimizer: torch.optim.Optimizer, leaves: Iterable[Leaf]) -> tuple[float, list[Problem]]:
    """The steps that leaves have done, and those that have done others; what Flax lacks need not step."""
    steps = {leaf.path: _step_of(optimizer, leaf) for leaf in leaves if leaf.paths}
    count = max(steps.values(), default=0.0)
    problems = [
        Problem('count', path, f'step {count:g} as elsewhere', f'step {step:g}')
        for path, step in steps.items()
        if step != count or step % 1
    ]
    return count, problems


def _step_of(optimizer: torch.optim.Optimizer, leaf: Leaf) -> float:
    return float(optimizer.state.get(leaf.parameter, {}).get('step', 0))


def entry(optimizer: torch.optim.Optimizer, leaf: Leaf, name: str) -> torch.Tensor:
    """A moment of a parameter; zeros where it has not been stepped, as Optax starts with."""
    entry = optimizer.state.get(leaf.parameter, {}).get(name)
    return zeros(leaf.parameter) if entry is None else entry


def zeros(parameter: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(parameter.detach())


def step(count: int, parameter: torch.Tensor, group: Mapping[str, Any]) -> torch.Tensor:
    """As torch.optim creates it: on the host, unless the step runs in a CUDA graph or a fused kernel."""
    fused = group.get('fused')
    wide = torch.get_default_dtype() == torch.float64 and not fused
    device = parameter.device if group.get('capturable') or fused else torch.device('cpu')
    return torch.tensor(float(count), dtype=torch.float64 if wide else torch.float32, device=device)
