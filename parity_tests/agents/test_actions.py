"""Sampled actions agree in float64 for a batch and for one observation, at every temperature."""

from parity import Case, Pair
from parity_tests.agents.properties import assert_parity, differing, for_all_cases
from parity_tests.engine import broken_ports


def test_actions(pair: Pair) -> None:
    for_all_cases(pair, lambda case: assert_parity(pair, case, 'actions'))


def test_wrong_actions_fail() -> None:
    found = differing(broken_ports.NO_TEMPERATURE, Case(), 'actions')
    assert found == {f'{what}/temperature {t}' for what in ('batch', 'single') for t in (0.0, 0.7)}
