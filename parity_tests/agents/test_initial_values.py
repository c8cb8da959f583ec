"""The default configurations are equal, and the same seed makes the same parameters and key, bit for bit."""

import pytest

from parity import Case, MismatchError, Pair
from parity.strategies import structures
from parity_tests.agents.properties import assert_parity, for_all_cases
from parity_tests.engine import broken_ports


def test_initial_values(pair: Pair) -> None:
    for_all_cases(
        pair, lambda case: assert_parity(pair, case, 'config', 'params', dtypes=('float32',)), share=0.5
    )


def test_initial_values_of_float64_agents_are_those_of_float32(pair: Pair) -> None:
    assert_parity(pair, Case(seed=2, **structures(pair)[0]), 'params', dtypes=('float64',))


def test_another_initialisation_fails() -> None:
    with pytest.raises(MismatchError, match='params differs'):
        assert_parity(broken_ports.TORCH_INITIAL_VALUES, Case(), 'params', dtypes=('float32',))


def test_another_default_fails() -> None:
    with pytest.raises(MismatchError, match='value of expectile'):
        assert_parity(broken_ports.OTHER_DEFAULT, Case(), 'config')
