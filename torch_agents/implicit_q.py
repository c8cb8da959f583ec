"""The losses of implicit Q-learning, for every agent that ends in it."""

import torch

from torch_agents.agent import Agent, expectile_loss, prefixed
from torch_agents.networks import GCActor, GCValue


def as_goals(latents):
    """The arguments with which a network takes latents (B, L) as encoded goals; none without latents."""
    return {} if latents is None else {'goals': latents, 'goal_encoded': True}


def latent_networks(config, ex_actions, gc_encoders, prefix=''):
    """The networks <prefix>value, <prefix>critic (an ensemble of two) and <prefix>actor, given latents."""
    value_def = GCValue(
        hidden_dims=config['value_hidden_dims'],
        layer_norm=config['value_layer_norm'],
        gc_encoder=gc_encoders.get(f'{prefix}value'),
    )
    critic_def = GCValue(
        hidden_dims=config['value_hidden_dims'],
        layer_norm=config['value_layer_norm'],
        num_ensembles=2,
        gc_encoder=gc_encoders.get(f'{prefix}critic'),
    )
    actor_def = GCActor(
        hidden_dims=config['actor_hidden_dims'],
        action_dim=ex_actions.shape[-1],
        layer_norm=config['actor_layer_norm'],
        const_std=config['const_std'],
        gc_encoder=gc_encoders.get(f'{prefix}actor'),
    )
    return value_def, critic_def, actor_def


class ImplicitQAgent(Agent):
    """Losses of the networks <prefix>value, <prefix>critic, target_<prefix>critic and <prefix>actor.

    With latents (B, L) every network is conditioned on them.
    """

    def value_loss(self, batch, grad_params, latents=None, prefix=''):
        """Expectile regression of V(s) towards the target critic."""
        goals = as_goals(latents)
        q1, q2 = self.network.select(f'target_{prefix}critic')(
            batch['observations'], actions=batch['actions'], **goals
        )
        q = torch.minimum(q1, q2)
        v = self.network.select(f'{prefix}value')(batch['observations'], **goals, params=grad_params)
        value_loss = expectile_loss(q - v, q - v, self.config['expectile']).mean()

        return value_loss, {
            'value_loss': value_loss,
            'v_mean': v.mean(),
            'v_max': v.max(),
            'v_min': v.min(),
        }

    def critic_loss(self, batch, grad_params, latents=None, prefix=''):
        """Regression of both critics towards r + discount * V(s')."""
        goals = as_goals(latents)
        next_v = self.network.select(f'{prefix}value')(batch['next_observations'], **goals)
        q = batch['rewards'] + self.config['discount'] * batch['masks'] * next_v
        q1, q2 = self.network.select(f'{prefix}critic')(
            batch['observations'], actions=batch['actions'], **goals, params=grad_params
        )
        critic_loss = ((q1 - q) ** 2 + (q2 - q) ** 2).mean()

        return critic_loss, {
            'critic_loss': critic_loss,
            'q_mean': q.mean(),
            'q_max': q.max(),
            'q_min': q.min(),
        }

    def awr_loss(self, batch, grad_params, alpha, latents=None, prefix=''):
        """Advantage-weighted regression: cloning, weighted by exp(alpha * advantage), at most 100."""
        goals = as_goals(latents)
        v = self.network.select(f'{prefix}value')(batch['observations'], **goals)
        q1, q2 = self.network.select(f'{prefix}critic')(
            batch['observations'], actions=batch['actions'], **goals
        )
        adv = torch.minimum(q1, q2) - v
        weight = torch.exp(adv * alpha).clip(max=100.0)

        dist = self.network.select(f'{prefix}actor')(batch['observations'], **goals, params=grad_params)
        log_prob, bc_info = self.behavioral_cloning(dist, batch['actions'])
        actor_loss = -(weight * log_prob).mean()

        return actor_loss, {'actor_loss': actor_loss, 'adv': adv.mean(), **bc_info}

    def latent_loss(self, batch, grad_params, alpha, latents, full_update=True, prefix=''):
        """Value and critic given latents (B, L); with full_update the actor as well, by AWR."""
        info = {}

        value_loss, value_info = self.value_loss(batch, grad_params, latents, prefix)
        info.update(prefixed(f'{prefix}value', value_info))

        critic_loss, critic_info = self.critic_loss(batch, grad_params, latents, prefix)
        info.update(prefixed(f'{prefix}critic', critic_info))

        loss = value_loss + critic_loss
        if full_update:
            actor_loss, actor_info = self.awr_loss(batch, grad_params, alpha, latents, prefix)
            info.update(prefixed(f'{prefix}actor', actor_info))
            loss = loss + actor_loss

        return loss, info
