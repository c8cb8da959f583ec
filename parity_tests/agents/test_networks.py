"""Every network's outputs agree in float64."""

from parity import Case, Pair
from parity_tests.agents.properties import assert_parity, differing, for_all_cases
from parity_tests.engine import broken_ports


def test_networks(pair: Pair) -> None:
    for_all_cases(pair, lambda case: assert_parity(pair, case, 'forward'))


def test_a_wrong_network_fails() -> None:
    assert differing(broken_ports.LAYER_NORM_EPSILON, Case(), 'forward') == {
        'value',
        'critic',
        'target_critic',
    }
