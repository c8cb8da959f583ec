"""--parity-examples: how many cases are generated where a test names none."""

import pytest

from parity_tests.engine.plugin.conftest import Run

pytest_plugins = 'pytester'
TEST = """
    from parity import Case

    def test_it(parity_check):
        only = {{'stages': ['params'], 'dtypes': ['float32']}}
        assert len(parity_check('parity_tests.engine.model_pairs:HAIKU', **only).cases) == {count}
        own = parity_check('parity_tests.engine.model_pairs:HAIKU', cases=[Case(1), Case(2)], **only)
        assert len(own.cases) == 2
"""


@pytest.mark.parametrize(('words', 'count'), [(['--parity-examples=3'], 3), ([], 1)])
def test_the_number_of_cases(words: list[str], count: int, run: Run) -> None:
    run(TEST.format(count=count), *words).assert_outcomes(passed=1)


@pytest.mark.parametrize('number', ['0', '-1', 'many'])
def test_a_bad_number_is_refused(number: str, run: Run) -> None:
    result = run(TEST.format(count=0), f'--parity-examples={number}')
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f'*--parity-examples: expected a number of at least 1; found {number}'])
