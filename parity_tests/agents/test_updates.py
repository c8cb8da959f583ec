"""Parameters, targets, Adam moments and info agree after each of seven updates, restored and free-running."""

import pytest

from parity import Case, MismatchError, Pair
from parity_tests.agents.properties import assert_parity, for_all_cases
from parity_tests.engine import broken_ports


def test_updates(pair: Pair) -> None:
    """Of one structure: what switches change are losses, and `make parity` has updates of both."""
    for_all_cases(pair, lambda case: assert_parity(pair, case, 'update', 'rollout'), share=0.5, most=1)


@pytest.mark.parametrize('broken', [broken_ports.TARGET_AFTER_STEP, broken_ports.NONE_FOR_ZERO])
def test_wrong_updates_fail_although_losses_and_gradients_agree(broken: Pair) -> None:
    assert_parity(broken, Case(), 'loss', 'grads')
    with pytest.raises(MismatchError, match='update differs'):
        assert_parity(broken, Case(), 'update')
