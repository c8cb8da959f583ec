"""The conventions: one row per layer kind, and the only place that knows them.

A row says which torch modules it is for, which Flax leaves are in which torch parameter, and in which
layout. The torch module alone chooses the row, in both directions: by the attribute `flax_rule` of the class
or of the one module, if there is one (custom layers, stacked ensembles, NNX cells), else by `isinstance`. A
parameter that no row names is a bare parameter, the same name and shape on both sides (Flax's
`self.param('log_stds', ...)`).

A `ModuleList` of E equal members is one subtree of leaves `(E, ...)`, as `nn.vmap` and `nn.scan` make them,
if it says `flax_rule = 'Stack'`; otherwise its members are subtrees `0`, `1`, ...

Where torch adds two biases and Flax has one, the other is zero: `to_torch` writes zeros into it and `to_flax`
refuses any other value, since a sum cannot be taken apart. An optimiser moves both, so freeze that one.

Sources: flax.linen.linear (kernel `(in, out)`, conv kernel `(*spatial, in / groups, out)`, embedding `(num,
features)`), .normalization (scale, bias; batch_stats mean, var), .attention (query, key, value `(in, heads,
size)`, out `(heads, size, out)`), .recurrent (a Dense per gate, named `i` or `h` and the gate; which of them
have a bias); flax.nnx.nn.recurrent (the gates in one Dense); torch.nn.Linear (weight `(out, in)`), ConvNd
(weight `(out, in / groups, *spatial)`), ConvTransposeNd (weight `(in, out, *spatial)`, used as the gradient
of a convolution: mirrored), MultiheadAttention (query, key and value in one matrix), LSTM (gates i, f, g, o
in one matrix), GRU (gates r, z, n).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from weight_bridge.layouts import FILTER, FILTERS, MATRIX, SAME, UPWARD, Layout


@dataclass(frozen=True)
class Part:
    """A Flax leaf that lies in a torch tensor; `leaf` None for a part that is zero since Flax has none."""

    leaf: str | None
    layout: Layout


Leaves = Mapping[str, tuple[Part, ...]]  # by torch name; the parts are of equal size


@dataclass(frozen=True)
class Rule:
    """One layer kind.

    Attributes:
        modules: the torch modules it is for.
        leaves: the parameters' parts, or what makes them from the module. A dotted name is a parameter of a
            submodule, which then belongs to this layer with all that it holds.
        statistics: the same for buffers, whose leaves are in Flax's collection `batch_stats`.
        stack: the module's children are the members of one stacked subtree.
    """

    modules: tuple[type[nn.Module], ...] = ()
    leaves: Leaves | Callable[[Any], Leaves] = field(default_factory=dict)
    statistics: Leaves = field(default_factory=dict)
    stack: bool = False

    def leaves_of(self, module: nn.Module) -> Leaves:
        """The parts of the module's parameters. LookupError: the module is of a kind that Flax lacks."""
        return self.leaves if isinstance(self.leaves, Mapping) else self.leaves(module)


def _leaf(name: str, layout: Layout = SAME) -> tuple[Part, ...]:
    return (Part(name, layout),)


def _gates(pattern: str, gates: str, layout: Layout = SAME) -> tuple[Part, ...]:
    """`_gates('h{}/bias', '--n')`: zeros, zeros and the leaf `hn/bias`."""
    return tuple(Part(None if gate == '-' else pattern.format(gate), layout) for gate in gates)


_ZERO = _gates('', '-')
_CELLS: dict[str, Leaves] = {
    'LSTM': {
        'weight_ih': _gates('i{}/kernel', 'ifgo', MATRIX),
        'weight_hh': _gates('h{}/kernel', 'ifgo', MATRIX),
        'bias_ih': _ZERO,
        'bias_hh': _gates('h{}/bias', 'ifgo'),
    },
    'GRU': {
        'weight_ih': _gates('i{}/kernel', 'rzn', MATRIX),
        'weight_hh': _gates('h{}/kernel', 'rzn', MATRIX),
        'bias_ih': _gates('i{}/bias', 'rzn'),
        'bias_hh': _gates('h{}/bias', '--n'),
    },
    'Simple': {
        'weight_ih': _leaf('i/kernel', MATRIX),
        'weight_hh': _leaf('h/kernel', MATRIX),
        'bias_ih': _leaf('i/bias'),
        'bias_hh': _ZERO,
    },
}
_CELLS['nnx.LSTM'] = {  # `if` is no attribute name in Python
    name: tuple(Part(part.leaf and part.leaf.replace('if/', 'if_/'), part.layout) for part in parts)
    for name, parts in _CELLS['LSTM'].items()
}
_WHOLE: Leaves = {
    'weight_ih': _leaf('dense_i/kernel', MATRIX),
    'weight_hh': _leaf('dense_h/kernel', MATRIX),
    'bias_ih': _leaf('dense_i/bias'),
    'bias_hh': _ZERO,
}
_CELLS['nnx.OptimizedLSTM'] = {**_WHOLE, 'bias_ih': _ZERO, 'bias_hh': _leaf('dense_h/bias')}
_CELLS['nnx.GRU'] = _CELLS['nnx.Simple'] = _WHOLE


def _layers(cell: str) -> Callable[[Any], Leaves]:
    """`nn.RNN(cell)`; a `Sequential` of them for several layers, a `Bidirectional` for two directions."""

    def leaves(module: Any) -> Leaves:
        if module.proj_size:
            raise LookupError(f'torch.nn.{type(module).__name__}(proj_size={module.proj_size})')
        stack = 'layers/{}/' if cell.startswith('nnx.') else 'layers_{}/'
        ways = {'': 'forward_rnn/', '_reverse': 'backward_rnn/'} if module.bidirectional else {'': ''}
        return {
            f'{name}_l{layer}{suffix}': tuple(
                Part(part.leaf and f'{stack.format(layer) * several}{way}cell/{part.leaf}', part.layout)
                for part in parts
            )
            for several in [module.num_layers > 1]
            for layer in range(module.num_layers)
            for suffix, way in ways.items()
            for name, parts in _CELLS[cell].items()
        }

    return leaves


def _attention(module: Any) -> Leaves:
    if module.bias_k is not None:
        raise LookupError('torch.nn.MultiheadAttention(add_bias_kv=True)')
    heads, size = module.num_heads, module.head_dim
    widths = {'query': module.embed_dim, 'key': module.kdim, 'value': module.vdim}
    kernels = {
        name: _leaf(f'{name}/kernel', MATRIX.into((width, heads, size), 2)) for name, width in widths.items()
    }
    return {
        'in_proj_weight': (*kernels['query'], *kernels['key'], *kernels['value']),
        'q_proj_weight': kernels['query'],
        'k_proj_weight': kernels['key'],
        'v_proj_weight': kernels['value'],
        'in_proj_bias': tuple(Part(f'{name}/bias', SAME.into((heads, size), 1)) for name in widths),
        'out_proj.weight': _leaf('out/kernel', MATRIX.into((heads, size, module.embed_dim), 2)),
        'out_proj.bias': _leaf('out/bias'),
    }


def _dense_general(module: Any) -> Leaves:
    """A Linear over several axes at once: `flax_in` and `flax_out` are their sizes in Flax."""
    try:
        inputs, outputs = tuple(module.flax_in), tuple(module.flax_out)
    except (AttributeError, TypeError):
        raise LookupError("flax_rule = 'DenseGeneral' without the shapes flax_in and flax_out") from None
    return {
        'weight': _leaf('kernel', MATRIX.into((*inputs, *outputs), 2)),
        'bias': _leaf('bias', SAME.into(outputs, 1)),
    }


def _upward(layout: Layout) -> Callable[[Any], Leaves]:
    def leaves(module: Any) -> Leaves:
        if getattr(module, 'groups', 1) != 1:
            raise LookupError(f'torch.nn.{type(module).__name__}(groups={module.groups})')
        return {'weight': _leaf('kernel', layout), 'bias': _leaf('bias')}

    return leaves


def _instance_norm(module: Any) -> Leaves:
    if module.track_running_stats:
        raise LookupError(f'torch.nn.{type(module).__name__}(track_running_stats=True)')
    return _NORM


_DENSE: Leaves = {'weight': _leaf('kernel', MATRIX), 'bias': _leaf('bias')}
_NORM: Leaves = {'weight': _leaf('scale'), 'bias': _leaf('bias')}
_CONV: Leaves = {'weight': _leaf('kernel', FILTER), 'bias': _leaf('bias')}

RULES = {
    'Dense': Rule((nn.Linear,), _DENSE),
    'DenseGeneral': Rule((), _dense_general),
    'Conv': Rule((nn.Conv1d, nn.Conv2d, nn.Conv3d), _CONV),
    **{  # for a stack of convolutions in one parameter, whose rank alone does not tell its spatial axes
        f'Conv{count}d': Rule((), {'weight': _leaf('kernel', layout), 'bias': _leaf('bias')})
        for count, layout in FILTERS.items()
    },
    'ConvTranspose': Rule((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), _upward(UPWARD)),
    'ConvTranspose(transpose_kernel=True)': Rule((), _upward(FILTER)),  # of the convolution it transposes
    'Norm': Rule((nn.LayerNorm, nn.GroupNorm, nn.RMSNorm), _NORM),
    'InstanceNorm': Rule((nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d), _instance_norm),
    'BatchNorm': Rule(
        (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
        _NORM,
        {'running_mean': _leaf('mean'), 'running_var': _leaf('var')},
    ),
    'Embed': Rule((nn.Embedding,), {'weight': _leaf('embedding')}),
    'PReLU': Rule((nn.PReLU,), {'weight': _leaf('negative_slope', SAME.into((), 1))}),
    'MultiHeadDotProductAttention': Rule((nn.MultiheadAttention,), _attention),
    'LSTMCell': Rule((nn.LSTMCell,), _CELLS['LSTM']),
    'GRUCell': Rule((nn.GRUCell,), _CELLS['GRU']),
    'SimpleCell': Rule((nn.RNNCell,), _CELLS['Simple']),
    'LSTM': Rule((nn.LSTM,), _layers('LSTM')),
    'GRU': Rule((nn.GRU,), _layers('GRU')),
    'Simple': Rule((nn.RNN,), _layers('Simple')),
    **{f'{cell}Cell': Rule((), leaves) for cell, leaves in _CELLS.items() if cell.startswith('nnx.')},
    **{cell: Rule((), _layers(cell)) for cell in _CELLS if cell.startswith('nnx.')},
    'Stack': Rule(stack=True),
}
_BARE = Rule()
_CONTAINERS = ('torch.nn.modules.module', 'torch.nn.modules.container')  # torch's classes that are no layers


def rule_of(module: nn.Module) -> Rule:
    """The row for a module.

    Raises:
        LookupError: it declares a `flax_rule` that is no row, or it is one of torch's own layers that has
            none (a bilinear layer, say: copying its weight unchanged would be a guess). The message says
            which.
    """
    declared = getattr(module, 'flax_rule', None)
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
