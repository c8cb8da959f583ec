"""Every linen layer with parameters or state, stacked or not, computes the same in the torch layer for it."""

from dataclasses import replace

import flax.linen as fnn
import jax
import ml_dtypes
import numpy as np
import pytest
import torch
from torch import nn

import weight_bridge
from weight_bridge import BridgeError, rules
from weight_bridge.layouts import UPWARD
from weight_bridge.paths import flatten

B, T, F, HEADS, SIZE = 3, 5, 8, 2, 4  # batch, time, features, heads and the size of one: HEADS * SIZE is F
SEQUENCE, IMAGE, VOLUME = (B, T, F), (B, 7, 6, 4), (B, 4, 5, 3, 4)  # what Flax sees


def declared(module, rule, **attributes):
    module.flax_rule = rule
    for name, value in attributes.items():
        setattr(module, name, value)
    return module


def stack(*members):
    return declared(nn.ModuleList(members), 'Stack')


def directly(module, x):
    return module.eval()(x)


def channels_last(module, x):
    return module.eval()(x.movedim(-1, 1).contiguous()).movedim(1, -1)


def first(module, x):
    """torch's recurrent layers return the outputs and the last state."""
    return module(x)[0]


def split_heads(module, x):
    return module(x).unflatten(-1, (HEADS, SIZE))


def merged_heads(module, x):
    return module(x.flatten(-2))


def attends(module, x):
    return module(x, x, x, need_weights=False)[0]


def attends_across(module, x):
    return module(x, x[..., :6], x[..., :4], need_weights=False)[0]


class SeparateAttention(nn.Module):
    """Attention as ports write it: a Linear for each projection."""

    def __init__(self):
        super().__init__()
        for name in ('query', 'key', 'value'):
            projection = nn.Linear(F, F)
            self.add_module(name, declared(projection, 'DenseGeneral', flax_in=(F,), flax_out=(HEADS, SIZE)))
        self.out = declared(nn.Linear(F, F), 'DenseGeneral', flax_in=(HEADS, SIZE), flax_out=(F,))

    def forward(self, x):
        projections = (self.query, self.key, self.value)
        q, k, v = (p(x).unflatten(-1, (HEADS, SIZE)).transpose(-3, -2) for p in projections)
        attended = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out(attended.transpose(-3, -2).flatten(-2))


class OneStep(fnn.Module):
    """A cell's one step on x[:, 0], from the state x[:, 1] (an LSTM has a second one, x[:, 2])."""

    cell: fnn.Module

    def __call__(self, x):
        carry = (x[:, 2], x[:, 1]) if 'LSTM' in type(self.cell).__name__ else x[:, 1]
        return self.cell(carry, x[:, 0])[1]


def one_step(module, x):
    """`cell` is the reference's name for it."""
    cell = module['cell']
    if isinstance(cell, nn.LSTMCell):
        return cell(x[:, 0], (x[:, 1], x[:, 2]))[0]
    return cell(x[:, 0], x[:, 1])


class CrossAttention(fnn.Module):
    @fnn.compact
    def __call__(self, x):
        return fnn.MultiHeadDotProductAttention(HEADS, name='attn')(x, x[..., :6], x[..., :4])


def attends_within(module, x):
    return attends_across(module['attn'], x)


class Norms(nn.Module):
    """Statistics below other modules."""

    def __init__(self):
        super().__init__()
        self.Dense_0, self.BatchNorm_0 = nn.Linear(F, F), nn.BatchNorm1d(F)

    def forward(self, x):
        return self.BatchNorm_0(self.Dense_0(x).movedim(-1, 1)).movedim(1, -1)


class FlaxNorms(fnn.Module):
    @fnn.compact
    def __call__(self, x):
        return fnn.BatchNorm(use_running_average=True)(fnn.Dense(F)(x))


class FlaxBlock(fnn.Module):
    """A block for nn.vmap and nn.scan: it maps the carry."""

    @fnn.compact
    def __call__(self, x, _=None):
        x = x + fnn.MultiHeadDotProductAttention(HEADS, name='attn')(fnn.LayerNorm()(x))
        x = x + fnn.gelu(fnn.Dense(F)(x))
        return x, None


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.LayerNorm_0 = nn.LayerNorm(F, eps=1e-6)
        self.attn, self.Dense_0 = nn.MultiheadAttention(F, HEADS, batch_first=True), nn.Linear(F, F)

    def forward(self, x):
        x = x + attends(self.attn, self.LayerNorm_0(x))
        return x + nn.functional.gelu(self.Dense_0(x), approximate='tanh')


SCAN = {'variable_axes': {'params': 0}, 'split_rngs': {'params': True}}
Scanned = fnn.scan(FlaxBlock, **SCAN, length=3)
Ensemble = fnn.vmap(FlaxBlock, **SCAN, in_axes=None, out_axes=0, axis_size=2)
EnsembleOfScans = fnn.vmap(Scanned, **SCAN, in_axes=None, out_axes=0, axis_size=2)
NormEnsemble = fnn.vmap(
    FlaxNorms,
    variable_axes={'params': 0, 'batch_stats': 0},
    split_rngs={'params': True},
    in_axes=None,
    out_axes=0,
    axis_size=3,
)
CellEnsemble = fnn.vmap(OneStep, **SCAN, in_axes=None, out_axes=0, axis_size=2)
ConvEnsemble = fnn.vmap(fnn.Conv, **SCAN, in_axes=None, out_axes=0, axis_size=2)


class StackedConv(nn.Module):
    """Two convolutions in one parameter, of rank 5 like that of a Conv3d."""

    flax_rule = 'Conv2d'

    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.zeros(2, 3, 4, 2, 3)), nn.Parameter(torch.zeros(2, 3))

    def forward(self, x):
        members = zip(self.weight, self.bias, strict=True)
        return torch.stack([nn.functional.conv2d(x, w, b).movedim(1, -1) for w, b in members])


def each(call=directly):
    """Every member on the same input."""
    return lambda module, x: torch.stack([call(member, x) for member in module])


def in_turn(module, x):
    for member in module:
        x = member(x)
    return x


def on_channels(module, x):
    return module(x.movedim(-1, 1))


def steps(module, x):
    return torch.stack([one_step(member, x) for member in module])


def members(count, make):
    return stack(*(make() for _ in range(count)))


def rnn(cell):
    """Six features; the first state has the dtype of the parameters."""
    return fnn.RNN(cell(6, param_dtype=np.float64))


UP = {'strides': (2, 2), 'padding': 'VALID'}
PAIRS = {  # the reference, what makes the port, the shape of x, how the port is called on it
    'DenseGeneral to heads': (
        fnn.DenseGeneral((HEADS, SIZE)),
        lambda: declared(nn.Linear(F, F), 'DenseGeneral', flax_in=(F,), flax_out=(HEADS, SIZE)),
        SEQUENCE,
        split_heads,
    ),
    'DenseGeneral from heads': (
        fnn.DenseGeneral(F, axis=(-2, -1)),
        lambda: declared(nn.Linear(F, F), 'DenseGeneral', flax_in=(HEADS, SIZE), flax_out=(F,)),
        (B, HEADS, SIZE),
        merged_heads,
    ),
    'Conv dilated': (
        fnn.Conv(4, (3, 2), kernel_dilation=(2, 3), strides=(1, 2), padding='VALID'),
        lambda: nn.Conv2d(4, 4, (3, 2), dilation=(2, 3), stride=(1, 2)),
        IMAGE,
        channels_last,
    ),
    'Conv depthwise': (
        fnn.Conv(8, (3, 2), feature_group_count=4, padding='VALID'),
        lambda: nn.Conv2d(4, 8, (3, 2), groups=4),
        IMAGE,
        channels_last,
    ),
    'ConvTranspose 1d': (
        fnn.ConvTranspose(F, (3,), strides=(2,), padding='VALID'),
        lambda: nn.ConvTranspose1d(F, F, 3, stride=2),
        SEQUENCE,
        channels_last,
    ),
    'ConvTranspose 2d': (
        fnn.ConvTranspose(4, (2, 3), **UP),
        lambda: nn.ConvTranspose2d(4, 4, (2, 3), stride=2),
        IMAGE,
        channels_last,
    ),
    'ConvTranspose 2d with transpose_kernel': (
        fnn.ConvTranspose(4, (2, 3), transpose_kernel=True, **UP),
        lambda: declared(nn.ConvTranspose2d(4, 4, (2, 3), stride=2), 'ConvTranspose(transpose_kernel=True)'),
        IMAGE,
        channels_last,
    ),
    'ConvTranspose 3d dilated': (
        fnn.ConvTranspose(3, (2, 3, 1), kernel_dilation=(2, 1, 1), padding='VALID'),
        lambda: nn.ConvTranspose3d(4, 3, (2, 3, 1), dilation=(2, 1, 1)),
        VOLUME,
        channels_last,
    ),
    'InstanceNorm': (
        fnn.InstanceNorm(),
        lambda: nn.InstanceNorm2d(4, eps=1e-6, affine=True),
        IMAGE,
        channels_last,
    ),
    'BatchNorm': (
        fnn.BatchNorm(use_running_average=True),
        lambda: nn.BatchNorm2d(4),
        IMAGE,
        channels_last,
    ),
    'BatchNorm without scale and bias': (
        fnn.BatchNorm(use_running_average=True, use_scale=False, use_bias=False),
        lambda: nn.BatchNorm2d(4, affine=False),
        IMAGE,
        channels_last,
    ),
    'BatchNorm in a network': (FlaxNorms(), Norms, SEQUENCE, directly),
    'PReLU': (fnn.PReLU(), lambda: nn.PReLU(), SEQUENCE, directly),
    'attention': (
        fnn.MultiHeadDotProductAttention(HEADS),
        lambda: nn.MultiheadAttention(F, HEADS, batch_first=True),
        SEQUENCE,
        attends,
    ),
    'attention without biases': (
        fnn.MultiHeadDotProductAttention(HEADS, use_bias=False),
        lambda: nn.MultiheadAttention(F, HEADS, batch_first=True, bias=False),
        SEQUENCE,
        attends,
    ),
    'attention across': (
        CrossAttention(),
        lambda: nn.ModuleDict({'attn': nn.MultiheadAttention(F, HEADS, kdim=6, vdim=4, batch_first=True)}),
        SEQUENCE,
        attends_within,
    ),
    'attention with separate projections': (
        fnn.MultiHeadDotProductAttention(HEADS),
        SeparateAttention,
        SEQUENCE,
        directly,
    ),
    **{
        f'{cell.__name__} step': (
            OneStep(cell(F)),
            lambda make=make: nn.ModuleDict({'cell': make(F, F)}),
            SEQUENCE,
            one_step,
        )
        for cell, make in {
            fnn.LSTMCell: nn.LSTMCell,
            fnn.OptimizedLSTMCell: nn.LSTMCell,
            fnn.GRUCell: nn.GRUCell,
            fnn.SimpleCell: nn.RNNCell,
        }.items()
    },
    **{
        f'{cell.__name__} over time': (
            rnn(cell),
            lambda make=make: make(F, 6, batch_first=True),
            SEQUENCE,
            first,
        )
        for cell, make in {
            fnn.LSTMCell: nn.LSTM,
            fnn.OptimizedLSTMCell: nn.LSTM,
            fnn.GRUCell: nn.GRU,
            fnn.SimpleCell: nn.RNN,
        }.items()
    },
    'LSTM of two layers': (
        fnn.Sequential([rnn(fnn.LSTMCell), rnn(fnn.LSTMCell)]),
        lambda: nn.LSTM(F, 6, num_layers=2, batch_first=True),
        SEQUENCE,
        first,
    ),
    'GRU in both directions': (
        fnn.Bidirectional(rnn(fnn.GRUCell), rnn(fnn.GRUCell)),
        lambda: nn.GRU(F, 6, bidirectional=True, batch_first=True),
        SEQUENCE,
        first,
    ),
    'nn.scan, a ModuleList': (Scanned(), lambda: members(3, Block), SEQUENCE, in_turn),
    'nn.vmap, a ModuleList': (Ensemble(), lambda: members(2, Block), SEQUENCE, each()),
    'nn.vmap of nn.scan, nested lists': (
        EnsembleOfScans(),
        lambda: members(2, lambda: members(3, Block)),
        SEQUENCE,
        each(in_turn),
    ),
    'nn.vmap with statistics': (NormEnsemble(), lambda: members(3, Norms), SEQUENCE, each()),
    'nn.vmap of a cell': (
        CellEnsemble(fnn.LSTMCell(F)),
        lambda: members(2, lambda: nn.ModuleDict({'cell': nn.LSTMCell(F, F)})),
        SEQUENCE,
        steps,
    ),
    'nn.vmap of a convolution, one parameter': (
        ConvEnsemble(3, (2, 3), padding='VALID'),
        StackedConv,
        IMAGE,
        on_channels,
    ),
    'nn.vmap of a convolution, a ModuleList': (
        ConvEnsemble(3, (2, 3), padding='VALID'),
        lambda: members(2, lambda: nn.Conv2d(4, 3, (2, 3))),
        IMAGE,
        each(channels_last),
    ),
}
pairs = pytest.mark.parametrize('name', PAIRS)


def variables_of(reference, shape, rng, dtype=np.float64):
    """All collections at random; variances are positive."""

    def values(path, leaf):
        value = rng.normal(size=leaf.shape)
        return (np.abs(value) + 0.5 if path[-1].key == 'var' else value).astype(dtype)

    shapes = jax.eval_shape(reference.init, jax.random.PRNGKey(0), np.zeros(shape))
    return jax.tree_util.tree_map_with_path(values, dict(shapes))


def both(name, rng):
    """The outputs of both sides, after the bridge."""
    reference, make, shape, call = PAIRS[name]
    variables, x, port = variables_of(reference, shape, rng), rng.normal(size=shape), make()
    weight_bridge.to_torch(variables, port)
    expected = reference.apply(variables, x)
    with torch.no_grad():
        found = call(port, torch.from_numpy(x)).numpy()
    return np.asarray(expected[0] if isinstance(expected, tuple) else expected), found


@pairs
def test_a_bridged_layer_computes_the_same(name, rng):
    expected, found = both(name, rng)
    assert expected.shape == found.shape
    # some layers' outputs are hundreds, and few of them small by cancellation
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * max(1.0, np.abs(expected).max()))


DTYPES = [
    (torch.float64, np.float64),
    (torch.float32, np.float32),
    (torch.float16, np.float16),
    (torch.bfloat16, ml_dtypes.bfloat16),
]


def bits(tree):
    return {path: (leaf.dtype, leaf.shape, leaf.tobytes()) for path, leaf in flatten(tree).items()}


@pairs
@pytest.mark.parametrize(('dtype', 'name_in_numpy'), DTYPES, ids=lambda dtype: getattr(dtype, '__name__', ''))
def test_the_round_trip_is_the_identity(name, dtype, name_in_numpy, rng):
    reference, make, shape, _ = PAIRS[name]
    port = make().to(dtype)
    variables = variables_of(reference, shape, rng, name_in_numpy)
    weight_bridge.to_torch(variables, port)
    assert bits(weight_bridge.to_flax(port, form='variables')) == bits(variables)
    other = make().to(dtype)
    weight_bridge.to_torch(weight_bridge.to_flax(port, form='variables'), other)
    for key, value in port.state_dict().items():
        assert torch.equal(value, other.state_dict()[key])


def replaced(rule, **parts):
    """A row whose parts of some parameters are others."""
    row = rules.RULES[rule]

    def leaves(module):
        return {**row.leaves_of(module), **{name: part(row, module) for name, part in parts.items()}}

    return replace(row, leaves=leaves)


def exchanged(name, one, other):
    """The parts of a parameter with two of them exchanged."""

    def parts(row, module):
        found = list(row.leaves_of(module)[name])
        found[one], found[other] = found[other], found[one]
        return tuple(found)

    return parts


def unmoved(name):
    """The parts of a parameter, all axes as they are."""

    def parts(row, module):
        found = row.leaves_of(module)[name]
        return tuple(
            replace(part, layout=replace(part.layout, axes=lambda r: tuple(range(r)))) for part in found
        )

    return parts


MISTAKES = {  # planted in the rules: every shape fits
    'kernel not transposed': (
        'DenseGeneral to heads',
        lambda: {'DenseGeneral': replaced('DenseGeneral', weight=unmoved('weight'))},
    ),
    'kernel not mirrored': (
        'ConvTranspose 2d',
        lambda: {
            'ConvTranspose': rules.Rule(
                rules.RULES['ConvTranspose'].modules,
                {
                    'weight': (rules.Part('kernel', replace(UPWARD, mirrored=lambda rank: ())),),
                    'bias': (rules.Part('bias', rules.SAME),),
                },
            )
        },
    ),
    'the other kind of transposed convolution': (
        'ConvTranspose 2d with transpose_kernel',
        lambda: {'ConvTranspose(transpose_kernel=True)': rules.RULES['ConvTranspose']},
    ),
    'mean for variance': (
        'BatchNorm',
        lambda: {
            'BatchNorm': replace(
                rules.RULES['BatchNorm'],
                statistics={
                    'running_mean': (rules.Part('var', rules.SAME),),
                    'running_var': (rules.Part('mean', rules.SAME),),
                },
            )
        },
    ),
    'query for key and value': (
        'attention',
        lambda: {
            'MultiHeadDotProductAttention': replaced(
                'MultiHeadDotProductAttention', in_proj_weight=exchanged('in_proj_weight', 0, 2)
            )
        },
    ),
    'biases of query and value': (
        'attention',
        lambda: {
            'MultiHeadDotProductAttention': replaced(
                'MultiHeadDotProductAttention', in_proj_bias=exchanged('in_proj_bias', 0, 2)
            )
        },
    ),
    'gates in another order': (
        'LSTMCell over time',
        lambda: {'LSTM': replaced('LSTM', weight_hh_l0=exchanged('weight_hh_l0', 2, 3))},
    ),
    'reset for update': (
        'GRUCell over time',
        lambda: {'GRU': replaced('GRU', weight_ih_l0=exchanged('weight_ih_l0', 0, 1))},
    ),
    'input for hidden': (
        'SimpleCell step',
        lambda: {
            'SimpleCell': replaced(
                'SimpleCell',
                weight_ih=lambda row, module: row.leaves_of(module)['weight_hh'],
                weight_hh=lambda row, module: row.leaves_of(module)['weight_ih'],
            )
        },
    ),
}


@pytest.mark.parametrize('mistake', MISTAKES)
def test_twin_a_mistake_in_the_rules_computes_something_else(mistake, rng, monkeypatch):
    name, rows = MISTAKES[mistake]
    for rule, row in rows().items():
        monkeypatch.setitem(rules.RULES, rule, row)
    expected, found = both(name, rng)
    assert not np.abs(found - expected).max() < 1e-3  # a negative variance makes NaN


def test_twin_members_of_a_stack_in_another_order_compute_something_else(rng):
    reference, make, shape, call = PAIRS['nn.scan, a ModuleList']
    variables, x, port = variables_of(reference, shape, rng), rng.normal(size=shape), make()
    weight_bridge.to_torch(variables, port)
    expected = np.asarray(reference.apply(variables, x)[0])
    swapped = stack(*reversed(port))
    assert np.abs(call(swapped, torch.from_numpy(x)).detach().numpy() - expected).max() > 1e-3


GRADIENTS = [
    'attention',
    'LSTMCell over time',
    'GRUCell over time',
    'nn.scan, a ModuleList',
    'ConvTranspose 2d',
]


@pytest.mark.parametrize('name', GRADIENTS)
def test_gradients_are_those_of_the_leaves(name, rng):
    reference, make, shape, call = PAIRS[name]
    variables, x, port = variables_of(reference, shape, rng), rng.normal(size=shape), make()

    def loss(params):
        out = reference.apply({'params': params}, x)
        return jax.numpy.sin(out[0] if isinstance(out, tuple) else out).sum()

    expected = jax.grad(loss)(variables['params'])
    weight_bridge.to_torch(variables, port)
    call(port, torch.from_numpy(x)).sin().sum().backward()
    found = weight_bridge.grads_to_flax(port)
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected))
    allowed = {'rtol': 0, 'atol': 1e-12 * largest}  # some leaves are differences of much larger numbers
    jax.tree.map(lambda f, e: np.testing.assert_allclose(f, e, **allowed), found, expected)


class TestStatistics:
    """Running statistics are in the tree, or the caller says that they are not."""

    @pytest.fixture
    def port(self):
        return Norms()

    def test_a_tree_of_parameters_alone_lacks_them(self, port):
        params = weight_bridge.to_flax(port)
        with pytest.raises(BridgeError) as error:
            weight_bridge.to_torch(params, port)
        assert [(problem.kind, problem.path) for problem in error.value.problems] == [
            ('missing path', 'BatchNorm_0/mean'),
            ('missing path', 'BatchNorm_0/var'),
        ]

    def test_they_stay_as_they_are_on_demand(self, port):
        port.BatchNorm_0.running_mean.fill_(3.0)
        params = jax.tree.map(np.zeros_like, weight_bridge.to_flax(port))
        weight_bridge.to_torch(params, port, form='params')
        assert not port.BatchNorm_0.weight.any()
        assert (port.BatchNorm_0.running_mean == 3.0).all()

    @pytest.mark.parametrize('form', ['variables', 'state'])
    def test_both_forms_come_back(self, form, port):
        tree = jax.tree.map(lambda leaf: leaf + 1, weight_bridge.to_flax(port, form=form))
        weight_bridge.to_torch(tree, port)
        assert bits(weight_bridge.to_flax(port, form=form)) == bits(tree)
        assert (port.BatchNorm_0.running_var == 2.0).all()

    def test_the_same_buffers_are_written(self, port):
        buffer, count = port.BatchNorm_0.running_mean, port.BatchNorm_0.num_batches_tracked.clone()
        weight_bridge.to_torch(weight_bridge.to_flax(port, form='variables'), port)
        assert port.BatchNorm_0.running_mean is buffer
        assert torch.equal(port.BatchNorm_0.num_batches_tracked, count)

    def test_a_misfit_leaves_parameters_and_statistics_as_they_were(self, port):
        tree = jax.tree.map(lambda leaf: leaf + 1, weight_bridge.to_flax(port, form='variables'))
        tree['batch_stats']['BatchNorm_0']['var'] = np.ones(F + 1)
        before = {key: value.clone() for key, value in port.state_dict().items()}
        with pytest.raises(BridgeError, match='shape: batch_stats/BatchNorm_0/var: expected f64'):
            weight_bridge.to_torch(tree, port)
        assert all(torch.equal(value, before[key]) for key, value in port.state_dict().items())


class TestWhatFlaxLacks:
    """A value on the torch side that no Flax leaf could hold is refused, never dropped."""

    @pytest.mark.parametrize('name', [name for name in PAIRS if 'Cell' in name])
    def test_a_second_bias_must_be_zero(self, name):
        port = PAIRS[name][1]()  # as torch initialises it
        with pytest.raises(BridgeError, match='expected zeros, found f64') as error:
            weight_bridge.to_flax(port)
        assert 'torch adds two biases where Flax has one' in str(error.value)

    def test_all_of_them_are_named(self):
        with pytest.raises(BridgeError) as error:
            weight_bridge.to_flax(nn.GRU(2, 3, bidirectional=True))
        assert [(p.kind, p.where) for p in error.value.problems] == [
            *[('zero', 'torch: bias_hh_l0')] * 2,
            *[('zero', 'torch: bias_hh_l0_reverse')] * 2,
        ]

    def test_to_torch_writes_zeros_into_it(self, rng):
        port = nn.LSTMCell(F, F)
        reference = OneStep(fnn.LSTMCell(F))
        weight_bridge.to_torch(variables_of(reference, SEQUENCE, rng)['params']['cell'], port)
        assert not port.bias_ih.any()
        assert port.bias_hh.any()

    @pytest.mark.parametrize(
        ('make', 'found'),
        [
            (lambda: nn.ConvTranspose2d(4, 4, 2, groups=2), 'torch.nn.ConvTranspose2d(groups=2)'),
            (lambda: nn.MultiheadAttention(4, 2, add_bias_kv=True), 'add_bias_kv=True'),
            (lambda: nn.LSTM(4, 4, proj_size=2), 'torch.nn.LSTM(proj_size=2)'),
            (lambda: nn.InstanceNorm1d(4, affine=True, track_running_stats=True), 'track_running_stats=True'),
            (lambda: nn.PReLU(3), 'shape (3,)'),
            (lambda: declared(nn.Linear(4, 4), 'DenseGeneral'), 'without the shapes flax_in and flax_out'),
            (lambda: declared(nn.Linear(4, 4), 'DenseGeneral', flax_in=(4,), flax_out=(3,)), 'shape (4'),
        ],
        ids=lambda value: value if isinstance(value, str) else '',
    )
    def test_other_kinds_of_a_layer_are_refused(self, make, found):
        with pytest.raises(BridgeError) as error:
            weight_bridge.to_torch({}, make())
        assert all(problem.kind == 'rule' and found in problem.found for problem in error.value.problems)


class TestStacks:
    """Members of a stack make up whole leaves, or are refused."""

    def test_members_of_another_shape(self):
        with pytest.raises(
            BridgeError, match=r'kernel: expected members of one shape .*0.weight f64\[2,2,3\]'
        ):
            weight_bridge.to_flax(stack(nn.Linear(2, 3), nn.Linear(2, 4)))

    def test_a_member_that_lacks_a_parameter(self):
        with pytest.raises(
            BridgeError, match=r'bias: expected one parameter for each of 2 members, found 0\.bias'
        ):
            weight_bridge.to_flax(stack(nn.Linear(2, 3), nn.Linear(2, 3, bias=False)))

    def test_one_module_as_two_members(self):
        member = nn.Linear(2, 3)
        with pytest.raises(BridgeError, match='expected one parameter for each of 2 members'):
            weight_bridge.to_flax(stack(member, member))

    def test_a_stack_in_torch_is_a_list_without_the_rule(self):
        tree = weight_bridge.to_flax(nn.ModuleList([nn.Linear(2, 3)] * 1))
        assert tree['0']['kernel'].shape == (2, 3)
