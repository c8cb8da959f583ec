"""Implicit Q-learning (IQL)."""

import copy

import torch

from torch_agents import random
from torch_agents.agent import complete_config, prefixed
from torch_agents.encoders import make_encoders
from torch_agents.implicit_q import ImplicitQAgent
from torch_agents.networks import Actor, Value
from torch_agents.train_state import TrainState


class IQLAgent(ImplicitQAgent):
    """Pre-trained by behavioural cloning, fine-tuned by IQL with an AWR or a DDPG+BC actor."""

    def actor_loss(self, batch, grad_params, rng=None):
        """The actor's loss that config['actor_loss'] names."""
        if self.config['actor_loss'] == 'awr':
            return self.awr_loss(batch, grad_params, self.config['alpha'])
        return self.ddpgbc_loss(batch, grad_params, rng)

    def ddpgbc_loss(self, batch, grad_params, rng):
        """Ascent on the smaller critic, normalised by its mean magnitude, plus cloning."""
        dist = self.network.select('actor')(batch['observations'], params=grad_params)
        actions = self.policy_actions(dist, rng)
        q1, q2 = self.network.select('critic')(batch['observations'], actions)
        q = torch.minimum(q1, q2)

        return self.q_and_bc_loss(q, dist, batch['actions'], self.config['alpha'], normalize=True)

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

    def pretrain(self, batch):
        """One pre-training update: (agent, info)."""
        return self.update(lambda grad_params, rng: self.pretraining_loss(batch, grad_params, rng=rng))

    def finetune(self, batch, full_update=True):
        """One fine-tuning update: (agent, info). The target critic moves in every update."""
        return self.update(
            lambda grad_params, rng: self.finetuning_loss(
                batch, grad_params, full_update=full_update, rng=rng
            ),
            targets={'target_critic': 'critic'},
        )

    @classmethod
    def create(cls, seed, ex_observations, ex_actions, config, device=None, dtype=None):
        """A new agent for observations and actions like the examples ((B, ...) and (B, A))."""
        config = complete_config(config, get_config())
        rng = random.PRNGKey(seed).to(device)
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
        network = TrainState.create(networks, init_rng, config['lr'], device, dtype)
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
