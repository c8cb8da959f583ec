"""Every loss and info value, the draws and their keys agree in float64."""

from parity import Case, Pair
from parity_tests.agents.properties import assert_parity, differing, for_all_cases
from parity_tests.engine import broken_ports


def test_losses(pair: Pair) -> None:
    for_all_cases(pair, lambda case: assert_parity(pair, case, 'loss'))


def test_a_wrong_loss_fails() -> None:
    assert 'finetuning_full/info/value/value_loss' in differing(broken_ports.MEAN_FOR_MIN, Case(), 'loss')
