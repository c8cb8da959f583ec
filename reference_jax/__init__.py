"""The offline-RL agents in Flax linen and optax, written from their specification.

Importing the package imports jax when one of its names is used, not before.
"""

import importlib

__all__ = ['agents', 'load', 'save']

_MODULES = {'agents': 'registry', 'load': 'checkpoints', 'save': 'checkpoints'}


def __getattr__(name):
    if name not in _MODULES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(f'{__name__}.{_MODULES[name]}'), name)
