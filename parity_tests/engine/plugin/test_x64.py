"""float64 needs no setting before jax starts; where jax does not follow, the fixture refuses."""

import pytest

from parity_tests.engine.plugin.conftest import Run

pytest_plugins = 'pytester'
SINE = """
    import jax
    import jax.numpy as jnp
    import torch

    started = jax.jit(jnp.sin)(jnp.ones(3))

    def test_sine(parity_check):
        parity_check.functions(jnp.sin, torch.sin, (0.5,))
        assert jnp.ones(3).dtype == started.dtype == '{dtype}'

    def test_float64_finds_what_float32_does_not(parity_check):
        import pytest
        from parity import MismatchError
        with pytest.raises(MismatchError, match='differs in float64'):
            parity_check.functions(jnp.sin, lambda x: torch.sin(x) + 1e-10, (0.5,))
"""


@pytest.mark.parametrize(('x64', 'dtype'), [('0', 'float32'), ('1', 'float64')])
def test_jax_may_have_started_in_either_precision(
    x64: str, dtype: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('JAX_ENABLE_X64', x64)
    run(SINE.format(dtype=dtype), process=True).assert_outcomes(passed=2)


def test_a_jax_that_does_not_follow_is_refused(run: Run) -> None:
    result = run("""
        import contextlib
        import jax
        import jax.numpy as jnp
        import torch

        def test_sine(parity_check, monkeypatch):
            raise AssertionError('not reached')

        import pytest

        @pytest.fixture(autouse=True)
        def deaf(monkeypatch):
            monkeypatch.setattr(jax, 'enable_x64', lambda on: contextlib.nullcontext())
    """)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            '*ParityError: jax cannot compute in float64 here',
            '*expected float64 inside jax.enable_x64(True); found float32',
            '*error: the precision that tells bugs from rounding is missing',
            '*at: jax * on *',
            '*next: check in a process of its own*',
        ]
    )
