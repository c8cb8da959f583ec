"""parity: does a PyTorch port compute what its JAX original computes? Proven, or disproven with evidence.

    parity.check('iql').raise_if_mismatch()
    parity.check_functions(jax_function, torch_function, inputs={'x': x}).raise_if_mismatch()
    parity.locate('iql').findings

Importing the package imports neither framework; each of its names is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from parity.cases import Case
    from parity.checking import check
    from parity.errors import MismatchError, ParityError
    from parity.functions import check_functions
    from parity.locating.divergence import Divergence
    from parity.locating.locate import locate
    from parity.models import JaxModel, ModelPair, TorchModel
    from parity.pair import Pair, registered
    from parity.stages import STAGES
    from parity.verdict import Verdict

# A name must not be that of one of the package's modules, which would take its place once imported.
_MODULES = {
    'STAGES': 'stages',
    'Case': 'cases',
    'Divergence': 'locating.divergence',
    'JaxModel': 'models',
    'MismatchError': 'errors',
    'ModelPair': 'models',
    'Pair': 'pair',
    'ParityError': 'errors',
    'TorchModel': 'models',
    'Verdict': 'verdict',
    'check': 'checking',
    'check_functions': 'functions',
    'locate': 'locating.locate',
    'registered': 'pair',
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(f'{__name__}.{_MODULES[name]}'), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})


__all__ = [
    'STAGES',
    'Case',
    'Divergence',
    'JaxModel',
    'MismatchError',
    'ModelPair',
    'Pair',
    'ParityError',
    'TorchModel',
    'Verdict',
    'check',
    'check_functions',
    'locate',
    'registered',
]
