"""The networks: MLPs, alone or as an ensemble, and what the agents build from them."""

import functools
import math

import torch
import torch.nn as nn

from torch_agents.distributions import DiagonalGaussian, TanhDiagonalGaussian
from torch_agents.layers import Dense, LayerNorm, clip, gelu, join, maximum, sow, variance_scaling
from torch_agents.shared_reads import Shareable, are_shared, shared


def default_init(scale=1.0):
    """Variance scaling of the average fan, uniform."""
    return variance_scaling(scale)


def ensemblize(cls, num_ensembles):
    """cls with E independent members: parameters and outputs get a leading axis E, inputs are shared."""
    return functools.partial(cls, num_ensembles=num_ensembles)


class MLP(Shareable):
    """Dense layers, each but the last followed by gelu and, if layer_norm, LayerNorm.

    hidden_dims:    the sizes of all layers, the last one included.
    activate_final: treat the last layer like the others.
    """

    takes_images = False

    def __init__(self, hidden_dims, activate_final=False, layer_norm=False, num_ensembles=1):
        super().__init__()
        self.hidden_dims = hidden_dims
        self.activate_final = activate_final
        self.layer_norm = layer_norm
        self.num_ensembles = num_ensembles
        for i, size in enumerate(self.hidden_dims):
            self.add_module(f'Dense_{i}', Dense(size, default_init(), num_ensembles))
            if self.layer_norm and (i + 1 < len(self.hidden_dims) or self.activate_final):
                self.add_module(f'LayerNorm_{i}', LayerNorm(num_ensembles))

    def forward(self, x, conditions=None):
        """conditions: more inputs (..., C) behind x, whose share of the first layer is a read of its own."""
        check_vectors(x)
        if self.num_ensembles > 1:
            x = x.expand(self.num_ensembles, *x.shape)
        for i in range(len(self.hidden_dims)):
            dense = getattr(self, f'Dense_{i}')
            x = dense(x) if i > 0 or conditions is None else dense.of_both(x, conditions)
            if i + 1 < len(self.hidden_dims) or self.activate_final:
                x = gelu(x)
                if self.layer_norm:
                    x = getattr(self, f'LayerNorm_{i}')(x)
            if i == len(self.hidden_dims) - 2:
                sow('feature', x)
        return x


def make_mlp(hidden_dims, num_ensembles=1, **kwargs):
    """An MLP for one member, an ensemble of them for more."""
    cls = MLP if num_ensembles == 1 else ensemblize(MLP, num_ensembles)
    return cls(hidden_dims, **kwargs)


def concatenate_inputs(*inputs):
    """The inputs that are given, joined along the last axis."""
    return shared(join, tuple(x for x in inputs if x is not None))


def normalize_latents(latents):
    """Latents (..., L) scaled to length sqrt(L)."""
    lengths = torch.sqrt((latents**2).sum(axis=-1, keepdims=True))
    return latents / lengths * math.sqrt(latents.shape[-1])


def check_vectors(x):
    """Raise ValueError where a network of vectors (..., O) is given images."""
    if x.dtype == torch.uint8 and x.ndim >= 3:
        raise ValueError(
            f'expected vectors (..., O), found images {shown(x)}; pass vectors, or create the agent with an '
            'encoder of images, such as impala_small'
        )


def check_images(x):
    """Raise ValueError where an encoder of images (..., H, W, C) is given vectors."""
    if x.ndim < 3:
        raise ValueError(
            f'expected images (..., H, W, C), found {shown(x)}; pass images, or create the agent with '
            "encoder='mlp' or None"
        )


def shown(x):
    """The dtype and shape of an array, `uint8[8,64,64,3]`."""
    return f'{str(x.dtype).removeprefix("torch.")}[{",".join(map(str, x.shape))}]'


def encode(encoder, observations):
    """What the encoder makes of the observations; without one they are taken as they are, as vectors."""
    if encoder is None:
        check_vectors(observations)
        return observations
    return encoder(observations)


def goal_conditioned_inputs(gc_encoder, observations, goals, goal_encoded):
    """Observations and goals (None: left out) as one vector (..., I), encoded if there is an encoder."""
    if gc_encoder is None:
        return concatenate_inputs(encode(None, observations), goals)
    return gc_encoder(observations, goals, goal_encoded=goal_encoded)


class Value(nn.Module):
    """V(s) or Q(s, a): (..., O) [and (..., A)] -> (...), with E > 1 members (E, ...).

    value_dim: the output's features; one feature is squeezed away.
    encoder:   applied to the observations first.
    """

    def __init__(self, hidden_dims, value_dim=1, layer_norm=True, num_ensembles=1, encoder=None):
        super().__init__()
        self.value_dim = value_dim
        self.encoder = encoder

        hidden_dims = (*hidden_dims, self.value_dim)
        self.value_net = make_mlp(hidden_dims, num_ensembles, layer_norm=layer_norm)

    def forward(self, observations, actions=None):
        observations = encode(self.encoder, observations)
        v = self.value_net(concatenate_inputs(observations, actions))
        return v.squeeze(-1) if self.value_dim == 1 else v


class GCValue(nn.Module):
    """V(s, g) or Q(s, g, a): (..., O), goals (..., G) [and actions (..., A)] -> (...), or (E, ...).

    value_dim:  the output's features; one feature is squeezed away.
    gc_encoder: a GCEncoder of observations and goals; None joins them as they are.
    """

    def __init__(self, hidden_dims, value_dim=1, layer_norm=True, num_ensembles=1, gc_encoder=None):
        super().__init__()
        self.value_dim = value_dim
        self.gc_encoder = gc_encoder

        hidden_dims = (*hidden_dims, self.value_dim)
        self.value_net = make_mlp(hidden_dims, num_ensembles, layer_norm=layer_norm)

    def forward(self, observations, goals=None, actions=None, goal_encoded=False):
        inputs = goal_conditioned_inputs(self.gc_encoder, observations, goals, goal_encoded)
        v = self.value_net(concatenate_inputs(inputs, actions))
        return v.squeeze(-1) if self.value_dim == 1 else v


class GCBilinearValue(nn.Module):
    """phi(s, a) . psi(g) / sqrt(L) of *all pairs* of states and goals: (B, B), with E > 1 members (E, B, B).

    An unbatched state or goal has no axis of its own in the result; more leading axes are all kept.

    value_exp:      the value is exp of the product.
    state_encoder, goal_encoder: applied to the observations and to the goals first.
    """

    def __init__(
        self,
        hidden_dims,
        latent_dim,
        layer_norm=True,
        num_ensembles=1,
        value_exp=False,
        state_encoder=None,
        goal_encoder=None,
    ):
        super().__init__()
        self.latent_dim = latent_dim
        self.num_ensembles = num_ensembles
        self.value_exp = value_exp
        self.state_encoder = state_encoder
        self.goal_encoder = goal_encoder

        hidden_dims = (*hidden_dims, self.latent_dim)
        self.phi = make_mlp(hidden_dims, self.num_ensembles, layer_norm=layer_norm)
        self.psi = make_mlp(hidden_dims, self.num_ensembles, layer_norm=layer_norm)

    def forward(self, observations, goals, actions=None, info=False):
        """The value; with info=True (value, phi (..., L), psi (..., L)), before exp and division."""
        observations = encode(self.state_encoder, observations)
        goals = encode(self.goal_encoder, goals)
        phi = self.phi(concatenate_inputs(observations, actions))
        psi = self.psi(goals)

        if self.num_ensembles == 1:
            v = torch.tensordot(phi, psi, ([-1], [-1]))
        else:
            v = torch.stack([torch.tensordot(*member, ([-1], [-1])) for member in zip(phi, psi, strict=True)])
        v = v / math.sqrt(self.latent_dim)
        v = torch.exp(v) if self.value_exp else v
        return (v, phi, psi) if info else v


class GCMetricValue(nn.Module):
    """-||phi(s) - phi(g)||: (..., O), (..., O) -> (...), with E > 1 members (E, ...).

    encoder: applied to the observations and to the goals first.
    """

    def __init__(self, hidden_dims, latent_dim, layer_norm=True, num_ensembles=1, encoder=None):
        super().__init__()
        self.encoder = encoder

        hidden_dims = (*hidden_dims, latent_dim)
        self.phi = make_mlp(hidden_dims, num_ensembles, layer_norm=layer_norm)

    def features(self, observations):
        """phi of (..., O): (..., L), or (E, ..., L)."""
        observations = encode(self.encoder, observations)
        return self.phi(observations)

    def forward(self, observations, goals, is_phi=False, info=False):
        """The value; is_phi=True takes features for observations; info=True adds both features."""
        phi_s = observations if is_phi else self.features(observations)
        phi_g = goals if is_phi else self.features(goals)
        squared_distance = ((phi_s - phi_g) ** 2).sum(axis=-1)
        v = -torch.sqrt(maximum(squared_distance, 1e-12))
        return (v, phi_s, phi_g) if info else v


class Policy(nn.Module):
    """What Actor and GCActor share: from their inputs (..., I) to a distribution over actions (..., A).

    tanh_squash:         see the distribution through tanh.
    state_dependent_std: log sigma from a layer of its own; else 0 (const_std), else a parameter per action.
    final_fc_init_scale: variance scale of the output layers.
    """

    def __init__(
        self,
        hidden_dims,
        action_dim,
        layer_norm=False,
        log_std_min=-5.0,
        log_std_max=2.0,
        tanh_squash=False,
        state_dependent_std=False,
        const_std=True,
        final_fc_init_scale=1e-2,
    ):
        super().__init__()
        self.log_std_min = log_std_min
        self.log_std_max = log_std_max
        self.tanh_squash = tanh_squash
        self.state_dependent_std = state_dependent_std
        self.const_std = const_std

        self.actor_net = make_mlp(hidden_dims, activate_final=True, layer_norm=layer_norm)
        self.mean_net = Dense(action_dim, kernel_init=default_init(final_fc_init_scale))
        if self.state_dependent_std:
            self.log_std_net = Dense(action_dim, kernel_init=default_init(final_fc_init_scale))
        elif not self.const_std:
            self.log_stds = nn.Parameter(torch.zeros(action_dim))

    def distribution(self, inputs, temperature):
        """The distribution, its standard deviation scaled by temperature."""
        outputs = self.actor_net(inputs)
        means = self.mean_net(outputs)
        if self.state_dependent_std:
            log_stds = self.log_std_net(outputs)
        elif self.const_std:
            log_stds = torch.zeros_like(means)
        else:
            log_stds = self.log_stds + torch.zeros_like(means)
        log_stds = clip(log_stds, self.log_std_min, self.log_std_max)
        distribution = TanhDiagonalGaussian if self.tanh_squash else DiagonalGaussian
        return distribution(means, torch.exp(log_stds) * temperature)


class Actor(Policy):
    """A policy: (..., O) -> a distribution over (..., A). encoder: applied to the observations first."""

    def __init__(self, *args, encoder=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.encoder = encoder

    def forward(self, observations, temperature=1.0):
        observations = encode(self.encoder, observations)
        return self.distribution(observations, temperature)


class GCActor(Policy):
    """A policy given goals: (..., O) [and (..., G)] -> a distribution over (..., A).

    gc_encoder: a GCEncoder of observations and goals; None joins them as they are.
    """

    def __init__(self, *args, gc_encoder=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.gc_encoder = gc_encoder

    def forward(self, observations, goals=None, goal_encoded=False, temperature=1.0):
        inputs = goal_conditioned_inputs(self.gc_encoder, observations, goals, goal_encoded)
        return self.distribution(inputs, temperature)


class VectorField(nn.Module):
    """The velocity of a flow at noisy goals (..., G) and times (...): (..., vector_dim).

    Observations (..., O), actions (..., A) and latents (..., L) are conditions; what is None is left out.
    """

    def __init__(self, vector_dim, hidden_dims, layer_norm=True, num_ensembles=1):
        super().__init__()

        hidden_dims = (*hidden_dims, vector_dim)
        self.vector_field_net = make_mlp(hidden_dims, num_ensembles, layer_norm=layer_norm)

    def forward(self, noisy_goals, times, observations=None, actions=None, latents=None):
        inputs = noisy_goals, times[..., None]
        conditions = [x for x in (observations, actions, latents) if x is not None]
        if are_shared() and conditions:  # the steps of a flow have the same
            return self.vector_field_net(concatenate_inputs(*inputs), concatenate_inputs(*conditions))
        return self.vector_field_net(concatenate_inputs(*inputs, *conditions))


class IntentionEncoder(nn.Module):
    """(..., O), (..., A) -> a distribution over the latents (..., L); log sigma is not clipped."""

    def __init__(self, hidden_dims, latent_dim, layer_norm=False, encoder=None):
        super().__init__()
        self.encoder = encoder

        self.trunk_net = make_mlp(hidden_dims, activate_final=True, layer_norm=layer_norm)
        self.mean_net = Dense(latent_dim, kernel_init=default_init())
        self.log_std_net = Dense(latent_dim, kernel_init=default_init())

    def forward(self, observations, actions):
        observations = encode(self.encoder, observations)
        outputs = self.trunk_net(concatenate_inputs(observations, actions))
        means = self.mean_net(outputs)
        log_stds = self.log_std_net(outputs)
        return DiagonalGaussian(means, torch.exp(log_stds))


class Param(nn.Module):
    """A bare parameter `value` of the given shape, zeros at first."""

    def __init__(self, shape):
        super().__init__()
        self.value = nn.Parameter(torch.zeros(shape))

    def forward(self):
        return self.value
