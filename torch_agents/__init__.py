"""The offline-RL agents in PyTorch, ported from `reference_jax`."""

from torch_agents.infom import InFOMAgent
from torch_agents.iql import IQLAgent

agents = {
    'infom': InFOMAgent,
    'iql': IQLAgent,
}
