"""Every network's outputs agree in float64."""

import pytest

from parity import Case, MismatchError, Pair
from parity_tests.agents.properties import assert_parity, for_all_cases
from parity_tests.engine import broken_ports


def test_networks(pair: Pair) -> None:
    for_all_cases(pair, lambda case: assert_parity(pair, case, 'forward'))


def test_a_wrong_network_fails() -> None:
    with pytest.raises(MismatchError, match=r'value of (critic|value)'):
        assert_parity(broken_ports.LAYER_NORM_EPSILON, Case(), 'forward')
