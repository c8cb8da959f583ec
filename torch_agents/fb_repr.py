"""Forward-backward representations (FB)."""

import copy

import torch

from torch_agents import random
from torch_agents.agent import aggregate, complete_config, prefixed
from torch_agents.encoders import GCEncoder, make_encoders
from torch_agents.implicit_q import ImplicitQAgent, latent_networks
from torch_agents.layers import clip
from torch_agents.networks import GCValue, normalize_latents
from torch_agents.train_state import TrainState


class FBReprAgent(ImplicitQAgent):
    """Pre-trained by TD learning of occupancies, F(s, z, a) . B(s'), fine-tuned by IQL for one latent z."""

    def fb_repr_loss(self, batch, grad_params, latents, rng):
        """TD learning of the occupancies of all pairs of states, and orthonormality of B."""
        observations, next_observations = batch['observations'], batch['next_observations']
        size = self.check_batch_size(batch)
        next_dist = self.network.select('actor')(next_observations, latents, goal_encoded=True)
        next_actions = self.policy_actions(next_dist, rng)

        next_forward = self.network.select('target_forward_repr')(
            next_observations, latents, next_actions, goal_encoded=True
        )
        next_backward = normalize_latents(self.network.select('target_backward_repr')(next_observations))
        target_measures = torch.einsum('esd,td->est', next_forward, next_backward)
        target_measure = aggregate(target_measures, self.config['repr_agg'])

        forward = self.network.select('forward_repr')(
            observations, latents, batch['actions'], goal_encoded=True, params=grad_params
        )
        backward = normalize_latents(
            self.network.select('backward_repr')(next_observations, params=grad_params)
        )
        measures = torch.einsum('esd,td->est', forward, backward)

        off_diagonal = 1 - torch.eye(size, dtype=measures.dtype, device=measures.device)
        residuals = (measures - self.config['discount'] * target_measure) * off_diagonal
        repr_off_diag_loss = 0.5 * (residuals**2).sum(axis=-1) / (size - 1)
        repr_diag_loss = -torch.diagonal(measures, 0, -2, -1)
        repr_loss = (repr_diag_loss + repr_off_diag_loss).mean()

        covariance = torch.matmul(backward, backward.T)
        ortho_diag_loss = -2 * torch.diagonal(covariance)
        ortho_off_diag_loss = ((covariance * off_diagonal) ** 2).sum(axis=-1) / (size - 1)
        ortho_loss = self.config['orthonorm_coeff'] * (ortho_diag_loss + ortho_off_diag_loss).mean()
        fb_repr_loss = repr_loss + ortho_loss

        return fb_repr_loss, {
            'repr_loss': repr_loss,
            'repr_diag_loss': repr_diag_loss.mean(),
            # divided by B - 1 again, as the original reports it
            'repr_off_diag_loss': (repr_off_diag_loss.sum(axis=-1) / (size - 1)).mean(),
            'ortho_loss': ortho_loss,
            'ortho_diag_loss': ortho_diag_loss.mean(),
            'ortho_off_diag_loss': ortho_off_diag_loss.mean(),
            'occ_measure_mean': measures.mean(),
            'occ_measure_max': measures.max(),
            'occ_measure_min': measures.min(),
        }

    def check_batch_size(self, batch):
        """The number of transitions in the batch, which must be config['batch_size']; else ValueError."""
        size = batch['actions'].shape[0]
        if size != self.config['batch_size']:
            raise ValueError(
                f'batch_size={self.config["batch_size"]!r}, but the batch has {size} transitions; '
                f'create the agent with batch_size={size}, or pass batches of {self.config["batch_size"]}'
            )
        return size

    def fb_actor_loss(self, batch, grad_params, latents, rng):
        """Ascent on F(s, z, a) . z, plus behavioural cloning."""
        observations = batch['observations']
        dist = self.network.select('actor')(observations, latents, goal_encoded=True, params=grad_params)
        actions = self.policy_actions(dist, rng)
        forward = self.network.select('forward_repr')(observations, latents, actions, goal_encoded=True)
        q1, q2 = (forward * latents).sum(axis=-1)
        q = torch.minimum(q1, q2)

        return self.q_and_bc_loss(
            q, dist, batch['actions'], self.config['alpha_repr'], self.config['normalize_q_loss']
        )

    @torch.no_grad()
    def sample_latents(self, batch, rng):
        """A latent (B, L) for each transition: at random, or what leads to a state of the batch."""
        observations, actions = batch['observations'], batch['actions']
        latent_rng, perm_rng, mix_rng = random.split(rng, 3)
        latents = random.normal(latent_rng, (*actions.shape[:-1], self.config['latent_dim']), actions.dtype)
        latents = normalize_latents(latents)

        perm = random.permutation(perm_rng, torch.arange(actions.shape[0], device=perm_rng.device))
        backward = self.network.select('backward_repr')(observations[perm])
        backward_latents = normalize_latents(backward).detach()
        mix = random.uniform(mix_rng, (*actions.shape[:-1], 1), actions.dtype)
        return torch.where(mix < self.config['latent_mix_prob'], latents, backward_latents)

    @torch.no_grad()
    def infer_latent(self, batch):
        """The latent (L,) of the batch's rewards: B(s), weighted by them."""
        backward = normalize_latents(self.network.select('backward_repr')(batch['observations']))
        latent = batch['rewards'] @ backward / batch['rewards'].shape[0]
        return normalize_latents(latent)

    def pretraining_loss(self, batch, grad_params, rng=None):
        """Representations and the actor on sampled latents. grad_params None reads every network frozen."""
        rng = self.rng if rng is None else rng
        info = {}

        rng, latent_rng, repr_rng, actor_rng = random.split(rng, 4)
        latents = self.sample_latents(batch, latent_rng)
        fb_repr_loss, fb_repr_info = self.fb_repr_loss(batch, grad_params, latents, repr_rng)
        info.update(prefixed('fb_repr', fb_repr_info))

        fb_actor_loss, fb_actor_info = self.fb_actor_loss(batch, grad_params, latents, actor_rng)
        info.update(prefixed('fb_actor', fb_actor_info))

        loss = fb_repr_loss + fb_actor_loss
        return loss, info

    def finetuning_loss(self, batch, grad_params, full_update=True, rng=None):
        """IQL on the batch's latents; with full_update the actor, too. grad_params None reads all frozen."""
        alpha, latents = self.config['alpha_awr'], batch['latents']
        return self.latent_loss(batch, grad_params, alpha, latents, full_update)

    def pretrain(self, batch):
        """One pre-training update: (agent, info)."""
        return self.update(
            lambda grad_params, rng: self.pretraining_loss(batch, grad_params, rng=rng),
            targets={
                'target_forward_repr': 'forward_repr',
                'target_backward_repr': 'backward_repr',
            },
        )

    def finetune(self, batch, full_update=True):
        """One fine-tuning update: (agent, info). The target critic moves in every update."""
        return self.update(
            lambda grad_params, rng: self.finetuning_loss(
                batch, grad_params, full_update=full_update, rng=rng
            ),
            targets={'target_critic': 'critic'},
        )

    @torch.no_grad()
    def sample_actions(self, observations, latents, seed=None, temperature=1.0):
        """Actions (..., A) for observations (..., O) and latents (..., L), in [-1, 1]."""
        dist = self.network.select('actor')(observations, latents, goal_encoded=True, temperature=temperature)
        return clip(dist.sample(seed), -1, 1)

    @classmethod
    def create(cls, seed, ex_observations, ex_actions, config, device=None, dtype=None):
        """A new agent for observations and actions like the examples ((B, ...) and (B, A))."""
        config = complete_config(config, get_config())
        rng = random.PRNGKey(seed).to(device)
        rng, init_rng = random.split(rng)

        ex_latents = torch.zeros((*ex_actions.shape[:-1], config['latent_dim']))
        encoders = make_encoders(
            config['encoder'],
            ['value', 'critic', 'forward_repr', 'backward_repr', 'actor'],
            ex_observations,
            ex_actions,
        )
        gc_encoders = {network: GCEncoder(encoder) for network, encoder in encoders.items()}
        value_def, critic_def, actor_def = latent_networks(config, ex_actions, gc_encoders)
        forward_repr_def = GCValue(
            hidden_dims=config['forward_repr_hidden_dims'],
            value_dim=config['latent_dim'],
            layer_norm=config['fb_repr_layer_norm'],
            num_ensembles=2,
            gc_encoder=gc_encoders.get('forward_repr'),
        )
        backward_repr_def = GCValue(
            hidden_dims=config['backward_repr_hidden_dims'],
            value_dim=config['latent_dim'],
            layer_norm=config['fb_repr_layer_norm'],
            gc_encoder=gc_encoders.get('backward_repr'),
        )
        critic_inputs = (ex_observations, ex_latents, ex_actions, True)
        networks = {
            'value': (value_def, (ex_observations, ex_latents, None, True)),
            'critic': (critic_def, critic_inputs),
            'forward_repr': (forward_repr_def, critic_inputs),
            'backward_repr': (backward_repr_def, (ex_observations,)),
            'target_critic': (copy.deepcopy(critic_def), critic_inputs),
            'target_forward_repr': (copy.deepcopy(forward_repr_def), critic_inputs),
            'target_backward_repr': (copy.deepcopy(backward_repr_def), (ex_observations,)),
            'actor': (actor_def, (ex_observations, ex_latents, True)),
        }
        network = TrainState.create(networks, init_rng, config['lr'], device, dtype)
        # target_critic keeps its own initial values, as in the original
        network = network.copy_params('forward_repr', 'target_forward_repr')
        network = network.copy_params('backward_repr', 'target_backward_repr')

        return cls(rng, network, config)


def get_config():
    """The default configuration; plain values. batch_size must be that of the batches."""
    return {
        'agent_name': 'fb_repr',
        'lr': 3e-4,
        'batch_size': 256,
        'actor_hidden_dims': (512, 512, 512, 512),
        'value_hidden_dims': (512, 512, 512, 512),
        'forward_repr_hidden_dims': (512, 512, 512, 512),
        'backward_repr_hidden_dims': (512, 512, 512, 512),
        'actor_layer_norm': False,
        'value_layer_norm': True,
        'fb_repr_layer_norm': True,
        'latent_dim': 512,
        'discount': 0.99,
        'tau': 0.005,
        'expectile': 0.9,
        'actor_freq': 4,
        'repr_agg': 'mean',
        'orthonorm_coeff': 1.0,
        'latent_mix_prob': 0.5,
        'alpha_repr': 10.0,
        'alpha_awr': 10.0,
        'const_std': True,
        'normalize_q_loss': False,
        'num_latent_inference_samples': 10_000,
        'encoder': None,
    }
