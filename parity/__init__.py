"""parity: does a PyTorch port compute what its JAX original computes? Proven, or disproven with evidence.

    parity.check('iql').raise_if_mismatch()
    parity.check_functions(jax_function, torch_function, inputs={'x': x}).raise_if_mismatch()
    parity.locate('iql').findings

Importing the package imports neither framework.
"""

from parity.cases import Case
from parity.check import check
from parity.errors import MismatchError, ParityError
from parity.functions import check_functions
from parity.locating.divergence import Divergence
from parity.locating.locate import locate
from parity.models import JaxModel, ModelPair, TorchModel
from parity.pair import Pair, registered
from parity.stages import STAGES
from parity.verdict import Verdict

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
