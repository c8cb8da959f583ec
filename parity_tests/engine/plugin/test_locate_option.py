"""--parity-locate, on by default: the first mismatch of a test says where, in two lines."""

import pytest

from parity_tests.engine.plugin.conftest import TESTS, Run

pytest_plugins = 'pytester'
TWICE = """
    import jax.numpy as jnp
    import pytest
    import torch

    import parity

    X = torch.linspace(-2, 2, 5).numpy()

    def test_twice(parity_check):
        for _ in range(2):
            with pytest.raises(parity.MismatchError) as caught:
                parity_check.functions(jnp.cos, lambda x: torch.cos(x) + 1e-9, (X,))
            print('FOUND', str(caught.value).count('.py:'))
"""
LINES = ['*  port      test_*.py:12 parity_check.functions(*', '*  reference * — *']


def test_a_mismatch_says_where(run: Run) -> None:
    result = run(TESTS)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(LINES)


def test_twin_it_can_be_switched_off(run: Run) -> None:
    result = run(TESTS, '--no-parity-locate')
    result.assert_outcomes(passed=1, failed=1)
    for line in LINES:
        result.stdout.no_fnmatch_line(line)


@pytest.mark.parametrize(('words', 'counts'), [([], ['1', '0']), (['--no-parity-locate'], ['0', '0'])])
def test_only_the_first_mismatch_of_a_test_is_located(words: list[str], counts: list[str], run: Run) -> None:
    result = run(TWICE, '-s', *words)
    result.assert_outcomes(passed=1)
    found = [line.partition('FOUND ')[2] for line in result.outlines if 'FOUND' in line]
    assert found == counts
