"""Implicit Q-learning (IQL)."""

import copy
import functools

import jax
import jax.numpy as jnp
from jax import random

from reference_jax.agent import Agent, complete_config, expectile_loss, prefixed
from reference_jax.encoders import make_encoders
from reference_jax.networks import Actor, Value
from reference_jax.train_state import TrainState


class IQLAgent(Agent):
    """Pre-trained by behavioural cloning, fine-tuned by IQL with an AWR or a DDPG+BC actor."""

    def value_loss(self, batch, grad_params):
        """Expectile regression of V(s) towards the target critic."""
        q1, q2 = self.network.select('target_critic')(batch['observations'], batch['actions'])
        q = jnp.minimum(q1, q2)
        v = self.network.select('value')(batch['observations'], params=grad_params)
        value_loss = expectile_loss(q - v, q - v, self.config['expectile']).mean()

        return value_loss, {
            'value_loss': value_loss,
            'v_mean': v.mean(),
            'v_max': v.max(),
            'v_min': v.min(),
        }

    def critic_loss(self, batch, grad_params):
        """Regression of both critics towards r + discount * V(s')."""
        next_v = self.network.select('value')(batch['next_observations'])
        q = batch['rewards'] + self.config['discount'] * batch['masks'] * next_v
        q1, q2 = self.network.select('critic')(batch['observations'], batch['actions'], params=grad_params)
        critic_loss = ((q1 - q) ** 2 + (q2 - q) ** 2).mean()

        return critic_loss, {
            'critic_loss': critic_loss,
            'q_mean': q.mean(),
            'q_max': q.max(),
            'q_min': q.min(),
        }

    def actor_loss(self, batch, grad_params, rng=None):
        """The actor's loss that config['actor_loss'] names."""
        if self.config['actor_loss'] == 'awr':
            return self.awr_loss(batch, grad_params)
        if self.config['actor_loss'] == 'ddpgbc':
            return self.ddpgbc_loss(batch, grad_params, rng)
        raise ValueError(f'actor_loss={self.config["actor_loss"]!r}; choose one of: awr, ddpgbc')

    def awr_loss(self, batch, grad_params):
        """Advantage-weighted regression: cloning, weighted by exp(alpha * advantage), at most 100."""
        v = self.network.select('value')(batch['observations'])
        q1, q2 = self.network.select('critic')(batch['observations'], batch['actions'])
        adv = jnp.minimum(q1, q2) - v
        weight = jnp.exp(adv * self.config['alpha']).clip(max=100.0)

        dist = self.network.select('actor')(batch['observations'], params=grad_params)
        log_prob, bc_info = self.behavioral_cloning(dist, batch['actions'])
        actor_loss = -(weight * log_prob).mean()

        return actor_loss, {'actor_loss': actor_loss, 'adv': adv.mean(), **bc_info}

    def ddpgbc_loss(self, batch, grad_params, rng):
        """Ascent on the smaller critic, normalised by its mean magnitude, plus cloning."""
        dist = self.network.select('actor')(batch['observations'], params=grad_params)
        actions = self.policy_actions(dist, rng)
        q1, q2 = self.network.select('critic')(batch['observations'], actions)
        q = jnp.minimum(q1, q2)

        q_abs_mean = jax.lax.stop_gradient(jnp.abs(q).mean())
        q_loss = -q.mean() / q_abs_mean
        log_prob, bc_info = self.behavioral_cloning(dist, batch['actions'])
        bc_loss = -(self.config['alpha'] * log_prob).mean()
        actor_loss = q_loss + bc_loss

        return actor_loss, {
            'actor_loss': actor_loss,
            'q_loss': q_loss,
            'bc_loss': bc_loss,
            'q_mean': q.mean(),
            'q_abs_mean': q_abs_mean,
            **bc_info,
        }

    def pretraining_loss(self, batch, grad_params, rng=None):
        """Behavioural cloning. grad_params None reads every network frozen."""
        loss, bc_info = self.bc_loss(batch, grad_params)

        return loss, prefixed('bc', bc_info)

    def finetuning_loss(self, batch, grad_params, full_update=True, rng=None):
        """Value and critic; with full_update the actor as well. grad_params None reads all frozen."""
        rng = self.rng if rng is None else rng
        info = {}

        value_loss, value_info = self.value_loss(batch, grad_params)
        info.update(prefixed('value', value_info))

        critic_loss, critic_info = self.critic_loss(batch, grad_params)
        info.update(prefixed('critic', critic_info))

        loss = value_loss + critic_loss
        if full_update:
            rng, actor_rng = random.split(rng)
            actor_loss, actor_info = self.actor_loss(batch, grad_params, actor_rng)
            info.update(prefixed('actor', actor_info))
            loss = loss + actor_loss

        return loss, info

    @jax.jit
    def pretrain(self, batch):
        """One pre-training update: (agent, info)."""
        return self.update(lambda grad_params, rng: self.pretraining_loss(batch, grad_params, rng=rng))

    @functools.partial(jax.jit, static_argnames='full_update')
    def finetune(self, batch, full_update=True):
        """One fine-tuning update: (agent, info). The target critic moves in every update."""
        return self.update(
            lambda grad_params, rng: self.finetuning_loss(
                batch, grad_params, full_update=full_update, rng=rng
            ),
            targets={'target_critic': 'critic'},
        )

    @classmethod
    def create(cls, seed, ex_observations, ex_actions, config):
        """A new agent for observations and actions like the examples ((B, ...) and (B, A))."""
        config = complete_config(config, get_config())
        rng = random.PRNGKey(seed)
        rng, init_rng = random.split(rng)

        encoders = make_encoders(config['encoder'], ['value', 'critic', 'actor'], ex_observations, ex_actions)
        value_def = Value(
            hidden_dims=config['value_hidden_dims'],
            layer_norm=config['value_layer_norm'],
            encoder=encoders.get('value'),
        )
        critic_def = Value(
            hidden_dims=config['value_hidden_dims'],
            layer_norm=config['value_layer_norm'],
            num_ensembles=2,
            encoder=encoders.get('critic'),
        )
        actor_def = Actor(
            hidden_dims=config['actor_hidden_dims'],
            action_dim=ex_actions.shape[-1],
            layer_norm=config['actor_layer_norm'],
            const_std=config['const_std'],
            encoder=encoders.get('actor'),
        )
        networks = {
            'value': (value_def, (ex_observations,)),
            'critic': (critic_def, (ex_observations, ex_actions)),
            'target_critic': (copy.deepcopy(critic_def), (ex_observations, ex_actions)),
            'actor': (actor_def, (ex_observations,)),
        }
        network = TrainState.create(networks, init_rng, config['lr'])
        network = network.copy_params('critic', 'target_critic')

        return cls(rng, network, config)


def get_config():
    """The default configuration; plain values."""
    return {
        'agent_name': 'iql',
        'lr': 3e-4,
        'batch_size': 256,
        'actor_hidden_dims': (512, 512, 512, 512),
        'value_hidden_dims': (512, 512, 512, 512),
        'actor_layer_norm': False,
        'value_layer_norm': True,
        'discount': 0.99,
        'tau': 0.005,
        'actor_freq': 4,
        'expectile': 0.9,
        'actor_loss': 'awr',
        'alpha': 10.0,
        'const_std': True,
        'encoder': None,
    }
