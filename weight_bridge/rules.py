"""The conventions: one row per layer kind, and the only place that knows them.

A row says which torch modules it is for, which Flax leaf is which torch parameter, and how the array's axes
move. The torch module alone chooses the row, in both directions: by the class attribute `flax_rule` if the
class declares one (custom layers, stacked ensembles), else by `isinstance`. A parameter that no row names is
a bare parameter, the same name and shape on both sides (Flax's `self.param('log_stds', ...)`).

Sources: flax.linen.linear (kernel `(in, out)`, conv kernel `(*spatial, in / groups, out)`, embedding `(num,
features)`), flax.linen.normalization (scale, bias); torch.nn.Linear (weight `(out, in)`), ConvNd (weight
`(out, in / groups, *spatial)`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import nn

Axes = tuple[int, ...]  # Flax array = torch array.transpose(axes)


@dataclass(frozen=True)
class Layout:
    """How a parameter's axes move from torch to Flax, for ranks from `least_rank` on; back is the inverse."""

    to_flax: Callable[[int], Axes]
    least_rank: int = 0

    def to_torch(self, rank: int) -> Axes:
        return tuple(int(axis) for axis in np.argsort(self.to_flax(rank)))


def _same(rank: int) -> Axes:
    return tuple(range(rank))


def _swap_last_two(rank: int) -> Axes:
    return (*range(rank - 2), rank - 1, rank - 2)


def _spatial_first(rank: int) -> Axes:
    return (*range(2, rank), 1, 0)


SAME = Layout(_same)
MATRIX = Layout(_swap_last_two, least_rank=2)  # (*E, out, in) <-> (*E, in, out)
FILTER = Layout(_spatial_first, least_rank=3)  # (out, in, *spatial) <-> (*spatial, in, out)


@dataclass(frozen=True)
class Rule:
    """One layer kind: its torch modules, and `{torch parameter: (Flax leaf, layout)}`."""

    modules: tuple[type[nn.Module], ...]
    leaves: dict[str, tuple[str, Layout]]


RULES = {
    'Dense': Rule((nn.Linear,), {'weight': ('kernel', MATRIX), 'bias': ('bias', SAME)}),
    'Conv': Rule((nn.Conv1d, nn.Conv2d, nn.Conv3d), {'weight': ('kernel', FILTER), 'bias': ('bias', SAME)}),
    'Norm': Rule(
        (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm), {'weight': ('scale', SAME), 'bias': ('bias', SAME)}
    ),
    'Embed': Rule((nn.Embedding,), {'weight': ('embedding', SAME)}),
}
_BARE = Rule((), {})
_CONTAINERS = ('torch.nn.modules.module', 'torch.nn.modules.container')  # torch's classes that are no layers


def rule_of(module: nn.Module) -> Rule:
    """The row for a module that holds parameters.

    Raises:
        LookupError: the class declares a `flax_rule` that is no row, or it is one of torch's own layers that
            has none (a transposed convolution, say: copying its weight unchanged would be a guess). The
            message says which.
    """
    declared = getattr(type(module), 'flax_rule', None)
    if declared is not None:
        if declared not in RULES:
            raise LookupError(f'flax_rule = {declared!r}')
        return RULES[declared]
    for rule in RULES.values():
        if isinstance(module, rule.modules):
            return rule
    home = type(module).__module__
    if home.startswith('torch.nn.') and home not in _CONTAINERS:
        raise LookupError(f'torch.nn.{type(module).__name__}')
    return _BARE
