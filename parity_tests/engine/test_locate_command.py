"""`parity locate`: exit codes, JSON, what is shown in any width; what `parity check` says of a mismatch."""

import dataclasses
import io
import json

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from parity.cli import app
from parity.locating.divergence import Divergence
from parity.locating.first import with_located
from parity.report.locating import short, view
from parity.verdict import CaseResult, StageResult, Verdict
from parity_tests.engine.located import FOUND

WRONG = 'parity_tests.engine.model_pairs:LINEN_EPSILON'
RIGHT = 'parity_tests.engine.model_pairs:LINEN'


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def test_exit_code_1_and_the_lines_of_both_sides() -> None:
    result = run('locate', WRONG, '--stage', 'loss', '--seed', '1', '--top', '1')
    assert result.exit_code == 1, result.output
    assert 'linen_net: seed 1 plain values' in result.output
    assert 'port model_pairs.py:' in result.output
    assert 'reference model_pairs.py:' in result.output
    assert 'LayerNorm.eps = 1e-06 instead of 1e-05' in result.output
    assert 'less likely places' in result.output


def test_twin_exit_code_0_where_nothing_differs() -> None:
    result = run('locate', RIGHT, '--stage', 'loss', '--seed', '1')
    assert result.exit_code == 0, result.output
    assert result.output.split('\n')[-3:-1] == ['linen_net: seed 1 plain values', 'nothing differs']


def test_json_has_all_of_it() -> None:
    result = run('locate', WRONG, '--stage', 'loss', '--seed', '1', '--json')
    read = json.loads(result.stdout)
    assert result.exit_code == 1
    assert read['findings'][0]['modules'] == ['LayerNorm_0']
    assert len(read['findings']) > 1
    assert read['command'] == f'parity locate {WRONG} --seed 1 --values plain --stage loss'


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (('locate', RIGHT, '--stage', 'lost'), 'unknown stage: lost'),
        (('locate', RIGHT, '--loss', 'training'), 'unknown loss: training'),
        (('locate', 'no_such_pair'), 'unknown pair: no_such_pair'),
        (('locate', RIGHT, '--size', 'Q=3'), 'unknown dimension: Q'),
    ],
)
def test_what_cannot_be_looked_into_is_an_error(words: tuple[str, ...], message: str) -> None:
    assert str(run(*words).exception).splitlines()[0] == message


def test_a_check_that_fails_says_where_and_can_be_told_not_to() -> None:
    words = ('check', WRONG, '--stage', 'loss', '--dtype', 'float64', '--seed', '1')
    assert '  port      model_pairs.py:' in run(*words).output
    assert '  port      model_pairs.py:' not in run(*words, '--no-locate').output


# --- the view, of a divergence made by hand


def shown(divergence: Divergence, width: int) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    for part in view(divergence, 3):
        console.print(part)
    return console.export_text()


@pytest.mark.parametrize('width', [40, 80, 200])
def test_what_matters_is_shown_in_any_width(width: int) -> None:
    text = shown(FOUND, width)
    words = ' '.join(text.replace('│', ' ').split())
    for part in ('port port.py:12', 'reference reference.py:7', 'normalisation epsilon', 'f64[3] mean 2'):
        assert part in words
    assert max(map(len, text.splitlines())) <= width


def test_calls_that_agree_are_folded() -> None:
    text = shown(FOUND, 120)
    assert 'net/norm  culprit forward' in text
    assert text.count('calls agree') == 2  # net/up; other and what is in it
    assert '2 calls agree' in text
    assert 'other/up' not in text


def test_only_cells_that_differ_are_shown() -> None:
    text = shown(FOUND, 120)
    assert 'loss -> target: the gradient arrives in the port only' in text
    assert 'loss -> net' not in text


def test_two_lines_say_where_and_why() -> None:
    assert short(FOUND) == [
        'port      port.py:12 x = self.norm(x)',
        'reference reference.py:7 x = LayerNorm()(x) — '
        'normalisation epsilon: LayerNorm.eps = 1e-06 instead of 1e-05',
    ]
    without = dataclasses.replace(FOUND, findings=(), notes=('too small',))
    assert (short(without), without.outcome) == (['too small'], 'error')


def test_the_first_mismatch_is_located_and_an_error_does_not_hide_it() -> None:
    stages = StageResult('grads', 'float64', 'match'), StageResult('contractions', 'float64', 'mismatch')
    verdict = Verdict('toy', (CaseResult('a', 'a', '', stages[:1]), CaseResult('b', 'b', '', stages)))
    asked = []

    def locate(case: int, stage: str) -> Divergence:
        asked.append((case, stage))
        return FOUND

    assert with_located(verdict, locate).located is FOUND
    assert asked == [(1, 'loss')]
    failed = with_located(verdict, lambda *_: 1 / 0).located  # type: ignore[arg-type,return-value]
    assert failed is not None
    assert short(failed) == ['not located: ZeroDivisionError: division by zero']
    assert failed.outcome == 'error'
    assert with_located(Verdict('toy', verdict.cases[:1]), locate).located is None
