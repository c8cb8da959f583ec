"""The offline-RL agents in PyTorch, ported from `reference_jax`.

Importing the package imports torch when one of its names is used, not before.
"""

import importlib

__all__ = ['agents', 'load', 'save']

_MODULES = {'agents': 'registry', 'load': 'checkpoints', 'save': 'checkpoints'}


def __getattr__(name):
    if name not in _MODULES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(f'{__name__}.{_MODULES[name]}'), name)
