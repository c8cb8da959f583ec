"""Intention-conditioned flow occupancy models (InFOM)."""

import copy

import torch

from torch_agents import random
from torch_agents.agent import Agent, aggregate, complete_config, expectile_loss, prefixed
from torch_agents.encoders import encoder_features, make_encoders
from torch_agents.layers import clip
from torch_agents.networks import Actor, IntentionEncoder, Value, VectorField
from torch_agents.train_state import TrainState


class InFOMAgent(Agent):
    """Pre-trained by flow matching of future states given an intention, fine-tuned on the flow's rewards."""

    def reward_loss(self, batch, grad_params):
        """Regression of the reward network, which sees what the vector field sees."""
        observations = self.encode('critic_vf', batch['observations'])
        return super().reward_loss({**batch, 'observations': observations}, grad_params)

    def critic_loss(self, batch, grad_params, rng):
        """Expectile regression of Q towards the mean reward of the flow's goals."""
        rng, noise_rng, latent_rng = random.split(rng, 3)
        num_flow_goals = self.config['num_flow_goals']
        actions = batch['actions']

        observations = self.encode('critic_vf', batch['observations'])
        shape = (num_flow_goals, *observations.shape)
        noises = random.normal(noise_rng, shape, observations.dtype)
        latents = self.critic_latents(batch, latent_rng)
        goals = self.flow_goals(
            noises,
            torch.broadcast_to(observations, shape),
            torch.broadcast_to(actions, (num_flow_goals, *actions.shape)),
            torch.broadcast_to(latents, (num_flow_goals, *latents.shape)),
            batch.get('observation_min'),
            batch.get('observation_max'),
        )
        rewards = self.network.select('reward')(goals)
        target_q = rewards.mean(axis=0) / (1 - self.config['discount'])

        qs = self.network.select('critic')(batch['observations'], actions, params=grad_params)
        critic_loss = expectile_loss(target_q - qs, target_q - qs, self.config['expectile']).mean()
        q = aggregate(qs, self.config['q_agg'])

        return critic_loss, {
            'critic_loss': critic_loss,
            'q_mean': q.mean(),
            'q_max': q.max(),
            'q_min': q.min(),
        }

    def flow_occupancy_loss(self, batch, grad_params, rng):
        """SARSA flow matching of the discounted future states, and the intention encoder's KL."""
        actions, next_actions = batch['actions'], batch['next_actions']
        observations = self.encode('critic_vf', batch['observations'], params=grad_params)
        next_observations = self.encode('target_critic_vf', batch['next_observations'])

        rng, latent_rng = random.split(rng)
        latent_dist = self.network.select('intention_encoder')(
            batch['next_observations'], next_actions, params=grad_params
        )
        latents = latent_dist.sample(latent_rng)
        means, log_stds = latent_dist.loc, torch.log(latent_dist.scale_diag)
        kl_loss = -0.5 * (1 + 2 * log_stds - means**2 - torch.exp(2 * log_stds)).mean()

        rng, time_rng, current_rng, future_rng = random.split(rng, 4)
        times = random.uniform(time_rng, actions.shape[:-1], actions.dtype)
        current_loss = self.current_flow_matching_loss(
            observations, actions, latents, times, grad_params, current_rng
        )
        future_loss, future_observations = self.future_flow_matching_loss(
            batch, observations, next_observations, latents.detach(), times, grad_params, future_rng
        )
        discount = self.config['discount']
        flow_matching_loss = ((1 - discount) * current_loss + discount * future_loss).mean()
        neg_elbo_loss = flow_matching_loss + self.config['kl_weight'] * kl_loss

        return neg_elbo_loss, {
            'neg_elbo_loss': neg_elbo_loss,
            'flow_matching_loss': flow_matching_loss,
            'kl_loss': kl_loss,
            'flow_future_obs_max': future_observations.max(),
            'flow_future_obs_min': future_observations.min(),
            'current_flow_matching_loss': current_loss.mean(),
            'future_flow_matching_loss': future_loss.mean(),
        }

    def current_flow_matching_loss(self, observations, actions, latents, times, grad_params, rng):
        """Per sample (B,): the field towards the current observations. Gradients reach the latents."""
        noises = random.normal(rng, observations.shape, actions.dtype)
        path = times[..., None] * observations + (1 - times[..., None]) * noises
        velocity = (observations - noises).detach()
        pred = self.network.select('critic_vf')(
            path, times, observations.detach(), actions, latents, params=grad_params
        )
        return ((velocity - pred) ** 2).mean(axis=-1)

    def future_flow_matching_loss(
        self, batch, observations, next_observations, latents, times, grad_params, rng
    ):
        """Per sample (B,): the field towards the target field on its own goals; and these goals (B, O)."""
        actions, next_actions = batch['actions'], batch['next_actions']
        noises = random.normal(rng, observations.shape, actions.dtype)
        goals = self.flow_goals(
            noises,
            next_observations,
            next_actions,
            latents,
            batch.get('observation_min'),
            batch.get('observation_max'),
            field='target_critic_vf',
        )
        path = times[..., None] * goals + (1 - times[..., None]) * noises
        velocity = self.network.select('target_critic_vf')(
            path, times, next_observations, next_actions, latents
        )
        pred = self.network.select('critic_vf')(
            path, times, observations.detach(), actions, latents, params=grad_params
        )
        return ((velocity - pred) ** 2).mean(axis=-1), goals

    def actor_loss(self, batch, grad_params, rng):
        """Ascent on the critic, plus behavioural cloning."""
        dist = self.network.select('actor')(batch['observations'], params=grad_params)
        actions = self.policy_actions(dist, rng)
        qs = self.network.select('critic')(batch['observations'], actions)
        q = aggregate(qs, self.config['q_agg'])

        return self.q_and_bc_loss(
            q, dist, batch['actions'], self.config['alpha'], self.config['normalize_q_loss']
        )

    def encode(self, field, observations, params=None):
        """What a vector field sees: the features of its encoder, or the observations themselves."""
        if self.config['encoder'] is None:
            return observations
        return self.network.select(f'{field}_encoder')(observations, params=params)

    def critic_latents(self, batch, rng):
        """The latents (B, L) of the critic's flow, the same for all of its goals."""
        actions = batch['actions']
        if self.config['critic_latent_type'] == 'prior':
            return random.normal(rng, (*actions.shape[:-1], self.config['latent_dim']), actions.dtype)
        dist = self.network.select('intention_encoder')(batch['next_observations'], batch['next_actions'])
        return dist.sample(rng)

    def flow_goals(
        self,
        noises,
        observations,
        actions,
        latents,
        observation_min=None,
        observation_max=None,
        init_times=None,
        end_times=None,
        field='critic_vf',
    ):
        """Follow a frozen vector field from noises (..., G) by Euler steps, init_times to end_times (...).

        With clip_flow_goals every step ends inside the range of the data, 1e-5 from its bounds.
        """
        init_times = torch.zeros_like(noises[..., 0]) if init_times is None else init_times
        end_times = torch.ones_like(noises[..., 0]) if end_times is None else end_times
        step_size = (end_times - init_times) / self.config['num_flow_steps']

        def step(goals, i):
            times = i * step_size + init_times
            velocity = self.network.select(field)(goals, times, observations, actions, latents)
            goals = goals + velocity * step_size[..., None]
            if self.config['clip_flow_goals']:
                goals = clip(goals, observation_min + 1e-5, observation_max - 1e-5)
            return goals, None

        goals = noises
        for i in range(self.config['num_flow_steps']):
            goals, _ = step(goals, i)
        return goals

    def pretraining_loss(self, batch, grad_params, rng=None):
        """Flow occupancy and behavioural cloning. grad_params None reads every network frozen."""
        rng = self.rng if rng is None else rng
        info = {}

        rng, flow_rng = random.split(rng)
        flow_occupancy_loss, flow_occupancy_info = self.flow_occupancy_loss(batch, grad_params, flow_rng)
        info.update(prefixed('flow_occupancy', flow_occupancy_info))

        bc_loss, bc_info = self.bc_loss(batch, grad_params)
        info.update(prefixed('bc', bc_info))

        loss = flow_occupancy_loss + bc_loss
        return loss, info

    def finetuning_loss(self, batch, grad_params, full_update=True, rng=None):
        """Reward, critic and flow; with full_update the actor as well. grad_params None reads all frozen."""
        rng = self.rng if rng is None else rng
        info = {}

        rng, critic_rng, flow_rng, actor_rng = random.split(rng, 4)
        reward_loss, reward_info = self.reward_loss(batch, grad_params)
        info.update(prefixed('reward', reward_info))

        critic_loss, critic_info = self.critic_loss(batch, grad_params, critic_rng)
        info.update(prefixed('critic', critic_info))

        flow_occupancy_loss, flow_occupancy_info = self.flow_occupancy_loss(batch, grad_params, flow_rng)
        info.update(prefixed('flow_occupancy', flow_occupancy_info))

        loss = reward_loss + critic_loss + flow_occupancy_loss
        if full_update:
            actor_loss, actor_info = self.actor_loss(batch, grad_params, actor_rng)
            info.update(prefixed('actor', actor_info))
            loss = loss + actor_loss

        return loss, info

    def pretrain(self, batch):
        """One pre-training update: (agent, info)."""
        return self.update(
            lambda grad_params, rng: self.pretraining_loss(batch, grad_params, rng=rng),
            targets=self.targets(),
        )

    def finetune(self, batch, full_update=True):
        """One fine-tuning update: (agent, info)."""
        return self.update(
            lambda grad_params, rng: self.finetuning_loss(
                batch, grad_params, full_update=full_update, rng=rng
            ),
            targets=self.targets(),
        )

    def targets(self):
        """The target networks and what they follow."""
        targets = {'target_critic_vf': 'critic_vf'}
        if self.config['encoder'] is not None:
            targets['target_critic_vf_encoder'] = 'critic_vf_encoder'
        return targets

    def target_reset(self):
        """The target networks set equal to their online networks."""
        network = self.network
        for target, online in self.targets().items():
            network = network.copy_params(online, target)
        return self.replace(network=network)

    @classmethod
    def create(cls, seed, ex_observations, ex_actions, config, device=None, dtype=None):
        """A new agent for observations and actions like the examples ((B, ...) and (B, A))."""
        config = complete_config(config, get_config())
        rng = random.PRNGKey(seed).to(device)
        rng, init_rng, _ = random.split(rng, 3)

        action_dim = ex_actions.shape[-1]
        ex_times = torch.zeros(ex_actions.shape[:-1])
        ex_latents = torch.zeros((*ex_actions.shape[:-1], config['latent_dim']))
        ex_features = ex_observations
        encoders = make_encoders(
            config['encoder'],
            ['critic', 'intention_encoder', 'actor', 'critic_vf', 'target_critic_vf'],
            ex_observations,
            ex_actions,
        )
        if config['encoder'] is not None:
            rng, features_rng = random.split(rng)
            ex_features = random.normal(
                features_rng, (*ex_actions.shape[:-1], encoder_features(encoders['critic_vf']))
            )

        critic_def = Value(
            hidden_dims=config['value_hidden_dims'],
            layer_norm=config['value_layer_norm'],
            num_ensembles=2,
            encoder=encoders.get('critic'),
        )
        critic_vf_def = VectorField(
            vector_dim=ex_features.shape[-1],
            hidden_dims=config['value_hidden_dims'],
            layer_norm=config['value_layer_norm'],
        )
        intention_encoder_def = IntentionEncoder(
            hidden_dims=config['intention_encoder_hidden_dims'],
            latent_dim=config['latent_dim'],
            layer_norm=config['intention_encoder_layer_norm'],
            encoder=encoders.get('intention_encoder'),
        )
        actor_def = Actor(
            hidden_dims=config['actor_hidden_dims'],
            action_dim=action_dim,
            layer_norm=config['actor_layer_norm'],
            const_std=config['const_std'],
            encoder=encoders.get('actor'),
        )
        reward_def = Value(
            hidden_dims=config['reward_hidden_dims'],
            layer_norm=config['reward_layer_norm'],
        )
        vf_inputs = (ex_features, ex_times, ex_features, ex_actions, ex_latents)
        networks = {
            'critic': (critic_def, (ex_observations, ex_actions)),
            'critic_vf': (critic_vf_def, vf_inputs),
            'target_critic_vf': (copy.deepcopy(critic_vf_def), vf_inputs),
            'intention_encoder': (intention_encoder_def, (ex_observations, ex_actions)),
            'actor': (actor_def, (ex_observations,)),
            'reward': (reward_def, (ex_features,)),
        }
        if config['encoder'] is not None:
            networks['critic_vf_encoder'] = (encoders['critic_vf'], (ex_observations,))
            networks['target_critic_vf_encoder'] = (encoders['target_critic_vf'], (ex_observations,))
        network = TrainState.create(networks, init_rng, config['lr'], device, dtype)
        agent = cls(rng, network, config)

        return agent.target_reset()


def get_config():
    """The default configuration; plain values."""
    return {
        'agent_name': 'infom',
        'lr': 3e-4,
        'batch_size': 256,
        'intention_encoder_hidden_dims': (512, 512, 512, 512),
        'actor_hidden_dims': (512, 512, 512, 512),
        'value_hidden_dims': (512, 512, 512, 512),
        'reward_hidden_dims': (512, 512, 512, 512),
        'intention_encoder_layer_norm': True,
        'value_layer_norm': False,
        'actor_layer_norm': False,
        'reward_layer_norm': True,
        'latent_dim': 512,
        'discount': 0.99,
        'tau': 0.005,
        'expectile': 0.9,
        'kl_weight': 0.01,
        'q_agg': 'min',
        'critic_latent_type': 'prior',
        'num_flow_goals': 16,
        'clip_flow_goals': True,
        'actor_freq': 4,
        'alpha': 10.0,
        'const_std': True,
        'num_flow_steps': 10,
        'normalize_q_loss': False,
        'encoder': None,
    }
