"""Behaviour-regularised actor-critic (ReBRAC), the base of the two agents that extend it."""

import copy
import functools

import jax
import jax.numpy as jnp
from jax import random

from reference_jax.agent import Agent, complete_config, prefixed
from reference_jax.encoders import make_encoders
from reference_jax.networks import Actor, Value
from reference_jax.train_state import TrainState


def actor_and_critic(config, ex_actions, encoders):
    """The networks of the actor and of the critic, an ensemble of two; encoders: by network, or {}."""
    actor_def = Actor(
        hidden_dims=config['actor_hidden_dims'],
        action_dim=ex_actions.shape[-1],
        layer_norm=config['actor_layer_norm'],
        tanh_squash=config['tanh_squash'],
        const_std=True,
        final_fc_init_scale=config['actor_fc_scale'],
        encoder=encoders.get('actor'),
    )
    critic_def = Value(
        hidden_dims=config['value_hidden_dims'],
        layer_norm=config['value_layer_norm'],
        num_ensembles=2,
        encoder=encoders.get('critic'),
    )
    return actor_def, critic_def


class ReBRACAgent(Agent):
    """Pre-trained by behavioural cloning, fine-tuned by a critic and an actor that stay near the data."""

    def encode(self, observations, encoder='encoder'):
        """What critic and actor see of observations (B, ...): the observations themselves."""
        return observations

    def noisy_mode(self, dist, rng, scale=1.0):
        """The mode (..., A) plus scaled, clipped noise, in [-1, 1]."""
        actions = dist.mode()
        noise = random.normal(rng, actions.shape, actions.dtype) * self.config['actor_noise'] * scale
        noise = jnp.clip(noise, -self.config['actor_noise_clip'], self.config['actor_noise_clip'])
        return jnp.clip(actions + noise, -1, 1)

    def bc_loss(self, batch, grad_params):
        """Behavioural cloning of the batch's actions."""
        observations = self.encode(batch['observations'])
        dist = self.network.select('actor')(observations, params=grad_params)
        log_prob, bc_info = self.behavioral_cloning(dist, batch['actions'])
        bc_loss = -log_prob.mean()

        return bc_loss, {
            'bc_loss': bc_loss,
            'bc_log_prob': bc_info['bc_log_prob'],
            'mse': bc_info['mse'],
        }

    def critic_loss(self, batch, grad_params, rng):
        """Regression of both critics towards r + discount * (Q(s', a') - alpha * ||a' - data's a'||^2)."""
        rng, sample_rng = random.split(rng)
        next_observations = self.encode(batch['next_observations'], 'target_encoder')
        next_dist = self.network.select('target_actor')(next_observations)
        next_actions = self.noisy_mode(next_dist, sample_rng)
        next_q = self.network.select('target_critic')(next_observations, next_actions).min(axis=0)
        mse = ((next_actions - batch['next_actions']) ** 2).sum(axis=-1)
        next_q = next_q - self.config['alpha_critic'] * mse
        target_q = batch['rewards'] + self.config['discount'] * batch['masks'] * next_q

        observations = self.encode(batch['observations'])
        q = self.network.select('critic')(observations, batch['actions'], params=grad_params)
        critic_loss = ((q - target_q) ** 2).mean()

        return critic_loss, {
            'critic_loss': critic_loss,
            'q_mean': q.mean(),
            'q_max': q.max(),
            'q_min': q.min(),
        }

    def actor_loss(self, batch, grad_params, rng):
        """Ascent on the smaller critic at the policy's mode, which stays near the batch's actions."""
        observations = self.encode(batch['observations'])
        dist = self.network.select('actor')(observations, params=grad_params)
        actions = dist.mode()
        q = self.network.select('critic')(observations, actions).min(axis=0)

        actor_loss = -q.mean()
        # an agent without this key normalises always
        if self.config.get('normalize_q_loss', True):
            actor_loss = actor_loss / jax.lax.stop_gradient(jnp.abs(q).mean())
        mse = ((actions - batch['actions']) ** 2).sum(axis=-1)
        bc_loss = (self.config['alpha_actor'] * mse).mean()
        total_loss = actor_loss + bc_loss

        return total_loss, {
            'total_loss': total_loss,
            'actor_loss': actor_loss,
            'bc_loss': bc_loss,
            'std': dist.stddev().mean(),
            'mse': mse.mean(),
        }

    def pretraining_loss(self, batch, grad_params, rng=None):
        """Behavioural cloning. grad_params None reads every network frozen."""
        loss, bc_info = self.bc_loss(batch, grad_params)

        return loss, prefixed('bc', bc_info)

    def finetuning_loss(self, batch, grad_params, full_update=True, rng=None):
        """The critic; with full_update the actor as well. grad_params None reads all frozen."""
        rng = self.rng if rng is None else rng
        info = {}

        rng, actor_rng, critic_rng = random.split(rng, 3)
        critic_loss, critic_info = self.critic_loss(batch, grad_params, critic_rng)
        info.update(prefixed('critic', critic_info))

        loss = critic_loss
        if full_update:
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
        """One fine-tuning update: (agent, info). The targets move with full_update only."""
        targets = {'target_critic': 'critic', 'target_actor': 'actor'}
        return self.update(
            lambda grad_params, rng: self.finetuning_loss(
                batch, grad_params, full_update=full_update, rng=rng
            ),
            targets=targets if full_update else None,
        )

    @jax.jit
    def sample_actions(self, observations, seed=None, temperature=1.0):
        """Actions (..., A) for observations (..., O), in [-1, 1]; temperature scales the noise."""
        dist = self.network.select('actor')(self.encode(observations))
        return self.noisy_mode(dist, seed, temperature)

    @classmethod
    def create(cls, seed, ex_observations, ex_actions, config):
        """A new agent for observations and actions like the examples ((B, ...) and (B, A))."""
        config = complete_config(config, get_config())
        rng = random.PRNGKey(seed)
        rng, init_rng = random.split(rng)

        encoders = make_encoders(config['encoder'], ['critic', 'actor'], ex_observations, ex_actions)
        actor_def, critic_def = actor_and_critic(config, ex_actions, encoders)
        networks = {
            'critic': (critic_def, (ex_observations, ex_actions)),
            'target_critic': (copy.deepcopy(critic_def), (ex_observations, ex_actions)),
            'actor': (actor_def, (ex_observations,)),
            'target_actor': (copy.deepcopy(actor_def), (ex_observations,)),
        }
        network = TrainState.create(networks, init_rng, config['lr'])
        network = network.copy_params('critic', 'target_critic')
        network = network.copy_params('actor', 'target_actor')

        return cls(rng, network, config)


def get_config():
    """The default configuration; plain values."""
    return {
        'agent_name': 'rebrac',
        'lr': 3e-4,
        'batch_size': 256,
        'actor_hidden_dims': (512, 512, 512, 512),
        'value_hidden_dims': (512, 512, 512, 512),
        'actor_layer_norm': False,
        'value_layer_norm': True,
        'discount': 0.99,
        'tau': 0.005,
        'tanh_squash': True,
        'actor_fc_scale': 0.01,
        'alpha_actor': 0.0,
        'alpha_critic': 0.0,
        'actor_freq': 4,
        'normalize_q_loss': True,
        'actor_noise': 0.2,
        'actor_noise_clip': 0.5,
        'encoder': None,
    }
