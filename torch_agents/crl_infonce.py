"""Contrastive reinforcement learning with an InfoNCE loss (CRL InfoNCE)."""

import torch

from torch_agents import random
from torch_agents.agent import complete_config, prefixed
from torch_agents.encoders import make_encoders
from torch_agents.infonce import (
    InfoNCEAgent,
    accuracy,
    critic_and_reward,
    cross_entropy,
    identity_like,
    logits_info,
    pair_logits,
)
from torch_agents.layers import logsumexp, maximum
from torch_agents.networks import Actor
from torch_agents.train_state import TrainState


class CRLInfoNCEAgent(InfoNCEAgent):
    """Pre-trained by contrasting future states and by cloning, fine-tuned on the reward of future states."""

    def contrastive_loss(self, batch, grad_params):
        """InfoNCE of states and actions against the goals that the batch's trajectories reach."""
        v, phi, psi = self.network.select('critic')(
            batch['observations'],
            batch['value_goals'],
            batch['actions'],
            info=True,
            params=grad_params,
        )
        logits = pair_logits(phi, psi)
        identity = identity_like(logits)
        if self.config['contrastive_loss'] == 'forward_infonce':
            penalty = self.config['logsumexp_penalty_coeff'] * logsumexp(logits, 1) ** 2
            contrastive_loss = (cross_entropy(logits, identity) + penalty).mean()
        else:
            rows, columns = cross_entropy(logits, identity, axis=1), cross_entropy(logits, identity, axis=0)
            contrastive_loss = (rows + columns).mean()

        logits = logits.mean(axis=-1)
        correct = torch.diagonal(logits) > torch.diagonal(torch.roll(logits, 1, 1))
        return contrastive_loss, {
            'contrastive_loss': contrastive_loss,
            'v_mean': v.mean(),
            'v_max': v.max(),
            'v_min': v.min(),
            'binary_accuracy': accuracy(correct),
            **logits_info(logits),
        }

    def actor_loss(self, batch, grad_params, rng):
        """Ascent on the reward of the goals that the critic deems likely, plus behavioural cloning."""
        dist = self.network.select('actor')(batch['observations'], params=grad_params)
        actions = self.policy_actions(dist, rng)
        v = self.network.select('critic')(batch['observations'], batch['actor_goals'], actions)
        logits = torch.log(maximum(v, 1e-6)).amin(axis=0)

        return self.ratio_actor_loss(batch, dist, logits)

    def pretraining_loss(self, batch, grad_params, rng=None):
        """Contrast and behavioural cloning. grad_params None reads every network frozen."""
        info = {}

        critic_loss, critic_info = self.contrastive_loss(batch, grad_params)
        info.update(prefixed('critic', critic_info))

        bc_loss, bc_info = self.bc_loss(batch, grad_params)
        info.update(prefixed('bc', bc_info))

        loss = critic_loss + bc_loss
        return loss, info

    def finetuning_loss(self, batch, grad_params, full_update=True, rng=None):
        """Reward and contrast; with full_update the actor as well. grad_params None reads all frozen."""
        rng = self.rng if rng is None else rng
        info = {}

        reward_loss, reward_info = self.reward_loss(batch, grad_params)
        info.update(prefixed('reward', reward_info))

        critic_loss, critic_info = self.contrastive_loss(batch, grad_params)
        info.update(prefixed('critic', critic_info))

        loss = reward_loss + critic_loss
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
        """One fine-tuning update: (agent, info)."""
        return self.update(
            lambda grad_params, rng: self.finetuning_loss(
                batch, grad_params, full_update=full_update, rng=rng
            ),
        )

    @classmethod
    def create(cls, seed, ex_observations, ex_actions, config, device=None, dtype=None):
        """A new agent for observations and actions like the examples ((B, ...) and (B, A))."""
        config = complete_config(config, get_config())
        rng = random.PRNGKey(seed).to(device)
        rng, init_rng = random.split(rng)

        encoders = make_encoders(
            config['encoder'],
            ['critic_state', 'critic_goal', 'actor', 'reward'],
            ex_observations,
            ex_actions,
        )
        critic_def, reward_def = critic_and_reward(config, encoders, value_exp=True)
        actor_def = Actor(
            hidden_dims=config['actor_hidden_dims'],
            action_dim=ex_actions.shape[-1],
            layer_norm=config['actor_layer_norm'],
            const_std=config['const_std'],
            encoder=encoders.get('actor'),
        )
        networks = {
            'critic': (critic_def, (ex_observations, ex_observations, ex_actions)),
            'actor': (actor_def, (ex_observations,)),
            'reward': (reward_def, (ex_observations,)),
        }
        network = TrainState.create(networks, init_rng, config['lr'], device, dtype)

        return cls(rng, network, config)


def get_config():
    """The default configuration; plain values. relabel_reward and what follows is for the batch builder."""
    return {
        'agent_name': 'crl_infonce',
        'lr': 3e-4,
        'batch_size': 256,
        'actor_hidden_dims': (512, 512, 512, 512),
        'value_hidden_dims': (512, 512, 512, 512),
        'reward_hidden_dims': (512, 512, 512, 512),
        'latent_dim': 512,
        'actor_layer_norm': False,
        'value_layer_norm': True,
        'reward_layer_norm': True,
        'discount': 0.99,
        'actor_freq': 4,
        'contrastive_loss': 'forward_infonce',
        'logsumexp_penalty_coeff': 0.01,
        'normalize_q_loss': True,
        'alpha': 0.1,
        'const_std': True,
        'encoder': None,
        'relabel_reward': False,
        'value_p_curgoal': 0.0,
        'value_p_trajgoal': 1.0,
        'value_p_randomgoal': 0.0,
        'value_geom_sample': True,
        'value_geom_start_offset': 0,
        'actor_p_curgoal': 0.0,
        'actor_p_trajgoal': 1.0,
        'actor_p_randomgoal': 0.0,
        'actor_geom_sample': False,
        'actor_geom_start_offset': 0,
        'gc_negative': True,
    }
