"""Checkpoints of agents: parameters, Adam state, key, step and configuration, in one safetensors file."""

from torch_agents.networks import Param
from weight_bridge.checkpoints import agents as files
from weight_bridge.checkpoints import restoring


def save(agent, path, ex_observations, ex_actions):
    """Write the agent, which was created for examples like these ((B, ...) and (B, A)). Returns the path."""
    shapes = [(x.shape[1:], str(x.dtype).removeprefix('torch.')) for x in (ex_observations, ex_actions)]
    recipe = files.Recipe(agent.config['agent_name'], agent.config, *shapes)
    return files.save(path, state_dict(agent), recipe)


def load(path, device=None, dtype=None):
    """The agent of a file, whichever framework wrote it. Raises BridgeError with all that does not fit."""
    from torch_agents import agents

    recipe, state = files.load(path)
    agent = agents[recipe.agent].create(0, *recipe.examples(), recipe.config, device=device, dtype=dtype)
    return restore(with_shapes(agent, state), state)


def state_dict(agent):
    """All that an update changes, as nested dicts of arrays."""
    return restoring.state_of_torch(agent)


def restore(agent, state):
    """The agent with the values of a state dict. Raises BridgeError with all that does not fit."""
    return restoring.restore_torch(agent, state)


def with_shapes(agent, state):
    """The new agent with each Param in the shape that it has in the state dict: an update may change it."""
    network = agent.network
    for name, module in network.named_children():
        if isinstance(module, Param):
            name = name.removeprefix('modules_')
            shape = restoring.grown_shape(state, name, tuple(module.value.shape))
            network = network.set_param(name, module.value.new_zeros(shape))
    return agent.replace(network=network)
