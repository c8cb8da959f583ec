"""parity: does a PyTorch port compute what its JAX original computes? Proven, or disproven with evidence.

    verdict = parity.check('iql')
    verdict.raise_if_mismatch()

Importing the package imports neither framework.
"""

from parity.cases import Case
from parity.check import check
from parity.errors import MismatchError, ParityError
from parity.pair import Pair, registered
from parity.stages import STAGES
from parity.verdict import Verdict

__all__ = ['STAGES', 'Case', 'MismatchError', 'Pair', 'ParityError', 'Verdict', 'check', 'registered']
