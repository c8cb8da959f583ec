"""The offline-RL agents in Flax linen and optax, written from their specification.

Importing the package imports jax when one of its names is used, not before.
"""

import importlib

__all__ = ['agents', 'load', 'save']

_CLASSES = {
    'crl_infonce': 'CRLInfoNCEAgent',
    'dino_rebrac': 'DINOReBRACAgent',
    'fb_repr': 'FBReprAgent',
    'hilp': 'HILPAgent',
    'infom': 'InFOMAgent',
    'iql': 'IQLAgent',
    'mbpo_rebrac': 'MBPOReBRACAgent',
    'rebrac': 'ReBRACAgent',
    'td_infonce': 'TDInfoNCEAgent',
}
_MODULES = {'load': 'checkpoints', 'save': 'checkpoints'} | {cls: name for name, cls in _CLASSES.items()}


def __getattr__(name):
    """`agents`, {name: class}; a class of these; `load` and `save`: each imported when it is first used."""
    if name == 'agents':
        return {module: __getattr__(cls) for module, cls in _CLASSES.items()}
    if name not in _MODULES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(f'{__name__}.{_MODULES[name]}'), name)
