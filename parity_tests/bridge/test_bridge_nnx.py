"""Flax NNX: a model's state crosses the bridge as it is, typed or as a pure dict, and comes back."""

import jax
import ml_dtypes
import numpy as np
import optax
import pytest
import torch
from flax import linen, nnx
from torch import nn

import weight_bridge
from parity_tests.bridge.test_bridge_every_layer import (
    HEADS,
    IMAGE,
    SEQUENCE,
    SIZE,
    B,
    F,
    attends,
    bits,
    channels_last,
    declared,
    directly,
    first,
    in_turn,
    members,
    split_heads,
)
from weight_bridge import BridgeError, rules
from weight_bridge.paths import flatten

DTYPES = [
    (torch.float64, np.float64),
    (torch.float32, np.float32),
    (torch.float16, np.float16),
    (torch.bfloat16, ml_dtypes.bfloat16),
]


class Net(nnx.Module):
    """A list, statistics, dropout and a bare parameter."""

    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(F, F, param_dtype=np.float64, rngs=rngs) for _ in range(3)])
        self.norm = nnx.BatchNorm(F, use_running_average=True, param_dtype=np.float64, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, deterministic=True, rngs=rngs)
        self.gain = nnx.Param(jax.numpy.ones(F))

    def __call__(self, x):
        for layer in self.layers:
            x = nnx.relu(layer(x))
        return self.dropout(self.norm(x)) * self.gain


class Port(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(F, F) for _ in range(3))
        self.norm, self.gain = nn.BatchNorm1d(F), nn.Parameter(torch.ones(F))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x).relu()
        return self.norm(x.movedim(-1, 1)).movedim(1, -1) * self.gain


def rnn(cell):
    return lambda rngs: nnx.RNN(cell(F, 6, **WIDE, rngs=rngs))


def stacked(rngs):
    @nnx.split_rngs(splits=3)
    @nnx.vmap(in_axes=0, out_axes=0)
    def create(rngs):
        return nnx.Linear(F, F, param_dtype=np.float64, rngs=rngs)

    return create(rngs)


def scanned(model, x):
    return nnx.scan(lambda x, layer: layer(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)(x, model)


def called(model, x):
    return model(x)


def attended(model, x):
    return model(x, decode=False)


def in_float64(query, key, value, **_):
    """NNX's default is jax.nn.dot_product_attention: its softmax is in float32 whatever the inputs are."""
    return linen.dot_product_attention(query, key, value)


WIDE = {'dtype': np.float64, 'param_dtype': np.float64}  # some of NNX's layers compute in float32 else
PAIRS = {  # what makes the reference, what makes the port, the shape of x, how each is called on it
    'Linear': (
        lambda r: nnx.Linear(F, 3, **WIDE, rngs=r),
        lambda: nn.Linear(F, 3),
        SEQUENCE,
        called,
        directly,
    ),
    'LinearGeneral': (
        lambda r: nnx.LinearGeneral(F, (HEADS, SIZE), **WIDE, rngs=r),
        lambda: declared(nn.Linear(F, F), 'DenseGeneral', flax_in=(F,), flax_out=(HEADS, SIZE)),
        SEQUENCE,
        called,
        split_heads,
    ),
    'Conv': (
        lambda r: nnx.Conv(4, 4, (3, 2), feature_group_count=2, padding='VALID', **WIDE, rngs=r),
        lambda: nn.Conv2d(4, 4, (3, 2), groups=2),
        IMAGE,
        called,
        channels_last,
    ),
    'ConvTranspose': (
        lambda r: nnx.ConvTranspose(4, 4, (2, 3), strides=(2, 2), padding='VALID', **WIDE, rngs=r),
        lambda: nn.ConvTranspose2d(4, 4, (2, 3), stride=2),
        IMAGE,
        called,
        channels_last,
    ),
    'LayerNorm': (
        lambda r: nnx.LayerNorm(F, **WIDE, rngs=r),
        lambda: nn.LayerNorm(F, eps=1e-6),
        SEQUENCE,
        called,
        directly,
    ),
    'RMSNorm': (
        lambda r: nnx.RMSNorm(F, **WIDE, rngs=r),
        lambda: nn.RMSNorm(F, eps=1e-6),
        SEQUENCE,
        called,
        directly,
    ),
    'GroupNorm': (
        lambda r: nnx.GroupNorm(4, 2, **WIDE, rngs=r),
        lambda: nn.GroupNorm(2, 4, eps=1e-6),
        IMAGE,
        called,
        channels_last,
    ),
    'BatchNorm': (
        lambda r: nnx.BatchNorm(4, use_running_average=True, **WIDE, rngs=r),
        lambda: nn.BatchNorm2d(4),
        IMAGE,
        called,
        channels_last,
    ),
    'MultiHeadAttention': (
        lambda r: nnx.MultiHeadAttention(HEADS, F, attention_fn=in_float64, **WIDE, rngs=r),
        lambda: nn.MultiheadAttention(F, HEADS, batch_first=True),
        SEQUENCE,
        attended,
        attends,
    ),
    'LSTMCell': (
        rnn(nnx.LSTMCell),
        lambda: declared(nn.LSTM(F, 6, batch_first=True), 'nnx.LSTM'),
        SEQUENCE,
        called,
        first,
    ),
    'OptimizedLSTMCell': (
        rnn(nnx.OptimizedLSTMCell),
        lambda: declared(nn.LSTM(F, 6, batch_first=True), 'nnx.OptimizedLSTM'),
        SEQUENCE,
        called,
        first,
    ),
    'GRUCell': (
        rnn(nnx.GRUCell),
        lambda: declared(nn.GRU(F, 6, batch_first=True), 'nnx.GRU'),
        SEQUENCE,
        called,
        first,
    ),
    'SimpleCell': (
        rnn(nnx.SimpleCell),
        lambda: declared(nn.RNN(F, 6, batch_first=True), 'nnx.Simple'),
        SEQUENCE,
        called,
        first,
    ),
    'a list, statistics, dropout, a bare parameter': (Net, Port, SEQUENCE, called, directly),
    'nnx.vmap and nnx.scan, a ModuleList': (
        stacked,
        lambda: members(3, lambda: nn.Linear(F, F)),
        SEQUENCE,
        scanned,
        in_turn,
    ),
}
pairs = pytest.mark.parametrize('name', PAIRS)


def reference_of(name, rng, dtype=np.float64):
    """The reference with all weights at random; the state of its random keys is as it was."""
    model = PAIRS[name][0](nnx.Rngs(0))

    def value(path, leaf):
        found = rng.normal(size=leaf.shape)
        return jax.numpy.asarray(np.abs(found) + 0.5 if 'var' in str(path) else found, dtype)

    weights = nnx.state(model, nnx.Not(nnx.RngState))
    nnx.update(model, jax.tree_util.tree_map_with_path(value, weights))
    return model


def outputs(name, model, port, rng):
    x = rng.normal(size=PAIRS[name][2])
    with torch.no_grad():
        return np.asarray(PAIRS[name][3](model, x)), PAIRS[name][4](port, torch.from_numpy(x)).numpy()


@pairs
def test_a_bridged_state_computes_the_same(name, rng):
    model, port = reference_of(name, rng), PAIRS[name][1]()
    weight_bridge.to_torch(nnx.state(model), port)
    expected, found = outputs(name, model, port, rng)
    assert expected.shape == found.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pairs
def test_a_state_from_torch_computes_the_same(name, rng):
    port = PAIRS[name][1]()
    weight_bridge.to_torch(nnx.state(reference_of(name, rng)), port)
    model = PAIRS[name][0](nnx.Rngs(1))
    nnx.update(model, weight_bridge.to_flax(port, form='state'))
    expected, found = outputs(name, model, port, rng)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pairs
@pytest.mark.parametrize(('dtype', 'name_in_numpy'), DTYPES, ids=str)
def test_the_round_trip_is_the_identity(name, dtype, name_in_numpy, rng):
    model, port = reference_of(name, rng, name_in_numpy), PAIRS[name][1]().to(dtype)
    pure = nnx.to_pure_dict(nnx.state(model, nnx.Not(nnx.RngState)))
    weight_bridge.to_torch(pure, port)
    found = weight_bridge.to_flax(port, form='state')
    assert jax.tree.structure(found) == jax.tree.structure(pure)  # integer keys too
    assert bits(found) == bits(jax.tree.map(np.asarray, pure))


def test_twin_gates_in_another_order_compute_something_else(rng, monkeypatch):
    rule = rules.RULES['nnx.LSTM']

    def mistaken(module):
        parts = dict(rule.leaves_of(module))
        i, f, g, o = parts['weight_hh_l0']
        return parts | {'weight_hh_l0': (f, i, g, o)}

    monkeypatch.setitem(rules.RULES, 'nnx.LSTM', rules.Rule((), mistaken))
    model, port = reference_of('LSTMCell', rng), PAIRS['LSTMCell'][1]()
    weight_bridge.to_torch(nnx.state(model), port)
    expected, found = outputs('LSTMCell', model, port, rng)
    assert np.abs(found - expected).max() > 1e-3


def test_random_states_are_no_weights_but_only_typed_ones_are_known(rng):
    name = 'a list, statistics, dropout, a bare parameter'
    state, port = nnx.state(reference_of(name, rng)), PAIRS[name][1]()
    assert not [path for path in flatten(state) if path.startswith('dropout')]
    with pytest.raises(BridgeError) as error:
        weight_bridge.to_torch(nnx.to_pure_dict(state), port)
    assert [(problem.kind, problem.path) for problem in error.value.problems] == [
        ('unexpected path', 'dropout/rngs/count'),
        ('unexpected path', 'dropout/rngs/key'),
    ]


def test_an_index_and_its_name_are_one_path():
    with pytest.raises(BridgeError, match='each once'):
        flatten({0: np.ones(B), '0': np.ones(B)})


class Blocks(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(3, 3, param_dtype=float, rngs=rngs) for _ in range(2)])
        self.norm = nnx.BatchNorm(3, param_dtype=float, rngs=rngs)


class BlocksPort(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(3, 3) for _ in range(2))
        self.norm = nn.BatchNorm1d(3)


@pytest.mark.parametrize('held', ['transformation', 'nnx.Optimizer'])
def test_the_optimiser_of_an_nnx_model(held, rng):
    """Its moments are a State of variables, and stay one."""
    model, port = Blocks(nnx.Rngs(0)), BlocksPort()
    tx = optax.adam(1e-3)
    state = tx.init(nnx.state(model, nnx.Param))
    if held == 'nnx.Optimizer':
        state = nnx.Optimizer(model, tx, wrt=nnx.Param).opt_state
    filled = jax.tree.map(lambda leaf: leaf if leaf.ndim == 0 else rng.normal(size=leaf.shape), state)
    optimizer = torch.optim.Adam(port.parameters())
    weight_bridge.optimizer_to_torch(filled, optimizer, port)
    kernel = np.asarray(flatten(filled[0].mu)['layers/1/kernel'])
    np.testing.assert_array_equal(optimizer.state[port.layers[1].weight]['exp_avg'].numpy().T, kernel)
    back = weight_bridge.optimizer_to_optax(optimizer, port, like=state)
    assert jax.tree.structure(back) == jax.tree.structure(filled)
    jax.tree.map(np.testing.assert_array_equal, back, filled)
