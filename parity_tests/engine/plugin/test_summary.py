"""The terminal summary, and the properties in JUnit XML."""

import pytest
from junitparser import JUnitXml

from parity_tests.engine.plugin.conftest import TESTS, Run

pytest_plugins = 'pytester'


def test_the_worst_margins_are_listed_worst_first(run: Run) -> None:
    result = run(TESTS)
    result.stdout.fnmatch_lines(
        [
            '*= parity: worst margin (error / allowed), above 1 is a mismatch =*',
            'sin: match in 1 cases',
            '  * float*',
            'wrong_cosine: mismatch in 1 cases',
            '  *e+0*  forward float64  output',
            '  * float*',
        ]
    )


def test_a_session_without_checks_has_no_summary(run: Run) -> None:
    run('def test_it(): pass').stdout.no_fnmatch_line('*parity*')


def test_junit_has_a_property_for_each_check(run: Run, pytester: pytest.Pytester) -> None:
    run(TESTS, '--junitxml=junit.xml')
    cases = [case for suite in JUnitXml.fromfile(str(pytester.path / 'junit.xml')) for case in suite]
    found = {
        case.name: {p.get('name'): p.get('value') for p in case._elem.iter('property')} for case in cases
    }
    assert found['test_sine']['parity sin'].startswith('match, worst margin 0.')
    assert found['test_cosine']['parity wrong_cosine'].startswith('mismatch, worst margin ')
    assert found['test_cosine']['parity wrong_cosine'].endswith(' at forward float64 output')
