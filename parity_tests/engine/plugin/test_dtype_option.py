"""--parity-dtype: the precisions of all checks that name none."""

import pytest

from parity_tests.engine.plugin.conftest import Run

pytest_plugins = 'pytester'
TEST = """
    import jax.numpy as jnp
    import torch

    def test_it(parity_check):
        verdict = parity_check.functions(jnp.sin, torch.sin, (1.0,))
        assert {{stage.dtype for _, stage in verdict.stages()}} == {expected}
        own = parity_check.functions(jnp.sin, torch.sin, (1.0,), dtypes=['float64'])
        assert {{stage.dtype for _, stage in own.stages()}} == {{'float64'}}
"""


@pytest.mark.parametrize('dtypes', [['float64'], ['float32'], ['float32', 'float64'], []])
def test_the_precisions(dtypes: list[str], run: Run) -> None:
    words = [f'--parity-dtype={dtype}' for dtype in dtypes]
    run(TEST.format(expected=set(dtypes) or {'float64', 'float32'}), *words).assert_outcomes(passed=1)


def test_an_unknown_precision_is_refused(run: Run) -> None:
    result = run(TEST.format(expected=set()), '--parity-dtype=float16')
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--parity-dtype: invalid choice: 'float16'*"])
