"""Runs of pytest inside a test: only the plugin is loaded, from where this suite has it from."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch._dynamo
import torch._inductor.test_operators  # noqa: F401  # see below

import parity
import parity.backends.jax_function
import parity.backends.jax_model
import parity.backends.torch_function
import parity.backends.torch_model
import parity.locating.capture_jax
import parity.locating.capture_torch
import parity.locating.pullback_jax
import parity.report.html
import parity.report.json
import parity.report.locating
import parity_tests.engine.model_pairs  # noqa: F401  # see below

# All of it above, because pytester forgets what a run in this process imports, and jax comes but once.
ROOT = Path(parity.__file__).parents[1]
PLUGIN = ('-p', 'parity.pytest_plugin', '-p', 'no:cacheprovider')
# torch's sine, right and wrong
TESTS = """
    import jax.numpy as jnp
    import numpy as np
    import torch

    X = np.linspace(-2, 2, 5)

    def test_sine(parity_check):
        verdict = parity_check.functions(jnp.sin, torch.sin, (X,))
        assert verdict.outcome == 'match'

    def test_cosine(parity_check):
        parity_check.functions(jnp.cos, lambda x: torch.cos(x) + 1e-9, (X,), name='wrong_cosine')
"""
Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run pytest on a test file, in this process, or in one of its own with process=True."""
    monkeypatch.setenv('PYTEST_DISABLE_PLUGIN_AUTOLOAD', '1')
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    for name in ('PYTEST_XDIST_WORKER', 'XLA_FLAGS'):
        monkeypatch.delenv(name, raising=False)

    def run_tests(source: str, *args: str, process: bool = False) -> pytest.RunResult:
        pytester.makepyfile(source)
        runner = pytester.runpytest_subprocess if process else pytester.runpytest_inprocess
        return runner(*PLUGIN, *args)

    return run_tests
