"""Checkpoints of agents: parameters, Adam state, key, step and configuration, in one safetensors file."""

import flax.serialization
import jax.numpy as jnp

from reference_jax.networks import Param
from weight_bridge.checkpoints import agents as files
from weight_bridge.checkpoints import restoring


def save(agent, path, ex_observations, ex_actions):
    """Write the agent, which was created for examples like these ((B, ...) and (B, A)). Returns the path."""
    shapes = [(x.shape[1:], str(x.dtype)) for x in (ex_observations, ex_actions)]
    recipe = files.Recipe(agent.config['agent_name'], agent.config, *shapes)
    return files.save(path, state_dict(agent), recipe)


def load(path):
    """The agent of a file, whichever framework wrote it. Raises BridgeError with all that does not fit."""
    from reference_jax import agents

    recipe, state = files.load(path)
    agent = agents[recipe.agent].create(0, *recipe.examples(), recipe.config)
    return restore(with_shapes(agent, state), state)


def state_dict(agent):
    """All that an update changes, as nested dicts of arrays."""
    return flax.serialization.to_state_dict(agent)


def restore(agent, state):
    """The agent with the values of a state dict. Raises BridgeError with all that does not fit."""
    values = restoring.restored(state_dict(agent), state, type(agent).__name__)
    return flax.serialization.from_state_dict(agent, values)


def with_shapes(agent, state):
    """The new agent with each Param in the shape that it has in the state dict: an update may change it."""
    network = agent.network
    for name, module in network.model_def.modules.items():
        if isinstance(module, Param):
            shape = restoring.grown_shape(state, name, network.params[f'modules_{name}']['value'].shape)
            network = network.set_param(name, jnp.zeros(shape))
    return agent.replace(network=network)
