"""linen's layers in torch: lazily shaped, one weight for a whole ensemble, linen's initial values."""

import contextlib
import contextvars
import hashlib

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.parameter import UninitializedParameter, is_lazy

from torch_agents import random

_intermediates = contextvars.ContextVar('intermediates', default=None)


def gelu(x):
    """gelu by its tanh approximation."""
    return F.gelu(x, approximate='tanh')  # parity: Flax's default; torch's is the exact gelu


def softplus(x):
    """log(1 + exp(x))."""
    return torch.logaddexp(x, torch.zeros_like(x))  # parity: F.softplus is x itself above 20, 2e-9 too small


def clip(x, low, high):
    """x inside [low, high], as jnp.clip: at exactly low or high half of the gradient passes."""
    # parity: minimum of maximum, as jnp.clip is; torch.clip passes the whole gradient at a bound
    low, high = (torch.as_tensor(bound, dtype=x.dtype, device=x.device) for bound in (low, high))
    return torch.minimum(torch.maximum(x, low), high)


def param_keys(rng, path, index, num_ensembles):
    """linen's key of the index-th parameter (from 1) of the layer at path, for each ensemble member.

    linen folds a SHA-1 hash of path and index into the root key (flax.core.scope.LazyRng); nn.vmap splits the
    *root* key, so that the members differ.
    """
    digest = hashlib.sha1(''.join(path).encode() + bytes([index])).digest()
    roots = [rng] if num_ensembles == 1 else random.split(rng, num_ensembles)
    return [random.fold_in(root, int.from_bytes(digest[:4], 'big')) for root in roots]


def variance_scaling(scale):
    """A kernel initialiser: uniform, of variance scale / average fan. Kernels are (in, out), float32."""

    def init(key, shape):
        # parity: every step in float32 as jax rounds it; torch's float32 sqrt of a scalar can be an ulp off
        bound = np.sqrt(np.float32(3) * np.float32(scale / (sum(shape) / 2)))
        return random.uniform(key, shape, torch.float32, -1.0) * float(bound)

    return init


class Dense(nn.Module):
    """x (..., in) -> (..., features). With E > 1 members x is (E, ..., in) and the weight (E, out, in)."""

    flax_rule = 'Dense'

    def __init__(self, features, kernel_init, num_ensembles=1):
        super().__init__()
        self.features, self.kernel_init, self.num_ensembles = features, kernel_init, num_ensembles
        self.weight = UninitializedParameter()
        self.bias = UninitializedParameter()

    def materialize(self, in_features):
        """Give the parameters their shapes, on the first call."""
        members = () if self.num_ensembles == 1 else (self.num_ensembles,)
        self.weight.materialize((*members, self.features, in_features))
        self.bias.materialize((*members, self.features))

    def init_params(self, rng, path):
        """linen's initial values: the kernel by kernel_init, the bias zero."""
        shape = (self.weight.shape[-1], self.features)
        kernels = [self.kernel_init(key, shape) for key in param_keys(rng, path, 1, self.num_ensembles)]
        self.weight.copy_(torch.stack(kernels).mT.reshape(self.weight.shape))
        self.bias.zero_()

    def forward(self, x):
        if is_lazy(self.weight):
            self.materialize(x.shape[-1])
        if self.num_ensembles == 1:
            return F.linear(x, self.weight, self.bias)
        rows = x.reshape(self.num_ensembles, -1, x.shape[-1])
        outputs = torch.baddbmm(self.bias[:, None, :], rows, self.weight.mT)
        return outputs.reshape(*x.shape[:-1], self.features)


class LayerNorm(nn.Module):
    """Normalise the last axis, then scale and shift. With E > 1 members x is (E, ..., features)."""

    flax_rule = 'Norm'

    def __init__(self, num_ensembles=1, eps=1e-6):  # parity: Flax LayerNorm default; torch's is 1e-5
        super().__init__()
        self.num_ensembles, self.eps = num_ensembles, eps
        self.weight = UninitializedParameter()
        self.bias = UninitializedParameter()

    def materialize(self, features):
        """Give the parameters their shapes, on the first call."""
        members = () if self.num_ensembles == 1 else (self.num_ensembles,)
        self.weight.materialize((*members, features))
        self.bias.materialize((*members, features))

    def init_params(self, rng, path):
        """linen's initial values: scale one, bias zero."""
        self.weight.fill_(1.0)
        self.bias.zero_()

    def forward(self, x):
        if is_lazy(self.weight):
            self.materialize(x.shape[-1])
        mean = x.mean(axis=-1, keepdim=True)
        # parity: variance as E[x^2] - E[x]^2 cut at zero, as Flax; F.layer_norm sums squared deviations
        var = (x**2).mean(axis=-1, keepdim=True) - mean**2
        var = torch.maximum(var, torch.zeros_like(var))
        scale, bias = self.weight, self.bias
        if self.num_ensembles > 1:
            members = (self.num_ensembles, *(1,) * (x.ndim - 2), x.shape[-1])
            scale, bias = scale.view(members), bias.view(members)
        return (x - mean) * (torch.rsqrt(var + self.eps) * scale) + bias


@contextlib.contextmanager
def capture_intermediates():
    """Within this context the `sow`n values of every call are collected: {name: [value, ...]}."""
    collected = {}
    token = _intermediates.set(collected)
    try:
        yield collected
    finally:
        _intermediates.reset(token)


def sow(name, value):
    """Hand an intermediate value to the surrounding capture_intermediates, if there is one."""
    collected = _intermediates.get()
    if collected is not None:
        collected.setdefault(name, []).append(value)
