"""The offline-RL agents in Flax linen and optax, written from their specification."""

from reference_jax.infom import InFOMAgent
from reference_jax.iql import IQLAgent

agents = {
    'infom': InFOMAgent,
    'iql': IQLAgent,
}
