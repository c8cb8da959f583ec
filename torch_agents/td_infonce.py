"""Temporal-difference InfoNCE (TD InfoNCE)."""

import copy
import functools

import torch
from torch import softmax

from torch_agents import random
from torch_agents.agent import aggregate, complete_config, prefixed
from torch_agents.encoders import GCEncoder, make_encoders
from torch_agents.infonce import (
    InfoNCEAgent,
    accuracy,
    critic_and_reward,
    cross_entropy,
    identity_like,
    logits_info,
    pair_logits,
)
from torch_agents.networks import GCActor
from torch_agents.train_state import TrainState


class TDInfoNCEAgent(InfoNCEAgent):
    """Pre-trained by TD learning of future states and by cloning, fine-tuned on their reward."""

    def contrastive_loss(self, batch, grad_params, next_actions):
        """InfoNCE of the next states, and of random goals as the target critic weights them from there."""
        observations, actions = batch['observations'], batch['actions']
        critic = functools.partial(self.network.select('critic'), info=True, params=grad_params)
        next_v, next_phi, next_psi = critic(observations, batch['next_observations'], actions)
        random_v, random_phi, random_psi = critic(observations, batch['value_goals'], actions)
        next_logits = pair_logits(next_phi, next_psi)
        random_logits = pair_logits(random_phi, random_psi)

        identity = identity_like(random_logits)
        logits = identity[..., None] * next_logits + (1 - identity[..., None]) * random_logits
        next_loss = cross_entropy(logits, identity)
        random_loss = cross_entropy(random_logits, self.goal_weights(batch, next_actions))
        discount = self.config['discount']
        contrastive_loss = ((1 - discount) * next_loss + discount * random_loss).mean()

        v = identity * next_v + (1 - identity) * random_v
        logits = logits.mean(axis=-1)
        correct = (logits > 0) == (identity > 0)
        return contrastive_loss, {
            'contrastive_loss': contrastive_loss,
            'v_mean': v.mean(),
            'v_max': v.max(),
            'v_min': v.min(),
            'binary_accuracy': accuracy(correct),
            **logits_info(logits),
        }

    def goal_weights(self, batch, next_actions):
        """How likely each of the goals is from each of the next states, by the target critic: (B, B)."""
        _, phi, psi = self.network.select('target_critic')(
            batch['next_observations'], batch['value_goals'], next_actions, info=True
        )
        logits = torch.moveaxis(pair_logits(phi, psi), -1, 0)
        return softmax(aggregate(logits, self.config['logit_agg']), -1).detach()

    def actor_loss(self, batch, grad_params, rng):
        """Ascent on the reward of the goals that the critic deems likely, plus behavioural cloning."""
        dist = self.network.select('actor')(batch['observations'], params=grad_params)
        actions = self.policy_actions(dist, rng)
        v = self.network.select('critic')(batch['observations'], batch['actor_goals'], actions)
        logits = aggregate(v, self.config['logit_agg'])

        return self.ratio_actor_loss(batch, dist, logits)

    def pretraining_loss(self, batch, grad_params, rng=None):
        """Contrast along the batch's actions, and cloning. grad_params None reads every network frozen."""
        info = {}

        bc_loss, bc_info = self.bc_loss(batch, grad_params)
        info.update(prefixed('bc', bc_info))

        critic_loss, critic_info = self.contrastive_loss(batch, grad_params, batch['next_actions'])
        info.update(prefixed('critic', critic_info))

        loss = bc_loss + critic_loss
        return loss, info

    def finetuning_loss(self, batch, grad_params, full_update=True, rng=None):
        """Reward, and contrast along the policy's actions; with full_update the actor as well.

        grad_params None reads every network frozen.
        """
        rng = self.rng if rng is None else rng
        info = {}

        reward_loss, reward_info = self.reward_loss(batch, grad_params)
        info.update(prefixed('reward', reward_info))

        rng, critic_rng = random.split(rng)
        next_dist = self.network.select('actor')(batch['next_observations'])
        next_actions = self.policy_actions(next_dist, critic_rng)
        critic_loss, critic_info = self.contrastive_loss(batch, grad_params, next_actions)
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
        return self.update(
            lambda grad_params, rng: self.pretraining_loss(batch, grad_params, rng=rng),
            targets={'target_critic': 'critic'},
        )

    def finetune(self, batch, full_update=True):
        """One fine-tuning update: (agent, info). The target critic moves in every update."""
        return self.update(
            lambda grad_params, rng: self.finetuning_loss(
                batch, grad_params, full_update=full_update, rng=rng
            ),
            targets={'target_critic': 'critic'},
        )

    def target_reset(self):
        """The target critic set equal to the critic."""
        return self.replace(network=self.network.copy_params('critic', 'target_critic'))

    @classmethod
    def create(cls, seed, ex_observations, ex_actions, config, device=None, dtype=None):
        """A new agent for observations and actions like the examples ((B, ...) and (B, A))."""
        config = complete_config(config, get_config())
        rng = random.PRNGKey(seed).to(device)
        rng, init_rng = random.split(rng)

        encoders = make_encoders(
            config['encoder'],
            ['reward', 'critic_state', 'critic_goal', 'actor'],
            ex_observations,
            ex_actions,
        )
        critic_def, reward_def = critic_and_reward(config, encoders, value_exp=False)
        actor_def = GCActor(
            hidden_dims=config['actor_hidden_dims'],
            action_dim=ex_actions.shape[-1],
            layer_norm=config['actor_layer_norm'],
            const_std=config['const_std'],
            gc_encoder=GCEncoder(encoders['actor']) if encoders else None,
        )
        critic_inputs = (ex_observations, ex_observations, ex_actions)
        networks = {
            'reward': (reward_def, (ex_observations,)),
            'critic': (critic_def, critic_inputs),
            'target_critic': (copy.deepcopy(critic_def), critic_inputs),
            'actor': (actor_def, (ex_observations,)),
        }
        network = TrainState.create(networks, init_rng, config['lr'], device, dtype)
        agent = cls(rng, network, config)

        return agent.target_reset()


def get_config():
    """The default configuration; plain values. relabel_reward and what follows is for the batch builder."""
    return {
        'agent_name': 'td_infonce',
        'lr': 3e-4,
        'batch_size': 256,
        'actor_hidden_dims': (512, 512, 512, 512),
        'value_hidden_dims': (512, 512, 512, 512),
        'reward_hidden_dims': (512, 512, 512, 512),
        'actor_layer_norm': False,
        'value_layer_norm': True,
        'reward_layer_norm': True,
        'latent_dim': 512,
        'discount': 0.99,
        'actor_freq': 4,
        'tau': 0.005,
        'logit_agg': 'mean',
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
