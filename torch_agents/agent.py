"""What the agents share: their state, the update, behavioural cloning and acting."""

import torch

from torch_agents import random
from torch_agents.layers import clip


def complete_config(config, defaults):
    """The defaults with the values of config in their place; lists become tuples.

    Raises ValueError for a key that the defaults do not have.
    """
    unknown = sorted(set(config) - set(defaults))
    if unknown:
        raise ValueError(f'unknown config keys {unknown}; {defaults["agent_name"]} has {sorted(defaults)}')
    values = {key: config.get(key, value) for key, value in defaults.items()}
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


def prefixed(prefix, info):
    """The info of one part of a loss, under `prefix/`."""
    return {f'{prefix}/{key}': value for key, value in info.items()}


def expectile_loss(adv, diff, expectile):
    """diff**2, weighted by expectile where adv >= 0 and by 1 - expectile elsewhere."""
    return torch.where(adv >= 0, expectile * diff**2, (1 - expectile) * diff**2)


class Agent:
    """An agent: a key (uint32, (2,)), its networks with their optimiser, and its configuration."""

    def __init__(self, rng, network, config):
        self.rng = rng
        self.network = network
        self.config = config

    def replace(self, **fields):
        """This agent with the given fields replaced, in place."""
        for name, value in fields.items():
            setattr(self, name, value)
        return self

    def policy_actions(self, dist, rng):
        """The actions (B, A) that actor losses evaluate: the mode, or a sample where the std is learned."""
        actions = dist.mode() if self.config['const_std'] else dist.sample(rng)
        return clip(actions, -1, 1)

    def behavioral_cloning(self, dist, actions):
        """The log-probabilities (B,) of the batch's actions, and the info that goes with them."""
        log_prob = dist.log_prob(actions)
        return log_prob, {
            'bc_log_prob': log_prob.mean(),
            'mse': ((dist.mode() - actions) ** 2).mean(),
            'std': dist.stddev().mean(),
        }

    def bc_loss(self, batch, grad_params):
        """Behavioural cloning of the batch's actions."""
        dist = self.network.select('actor')(batch['observations'], params=grad_params)
        log_prob, bc_info = self.behavioral_cloning(dist, batch['actions'])
        bc_loss = -log_prob.mean()

        return bc_loss, {'bc_loss': bc_loss, **bc_info}

    def update(self, loss, targets=None):
        """One step on loss(grad_params, rng) -> (loss, info), and the target updates."""
        new_rng, rng = random.split(self.rng)
        network, info = self.network.apply_loss_fn(
            lambda grad_params: loss(grad_params, rng), targets=targets, tau=self.config.get('tau')
        )
        return self.replace(network=network, rng=new_rng), info

    @torch.no_grad()
    def sample_actions(self, observations, seed=None, temperature=1.0):
        """Actions (..., A) for observations (..., O), in [-1, 1]; temperature scales the std."""
        dist = self.network.select('actor')(observations, temperature=temperature)
        return clip(dist.sample(seed), -1, 1)
