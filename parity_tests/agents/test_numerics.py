"""In float32 the port's error against the truth is at most a small multiple of the reference's own."""

import pytest

from parity import Case, MismatchError, Pair
from parity_tests.agents.properties import assert_parity, for_all_cases
from parity_tests.engine import broken_ports

STAGES = ('forward', 'loss', 'grads', 'update', 'rollout', 'actions')


def test_numerics(pair: Pair) -> None:
    """Of the structure that the recorded cases have compiled; `make parity` has others as well."""
    for_all_cases(
        pair, lambda case: assert_parity(pair, case, *STAGES, dtypes=('float32',)), share=0.3, most=1
    )


def test_half_the_precision_fails() -> None:
    with pytest.raises(MismatchError, match='differs in float32'):
        assert_parity(broken_ports.HALF_PRECISION, Case(), 'forward', dtypes=('float32',))
