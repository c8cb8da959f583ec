"""Whole agents in a safetensors file: their state dict, and the recipe that makes them again.

The paths are those of `flax.serialization.to_state_dict(agent)`, so that either framework reads the file:

    rng                            the key, uint32 (2,)
    network/step                   the number of updates done
    network/params/...             the parameters, in Flax layout
    network/opt_state/0/count      Adam's count
    network/opt_state/0/mu/..., network/opt_state/0/nu/...
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from weight_bridge.checkpoints.formats import Checkpoint, read
from weight_bridge.checkpoints.problems import DTYPES
from weight_bridge.checkpoints.safetensors import write
from weight_bridge.errors import BridgeError, Problem
from weight_bridge.paths import Tree

FORMAT, VERSION = 'parity.agent', '1'


@dataclass(frozen=True)
class Recipe:
    """What `agents[agent].create(seed, *examples, config)` needs.

    observations, actions: shape and dtype of one example, without the batch: ((29,), 'float32').
    """

    agent: str
    config: Mapping[str, Any]
    observations: tuple[tuple[int, ...], str]
    actions: tuple[tuple[int, ...], str]

    def examples(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Zeros: a batch of one of each."""
        observations, actions = (
            np.zeros((1, *shape), DTYPES[dtype]) for shape, dtype in (self.observations, self.actions)
        )
        return observations, actions

    def metadata(self) -> dict[str, str]:
        return {
            'format': FORMAT,
            'format_version': VERSION,
            'agent': self.agent,
            'config': json.dumps(dict(self.config)),
            'observations': json.dumps(self.observations),
            'actions': json.dumps(self.actions),
        }


def save(path: str | Path, state: Tree, recipe: Recipe) -> Path:
    """Writes an agent's state dict with its recipe, whole or not at all."""
    return write(path, state, recipe.metadata())


def load(path: str | Path) -> tuple[Recipe, Tree]:
    """The recipe and the state dict of a file that `save` wrote.

    Raises:
        BridgeError: it is no such file, or of another version.
    """
    checkpoint = read(path)
    recipe = recipe_of(checkpoint)
    if recipe is None:
        found = checkpoint.metadata.get('format', f'{checkpoint.format} without it')
        problem = Problem('format', str(path), f'safetensors with format={FORMAT}', found)
        step = 'parity bridge CHECKPOINT --agent NAME -o agent.safetensors'
        raise BridgeError(f'{path} is not an agent', [problem], [step])
    return recipe, checkpoint.tree


def recipe_of(checkpoint: Checkpoint) -> Recipe | None:
    """The recipe in the metadata; None if the checkpoint was not written by `save`.

    Raises:
        BridgeError: it was, but in another version, or its entries are not what they should be.
    """
    metadata = checkpoint.metadata
    if metadata.get('format') != FORMAT:
        return None
    try:
        if metadata['format_version'] != VERSION:
            raise ValueError(f'format_version {metadata["format_version"]}')
        config = {key: _tuple(value) for key, value in json.loads(metadata['config']).items()}
        shapes = [_shape(json.loads(metadata[key])) for key in ('observations', 'actions')]
    except Exception as cause:
        found = f'{type(cause).__name__}: {cause}'
        problem = Problem('format', 'metadata', f'format_version {VERSION} and its entries', found)
        raise BridgeError('this agent cannot be read', [problem], ['write it again']) from cause
    return Recipe(metadata['agent'], config, *shapes)


def state_of(tree: Tree) -> Tree:
    """The state dict in a checkpoint's tree, which may be wrapped as {'agent': state}."""
    inner = tree.get('agent') if set(tree) == {'agent'} else None
    return inner if isinstance(inner, dict) else tree


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _shape(entry: Any) -> tuple[tuple[int, ...], str]:
    shape, dtype = entry
    if not all(type(size) is int and size > 0 for size in shape) or dtype not in DTYPES:
        raise ValueError(f'an example like {entry}')
    return tuple(shape), dtype
