"""The weight bridge: Flax parameter tree <-> torch module, Optax state <-> torch.optim state, checkpoints.

    weight_bridge.to_torch(params, module)           copies every leaf into the module, in place
    weight_bridge.to_flax(module)                    -> nested dict of numpy arrays
    weight_bridge.grads_to_flax(module)              -> the same tree, of gradients
    weight_bridge.match(params, module)              -> a Mapping, where the names differ; editable as TOML
    weight_bridge.optimizer_to_torch(opt_state, optimizer, module)
    weight_bridge.optimizer_to_optax(optimizer, module, like=tx.init(params)) -> opt_state
    weight_bridge.checkpoints.read(path)             -> the tree in a pickle, orbax, msgpack or safetensors

Every copy is total (each leaf is used exactly once), strict (all problems are listed in one `BridgeError`,
and then nothing is copied) and exact (the values arrive bit for bit, or in a wider dtype). Importing the
package imports neither framework: the functions load theirs at first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from weight_bridge.errors import BridgeError, Problem

if TYPE_CHECKING:
    from weight_bridge.convert import grads_to_flax, to_flax, to_torch
    from weight_bridge.mapping import Mapping
    from weight_bridge.matching import match
    from weight_bridge.optimizer import adam_moments, optimizer_to_optax, optimizer_to_torch

__all__ = [
    'BridgeError',
    'Mapping',
    'Problem',
    'adam_moments',
    'grads_to_flax',
    'match',
    'optimizer_to_optax',
    'optimizer_to_torch',
    'to_flax',
    'to_torch',
]

_HOMES = {
    'Mapping': 'mapping',
    'match': 'matching',
    'to_torch': 'convert',
    'to_flax': 'convert',
    'grads_to_flax': 'convert',
    'adam_moments': 'optimizer',
    'optimizer_to_torch': 'optimizer',
    'optimizer_to_optax': 'optimizer',
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(f'{__name__}.{_HOMES[name]}'), name)
