"""What the optimisers of torch hold for a parameter, and which Optax state that is. One row per optimiser.

Sources: torch.optim.{adam,sgd,rmsprop} (`_init_group`, `_single_tensor_*`); optax.transforms.trace,
optax.scale_by_{adam,lion,rms,stddev}.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from weight_bridge.errors import Problem
from weight_bridge.optax_state import MOMENTS
from weight_bridge.plan import Plan

Group = Mapping[str, Any]


@dataclass(frozen=True)
class Kind:
    """One optimiser of torch.

    states:  the Optax states that a parameter of a group needs.
    counts:  whether torch keeps the number of steps of each parameter, as `step`.
    refused: {a value of a group: why it has no counterpart in Optax}, where it is not 0 or False.
    values:  {hyperparameter of Optax: key of the group}, `betas.0` for the first of a pair.
    """

    name: str
    states: Callable[[Group], tuple[str, ...]]
    counts: bool
    refused: Mapping[str, str]
    values: Mapping[str, str]


def _rmsprop_states(group: Group) -> tuple[str, ...]:
    rms = 'ScaleByRStdDevState' if group['centered'] else 'ScaleByRmsState'
    return (rms, 'TraceState') if group['momentum'] > 0 else (rms,)


_ASCENT = {'maximize': 'Optax has no such switch; chain optax.scale(-1) in front and leave it off here'}
_BETAS = {'learning_rate': 'lr', 'b1': 'betas.0', 'b2': 'betas.1'}
ADAM = Kind(
    'Adam',
    lambda group: ('ScaleByAdamState',),
    counts=True,
    refused={
        'amsgrad': "torch keeps the largest raw second moment, Optax's amsgrad the corrected",
        **_ASCENT,
    },
    values={**_BETAS, 'eps': 'eps', 'weight_decay': 'weight_decay'},
)
SGD = Kind(
    'SGD',
    lambda group: ('TraceState',) if group['momentum'] else (),
    counts=False,
    refused={'dampening': 'torch scales all gradients but the first by it, optax.trace none', **_ASCENT},
    values={'learning_rate': 'lr', 'momentum': 'momentum'},
)
RMSPROP = Kind(
    'RMSprop',
    _rmsprop_states,
    counts=True,
    refused=_ASCENT,
    values={'learning_rate': 'lr', 'decay': 'alpha', 'eps': 'eps', 'momentum': 'momentum'},
)
LION = Kind(
    'Lion',
    lambda group: ('ScaleByLionState',),
    counts=False,
    refused=_ASCENT,
    values={**_BETAS, 'weight_decay': 'weight_decay'},
)
ORDER = ('step', 'exp_avg', 'exp_avg_sq', 'square_avg', 'momentum_buffer', 'grad_avg')  # as torch makes them


def kind_of(optimizer: torch.optim.Optimizer) -> Kind | None:
    """The row of an optimiser. Torch has no Lion: any class of that name counts as one."""
    for cls, kind in ((torch.optim.Adam, ADAM), (torch.optim.SGD, SGD), (torch.optim.RMSprop, RMSPROP)):
        if isinstance(optimizer, cls):
            return kind
    names = [cls.__name__ for cls in type(optimizer).__mro__]
    return LION if 'Lion' in names else None


def group_of(optimizer: torch.optim.Optimizer) -> dict[int, dict[str, Any]]:
    """The group of each parameter that the optimiser holds, by the parameter's id."""
    return {id(param): group for group in optimizer.param_groups for param in group['params']}


def entries_of(kind: Kind, group: Group) -> set[str]:
    """The names in torch's state of a parameter of the group, once it has been stepped."""
    moments = {entry for state in kind.states(group) for entry in MOMENTS[state].values()}
    return moments | ({'step'} if kind.counts else set())


def group_problems(optimizer: torch.optim.Optimizer, kind: Kind | None, wanted: Plan) -> Iterator[Problem]:
    """What of the optimiser itself has no counterpart, and parameters that are not the module's."""
    if kind is None:
        expected = 'torch.optim.Adam, AdamW, SGD, RMSprop or a class Lion'
        yield Problem('optimizer', 'the optimiser', expected, type(optimizer).__name__)
        return
    for index, group in enumerate(optimizer.param_groups):
        for name, why in kind.refused.items():
            if group.get(name):
                found = f'{name}={group[name]}'
                yield Problem(
                    'optimizer', f'param_groups[{index}]', f'{name}={type(group[name])()}', found, why
                )
    ours = {id(leaf.parameter) for leaf in wanted.leaves}
    for group in optimizer.param_groups:
        for parameter in group['params']:
            if id(parameter) not in ours:
                found = f'another one of shape {tuple(parameter.shape)}'
                yield Problem('optimizer', 'the optimiser', 'parameters of the module', found)
