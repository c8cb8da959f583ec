"""--parity-seed: of the case that a test does not name, of generated cases, and of cotangents."""

import pytest

from parity_tests.engine.plugin.conftest import Run

pytest_plugins = 'pytester'
TEST = """
    import jax.numpy as jnp
    import torch

    def test_pair(parity_check):
        only = {{'stages': ['params'], 'dtypes': ['float32']}}
        (case,) = parity_check('parity_tests.engine.model_pairs:HAIKU', **only).cases
        assert case.description == 'seed {seed} plain values'

    def test_functions(parity_check):
        verdict = parity_check.functions(jnp.sin, torch.sin, (1.0,))
        assert ', seed={seed})' in verdict.cases[0].command
        other = parity_check.functions(jnp.sin, torch.sin, (1.0,), seed=5)
        assert ', seed=5)' in other.cases[0].command
"""


@pytest.mark.parametrize(('words', 'seed'), [(['--parity-seed=7'], 7), ([], 0)])
def test_the_seed(words: list[str], seed: int, run: Run) -> None:
    run(TEST.format(seed=seed), *words).assert_outcomes(passed=2)


def test_generated_cases_follow_it(run: Run) -> None:
    source = """
        def test_it(parity_check):
            only = {'stages': ['params'], 'dtypes': ['float32']}
            verdict = parity_check('parity_tests.engine.model_pairs:HAIKU', **only)
            print('FOUND', [case.description for case in verdict.cases])
    """
    found = []
    for seed in (1, 1, 2):
        result = run(source, f'--parity-seed={seed}', '--parity-examples=2', '-s')
        found += [line.partition('FOUND')[2] for line in result.outlines if 'FOUND' in line]
    assert found[0] == found[1] != found[2]
