"""What the two InfoNCE agents share: the logits of all pairs, their statistics and the actor's loss."""

import math

import torch
from torch import log_softmax

from torch_agents.agent import Agent
from torch_agents.layers import logsumexp
from torch_agents.networks import GCBilinearValue, Value


def pair_logits(phi, psi):
    """phi_e(i) . psi_e(j) / sqrt(L) of features (E, B, L): (B, B, E)."""
    return torch.einsum('eik,ejk->ije', phi, psi) / math.sqrt(phi.shape[-1])


def cross_entropy(logits, labels, axis=1):
    """The cross-entropy of softmax(logits) along an axis of (B, B, E), given labels (B, B): (B, E)."""
    return -(labels[..., None] * log_softmax(logits, axis)).sum(axis=axis)


def identity_like(logits):
    """The identity (B, B) for logits (B, ...): each state's own goal."""
    return torch.eye(logits.shape[0], dtype=logits.dtype, device=logits.device)


def accuracy(correct):
    """The share of true values; float32 in float64, too, as in the original."""
    # parity: the mean of booleans is float32 in JAX, whatever the precision
    return correct.to(torch.float32).mean()


def logits_info(logits):
    """How well logits (B, B) find each state's own goal, and their means on and off the diagonal."""
    identity = identity_like(logits)
    correct = logits.argmax(axis=1) == identity.argmax(axis=1)
    return {
        'categorical_accuracy': accuracy(correct),
        'logits_pos': (logits * identity).sum() / identity.sum(),
        'logits_neg': (logits * (1 - identity)).sum() / (1 - identity).sum(),
        'logits': logits.mean(),
    }


def critic_and_reward(config, encoders, value_exp):
    """The networks of the critic, an ensemble of two, and of the reward; encoders: by network, or {}."""
    critic_def = GCBilinearValue(
        hidden_dims=config['value_hidden_dims'],
        latent_dim=config['latent_dim'],
        layer_norm=config['value_layer_norm'],
        num_ensembles=2,
        value_exp=value_exp,
        state_encoder=encoders.get('critic_state'),
        goal_encoder=encoders.get('critic_goal'),
    )
    reward_def = Value(
        hidden_dims=config['reward_hidden_dims'],
        layer_norm=config['reward_layer_norm'],
        encoder=encoders.get('reward'),
    )
    return critic_def, reward_def


class InfoNCEAgent(Agent):
    """An agent whose critic rates all pairs of states and goals."""

    def ratio_actor_loss(self, batch, dist, logits):
        """Ascent on the reward of goals, weighted by exp of their critic's logits (B, B), plus cloning."""
        log_ratio = torch.diagonal(logits) - logsumexp(logits, 1) + math.log(logits.shape[0])
        q = torch.exp(log_ratio) * self.network.select('reward')(batch['actor_goals'])

        return self.q_and_bc_loss(
            q, dist, batch['actions'], self.config['alpha'], self.config['normalize_q_loss']
        )
