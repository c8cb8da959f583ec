"""What the agents share: their state, the update, behavioural cloning and acting."""

import math
import numbers

import torch

from torch_agents import random
from torch_agents.encoders import encoder_modules
from torch_agents.layers import clip

# the keys that have but a few values
CHOICES = {
    'actor_loss': ('awr', 'ddpgbc'),
    'contrastive_loss': ('forward_infonce', 'symmetric_infonce'),
    'critic_latent_type': ('prior', 'encoding'),
    'logit_agg': ('mean', 'min'),
    'q_agg': ('mean', 'min'),
    'repr_agg': ('mean', 'min'),
}
PROBABILITY = ('a number from 0 to 1', lambda x: 0 <= x <= 1)
RATE = ('a number above 0 and at most 1', lambda x: 0 < x <= 1)
POSITIVE = ('a number above 0', lambda x: x > 0)
NOT_NEGATIVE = ('a number of at least 0', lambda x: x >= 0)
# what a floating value may be; those that are not listed may be anything of at least 0
RANGES = {
    'lr': POSITIVE,
    'discount': PROBABILITY,
    'tau': RATE,
    'target_repr_center_tau': RATE,
    'expectile': ('a number above 0 and below 1', lambda x: 0 < x < 1),
    'latent_mix_prob': PROBABILITY,
    'actor_fc_scale': POSITIVE,
    'repr_temp': POSITIVE,
    'target_repr_temp': POSITIVE,
    'value_p_curgoal': PROBABILITY,
    'value_p_trajgoal': PROBABILITY,
    'value_p_randomgoal': PROBABILITY,
    'actor_p_curgoal': PROBABILITY,
    'actor_p_trajgoal': PROBABILITY,
    'actor_p_randomgoal': PROBABILITY,
}


def complete_config(config, defaults, needs_encoder=False):
    """The defaults with the values of config in their place; lists become tuples.

    needs_encoder: the agent cannot do with the encoder None.
    Raises ValueError for a key that the defaults do not have, and for a value that is not allowed.
    """
    unknown = sorted(set(config) - set(defaults))
    if unknown:
        raise ValueError(f'unknown config keys {unknown}; {defaults["agent_name"]} has {sorted(defaults)}')
    encoders = tuple(encoder_modules) if needs_encoder else (None, *encoder_modules)
    choices = {**CHOICES, 'agent_name': (defaults['agent_name'],), 'encoder': encoders}
    values = {key: config.get(key, value) for key, value in defaults.items()}
    for key, value in values.items():
        allowed, is_allowed = allowed_values(key, defaults[key], choices)
        if not is_allowed(value):
            raise ValueError(f'{key}={value!r}; choose {allowed}')
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


def allowed_values(key, default, choices):
    """What the value of a key may be, in words, and the function that tells; by the type of its default."""
    if key in choices:
        options = choices[key]
        return f'one of: {", ".join(map(repr, options))}', lambda value: value in options
    if isinstance(default, bool):
        return 'one of: True, False', lambda value: isinstance(value, bool)
    if isinstance(default, tuple):
        return 'a tuple of integers of at least 1, with one or more of them', is_sizes
    if isinstance(default, int):
        least = 0 if key.endswith('_start_offset') else 1
        return f'an integer of at least {least}', lambda value: is_integer(value) and value >= least
    allowed, is_inside = RANGES.get(key, NOT_NEGATIVE)
    return allowed, lambda value: is_number(value) and is_inside(value)


def is_integer(value):
    """Whether it is a whole number; True and False are none."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_number(value):
    """Whether it is a finite number; True and False are none."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def is_sizes(value):
    """Whether it has the sizes of some layers."""
    return isinstance(value, tuple | list) and bool(value) and all(is_integer(x) and x >= 1 for x in value)


def prefixed(prefix, info):
    """The info of one part of a loss, under `prefix/`."""
    return {f'{prefix}/{key}': value for key, value in info.items()}


def expectile_loss(adv, diff, expectile):
    """diff**2, weighted by expectile where adv >= 0 and by 1 - expectile elsewhere."""
    return torch.where(adv >= 0, expectile * diff**2, (1 - expectile) * diff**2)


def aggregate(values, how):
    """The values of an ensemble (E, ...) as one (...): their 'mean' or their 'min'."""
    return values.mean(axis=0) if how == 'mean' else values.amin(axis=0)


def for_loss_alone(loss_fn):
    """loss_fn -> (loss, info), where compiled with an info that has no gradient.

    All results of a compiled function have one backward, in which what is not differentiated gets the
    gradient 0: times an infinite derivative, of 0 / 0 in an info, that is NaN in the parameters.
    """

    def compiled(*args, **kwargs):
        loss, info = loss_fn(*args, **kwargs)
        if torch.compiler.is_compiling():
            info = {key: value.detach() for key, value in info.items()}
        return loss, info

    return compiled


class Agent:
    """An agent: a key (uint32, (2,)), its networks with their optimiser, and its configuration."""

    def __init__(self, rng, network, config):
        self.rng = rng
        self.network = network
        self.config = config

    def replace(self, **fields):
        """This agent with the given fields replaced, in place."""
        for name, value in fields.items():
            setattr(self, name, value)
        return self

    def compile(self):
        """Have torch compile the losses, each at its first call. Returns this agent."""
        for name in ('pretraining_loss', 'finetuning_loss'):
            setattr(self, name, torch.compile(for_loss_alone(getattr(self, name))))
        return self

    def policy_actions(self, dist, rng):
        """The actions (B, A) that actor losses evaluate: the mode, or a sample where the std is learned."""
        actions = dist.mode() if self.config['const_std'] else dist.sample(rng)
        return clip(actions, -1, 1)

    def behavioral_cloning(self, dist, actions):
        """The log-probabilities (B,) of the batch's actions, and the info that goes with them."""
        log_prob = dist.log_prob(actions)
        return log_prob, {
            'bc_log_prob': log_prob.mean(),
            'mse': ((dist.mode() - actions) ** 2).mean(),
            'std': dist.stddev().mean(),
        }

    def bc_loss(self, batch, grad_params):
        """Behavioural cloning of the batch's actions."""
        dist = self.network.select('actor')(batch['observations'], params=grad_params)
        log_prob, bc_info = self.behavioral_cloning(dist, batch['actions'])
        bc_loss = -log_prob.mean()

        return bc_loss, {'bc_loss': bc_loss, **bc_info}

    def reward_loss(self, batch, grad_params):
        """Regression of the reward network towards the batch's rewards."""
        rewards = self.network.select('reward')(batch['observations'], params=grad_params)
        reward_loss = ((rewards - batch['rewards']) ** 2).mean()

        return reward_loss, {'reward_loss': reward_loss}

    def q_and_bc_loss(self, q, dist, actions, alpha, normalize):
        """Ascent on q (B,), divided by its mean magnitude if normalize, plus alpha times cloning."""
        q_abs_mean = torch.abs(q).mean().detach()
        q_loss = -q.mean()
        if normalize:
            q_loss = q_loss / q_abs_mean
        log_prob, bc_info = self.behavioral_cloning(dist, actions)
        bc_loss = -(alpha * log_prob).mean()
        actor_loss = q_loss + bc_loss

        return actor_loss, {
            'actor_loss': actor_loss,
            'q_loss': q_loss,
            'bc_loss': bc_loss,
            'q_mean': q.mean(),
            'q_abs_mean': q_abs_mean,
            **bc_info,
        }

    def update(self, loss, targets=None):
        """One step on loss(grad_params, rng) -> (loss, info), and the target updates."""
        new_rng, rng = random.split(self.rng)
        network, info = self.network.apply_loss_fn(
            lambda grad_params: loss(grad_params, rng), targets=targets, tau=self.config.get('tau')
        )
        return self.replace(network=network, rng=new_rng), info

    @torch.no_grad()
    def sample_actions(self, observations, seed=None, temperature=1.0):
        """Actions (..., A) for observations (..., O), in [-1, 1]; temperature scales the std."""
        dist = self.network.select('actor')(observations, temperature=temperature)
        return clip(dist.sample(seed), -1, 1)
