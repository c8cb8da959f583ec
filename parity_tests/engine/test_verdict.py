"""Verdicts: the worst outcome decides, every failure is raised, and the message is complete."""

import json
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from itertools import permutations
from types import SimpleNamespace
from typing import get_args

import pytest

from parity.errors import MismatchError, ParityError
from parity.verdict import Outcome, StageResult, Verdict, describe, worst

FROM_BEST_TO_WORST = ['match', 'not_run', 'mismatch', 'error']
Lines = Callable[[Callable[[], object]], list[str]]


def test_every_outcome_has_its_place() -> None:
    assert set(get_args(Outcome)) == set(FROM_BEST_TO_WORST)


@pytest.mark.parametrize('count', [1, 2, 3, 4])
def test_the_worst_part_decides(count: int) -> None:
    for outcomes in permutations(FROM_BEST_TO_WORST, count):
        assert worst(iter(outcomes)) == max(outcomes, key=FROM_BEST_TO_WORST.index)


def test_a_whole_without_parts_was_not_run(made: SimpleNamespace) -> None:
    assert worst(iter(())) == 'not_run'
    assert Verdict('toy', ()).outcome == 'not_run'
    assert made.verdict().outcome == 'not_run'
    assert Verdict('toy', (made.case('match'), made.case())).outcome == 'not_run'


def test_the_worst_case_decides(made: SimpleNamespace) -> None:
    cases = made.case('match'), made.case('match', 'mismatch'), made.case('match')
    assert Verdict('toy', cases).outcome == 'mismatch'
    assert Verdict('toy', cases[::2]).outcome == 'match'  # twin


def test_stages_are_those_of_all_cases(made: SimpleNamespace) -> None:
    verdict = Verdict('toy', (made.case('match', 'error'), made.case('not_run')))
    assert [stage.outcome for _, stage in verdict.stages()] == ['match', 'error', 'not_run']


def test_the_worst_leaf_is_the_first(made: SimpleNamespace) -> None:
    assert made.stages['mismatch'].worst.path == 'b'
    assert made.stages['error'].worst is None


def test_results_are_frozen(made: SimpleNamespace) -> None:
    with pytest.raises(FrozenInstanceError):
        made.verdict('mismatch').cases[0].stages[0].outcome = 'match'


# --- raising


def test_a_match_raises_nothing(made: SimpleNamespace) -> None:
    made.verdict('match', 'match').raise_if_mismatch()


@pytest.mark.parametrize('outcomes', [['mismatch'], ['match', 'mismatch'], ['error', 'not_run', 'mismatch']])
def test_a_mismatch_anywhere_is_raised(outcomes: list[str], made: SimpleNamespace) -> None:
    with pytest.raises(MismatchError, match='toy: grads differs in float64'):
        made.verdict(*outcomes).raise_if_mismatch()


def test_an_error_is_raised(made: SimpleNamespace, raised: Lines) -> None:
    assert raised(made.verdict('match', 'error').raise_if_mismatch) == [
        'toy: could not check update',
        '  expected results of both sides; found ValueError: no',
        '  error: not compared',
        '  at: seed 3',
        '  next: parity check toy --seed 3',
    ]


def test_a_check_of_nothing_is_raised(raised: Lines) -> None:
    assert raised(Verdict('toy', ()).raise_if_mismatch) == [
        'toy: could not check anything',
        '  expected results of both sides; found no stage',
        '  error: not compared',
        '  at: check',
        '  next: parity list',
    ]


def test_a_stage_that_was_not_run_is_raised_with_its_reason(made: SimpleNamespace, raised: Lines) -> None:
    lines = raised(made.verdict('match', 'not_run').raise_if_mismatch)
    assert lines[:2] == [
        'toy: could not check actions',
        '  expected results of both sides; found no observations',
    ]


@pytest.mark.parametrize('outcome', ['mismatch', 'error', 'not_run'])
def test_only_a_match_raises_nothing(outcome: str, made: SimpleNamespace) -> None:
    with pytest.raises((MismatchError, ParityError)):
        made.verdict('match', outcome).raise_if_mismatch()


# --- the message


def test_describe(made: SimpleNamespace) -> None:
    stage = StageResult('grads', 'float64', 'mismatch', (made.leaf('a/k', 3.0), made.leaf('b', 0.5)))
    assert describe('toy', made.case(), stage).split('\n') == [
        'toy: grads differs in float64: value of a/k',
        '  reference f64[2] [1., 2.]',
        '  port      f64[2] [1., 9.]',
        '  error: 3.000e-09; allowed: 1.000e-09 (why)',
        '  at: index [1]; seed 3; 1 of 2 leaves differ',
        '  next: parity check toy --seed 3',
    ]


def test_describe_a_missing_leaf(made: SimpleNamespace) -> None:
    assert describe('toy', made.case(), made.stages['mismatch']).split('\n') == made.failure


def test_as_dict_is_plain_and_complete(made: SimpleNamespace) -> None:
    verdict = made.verdict('match', 'mismatch', 'error', 'not_run')
    content = json.loads(json.dumps(verdict.as_dict()))
    assert (content['pair'], content['outcome'], content['seconds']) == ('toy', 'error', 1.26)
    assert content['versions'] == {'numpy': '2'}
    (case,) = content['cases']
    assert (case['outcome'], case['command']) == ('error', 'parity check toy --seed 3')
    assert [stage['outcome'] for stage in case['stages']] == ['match', 'mismatch', 'error', 'not_run']
    assert case['stages'][0]['leaves'] == [
        {
            'path': 'a',
            'kind': None,
            'reference': 'f64[2] [1., 2.]',
            'port': 'f64[2] [1., 9.]',
            'error': 0.5e-9,
            'allowed': 1e-9,
            'margin': 0.5,
            'where': [1],
            'why': 'why',
        }
    ]


# --- brief results


def test_a_brief_result_keeps_the_worst_leaf_and_the_count(made: SimpleNamespace) -> None:
    leaves = made.leaf('a', 0.5), made.leaf('b', 0.1), made.leaf('c', 0.0)
    brief = StageResult('loss', 'float64', 'match', leaves).brief()
    assert (brief.leaves, brief.hidden, brief.total) == (leaves[:1], 2, 3)
    assert brief.brief() == brief


@pytest.mark.parametrize('outcome', ['mismatch', 'error', 'not_run'])
def test_what_does_not_match_is_kept_whole(outcome: str, made: SimpleNamespace) -> None:
    assert made.stages[outcome].brief() is made.stages[outcome]
    case = made.case('match', outcome).brief()
    assert case.stages[1] is made.stages[outcome]
    assert case.outcome == outcome


def test_generated_cases_and_leaves_are_counted(made: SimpleNamespace) -> None:
    recorded = replace(made.case('match'), name='walker2d')
    verdict = Verdict('toy', (recorded, made.case('mismatch').brief(), made.case('match')))
    assert (verdict.generated, verdict.compared) == (2, 5)
