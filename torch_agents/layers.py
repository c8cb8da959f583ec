"""linen's layers in torch: lazily shaped, one weight for a whole ensemble, linen's initial values."""

import contextlib
import contextvars
import hashlib
import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.parameter import UninitializedParameter

from torch_agents import random
from torch_agents.shared_reads import shared

_intermediates = contextvars.ContextVar('intermediates', default=None)


def gelu(x):
    """gelu by its tanh approximation."""
    if torch.compiler.is_compiling():  # the same, by a sigmoid: (1 + tanh(y)) / 2 = sigmoid(2y)
        return x * torch.sigmoid(math.sqrt(8 / math.pi) * (x + 0.044715 * x**3))
    return F.gelu(x, approximate='tanh')  # parity: Flax's default; torch's is the exact gelu


def relu(x):
    """max(x, 0); no gradient passes at 0."""
    return F.relu(x)


def swish(x):
    """x * sigmoid(x)."""
    return F.silu(x)


def softplus(x):
    """log(1 + exp(x))."""
    return torch.logaddexp(x, torch.zeros_like(x))  # parity: F.softplus is x itself above 20, 2e-9 too small


def logsumexp(x, axis):
    """log(sum(exp(x))) along an axis, as jax.nn.logsumexp."""
    # parity: torch's gradient is exp(x - result), whose sum misses 1 by the rounding of the result; in a
    # quotient it does not, and in what contrasts rows that are nearly alike hardly more than that is left
    largest = x.detach().amax(axis, keepdim=True)
    largest = torch.where(torch.isfinite(largest), largest, torch.zeros_like(largest))
    return torch.log(torch.exp(x - largest).sum(axis)) + largest.squeeze(axis)


def clip(x, low, high):
    """x inside [low, high], as jnp.clip: at exactly low or high half of the gradient passes."""
    # parity: torch.clip passes the whole gradient at a bound, and leaves out what does not pass, where JAX
    # multiplies it by 0: an infinite gradient becomes NaN
    low, high, half = (like(y, x) for y in (low, high, 0.5))
    passes = torch.heaviside(x.detach() - low, half) * torch.heaviside(high - x.detach(), half)
    limits = torch.finfo(x.dtype)
    finite = x.clamp(limits.min, limits.max)  # 0 * inf would be NaN
    return torch.lerp(torch.minimum(torch.where(x <= low, low, high), high), finite, passes)


def maximum(x, low):
    """The larger of x and the number low, as jnp.maximum: at x equal to low half of the gradient passes."""
    return torch.maximum(x, like(low, x))


def join(*inputs):
    """The inputs (..., I), joined along the last axis."""
    return torch.concatenate(inputs, axis=-1)


def like(y, x):
    """y with the dtype and on the device of x."""
    if isinstance(y, torch.Tensor):
        return y.to(x)
    return torch.full((), y, dtype=x.dtype, device=x.device)  # made there: a copy would wait for the GPU


def param_keys(rng, path, index, num_ensembles):
    """linen's key of the index-th parameter (from 1) of the layer at path, for each ensemble member.

    linen folds a SHA-1 hash of path and index into the root key (flax.core.scope.LazyRng); nn.vmap splits the
    *root* key, so that the members differ.
    """
    digest = hashlib.sha1(''.join(path).encode() + bytes([index])).digest()
    roots = [rng] if num_ensembles == 1 else random.split(rng, num_ensembles)
    return [random.fold_in(root, int.from_bytes(digest[:4], 'big')) for root in roots]


def variance_scaling(scale, mode='fan_avg', distribution='uniform'):
    """A kernel initialiser of variance scale / fan. Kernels are (*window, in, out), float32.

    mode:         'fan_avg' or 'fan_in'.
    distribution: 'uniform', or 'truncated_normal' within two standard deviations.
    """

    def init(key, shape):
        *window, fan_in, fan_out = shape
        fan = fan_in if mode == 'fan_in' else (fan_in + fan_out) / 2
        # parity: every step in float32 as jax rounds it; torch's float32 sqrt of a scalar can be an ulp off
        variance = np.float32(scale / (fan * math.prod(window)))
        if distribution == 'uniform':
            return random.uniform(key, shape, torch.float32, -1.0) * float(np.sqrt(np.float32(3) * variance))
        stddev = np.sqrt(variance) / np.float32(0.87962566103423978)  # of the normal cut at two
        return random.truncated_normal(key, -2.0, 2.0, shape, torch.float32) * float(stddev)

    return init


class EnsembleLinear(torch.autograd.Function):
    """F.linear for each member: (E, B, in), (E, out, in), (E, out) -> (E, B, out).

    torch's own gradient of the weight is transposed, like what baddbmm is given; to copy it takes a third as
    long as to compute it.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x, weight, bias):
        return torch.baddbmm(bias[:, None, :], x, weight.mT)

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, weight, _ = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        return (
            torch.bmm(grad, weight) if needs_x else None,
            torch.bmm(grad.mT, x) if needs_weight else None,
            grad.sum(axis=1) if needs_bias else None,
        )


class Dense(nn.Module):
    """x (..., in) -> (..., features). With E > 1 members x is (E, ..., in) and the weight (E, out, in)."""

    flax_rule = 'Dense'
    is_built = False

    def __init__(self, features, kernel_init, num_ensembles=1):
        super().__init__()
        self.features, self.kernel_init, self.num_ensembles = features, kernel_init, num_ensembles
        self.weight = UninitializedParameter()
        self.bias = UninitializedParameter()

    def materialize(self, in_features):
        """Give the parameters their shapes, on the first call."""
        self.is_built = True
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
        if not self.is_built:
            self.materialize(x.shape[-1])
        if self.num_ensembles == 1:
            return F.linear(x, self.weight, self.bias)
        rows = x.reshape(self.num_ensembles, math.prod(x.shape[1:-1]), x.shape[-1])
        outputs = EnsembleLinear.apply(rows, self.weight, self.bias)
        return outputs.reshape(*x.shape[:-1], self.features)

    def of_both(self, x, conditions):
        """The layer of x and conditions, joined, of one member; what the latter make of it is shared."""
        of_conditions = shared(self.of_conditions, (conditions,), (self.weight, self.bias))
        return F.linear(x, self.weight[:, : x.shape[-1]]) + of_conditions

    def of_conditions(self, conditions):
        """The share that the last inputs have, and the bias."""
        return F.linear(conditions, self.weight[:, -conditions.shape[-1] :], self.bias)


class LayerNorm(nn.Module):
    """Normalise the last axis, then scale and shift. With E > 1 members x is (E, ..., features)."""

    flax_rule = 'Norm'
    is_built = False

    def __init__(self, num_ensembles=1, eps=1e-6):  # parity: Flax LayerNorm default; torch's is 1e-5
        super().__init__()
        self.num_ensembles, self.eps = num_ensembles, eps
        self.weight = UninitializedParameter()
        self.bias = UninitializedParameter()

    def materialize(self, features):
        """Give the parameters their shapes, on the first call."""
        self.is_built = True
        members = () if self.num_ensembles == 1 else (self.num_ensembles,)
        self.weight.materialize((*members, features))
        self.bias.materialize((*members, features))

    def init_params(self, rng, path):
        """linen's initial values: scale one, bias zero."""
        self.weight.fill_(1.0)
        self.bias.zero_()

    def forward(self, x):
        if not self.is_built:
            self.materialize(x.shape[-1])
        # parity: Flax's variance is E[x^2] - E[x]^2; of squared deviations it is the same but for rounding
        if self.num_ensembles == 1:
            return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)
        members = (self.num_ensembles, *(1,) * (x.ndim - 2), x.shape[-1])
        normed = F.layer_norm(x, x.shape[-1:], eps=self.eps)
        return torch.addcmul(self.bias.view(members), normed, self.weight.view(members))


class Conv(nn.Module):
    """A convolution of images in linen's layout: (..., H, W, in) -> (..., H', W', features).

    kernel_size: (height, width).
    strides:     one for both axes.
    padding:     'SAME', or ((before, after), (before, after)).
    """

    flax_rule = 'Conv'
    is_built = False

    def __init__(self, features, kernel_size, strides=1, padding='SAME', use_bias=True, kernel_init=None):
        super().__init__()
        self.features, self.kernel_size, self.strides = features, kernel_size, strides
        self.padding, self.kernel_init = padding, kernel_init
        self.weight = UninitializedParameter()
        self.bias = UninitializedParameter() if use_bias else None

    def materialize(self, in_features):
        """Give the parameters their shapes, on the first call."""
        self.is_built = True
        self.weight.materialize((self.features, in_features, *self.kernel_size))
        if self.bias is not None:
            self.bias.materialize((self.features,))

    def init_params(self, rng, path):
        """linen's initial values: the kernel by kernel_init, the bias zero."""
        shape = (*self.kernel_size, self.weight.shape[1], self.features)
        (key,) = param_keys(rng, path, 1, num_ensembles=1)
        self.weight.copy_(self.kernel_init(key, shape).permute(3, 2, 0, 1))
        if self.bias is not None:
            self.bias.zero_()

    def forward(self, x):
        if not self.is_built:
            self.materialize(x.shape[-1])
        x = x.to(self.weight.dtype)  # parity: linen promotes float32 images to the dtype of float64 kernels
        padding = self.padding
        if padding == 'SAME':
            padding = same_padding(x.shape[-3:-1], self.kernel_size, (self.strides,) * 2)
        images = pad_images(channels_first(x), padding, 0.0)
        return channels_last(F.conv2d(images, self.weight, self.bias, self.strides), x.shape[:-3])


class GroupNorm(nn.Module):
    """Normalise each image (..., H, W, C) over H, W and the channels of a group, then scale and shift."""

    flax_rule = 'Norm'
    is_built = False

    def __init__(self, num_groups, eps):
        super().__init__()
        self.num_groups, self.eps = num_groups, eps
        self.weight = UninitializedParameter()
        self.bias = UninitializedParameter()

    def materialize(self, features):
        """Give the parameters their shapes, on the first call."""
        self.is_built = True
        self.weight.materialize((features,))
        self.bias.materialize((features,))

    def init_params(self, rng, path):
        """linen's initial values: scale one, bias zero."""
        self.weight.fill_(1.0)
        self.bias.zero_()

    def forward(self, x):
        if not self.is_built:
            self.materialize(x.shape[-1])
        groups = x.reshape(*x.shape[:-1], self.num_groups, x.shape[-1] // self.num_groups)
        mean = groups.mean(axis=(-4, -3, -1), keepdim=True)
        # parity: variance as E[x^2] - E[x]^2 cut at zero, as Flax; F.group_norm sums squared deviations
        var = (groups**2).mean(axis=(-4, -3, -1), keepdim=True) - mean**2
        var = torch.maximum(var, torch.zeros_like(var))
        scale, bias = (param.view(groups.shape[-2:]) for param in (self.weight, self.bias))
        return ((groups - mean) * (torch.rsqrt(var + self.eps) * scale) + bias).reshape(x.shape)


def max_pool(x, window_shape, strides, padding):
    """The maxima of windows of (..., H, W, C): (..., H', W', C). padding is 'SAME'."""
    padding = same_padding(x.shape[-3:-1], window_shape, strides)
    images = pad_images(channels_first(x), padding, -math.inf)
    return channels_last(F.max_pool2d(images, window_shape, strides), x.shape[:-3])


def same_padding(sizes, window_shape, strides):
    """SAME padding, ((before, after), (before, after)) for H and W: an odd pixel goes behind."""
    # parity: torch pads both sides alike; this differs from it at stride 2 and even sizes
    totals = (
        max((math.ceil(size / stride) - 1) * stride + window - size, 0)
        for size, window, stride in zip(sizes, window_shape, strides, strict=True)
    )
    return tuple((total // 2, total - total // 2) for total in totals)


def pad_images(images, padding, value):
    """(N, C, H, W) with padding ((before, after), (before, after)) of H and W."""
    (top, bottom), (left, right) = padding
    return F.pad(images, (left, right, top, bottom), value=value)


def channels_first(x):
    """linen's (..., H, W, C) as torch's (N, C, H, W)."""
    return x.reshape(math.prod(x.shape[:-3]), *x.shape[-3:]).permute(0, 3, 1, 2)


def channels_last(images, leading):
    """torch's (N, C, H, W) as linen's (*leading, H, W, C)."""
    return images.permute(0, 2, 3, 1).reshape(*leading, *images.shape[2:], images.shape[1])


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
    """Hand an intermediate value to the surrounding capture_intermediates, if there is one.

    A compiled network hands over none.
    """
    if torch.compiler.is_compiling():
        return
    collected = _intermediates.get()
    if collected is not None:
        collected.setdefault(name, []).append(value)
