"""Model-based policy optimisation (MBPO) with ReBRAC."""

import copy

import torch

from torch_agents import random
from torch_agents.agent import complete_config, prefixed
from torch_agents.encoders import make_encoders
from torch_agents.networks import Value
from torch_agents.rebrac import ReBRACAgent, actor_and_critic
from torch_agents.train_state import TrainState


class MBPOReBRACAgent(ReBRACAgent):
    """Pre-trained on the transitions and by cloning, fine-tuned by ReBRAC on transitions of the model."""

    def transition_loss(self, batch, grad_params):
        """Regression of the transition network towards s' - s."""
        # images of integers are subtracted in their own dtype, which wraps around, as in the original
        obs_res = batch['next_observations'] - batch['observations']
        pred = self.network.select('transition')(batch['observations'], batch['actions'], params=grad_params)
        transition_loss = ((pred - obs_res) ** 2).mean()

        return transition_loss, {'transition_loss': transition_loss, 'obs_res': obs_res.to(pred.dtype).mean()}

    def model_batch(self, batch):
        """The transitions of the model, the batch's `model_*` entries; without any, the batch itself."""
        entries = {
            key.removeprefix('model_'): value for key, value in batch.items() if key.startswith('model_')
        }
        return entries or batch

    @torch.no_grad()
    def predict_rewards(self, observations):
        """The rewards (...) of observations (..., O)."""
        return self.network.select('reward')(observations)

    @torch.no_grad()
    def predict_next_observations(self, observations, actions):
        """The observations (..., O) that follow observations (..., O) and actions (..., A)."""
        return observations + self.network.select('transition')(observations, actions)

    def pretraining_loss(self, batch, grad_params, rng=None):
        """Transitions and behavioural cloning. grad_params None reads every network frozen."""
        info = {}

        transition_loss, transition_info = self.transition_loss(batch, grad_params)
        info.update(prefixed('transition', transition_info))

        bc_loss, bc_info = self.bc_loss(batch, grad_params)
        info.update(prefixed('bc', bc_info))

        loss = transition_loss + bc_loss
        return loss, info

    def finetuning_loss(self, batch, grad_params, full_update=True, rng=None):
        """Reward, transitions and critic; with full_update the actor.

        grad_params None reads every network frozen.
        """
        rng = self.rng if rng is None else rng
        info = {}

        model_batch = self.model_batch(batch)
        reward_loss, reward_info = self.reward_loss(batch, grad_params)
        info.update(prefixed('reward', reward_info))

        transition_loss, transition_info = self.transition_loss(batch, grad_params)
        info.update(prefixed('transition', transition_info))

        rng, actor_rng, critic_rng = random.split(rng, 3)
        critic_loss, critic_info = self.critic_loss(model_batch, grad_params, critic_rng)
        info.update(prefixed('critic', critic_info))

        loss = reward_loss + transition_loss + critic_loss
        if full_update:
            actor_loss, actor_info = self.actor_loss(model_batch, grad_params, actor_rng)
            info.update(prefixed('actor', actor_info))
            loss = loss + actor_loss

        return loss, info

    @classmethod
    def create(cls, seed, ex_observations, ex_actions, config, device=None, dtype=None):
        """A new agent for observations and actions like the examples ((B, ...) and (B, A))."""
        config = complete_config(config, get_config())
        rng = random.PRNGKey(seed).to(device)
        rng, init_rng = random.split(rng)

        encoders = make_encoders(
            config['encoder'],
            ['transition', 'reward', 'critic', 'actor'],
            ex_observations,
            ex_actions,
        )
        transition_def = Value(
            hidden_dims=config['transition_hidden_dims'],
            value_dim=ex_observations.shape[-1],
            layer_norm=config['transition_layer_norm'],
            encoder=encoders.get('transition'),
        )
        reward_def = Value(
            hidden_dims=config['reward_hidden_dims'],
            layer_norm=config['reward_layer_norm'],
            encoder=encoders.get('reward'),
        )
        actor_def, critic_def = actor_and_critic(config, ex_actions, encoders)
        networks = {
            'transition': (transition_def, (ex_observations, ex_actions)),
            'critic': (critic_def, (ex_observations, ex_actions)),
            'target_critic': (copy.deepcopy(critic_def), (ex_observations, ex_actions)),
            'actor': (actor_def, (ex_observations,)),
            'target_actor': (copy.deepcopy(actor_def), (ex_observations,)),
            'reward': (reward_def, (ex_observations,)),
        }
        network = TrainState.create(networks, init_rng, config['lr'], device, dtype)
        network = network.copy_params('critic', 'target_critic')
        network = network.copy_params('actor', 'target_actor')

        return cls(rng, network, config)


def get_config():
    """The default configuration; plain values. num_model_* are for the maker of the `model_*` entries."""
    return {
        'agent_name': 'mbpo_rebrac',
        'lr': 3e-4,
        'batch_size': 256,
        'transition_hidden_dims': (512, 512, 512, 512),
        'reward_hidden_dims': (512, 512, 512, 512),
        'actor_hidden_dims': (512, 512, 512, 512),
        'value_hidden_dims': (512, 512, 512, 512),
        'transition_layer_norm': True,
        'reward_layer_norm': True,
        'actor_layer_norm': False,
        'value_layer_norm': True,
        'discount': 0.99,
        'tau': 0.005,
        'tanh_squash': True,
        'actor_fc_scale': 0.01,
        'num_model_rollouts': 256,
        'num_model_rollout_steps': 1,
        'alpha_actor': 0.0,
        'alpha_critic': 0.0,
        'actor_freq': 4,
        'actor_noise': 0.2,
        'actor_noise_clip': 0.5,
        'encoder': None,
    }
