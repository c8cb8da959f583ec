"""Under pytest-xdist the verdicts of all workers are in one summary and one report."""

import json

import pytest

from parity_tests.engine.plugin.conftest import TESTS, Run

pytest_plugins = 'pytester'


def test_two_workers_one_report(run: Run, pytester: pytest.Pytester) -> None:
    words = ['-p', 'xdist', '-n', '2', '--parity-report=found', '--junitxml=junit.xml']
    result = run(TESTS, *words, process=True)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines_random(['sin: match in 1 cases', 'wrong_cosine: mismatch in 1 cases'])
    assert sum('worst margin (error' in line for line in result.outlines) == 1
    entries = json.loads((pytester.path / 'found' / 'index.json').read_text())['pairs']
    assert {entry['pair'] for entry in entries} == {'sin', 'wrong_cosine'}
    assert 'parity wrong_cosine' in (pytester.path / 'junit.xml').read_text()


def test_a_crashed_worker_takes_nothing_else_with_it(run: Run) -> None:
    crash = 'def test_crash():\n        __import__("os")._exit(1)\n\n    def test_cosine'
    source = TESTS.replace('def test_cosine', crash)
    result = run(source, '-p', 'xdist', '-n', '1', process=True)
    result.stdout.fnmatch_lines_random(
        [
            '*worker*crashed*',
            'wrong_cosine: mismatch in 1 cases',
            'the checks of 1 crashed workers are missing here',
        ]
    )
    assert 'INTERNALERROR' not in result.stdout.str()
