"""`parity_check` checks pairs and functions, asserts, and returns the verdict."""

from parity_tests.engine.plugin.conftest import TESTS, Run

pytest_plugins = 'pytester'


def test_a_mismatch_fails_its_test_alone(run: Run) -> None:
    result = run(TESTS)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            '*MismatchError: wrong_cosine: forward differs in float64: value of output',
            '*next: parity.check_functions(reference=*',
        ]
    )


def test_a_pair_by_its_target_or_itself(run: Run) -> None:
    result = run("""
        import pytest
        from parity import Case, MismatchError
        from parity_tests.engine import model_pairs

        TARGET = 'parity_tests.engine.model_pairs:{}'.format
        ONE = {'stages': ['forward'], 'dtypes': ['float64']}

        def test_both(parity_check):
            for pair in (TARGET('LINEN'), model_pairs.LINEN):
                verdict = parity_check(pair, cases=[Case(seed=2)], **ONE)
                assert (verdict.pair, verdict.outcome) == ('linen_net', 'match')

        def test_wrong(parity_check):
            with pytest.raises(MismatchError, match='linen_net: forward differs'):
                parity_check(TARGET('LINEN_EPSILON'), **ONE)
    """)
    result.assert_outcomes(passed=2)


def test_what_cannot_be_checked_is_no_pass(run: Run) -> None:
    result = run("""
        def test_nothing(parity_check):
            parity_check('no.such.module:PAIR')

        def test_raising(parity_check):
            parity_check.functions(lambda x: x, lambda x: 1 / 0, (1.0,))
    """)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*ParityError: cannot load 'no.such.module:PAIR'*", '*ZeroDivisionError*'])
