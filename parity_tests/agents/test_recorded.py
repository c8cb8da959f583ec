"""Everything agrees, in both precisions, on recorded transitions."""

import dataclasses

import pytest

from parity import Case, MismatchError, Pair
from parity.generated import recorded_cases
from parity.stages import stages_of
from parity_tests.agents.properties import assert_parity
from parity_tests.engine import broken_ports


def test_recorded(pair: Pair) -> None:
    cases = recorded_cases(pair, seed=0)
    if not cases:
        pytest.skip(f'the batch of {pair.name} is not one of transitions')
    for seed, case in enumerate(cases):
        case = dataclasses.replace(case, seed=seed)
        assert_parity(pair, case, *stages_of(pair), dtypes=('float64', 'float32'))


def test_a_broken_port_fails_on_recorded_transitions() -> None:
    with pytest.raises(MismatchError, match='walker2d'):
        assert_parity(broken_ports.MEAN_FOR_MIN, Case(source='walker2d', sizes={'B': 16}), 'loss')
