"""A session that does not use the plugin is as it would be without it."""

from parity_tests.engine.plugin.conftest import Run

pytest_plugins = 'pytester'


def test_no_framework_is_imported_and_nothing_is_set(run: Run) -> None:
    result = run(
        """
        import os
        import sys
        import warnings

        def test_it(pytestconfig):
            assert not {'jax', 'torch', 'flax', 'optax', 'hypothesis'} & set(sys.modules)
            assert 'XLA_FLAGS' not in os.environ
            assert not pytestconfig.getini('filterwarnings')
            warnings.warn('not an error here')
        """,
        '--strict-markers',
        process=True,
    )
    result.assert_outcomes(passed=1, warnings=1)


def test_twin_a_framework_is_seen(run: Run) -> None:
    result = run(
        """
        import sys
        import torch

        def test_it():
            assert 'torch' not in sys.modules
        """,
        process=True,
    )
    result.assert_outcomes(failed=1)
