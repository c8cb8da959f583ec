"""A bridged layer computes what its reference does: every row of the rules, by public modules."""

import flax.linen as fnn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax.core import FrozenDict
from torch import nn

import weight_bridge

B, H, W, C, F = 5, 7, 6, 4, 8  # batch, height, width, channels, features


class StackedDense(nn.Module):
    """E Dense layers in one module: weight (E, out, in), bias (E, out)."""

    flax_rule = 'Dense'

    def __init__(self, members, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(members, outputs, inputs))
        self.bias = nn.Parameter(torch.randn(members, outputs))

    def forward(self, x):
        return (
            torch.einsum('...bi,eoi->ebo', x, self.weight) + self.bias[:, None]
            if x.ndim == 2
            else self.each(x)
        )

    def each(self, x):
        return torch.einsum('ebi,eoi->ebo', x, self.weight) + self.bias[:, None]


class StackedNorm(nn.Module):
    flax_rule = 'Norm'

    def __init__(self, members, features):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(members, features))
        self.bias = nn.Parameter(torch.randn(members, features))

    def forward(self, x):
        normed = nn.functional.layer_norm(x, x.shape[-1:], eps=1e-6)
        return normed * self.weight[:, None] + self.bias[:, None]


class StackedMLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.Dense_0, self.LayerNorm_0, self.Dense_1 = (
            StackedDense(3, F, F),
            StackedNorm(3, F),
            StackedDense(3, F, 2),
        )

    def forward(self, x):
        hidden = nn.functional.gelu(self.Dense_0(x), approximate='tanh')
        return self.Dense_1(self.LayerNorm_0(hidden))


class FlaxMLP(fnn.Module):
    @fnn.compact
    def __call__(self, x):
        return fnn.Dense(2, name='Dense_1')(fnn.LayerNorm()(fnn.gelu(fnn.Dense(F, name='Dense_0')(x))))


FlaxStackedMLP = fnn.vmap(
    FlaxMLP, variable_axes={'params': 0}, split_rngs={'params': True}, in_axes=None, out_axes=0, axis_size=3
)


class FlaxBare(fnn.Module):
    @fnn.compact
    def __call__(self, x):
        return fnn.Dense(F, name='mean_net')(x) * jnp.exp(
            self.param('log_stds', fnn.initializers.zeros, (F,))
        )


class Bare(nn.Module):
    def __init__(self):
        super().__init__()
        self.mean_net, self.log_stds = nn.Linear(F, F), nn.Parameter(torch.zeros(F))

    def forward(self, x):
        return self.mean_net(x) * self.log_stds.exp()


def shapes(reference, x):
    """The reference's own parameter tree, with shapes for leaves."""
    return jax.eval_shape(reference.init, jax.random.PRNGKey(0), x)['params']


def channels_last(module, x):
    """The torch layer on Flax's (B, *spatial, C)."""
    # contiguous: torch's GroupNorm crashes in backward on a channels-last input that needs no gradient
    return module(x.movedim(-1, 1).contiguous()).movedim(1, -1)


def directly(module, x):
    return module(x)


IMAGE, LINE, ROW = (B, H, W, C), (B, H, C), (B, F)  # what Flax sees
PAIRS = {  # the reference, what makes the port, the shape of x, how the port is called on it
    'Dense': (fnn.Dense(F), lambda: nn.Linear(F, F), ROW, directly),
    'Dense without bias': (fnn.Dense(3, use_bias=False), lambda: nn.Linear(F, 3, bias=False), ROW, directly),
    'stacked MLP': (FlaxStackedMLP(), lambda: StackedMLP(), ROW, directly),
    'bare parameter': (FlaxBare(), lambda: Bare(), ROW, directly),
    'LayerNorm': (fnn.LayerNorm(), lambda: nn.LayerNorm(F, eps=1e-6), ROW, directly),
    'RMSNorm': (fnn.RMSNorm(), lambda: nn.RMSNorm(F, eps=1e-6), ROW, directly),
    'GroupNorm': (fnn.GroupNorm(2), lambda: nn.GroupNorm(2, C, eps=1e-6), IMAGE, channels_last),
    'Conv 1d': (fnn.Conv(3, (3,)), lambda: nn.Conv1d(C, 3, 3, padding='same'), LINE, channels_last),
    'Conv 2d': (fnn.Conv(F, (3, 5)), lambda: nn.Conv2d(C, F, (3, 5), padding='same'), IMAGE, channels_last),
    'Conv 2d, all sizes equal': (
        fnn.Conv(C, (C, C), padding='VALID'),
        lambda: nn.Conv2d(C, C, C),
        IMAGE,
        channels_last,
    ),
    'Conv 2d in groups': (
        fnn.Conv(6, (3, 2), feature_group_count=2, padding='VALID'),
        lambda: nn.Conv2d(C, 6, (3, 2), groups=2),
        IMAGE,
        channels_last,
    ),
    'Conv 3d': (
        fnn.Conv(3, (1, 3, 5)),
        lambda: nn.Conv3d(C, 3, (1, 3, 5), padding='same'),
        (2, 3, H, W, C),
        channels_last,
    ),
}
pairs = pytest.mark.parametrize('name', PAIRS)


@pytest.fixture
def outputs(rng, randomised):
    """Both sides' outputs after `bridge(params, module)`."""

    def run(name, bridge):
        reference, make, shape, call = PAIRS[name]
        port, x = make(), rng.normal(size=shape)
        params = randomised(shapes(reference, x))
        bridge(params, port)
        expected = np.asarray(reference.apply({'params': params}, x))
        with torch.no_grad():
            return expected, call(port, torch.from_numpy(x)).numpy()

    return run


@pairs
def test_a_bridged_layer_computes_the_same(name, outputs):
    expected, found = outputs(name, weight_bridge.to_torch)
    assert expected.shape == found.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize('name', ['stacked MLP', 'bare parameter'])
def test_a_frozen_tree_of_jax_arrays_is_a_tree(name, outputs):
    def bridge(params, port):
        weight_bridge.to_torch(FrozenDict(jax.tree.map(jnp.asarray, params)), port)

    expected, found = outputs(name, bridge)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize('name', ['Dense', 'Conv 2d, all sizes equal'])
def test_twin_an_untransposed_kernel_of_equal_shape_computes_something_else(name, outputs):
    def unbridged(params, port):
        weight_bridge.to_torch(params, port)
        with torch.no_grad():  # square in every pair of axes, so that no shape tells
            port.weight.copy_(torch.from_numpy(params['kernel']))

    expected, found = outputs(name, unbridged)
    assert np.abs(found - expected).max() > 0.1


@pytest.mark.parametrize('name', ['LayerNorm', 'Dense'])
def test_twin_without_the_bridge_the_outputs_differ(name, outputs):
    expected, found = outputs(name, lambda params, port: port.reset_parameters())
    assert np.abs(found - expected).max() > 0.1


@pairs
def test_what_goes_to_torch_comes_back(name, rng, randomised):
    reference, make, shape, _ = PAIRS[name]
    port = make()
    params = randomised(shapes(reference, rng.normal(size=shape)))
    back = weight_bridge.to_flax(weight_bridge.to_torch(params, port))
    assert jax.tree.structure(back) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, back, params)


def test_embed(rng, randomised):
    reference, port, ids = fnn.Embed(9, F), nn.Embedding(9, F), np.array([[0, 8], [3, 3]])
    params = randomised(shapes(reference, ids))
    weight_bridge.to_torch(params, port)
    expected = np.asarray(reference.apply({'params': params}, ids))
    np.testing.assert_array_equal(port(torch.from_numpy(ids)).detach().numpy(), expected)


@pytest.mark.parametrize('name', ['stacked MLP', 'Conv 2d', 'bare parameter', 'GroupNorm'])
def test_gradients_have_the_paths_and_the_layout_of_the_parameters(name, rng, randomised):
    reference, make, shape, call = PAIRS[name]
    port, x = make(), rng.normal(size=shape)
    params = randomised(shapes(reference, x))
    expected = jax.grad(lambda tree: jnp.sin(reference.apply({'params': tree}, x)).sum())(params)
    weight_bridge.to_torch(params, port).zero_grad()
    call(port, torch.from_numpy(x)).sin().sum().backward()
    found = weight_bridge.grads_to_flax(port)
    jax.tree.map(lambda f, e: np.testing.assert_allclose(f, e, rtol=0, atol=1e-11), found, expected)


def test_a_gradient_of_none_is_zero():
    port = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    port[0](torch.ones(1, 2)).sum().backward()
    grads = weight_bridge.grads_to_flax(port)
    assert np.abs(grads['0']['kernel']).min() > 0
    assert grads['1']['kernel'].shape == (3, 2)
    assert not grads['1']['kernel'].any()


def test_a_sparse_gradient_is_made_dense():
    port = nn.Embedding(4, 2, sparse=True)
    port(torch.tensor([1, 1])).sum().backward()
    np.testing.assert_array_equal(
        weight_bridge.grads_to_flax(port)['embedding'], [[0, 0], [2, 2], [0, 0], [0, 0]]
    )


def test_an_undeclared_stack_is_bare_so_its_kernel_finds_no_path():
    class Undeclared(StackedDense):
        flax_rule = None

    tree = {'kernel': np.zeros((2, 3, 4)), 'bias': np.zeros((2, 4))}
    with pytest.raises(weight_bridge.BridgeError, match='missing path: weight') as error:
        weight_bridge.to_torch(tree, Undeclared(2, 3, 4))
    assert [problem.path for problem in error.value.problems] == ['weight', 'kernel']
    assert "flax_rule = 'Dense'" in str(error.value)
    weight_bridge.to_torch(tree, StackedDense(2, 3, 4))
