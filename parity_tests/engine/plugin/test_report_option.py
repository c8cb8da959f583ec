"""--parity-report: HTML and JSON of every check of the session."""

import json

import pytest

from parity_tests.engine.plugin.conftest import TESTS, Run

pytest_plugins = 'pytester'


def test_the_reports_hold_every_check(run: Run, pytester: pytest.Pytester) -> None:
    result = run(TESTS, '--parity-report=found')
    folder = pytester.path / 'found'
    result.stdout.fnmatch_lines([f'wrote {folder / "index.html"}'])
    entries = json.loads((folder / 'index.json').read_text())['pairs']
    assert {entry['pair']: entry['outcome'] for entry in entries} == {
        'sin': 'match',
        'wrong_cosine': 'mismatch',
    }
    assert 'vjp/0' in (folder / 'sin.html').read_text()


def test_checks_of_one_name_are_one_report(run: Run, pytester: pytest.Pytester) -> None:
    run(
        """
        import jax.numpy as jnp
        import pytest
        import torch

        @pytest.mark.parametrize('x', [0.5, 1.5])
        def test_it(parity_check, x):
            parity_check.functions(jnp.sin, torch.sin, (x,))
        """,
        '--parity-report=found',
    )
    (entry,) = json.loads((pytester.path / 'found' / 'index.json').read_text())['pairs']
    assert entry['cases'] == 2


def test_without_checks_there_is_no_report(run: Run, pytester: pytest.Pytester) -> None:
    result = run('def test_it(): pass', '--parity-report=found')
    result.stdout.fnmatch_lines(['no report: nothing was checked'])
    assert not (pytester.path / 'found').exists()


def test_without_the_option_nothing_is_written(run: Run, pytester: pytest.Pytester) -> None:
    run(TESTS)
    assert {path.name for path in pytester.path.glob('*') if path.suffix != '.py'} <= {'__pycache__'}
