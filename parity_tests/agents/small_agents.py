"""New ports with small layers, for what many updates do."""

from typing import Any

import torch

import torch_agents
from parity.batches import generate
from parity.pair import registered

SIZES = {'B': 8, 'M': 8, 'O': 5, 'A': 3}
HIDDEN = ('value_hidden_dims', 'actor_hidden_dims', 'reward_hidden_dims', 'intention_encoder_hidden_dims')


def small_agent(name: str) -> tuple[Any, dict[str, torch.Tensor]]:
    """A new port in float64 with small layers, and a batch for it."""
    pair = registered()[name]
    config = pair.get_config('port')
    config |= {key: (16, 16) for key in HIDDEN if key in config}
    config |= {key: size for key, size in {'latent_dim': 4, 'batch_size': 8}.items() if key in config}
    config |= {'encoder': 'mlp'} if name == 'dino_rebrac' else {}
    batch = generate(pair.batch, SIZES | {'L': config.get('latent_dim', 1)}, 0, 'plain')
    agent = torch_agents.agents[name].create(
        0, batch['observations'], batch['actions'], config, dtype=torch.float64
    )
    return agent, {key: torch.from_numpy(array).double() for key, array in batch.items()}
