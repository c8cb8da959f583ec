"""What JAX and PyTorch define differently: for each row of docs/porting.md, the mistake and its repair.

A row holds the reference, the translation that runs and is wrong, and the one that is right.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
import torch.nn.functional as F
from flax import linen as nn
from jax import lax

from torch_agents import random

RNG = np.random.default_rng(0)
KEY = np.array([0, 7], np.uint32)


def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
    """Values of the normal distribution."""
    return scale * RNG.normal(size=shape)


@dataclass(frozen=True)
class Difference:
    """caught: the stage that sees it, or 'error' where the wrong translation raises."""

    name: str
    caught: str
    reference: Callable[..., Any]
    wrong: Callable[..., Any]
    right: Callable[..., Any]
    inputs: tuple[Any, ...]
    grads: bool = True


# --- layers


def contrast(logsumexp):
    """How much likelier the first of some alike is than all of them: its gradient is what rounding leaves."""
    return lambda temperature, x: (temperature * x)[0] - logsumexp(temperature * x, 0)


def layer_norm(eps):
    return lambda x, scale, bias: F.layer_norm(x, x.shape[-1:], scale, bias, eps)


def batch_norm(x, mean, var):
    """Flax's training step: the output, and both running statistics."""
    variables = {'params': {}, 'batch_stats': {'mean': mean, 'var': var}}
    norm = nn.BatchNorm(use_running_average=False, use_scale=False, use_bias=False)
    y, updated = norm.apply(variables, x, mutable=['batch_stats'])
    return y, updated['batch_stats']


def batch_norm_as_torch_has_it(x, mean, var):
    mean, var = mean.clone(), var.clone()
    return F.batch_norm(x, mean, var, training=True, momentum=0.01), {'mean': mean, 'var': var}


def batch_norm_as_flax_has_it(x, mean, var):
    y = F.batch_norm(x, None, None, training=True)
    biased = x.var(dim=0, correction=0)
    return y, {'mean': 0.99 * mean + 0.01 * x.mean(dim=0), 'var': 0.99 * var + 0.01 * biased}


def conv(x, kernel):
    return nn.Conv(2, (3, 3), strides=2, use_bias=False).apply({'params': {'kernel': kernel}}, x)


def torch_conv(pad):
    def call(x, kernel):
        x = F.pad(x.permute(0, 3, 1, 2), pad)
        return F.conv2d(x, kernel.permute(3, 2, 0, 1), stride=2).permute(0, 2, 3, 1)

    return call


def conv_transpose(x, kernel):
    return nn.ConvTranspose(2, (3, 3), strides=(2, 2), use_bias=False).apply(
        {'params': {'kernel': kernel}}, x
    )


def torch_conv_transpose(flip, padding):
    def call(x, kernel):
        kernel = kernel.permute(2, 3, 0, 1)
        kernel = kernel.flip(2, 3) if flip else kernel
        y = F.conv_transpose2d(x.permute(0, 3, 1, 2), kernel, stride=2, padding=padding)
        return y[:, :, : 2 * x.shape[1], : 2 * x.shape[2]].permute(0, 2, 3, 1)

    return call


def max_pool(pad):
    def call(x):
        x = F.pad(x.permute(0, 3, 1, 2), pad, value=-math.inf)
        return F.max_pool2d(x, 3, stride=2).permute(0, 2, 3, 1)

    return call


def attention(scores, mask, values):
    return jax.nn.softmax(jnp.where(mask, scores, -1e9)) @ values


def clamped_index(x):
    """jax clamps the index, and sends no gradient there."""
    index = torch.tensor([0, 9])
    found = x[index.clamp(max=len(x) - 1)]
    return torch.where(index < len(x), found, found.detach())


# --- optimisers: the parameters after each of a few steps


def optax_steps(optimiser):
    def call(params, grads):
        state, steps = optimiser.init(params), []
        for grad in grads:
            updates, state = optimiser.update(grad, state, params)
            params = optax.apply_updates(params, updates)
            steps.append(params)
        return steps

    return call


def torch_steps(make, *, schedule=None, skip_zero=False, early=False, clip=None):
    def call(params, grads):
        parameter = torch.nn.Parameter(params.clone())
        optimiser = make([parameter])
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, schedule) if schedule else None
        steps = []
        for grad in grads:
            parameter.grad = None if skip_zero and not grad.any() else grad.clone()
            if clip is not None:
                clip(parameter)
            if scheduler and early:
                with warnings_of_torch_ignored():
                    scheduler.step()
            optimiser.step()
            if scheduler and not early:
                scheduler.step()
            steps.append(parameter.detach().clone())
        return steps

    return call


def warnings_of_torch_ignored():
    import warnings

    context = warnings.catch_warnings()
    warnings.simplefilter('ignore')
    return context


def clip_exactly(parameter):
    norm = parameter.grad.norm()
    parameter.grad = torch.where(norm < 0.5, parameter.grad, parameter.grad / norm * 0.5)


PARAMS, GRADS = normal(5), [normal(5), normal(5), np.zeros(5), normal(5)]


DIFFERENCES = [
    Difference('gelu', 'forward', jax.nn.gelu, F.gelu, lambda x: F.gelu(x, approximate='tanh'), (normal(8),)),
    Difference(
        'LayerNorm epsilon',
        'forward',
        lambda x, scale, bias: nn.LayerNorm().apply({'params': {'scale': scale, 'bias': bias}}, x),
        layer_norm(1e-5),
        layer_norm(1e-6),
        (normal(3, 8), normal(8), normal(8)),
    ),
    Difference(
        'BatchNorm statistics',
        'forward',
        batch_norm,
        batch_norm_as_torch_has_it,
        batch_norm_as_flax_has_it,
        (normal(6, 3), normal(3), np.ones(3)),
    ),
    Difference(
        'SAME convolution',
        'forward',
        conv,
        torch_conv((1, 1, 1, 1)),
        torch_conv((0, 1, 0, 1)),
        (normal(1, 6, 6, 3), normal(3, 3, 3, 2)),
    ),
    Difference(
        'SAME max-pool',
        'forward',
        lambda x: nn.max_pool(x, (3, 3), (2, 2), 'SAME'),
        max_pool((1, 1, 1, 1)),
        max_pool((0, 1, 0, 1)),
        (normal(1, 6, 6, 2),),
    ),
    Difference(
        'ConvTranspose kernel',
        'forward',
        conv_transpose,
        torch_conv_transpose(flip=False, padding=0),
        torch_conv_transpose(flip=True, padding=0),
        (normal(1, 4, 4, 3), normal(3, 3, 3, 2)),
    ),
    Difference(
        'flatten order',
        'forward',
        lambda x: x.reshape(len(x), -1),
        lambda x: x.permute(0, 3, 1, 2).flatten(1),
        lambda x: x.flatten(1),
        (normal(2, 3, 3, 2),),
    ),
    Difference(
        'attention mask',
        'forward',
        attention,
        lambda scores, mask, values: scores.masked_fill(mask, -1e9).softmax(-1) @ values,
        lambda scores, mask, values: scores.masked_fill(~mask, -1e9).softmax(-1) @ values,
        (normal(3, 3), np.tri(3).astype(bool), normal(3, 2)),
    ),
    Difference(
        'softplus',
        'forward',
        jax.nn.softplus,
        F.softplus,
        lambda x: torch.logaddexp(x, torch.zeros_like(x)),
        (np.array([1.0, 21.0]),),
    ),
    Difference(
        'log-sum-exp',
        'grads',
        contrast(jax.nn.logsumexp),
        contrast(torch.logsumexp),
        contrast(
            lambda x, axis: torch.log(torch.exp(x - x.amax(axis).detach()).sum(axis)) + x.amax(axis).detach()
        ),
        (np.array(3.3), np.array([1000.0, 1000.0, 1000.0])),
    ),
    # --- gradients at ties and bounds
    Difference(
        'clip at its bound',
        'grads',
        lambda x: jnp.clip(x, -1, 1),
        lambda x: x.clamp(-1, 1),
        lambda x: torch.minimum(torch.maximum(x, torch.tensor(-1.0)), torch.tensor(1.0)),
        (np.array([-1.0, 0.3, 1.0]),),
    ),
    Difference(
        'infinite gradient at a clip',
        'grads',
        lambda x: jnp.sqrt(1 - jnp.clip(x, -1, 1)),
        lambda x: torch.sqrt(1 - torch.minimum(torch.maximum(x, torch.tensor(-1.0)), torch.tensor(1.0))),
        lambda x: torch.sqrt(1 - (x * (x.abs() < 1) + x.sign() * (x.abs() >= 1))),
        (np.array([0.3, 2.0]),),
    ),
    Difference(
        'maximum with a number',
        'grads',
        lambda x: jnp.maximum(x, 0.5),
        lambda x: x.clamp(min=0.5),
        lambda x: torch.maximum(x, torch.tensor(0.5)),
        (np.array([0.5, 2.0]),),
    ),
    Difference(
        'minimum over an axis',
        'grads',
        lambda x: x.min(axis=0),
        lambda x: x.min(dim=0).values,
        lambda x: x.amin(dim=0),
        (np.ones((2, 3)),),
    ),
    Difference(
        'abs at zero',
        'grads',
        jnp.abs,
        torch.abs,
        lambda x: torch.where(x >= 0, x, -x),
        (np.array([0.0, -2.0]),),
    ),
    Difference(
        'leaky_relu at zero',
        'grads',
        jax.nn.leaky_relu,
        F.leaky_relu,
        lambda x: torch.where(x >= 0, x, 0.01 * x),
        (np.array([0.0, -2.0]),),
    ),
    Difference(
        'norm at zero',
        'grads',
        lambda x: jnp.linalg.norm(x, axis=-1),
        lambda x: torch.linalg.norm(x, dim=-1),
        lambda x: (x**2).sum(dim=-1).sqrt(),
        (np.zeros((2, 3)),),
    ),
    Difference(
        'stop_gradient',
        'grads',
        lambda q, v: ((lax.stop_gradient(q) - v) ** 2).mean(),
        lambda q, v: ((q - v) ** 2).mean(),
        lambda q, v: ((q.detach() - v) ** 2).mean(),
        (normal(4), normal(4)),
    ),
    Difference(
        'reparameterised sample',
        'grads',
        lambda mean, std, key: mean + std * jax.random.normal(key, mean.shape),
        lambda mean, std, key: (mean + std * random.normal(key, mean.shape)).detach(),
        lambda mean, std, key: mean + std * random.normal(key, mean.shape),
        (normal(4), np.full(4, 0.3), KEY),
    ),
    # --- random numbers
    Difference(
        'random keys',
        'forward',
        lambda x, key: x + jax.random.uniform(key, x.shape),
        lambda x, key: x + torch.rand(x.shape, generator=torch.Generator().manual_seed(int(key[1]))),
        lambda x, key: x + random.uniform(key, x.shape),
        (normal(4), KEY),
    ),
    Difference(
        'dropout mask',
        'forward',
        lambda x, key: jnp.where(jax.random.bernoulli(key, 0.9, x.shape), x / 0.9, 0),
        lambda x, key: F.dropout(x, 0.1),
        lambda x, key: torch.where(random.uniform(key, x.shape) < 0.9, x / 0.9, 0),
        (normal(50), KEY),
    ),
    # --- reductions and shapes
    Difference(
        'standard deviation',
        'forward',
        lambda x: x.std(),
        lambda x: x.std(),
        lambda x: x.std(correction=0),
        (normal(5),),
    ),
    Difference(
        'median of an even number',
        'forward',
        jnp.median,
        torch.median,
        lambda x: x.quantile(0.5),
        (np.array([1.0, 4.0, 2.0, 8.0]),),
    ),
    Difference(
        'split',
        'forward',
        lambda x: jnp.split(x, 3),
        lambda x: torch.split(x, 3),
        lambda x: torch.tensor_split(x, 3),
        (normal(6),),
    ),
    Difference(
        'remainder of a negative number',
        'forward',
        lambda x: jnp.mod(x, 3.0),
        lambda x: torch.fmod(x, 3.0),
        lambda x: torch.remainder(x, 3.0),
        (np.array([-4.0, 4.0]),),
    ),
    Difference(
        'index beyond the end',
        'error',
        lambda x: x[jnp.array([0, 9])],
        lambda x: x[torch.tensor([0, 9])],
        clamped_index,
        (normal(4),),
    ),
    Difference(
        'squeezed value',
        'forward',
        lambda v, q: ((v.squeeze(-1) - q) ** 2).mean(),
        lambda v, q: ((v - q) ** 2).mean(),
        lambda v, q: ((v.squeeze(-1) - q) ** 2).mean(),
        (normal(4, 1), normal(4)),
    ),
    Difference(
        'sum of small integers',
        'forward',
        lambda x: x.sum(),
        lambda x: sum(x, torch.zeros((), dtype=torch.uint8)),
        lambda x: x.sum().to(torch.uint32 if torch.get_default_dtype() == torch.float32 else torch.uint64),
        (np.array([200, 100], np.uint8),),
        grads=False,
    ),
    # --- optimisers
    Difference(
        'Adam epsilon',
        'forward',
        optax_steps(optax.adam(0.1, eps=1e-5)),
        torch_steps(lambda params: torch.optim.Adam(params, lr=0.1)),
        torch_steps(lambda params: torch.optim.Adam(params, lr=0.1, eps=1e-5)),
        (PARAMS, GRADS),
        grads=False,
    ),
    Difference(
        'Adam and a skipped gradient',
        'forward',
        optax_steps(optax.adam(0.1)),
        torch_steps(lambda params: torch.optim.Adam(params, lr=0.1), skip_zero=True),
        torch_steps(lambda params: torch.optim.Adam(params, lr=0.1)),
        (PARAMS, GRADS),
        grads=False,
    ),
    Difference(
        'AdamW weight decay',
        'forward',
        optax_steps(optax.adamw(0.1)),
        torch_steps(lambda params: torch.optim.AdamW(params, lr=0.1)),
        torch_steps(lambda params: torch.optim.AdamW(params, lr=0.1, weight_decay=1e-4)),
        (PARAMS, GRADS),
        grads=False,
    ),
    Difference(
        'RMSprop decay and epsilon',
        'forward',
        optax_steps(optax.rmsprop(0.1, decay=0.99, eps_in_sqrt=False)),
        torch_steps(lambda params: torch.optim.RMSprop(params, lr=0.1, alpha=0.9)),
        torch_steps(lambda params: torch.optim.RMSprop(params, lr=0.1, alpha=0.99)),
        (PARAMS, GRADS),
        grads=False,
    ),
    Difference(
        'clipping by the global norm',
        'forward',
        optax_steps(optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(0.1))),
        torch_steps(
            lambda params: torch.optim.SGD(params, lr=0.1),
            clip=lambda parameter: torch.nn.utils.clip_grad_norm_([parameter], 0.5),
        ),
        torch_steps(lambda params: torch.optim.SGD(params, lr=0.1), clip=clip_exactly),
        (PARAMS, GRADS),
        grads=False,
    ),
    Difference(
        'learning-rate schedule',
        'forward',
        # optax computes schedules in float32: a rate that float32 holds exactly
        optax_steps(optax.sgd(optax.exponential_decay(0.125, 1, 0.5))),
        torch_steps(
            lambda params: torch.optim.SGD(params, lr=0.125), schedule=lambda step: 0.5**step, early=True
        ),
        torch_steps(lambda params: torch.optim.SGD(params, lr=0.125), schedule=lambda step: 0.5**step),
        (PARAMS, GRADS),
        grads=False,
    ),
]
