"""Everything agrees, in both precisions, on recorded transitions."""

import pytest

import fixtures
from parity import Case, MismatchError, Pair
from parity.stages import stages_of
from parity_tests.agents.properties import assert_parity
from parity_tests.engine import broken_ports


def test_recorded(pair: Pair) -> None:
    for seed, name in enumerate(fixtures.names()):
        case = Case(seed=seed, source=name, sizes={'B': 16})
        assert_parity(pair, case, *stages_of(pair), dtypes=('float64', 'float32'))


def test_a_broken_port_fails_on_recorded_transitions() -> None:
    with pytest.raises(MismatchError, match='walker2d'):
        assert_parity(broken_ports.MEAN_FOR_MIN, Case(source='walker2d', sizes={'B': 16}), 'loss')
