"""Observation encoders, by the name that a configuration gives them."""

import functools
import math

import numpy as np
import torch
import torch.nn as nn

from torch_agents.layers import (
    Conv,
    GroupNorm,
    LayerNorm,
    max_pool,
    relu,
    swish,
    variance_scaling,
)
from torch_agents.networks import MLP, check_images, concatenate_inputs, shown
from torch_agents.shared_reads import Shareable


class ResnetStack(nn.Module):
    """A convolution, max-pooling to half the size, residual blocks: (..., H, W, C) -> (..., H/2, W/2, F)."""

    def __init__(self, features, num_blocks):
        super().__init__()
        self.num_blocks = num_blocks

        kernel_init = variance_scaling(1.0, 'fan_avg', 'uniform')
        for i in range(1 + 2 * self.num_blocks):
            setattr(self, f'Conv_{i}', Conv(features, (3, 3), kernel_init=kernel_init))

    def forward(self, x):
        x = self.Conv_0(x)
        x = max_pool(x, (3, 3), strides=(2, 2), padding='SAME')
        for i in range(self.num_blocks):
            block_input = x
            x = getattr(self, f'Conv_{2 * i + 1}')(relu(x))
            x = getattr(self, f'Conv_{2 * i + 2}')(relu(x))
            x = x + block_input
        return x


class ImpalaEncoder(Shareable):
    """IMPALA's residual network: images (..., H, W, C) of uint8 -> (..., mlp_hidden_dims[-1]).

    width:       a factor of the stack sizes.
    stack_sizes: the features of the residual stacks.
    num_blocks:  the residual blocks of each stack.
    """

    takes_images = True

    def __init__(
        self, width=1, stack_sizes=(16, 32, 32), num_blocks=2, mlp_hidden_dims=(512,), layer_norm=False
    ):
        super().__init__()
        self.stack_sizes = stack_sizes
        self.mlp_hidden_dims = mlp_hidden_dims
        self.layer_norm = layer_norm

        for i, size in enumerate(self.stack_sizes):
            setattr(self, f'stack_blocks_{i}', ResnetStack(size * width, num_blocks))
        if self.layer_norm:
            self.LayerNorm_0 = LayerNorm()
        self.MLP_0 = MLP(self.mlp_hidden_dims, activate_final=True, layer_norm=self.layer_norm)

    def forward(self, observations):
        check_images(observations)
        # float32 whatever the parameters are, and what XLA makes of x / 255: x times the rounded 1 / 255
        x = observations.to(torch.float32) * (1 / 255)
        for i in range(len(self.stack_sizes)):
            x = getattr(self, f'stack_blocks_{i}')(x)
        x = relu(x)
        if self.layer_norm:
            x = self.LayerNorm_0(x)
        x = x.reshape(*x.shape[:-3], math.prod(x.shape[-3:]))
        return self.MLP_0(x)


def bias_free_conv(features, kernel_size, strides=1, padding='SAME'):
    """A convolution without bias, its kernel Kaiming normal."""
    kernel_init = variance_scaling(2.0, 'fan_in', 'truncated_normal')
    return Conv(features, kernel_size, strides, padding, use_bias=False, kernel_init=kernel_init)


def group_norm():
    """Normalisation of each image over four groups of channels."""
    return GroupNorm(num_groups=4, eps=1e-5)


class ResNetBlock(nn.Module):
    """Two convolutions and a skip: (..., H, W, C) -> (..., H, W, F), or half of H and W at stride 2.

    strides: the first convolution's; at 2 the skip is a convolution, too, because the shapes differ.
    """

    def __init__(self, features, strides=1):
        super().__init__()
        self.strides = strides

        self.Conv_0 = bias_free_conv(features, (3, 3), self.strides)
        self.GroupNorm_0 = group_norm()
        self.Conv_1 = bias_free_conv(features, (3, 3))
        self.GroupNorm_1 = group_norm()
        if self.strides > 1:
            self.conv_proj = bias_free_conv(features, (1, 1), self.strides)
            self.norm_proj = group_norm()

    def forward(self, x):
        residual = x
        x = self.GroupNorm_0(self.Conv_0(x))
        x = self.GroupNorm_1(self.Conv_1(swish(x)))
        if self.strides > 1:
            residual = self.norm_proj(self.conv_proj(residual))
        return swish(residual + x)


class ResNetEncoder(Shareable):
    """A ResNet that also sees where a pixel lies: images (..., H, W, C) of uint8 -> (..., features).

    stage_sizes: the blocks of each stage; stage i has num_filters * 2**i features and, but for the first,
                 half the height and width of the one before.
    """

    takes_images = True

    def __init__(self, stage_sizes, num_filters=64):
        super().__init__()
        self.stage_sizes = stage_sizes
        self.num_filters = num_filters

        self.conv_init = bias_free_conv(self.num_filters, (7, 7), 2, padding=((3, 3), (3, 3)))
        self.norm_init = group_norm()
        for i, (features, strides) in enumerate(self.blocks()):
            setattr(self, f'ResNetBlock_{i}', ResNetBlock(features, strides))

    def blocks(self):
        """(features, strides) of every block."""
        for stage, size in enumerate(self.stage_sizes):
            for block in range(size):
                yield self.num_filters * 2**stage, 2 if stage > 0 and block == 0 else 1

    def forward(self, observations):
        check_images(observations)
        x = observations.to(torch.float32)
        # what XLA makes of x / 127.5 - 1, fma(x, 1 / 127.5, -1): these two products are exact, fused or not
        x = (x * (1 / 128) - 1.0) + x * (float(np.float32(1 / 127.5)) - 1 / 128)
        x = concatenate_inputs(x, spatial_coordinates(x))
        x = self.norm_init(self.conv_init(x))
        x = max_pool(swish(x), (3, 3), strides=(2, 2), padding='SAME')
        for i in range(sum(self.stage_sizes)):
            x = getattr(self, f'ResNetBlock_{i}')(x)
        return x.mean(axis=(-3, -2))


def spatial_coordinates(images):
    """Row and column of each pixel of (..., H, W, C), from -1 to 1: (..., H, W, 2)."""
    rows, columns = (np.linspace(-1, 1, size) for size in images.shape[-3:-1])
    grid = np.stack(np.meshgrid(rows, columns, indexing='ij'), axis=-1)
    return torch.broadcast_to(torch.as_tensor(grid).to(images), (*images.shape[:-1], 2))


class GCEncoder(nn.Module):
    """Features of observations and goals, joined; an encoder that is None is left out.

    state_encoder:  of the observations.
    goal_encoder:   of the goals.
    concat_encoder: of observations and goals joined along the last axis.
    """

    def __init__(self, state_encoder=None, goal_encoder=None, concat_encoder=None):
        super().__init__()
        self.state_encoder = state_encoder
        self.goal_encoder = goal_encoder
        self.concat_encoder = concat_encoder

    def forward(self, observations, goals=None, goal_encoded=False):
        """(..., F); goal_encoded=True takes the goals for features."""
        features = []
        if self.state_encoder is not None:
            features.append(self.state_encoder(observations))
        if goals is not None and goal_encoded:
            features.append(goals)
        elif goals is not None:
            if self.goal_encoder is not None:
                features.append(self.goal_encoder(goals))
            if self.concat_encoder is not None:
                features.append(self.concat_encoder(concatenate_inputs(observations, goals)))
        return concatenate_inputs(*features)


encoder_modules = {
    'mlp': functools.partial(MLP, (512, 512, 512, 512), layer_norm=True),
    'impala': ImpalaEncoder,
    'impala_debug': functools.partial(ImpalaEncoder, num_blocks=1, stack_sizes=(4, 4)),
    'impala_small': functools.partial(ImpalaEncoder, num_blocks=1),
    'impala_large': functools.partial(ImpalaEncoder, stack_sizes=(64, 128, 128), mlp_hidden_dims=(1024,)),
    'resnet_34': functools.partial(ResNetEncoder, stage_sizes=(3, 4, 6, 3)),
}


def make_encoders(name, networks, ex_observations, ex_actions):
    """A new encoder for each of the networks, {} if the configuration names none.

    Raises ValueError where they do not fit the observations.
    """
    encoders = {} if name is None else {network: encoder_modules[name]() for network in networks}
    for encoder in encoders.values() or [None]:
        check_observations(name, encoder, ex_observations, ex_actions)
    return encoders


def check_observations(name, encoder, ex_observations, ex_actions):
    """Raise ValueError where an encoder of images is given vectors, or images have no such encoder."""
    takes_images = False if encoder is None else getattr(encoder, 'takes_images', None)
    are_images = ex_observations.ndim == ex_actions.ndim + 2
    if takes_images is None or takes_images == are_images:
        return
    if takes_images:
        expected, choices = 'images (..., H, W, C)', 'mlp, or None if the agent can do without'
    else:
        expected, choices = 'vectors (..., O)', 'one of images, such as impala_small'
    raise ValueError(
        f'encoder={name!r} takes {expected}, but the observations are {shown(ex_observations)} with actions '
        f'{shown(ex_actions)}; choose {choices}'
    )


def encoder_features(encoder):
    """The number of features that an encoder puts out."""
    if isinstance(encoder, ResNetEncoder):
        return encoder.num_filters * 2 ** (len(encoder.stage_sizes) - 1)
    return getattr(encoder, 'mlp_hidden_dims', getattr(encoder, 'hidden_dims', None))[-1]
