"""Every loss and info value, the draws and their keys agree in float64."""

import pytest

from parity import Case, MismatchError, Pair
from parity_tests.agents.properties import assert_parity, for_all_cases
from parity_tests.engine import broken_ports


def test_losses(pair: Pair) -> None:
    for_all_cases(pair, lambda case: assert_parity(pair, case, 'loss'))


def test_a_wrong_loss_fails() -> None:
    with pytest.raises(MismatchError, match='value/value_loss'):
        assert_parity(broken_ports.MEAN_FOR_MIN, Case(), 'loss')
