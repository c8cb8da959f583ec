"""Hilbert foundation policies (HILP)."""

import copy

import torch

from torch_agents import random
from torch_agents.agent import complete_config, expectile_loss, prefixed
from torch_agents.encoders import GCEncoder, make_encoders
from torch_agents.implicit_q import ImplicitQAgent, latent_networks
from torch_agents.layers import clip
from torch_agents.networks import GCMetricValue, normalize_latents
from torch_agents.train_state import TrainState


class HILPAgent(ImplicitQAgent):
    """Pre-trained to go the way of a skill in a Hilbert space of states, fine-tuned for one skill."""

    def metric_value_loss(self, batch, grad_params):
        """Goal-conditioned IQL of the metric value: the advantage weights both members alike."""
        next_v1, next_v2 = self.network.select('target_value')(
            batch['next_observations'], batch['value_goals']
        )
        next_v = torch.minimum(next_v1, next_v2)
        discounts = self.config['discount'] * batch['relabeled_masks']
        q = batch['relabeled_rewards'] + discounts * next_v

        v1_t, v2_t = self.network.select('target_value')(batch['observations'], batch['value_goals'])
        adv = q - (v1_t + v2_t) / 2

        q1 = batch['relabeled_rewards'] + discounts * next_v1
        q2 = batch['relabeled_rewards'] + discounts * next_v2
        v1, v2 = self.network.select('value')(batch['observations'], batch['value_goals'], params=grad_params)
        v = (v1 + v2) / 2
        value_loss1 = expectile_loss(adv, q1 - v1, self.config['expectile']).mean()
        value_loss2 = expectile_loss(adv, q2 - v2, self.config['expectile']).mean()
        value_loss = value_loss1 + value_loss2

        return value_loss, {
            'value_loss': value_loss,
            'v_mean': v.mean(),
            'v_max': v.max(),
            'v_min': v.min(),
        }

    def get_phis(self, observations):
        """Where the observations (..., O) lie in the Hilbert space: (..., L), by the first member."""
        _, phis, _ = self.network.select('value')(observations, observations, info=True)
        return phis[0]

    def phi_steps(self, batch):
        """How far each transition goes in the Hilbert space: (B, L)."""
        _, phis, next_phis = self.network.select('value')(
            batch['observations'], batch['next_observations'], info=True
        )
        return next_phis[0] - phis[0]

    @torch.no_grad()
    def sample_latents(self, batch, rng):
        """A random skill (B, L) for each transition, and the rewards (B,) of going its way."""
        actions = batch['actions']
        latents = random.normal(rng, (*actions.shape[:-1], self.config['latent_dim']), actions.dtype)
        latents = normalize_latents(latents)
        return latents, (self.phi_steps(batch) * latents).sum(axis=-1)

    @torch.no_grad()
    def infer_latent(self, batch):
        """The skill (L,) whose rewards are nearest to the batch's, by least squares."""
        # parity: JAX's least squares are of minimal norm where the rank is deficient; torch's are not on GPUs
        steps = self.phi_steps(batch)
        rtol = max(steps.shape) * torch.finfo(steps.dtype).eps
        latent = torch.linalg.pinv(steps, rtol=rtol) @ batch['rewards']
        return normalize_latents(latent)

    def pretraining_loss(self, batch, grad_params, rng=None):
        """The metric value, and IQL on random skills. grad_params None reads every network frozen."""
        rng = self.rng if rng is None else rng
        info = {}

        value_loss, value_info = self.metric_value_loss(batch, grad_params)
        info.update(prefixed('value', value_info))

        rng, latent_rng = random.split(rng)
        latents, rewards = self.sample_latents(batch, latent_rng)
        batch = {**batch, 'rewards': rewards}
        skill_loss, skill_info = self.latent_loss(
            batch, grad_params, self.config['alpha'], latents, prefix='skill_'
        )
        info.update(skill_info)

        loss = value_loss + skill_loss
        return loss, info

    def finetuning_loss(self, batch, grad_params, full_update=True, rng=None):
        """IQL on the batch's skills; with full_update the actor, too. grad_params None reads all frozen."""
        alpha, latents = self.config['alpha'], batch['latents']
        return self.latent_loss(batch, grad_params, alpha, latents, full_update, prefix='skill_')

    def pretrain(self, batch):
        """One pre-training update: (agent, info)."""
        return self.update(
            lambda grad_params, rng: self.pretraining_loss(batch, grad_params, rng=rng),
            targets={'target_value': 'value', 'target_skill_critic': 'skill_critic'},
        )

    def finetune(self, batch, full_update=True):
        """One fine-tuning update: (agent, info). The target skill critic moves in every update."""
        return self.update(
            lambda grad_params, rng: self.finetuning_loss(
                batch, grad_params, full_update=full_update, rng=rng
            ),
            targets={'target_skill_critic': 'skill_critic'},
        )

    def target_reset(self):
        """The target skill critic set equal to the skill critic."""
        return self.replace(network=self.network.copy_params('skill_critic', 'target_skill_critic'))

    @torch.no_grad()
    def sample_actions(self, observations, latents, seed=None, temperature=1.0):
        """Actions (..., A) for observations (..., O) and skills (..., L), in [-1, 1]."""
        dist = self.network.select('skill_actor')(
            observations, latents, goal_encoded=True, temperature=temperature
        )
        return clip(dist.sample(seed), -1, 1)

    @classmethod
    def create(cls, seed, ex_observations, ex_actions, config, device=None, dtype=None):
        """A new agent for observations and actions like the examples ((B, ...) and (B, A))."""
        config = complete_config(config, get_config())
        rng = random.PRNGKey(seed).to(device)
        rng, init_rng, _ = random.split(rng, 3)

        ex_latents = torch.zeros((*ex_actions.shape[:-1], config['latent_dim']))
        encoders = make_encoders(
            config['encoder'],
            ['value', 'skill_value', 'skill_critic', 'skill_actor'],
            ex_observations,
            ex_actions,
        )
        gc_encoders = {network: GCEncoder(encoder) for network, encoder in encoders.items()}
        value_def = GCMetricValue(
            hidden_dims=config['value_hidden_dims'],
            latent_dim=config['latent_dim'],
            layer_norm=config['value_layer_norm'],
            num_ensembles=2,
            encoder=encoders.get('value'),
        )
        skill_value_def, skill_critic_def, skill_actor_def = latent_networks(
            config, ex_actions, gc_encoders, prefix='skill_'
        )
        critic_inputs = (ex_observations, ex_latents, ex_actions, True)
        networks = {
            'value': (value_def, (ex_observations, ex_observations)),
            'target_value': (copy.deepcopy(value_def), (ex_observations, ex_observations)),
            'skill_critic': (skill_critic_def, critic_inputs),
            'target_skill_critic': (copy.deepcopy(skill_critic_def), critic_inputs),
            'skill_value': (skill_value_def, (ex_observations, ex_latents, None, True)),
            'skill_actor': (skill_actor_def, (ex_observations, ex_latents, True)),
        }
        network = TrainState.create(networks, init_rng, config['lr'], device, dtype)
        network = network.copy_params('value', 'target_value')
        network = network.copy_params('skill_critic', 'target_skill_critic')

        return cls(rng, network, config)


def get_config():
    """The default configuration; plain values. relabel_reward and what follows is for the batch builder."""
    return {
        'agent_name': 'hilp',
        'lr': 3e-4,
        'batch_size': 256,
        'actor_hidden_dims': (512, 512, 512, 512),
        'value_hidden_dims': (512, 512, 512, 512),
        'latent_dim': 512,
        'actor_layer_norm': False,
        'value_layer_norm': True,
        'discount': 0.99,
        'tau': 0.005,
        'expectile': 0.9,
        'actor_freq': 4,
        'alpha': 10.0,
        'const_std': True,
        'num_latent_inference_samples': 10_000,
        'encoder': None,
        'relabel_reward': False,
        'value_p_curgoal': 0.0,
        'value_p_trajgoal': 0.625,
        'value_p_randomgoal': 0.375,
        'value_geom_sample': True,
        'value_geom_start_offset': 1,
        'actor_p_curgoal': 0.0,
        'actor_p_trajgoal': 1.0,
        'actor_p_randomgoal': 0.0,
        'actor_geom_sample': False,
        'actor_geom_start_offset': 1,
        'gc_negative': True,
    }
