"""Models of four libraries, each with a port that has names of its own; and the same pairs with one mistake.

They are pairs like any other: `parity check parity_tests.engine.model_pairs:LINEN`.
"""

import dataclasses
from functools import partial

import equinox
import flax.linen as linen
import haiku
import jax
import jax.numpy as jnp
import optax
import torch
from flax import nnx
from torch import nn
from torch.nn import functional

from parity import JaxModel, ModelPair, TorchModel
from torch_agents import random as torch_random

BATCH = {'x': 'B 4', 'labels': 'B | below 3', 'key': '2 | key'}


def reference_loss(apply):
    """Cross entropy of noisy inputs, and its info."""

    def loss(variables, batch):
        noise = 0.1 * jax.random.normal(batch['key'], batch['x'].shape)
        logits = apply(variables, {'x': batch['x'] + noise})
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch['labels']).mean()
        return loss, {'largest': logits.max()}

    return loss


def port_loss(apply):
    """The same."""

    def loss(module, batch):
        noise = 0.1 * torch_random.normal(batch['key'], batch['x'].shape)
        logits = apply(module, {'x': batch['x'] + noise})
        loss = functional.cross_entropy(logits, batch['labels'].long())
        return loss, {'largest': logits.max()}

    return loss


def reference(init, apply, optimizer, **options):
    return JaxModel(init=init, apply=apply, loss=reference_loss(apply), optimizer=optimizer, **options)


def port(module, optimizer):
    def apply(module, batch):
        return module(batch['x'])

    return TorchModel(module, apply=apply, loss=port_loss(apply), optimizer=optimizer)


# --- linen, with Adam; the bridge is a table, laid out by the rules of weight_bridge


class LinenNet(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.gelu(linen.LayerNorm()(linen.Dense(8)(x)))
        return linen.Dense(3)(x)


class Net(nn.Module):
    def __init__(self, eps=1e-6):
        super().__init__()
        self.inner, self.norm, self.head = nn.Linear(4, 8), nn.LayerNorm(8, eps=eps), nn.Linear(8, 3)

    def forward(self, x):
        return self.head(functional.gelu(self.norm(self.inner(x)), approximate='tanh'))


LINEN = ModelPair(
    name='linen_net',
    reference=reference(
        init=lambda key: LinenNet().init(key, jnp.zeros((1, 4)))['params'],
        apply=lambda params, batch: LinenNet().apply({'params': params}, batch['x']),
        optimizer=optax.adam(1e-3),
    ),
    port=port(Net, partial(torch.optim.Adam, lr=1e-3)),
    batch=BATCH,
    draws='torch_agents.random',
    bridge={
        'inner.weight': 'Dense_0/kernel',
        'inner.bias': 'Dense_0/bias',
        'norm.weight': 'LayerNorm_0/scale',
        'norm.bias': 'LayerNorm_0/bias',
        'head.weight': 'Dense_1/kernel',
        'head.bias': 'Dense_1/bias',
    },
)
LINEN_EPSILON = dataclasses.replace(LINEN, port=port(partial(Net, eps=1e-5), LINEN.port.optimizer))


# --- nnx, with running statistics


class NnxNet(nnx.Module):
    def __init__(self, rngs):
        self.inner = nnx.Linear(4, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, momentum=0.9, rngs=rngs)
        self.head = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x, train):
        return self.head(jax.nn.relu(self.norm(self.inner(x), use_running_average=not train)))


class BatchNorm(nn.Module):
    """With flax's running variance: that of the batch, where torch's is B / (B - 1) times as large."""

    def __init__(self, size):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(size)), nn.Parameter(torch.zeros(size))
        self.register_buffer('running_mean', torch.zeros(size))
        self.register_buffer('running_var', torch.ones(size))

    def forward(self, x):
        mean, var = self.running_mean, self.running_var
        if self.training:
            mean, var = x.mean(dim=0), x.var(dim=0, correction=0)
            self.running_mean.lerp_(mean.detach(), 0.1)
            self.running_var.lerp_(var.detach(), 0.1)
        return (x - mean) * torch.rsqrt(var + 1e-5) * self.weight + self.bias


class NormNet(nn.Module):
    def __init__(self, norm=BatchNorm):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), norm(8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, x):
        return self.layers(x)


def nnx_loss(model, batch):
    logits = model(batch['x'], train=True)
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch['labels']).mean(), {}, model


def nnx_bridge(model):
    inner, norm, head = model.inner, model.norm, model.head
    return {
        'layers.0.weight': inner.kernel[...].T,
        'layers.0.bias': inner.bias[...],
        'layers.1.weight': norm.scale[...],
        'layers.1.bias': norm.bias[...],
        'layers.1.running_mean': norm.mean[...],
        'layers.1.running_var': norm.var[...],
        'layers.3.weight': head.kernel[...].T,
        'layers.3.bias': head.bias[...],
    }


def norm_port(norm):
    return TorchModel(
        partial(NormNet, norm),
        apply=lambda module, batch: module.eval()(batch['x']),
        loss=lambda module, batch: functional.cross_entropy(module(batch['x']), batch['labels'].long()),
        optimizer=partial(torch.optim.Adam, lr=1e-2),
    )


NNX = ModelPair(
    name='nnx_net',
    reference=JaxModel(
        init=lambda key: NnxNet(nnx.Rngs(key)),
        apply=lambda model, batch: model(batch['x'], train=False),
        loss=nnx_loss,
        optimizer=optax.adam(1e-2),
        state=('norm/mean', 'norm/var'),
    ),
    port=norm_port(BatchNorm),
    batch={'x': 'B 4', 'labels': 'B | below 3'},
    smallest={'B': 2},
    bridge=nnx_bridge,
)
NNX_VARIANCE = dataclasses.replace(NNX, port=norm_port(nn.BatchNorm1d))


# --- equinox, with momentum


class MLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.second(functional.relu(self.first(x)))


EQUINOX = ModelPair(
    name='equinox_net',
    reference=reference(
        init=lambda key: equinox.nn.MLP(4, 3, 6, 1, key=key),
        apply=lambda model, batch: jax.vmap(model)(batch['x']),
        optimizer=optax.sgd(0.1, momentum=0.9),
    ),
    port=port(MLP, partial(torch.optim.SGD, lr=0.1, momentum=0.9)),
    batch=BATCH,
    draws='torch_agents.random',
    bridge=lambda model: {
        'first.weight': model.layers[0].weight,
        'first.bias': model.layers[0].bias,
        'second.weight': model.layers[1].weight,
        'second.bias': model.layers[1].bias,
    },
)
EQUINOX_DAMPENING = dataclasses.replace(
    EQUINOX, port=port(MLP, partial(torch.optim.SGD, lr=0.1, momentum=0.9, dampening=0.1))
)


# --- haiku, with weight decay

haiku_net = haiku.without_apply_rng(haiku.transform(lambda x: haiku.nets.MLP([6, 3])(x)))


def haiku_bridge(params):
    layers = zip(('first', 'second'), ('mlp/~/linear_0', 'mlp/~/linear_1'), strict=True)
    return {
        f'{name}.{leaf}': array
        for name, path in layers
        for leaf, array in (('weight', params[path]['w'].T), ('bias', params[path]['b']))
    }


HAIKU = ModelPair(
    name='haiku_net',
    reference=reference(
        init=lambda key: haiku_net.init(key, jnp.zeros((1, 4))),
        apply=lambda params, batch: haiku_net.apply(params, batch['x']),
        optimizer=optax.adamw(1e-2, weight_decay=0.1),
    ),
    port=port(MLP, partial(torch.optim.AdamW, lr=1e-2, weight_decay=0.1)),
    batch=BATCH,
    draws='torch_agents.random',
    bridge=haiku_bridge,
)
HAIKU_DECAY = dataclasses.replace(HAIKU, port=port(MLP, partial(torch.optim.Adam, lr=1e-2, weight_decay=0.1)))
