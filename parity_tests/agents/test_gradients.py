"""Every gradient agrees in float64, and every loss term reaches the same networks."""

import pytest

from parity import Case, MismatchError, Pair
from parity_tests.agents.properties import assert_parity, for_all_cases
from parity_tests.engine import broken_ports


def test_gradients(pair: Pair) -> None:
    for_all_cases(pair, lambda case: assert_parity(pair, case, 'grads'))


def test_a_wrong_gradient_fails() -> None:
    with pytest.raises(MismatchError, match='modules_value'):
        assert_parity(broken_ports.MEAN_FOR_MIN, Case(), 'grads')


def test_a_leak_that_leaves_the_loss_equal_fails() -> None:
    assert_parity(broken_ports.LEAKY_TARGET, Case(), 'loss')
    with pytest.raises(MismatchError, match='reach/finetuning_full/value/value_loss/modules_target_critic'):
        assert_parity(broken_ports.LEAKY_TARGET, Case(), 'grads')
