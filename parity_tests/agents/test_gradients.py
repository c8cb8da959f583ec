"""Every gradient agrees in float64, and every loss term reaches the same networks."""

from parity import Case, Pair
from parity_tests.agents.properties import assert_parity, differing, for_all_cases
from parity_tests.engine import broken_ports


def test_gradients(pair: Pair) -> None:
    for_all_cases(pair, lambda case: assert_parity(pair, case, 'grads'))


def test_a_wrong_gradient_fails() -> None:
    found = differing(broken_ports.MEAN_FOR_MIN, Case(), 'grads')
    assert any(path.startswith('finetuning_full/modules_value/') for path in found)
    assert not any(path.startswith('pretraining/') for path in found)


def test_a_leak_that_leaves_the_loss_equal_fails() -> None:
    assert_parity(broken_ports.LEAKY_TARGET, Case(), 'loss')
    found = differing(broken_ports.LEAKY_TARGET, Case(), 'grads')
    assert 'reach/finetuning_full/value/value_loss/modules_target_critic' in found
