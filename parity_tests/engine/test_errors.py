"""Messages have five parts, and the two errors are what their callers expect."""

import pickle

import pytest

import parity
from parity.errors import MismatchError, ParityError, unknown

ERROR = ParityError(
    'subject', values='expected 1; found 2', error='1; allowed: 0', where='here', next_step='go'
)


def test_five_lines() -> None:
    assert str(ERROR).split('\n') == [
        'subject',
        '  expected 1; found 2',
        '  error: 1; allowed: 0',
        '  at: here',
        '  next: go',
    ]
    assert ERROR.subject == 'subject'


@pytest.mark.parametrize(
    ('known', 'listed'), [(['a'], 'a'), (['b', 'a'], 'b, a'), ([], '(none)')], ids=['one', 'two', 'none']
)
def test_unknown(known: list[str], listed: str) -> None:
    assert str(unknown('pair', "it's", known, where='here', next_step='parity list')).split('\n') == [
        "unknown pair: it's",
        f'  expected one of {listed}; found "it\'s"',
        '  error: 1 unknown; allowed: 0',
        '  at: here',
        '  next: parity list',
    ]


def test_a_mismatch_fails_a_test_and_a_failed_check_does_not_pass_for_one() -> None:
    assert issubclass(MismatchError, AssertionError)
    assert not issubclass(ParityError, AssertionError)
    assert not issubclass(MismatchError, ParityError)


def test_errors_travel_between_processes() -> None:
    copy = pickle.loads(pickle.dumps(ERROR))
    assert (str(copy), copy.subject) == (str(ERROR), 'subject')


def test_everything_exported_exists() -> None:
    assert {'check', 'Verdict', 'Case', 'Pair', 'ParityError', 'MismatchError'} <= set(parity.__all__)
    assert all(hasattr(parity, name) for name in parity.__all__)
