"""Sampled actions agree in float64 for a batch and for one observation, at every temperature."""

import pytest

from parity import Case, MismatchError, Pair
from parity_tests.agents.properties import assert_parity, for_all_cases
from parity_tests.engine import broken_ports


def test_actions(pair: Pair) -> None:
    for_all_cases(pair, lambda case: assert_parity(pair, case, 'actions'))


def test_wrong_actions_fail() -> None:
    with pytest.raises(MismatchError, match=r'temperature 0\.7'):
        assert_parity(broken_ports.NO_TEMPERATURE, Case(), 'actions')
