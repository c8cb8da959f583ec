"""Reports against each other: what is worse, better, gone or new, and what CI is told."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from typer.testing import CliRunner

from parity.cli import app
from parity.errors import ParityError
from parity.report import diff
from parity.report import json as json_report
from parity.verdict import CaseResult, Outcome, StageResult, Verdict

Lines = Callable[[Callable[[], object]], list[str]]


@pytest.fixture
def report(tmp_path: Path, made: SimpleNamespace) -> Callable[..., Path]:
    """A report folder with one pair: {'grads float64': margin or outcome}."""

    def write(name: str, stages: dict[str, float | Outcome], pair: str = 'toy') -> Path:
        results = [_result(made, *stage.split(), found) for stage, found in stages.items()]
        verdict = Verdict(pair, (CaseResult('n', 'seed 1', 'c', tuple(results)),))
        json_report.write([verdict], tmp_path / name)
        return tmp_path / name

    return write


def _result(made: SimpleNamespace, stage: str, dtype: str, found: float | Outcome) -> StageResult:
    if isinstance(found, str):
        return StageResult(stage, dtype, found, (), 'why not')
    return StageResult(stage, dtype, 'match' if found <= 1 else 'mismatch', (made.leaf('a/b', found),))


LOSS = 'loss float64'
FINE = '{"outcome": "fine", "margin": 1, "path": ""}'


@pytest.mark.parametrize(
    ('old', 'new', 'kind', 'code'),
    [
        (0.1, 0.1, 'same', 0),
        (0.1, 0.2, 'same', 0),
        (0.1, 0.201, 'worse', 1),
        (0.2, 0.1, 'same', 0),
        (0.201, 0.1, 'better', 0),
        (0.0, 0.019, 'same', 0),
        (0.0, 0.021, 'worse', 1),
        (1e-9, 0.0099, 'same', 0),
        (0.9, 1.1, 'worse', 1),
        (1.1, 0.9, 'better', 0),
        (3.0, 4.0, 'same', 0),
        (3.0, 7.0, 'worse', 1),
        (3.0, float('inf'), 'worse', 1),
        (float('inf'), float('inf'), 'same', 0),
        (float('inf'), 3.0, 'better', 0),
        (0.9, 'error', 'worse', 1),
        (5.0, 'error', 'worse', 1),
        (0.9, 'not_run', 'worse', 1),
        ('not_run', 0.9, 'better', 0),
        ('not_run', 1.1, 'worse', 1),
        ('error', 'error', 'same', 0),
        ('error', 1e9, 'better', 0),
    ],
)
def test_changes(
    old: float | Outcome, new: float | Outcome, kind: str, code: int, report: Callable[..., Path]
) -> None:
    folders = report('old', {LOSS: old}), report('new', {LOSS: new})
    (change,) = diff.diff(*folders)
    assert (change.key, change.kind, change.fails) == (('toy', LOSS), kind, bool(code))
    result = CliRunner().invoke(app, ['diff-reports', *map(str, folders)])
    assert result.exit_code == code
    assert f'1 {kind}' in result.output
    assert ('toy' in result.output) == (kind != 'same')


def test_options(report: Callable[..., Path]) -> None:
    folders = [str(report('old', {LOSS: 0.1})), str(report('new', {LOSS: 0.25}))]
    codes = {
        options: CliRunner().invoke(app, ['diff-reports', *folders, *options]).exit_code
        for options in [(), ('--factor', '2.4'), ('--factor', '2.6'), ('--floor', '0.2')]
    }
    assert list(codes.values()) == [1, 1, 0, 0]


def test_what_vanished_fails_and_what_appeared_fails_only_if_it_is_red(report: Callable[..., Path]) -> None:
    old = report('old', {LOSS: 0.1, 'grads float64': 0.1})
    less, more = (
        report('less', {LOSS: 0.1}),
        report('more', {LOSS: 0.1, 'grads float64': 0.1, 'x f': 0.5, 'y f': 2.0}),
    )
    assert [(c.kind, c.fails) for c in diff.diff(old, less)] == [('same', False), ('vanished', True)]
    assert [(c.kind, c.fails) for c in diff.diff(old, more)][2:] == [('appeared', False), ('appeared', True)]


def test_a_pair_that_vanished(report: Callable[..., Path]) -> None:
    changes = diff.diff(report('old', {LOSS: 0.1}), report('new', {LOSS: 0.1}, pair='other'))
    assert [(c.key[0], c.kind) for c in changes] == [('toy', 'vanished'), ('other', 'appeared')]


def test_a_folder_its_index_and_the_report_of_the_pair_say_the_same(
    made: SimpleNamespace, tmp_path: Path
) -> None:
    low, high = made.case('match', 'mismatch'), made.case('error', 'not_run', 'mismatch')
    fine = StageResult('loss', 'float64', 'match', (made.leaf('worse', 0.8),))
    verdict = Verdict('toy', (low, high, dataclasses.replace(low, stages=(fine,))))
    json_report.write([verdict], tmp_path)
    entries = [diff.load(path) for path in (tmp_path, tmp_path / 'index.json', tmp_path / 'toy.json')]
    assert entries[0] == entries[1] == entries[2]
    assert entries[0]['toy', LOSS] == diff.Entry('match', 0.8, 'worse')
    assert entries[0]['toy', 'grads float64'].margin == float('inf')
    assert entries[0]['toy', 'update float32'].outcome == 'error'


def test_the_table(report: Callable[..., Path]) -> None:
    stages = {LOSS: 0.1, 'grads float64': 0.5, 'params float64': 0.0}
    changes = diff.diff(report('old', stages), report('new', {**stages, 'grads float64': 5.0}))
    assert diff.summary(changes) == '1 worse, 2 same'
    (row,) = [line for line in shown(changes).splitlines() if 'toy' in line]
    expected = ['worse', 'toy', 'grads float64', '0.5', 'mismatch 5', '10', 'a/b']
    assert [cell.strip() for cell in row.split('│')[1:-1]] == expected
    assert 'params' not in shown(changes)
    assert 'params' in shown(changes, everything=True)


def shown(changes: list[diff.Change], *, everything: bool = False) -> str:
    console = Console(width=150, color_system=None)
    with console.capture() as capture:
        console.print(diff.table(changes, everything=everything))
    return capture.get()


def test_brackets_are_not_markup(report: Callable[..., Path]) -> None:
    changes = diff.diff(
        report('old', {LOSS: 0.1}, pair='[red]x[/no]'), report('new', {LOSS: 0.9}, pair='[red]x[/no]')
    )
    assert '[red]x[/no]' in shown(changes)


@pytest.mark.parametrize(
    ('content', 'found'),
    [
        (None, 'FileNotFoundError'),
        ('', 'JSONDecodeError'),
        ('\xff', 'UnicodeDecodeError'),
        ('[]', 'format None'),
        ('{"pairs": []}', 'format None'),
        ('{"format": 99, "pairs": []}', 'format 99'),
        ('{"format": 1}', "KeyError: 'cases'"),
        ('{"format": 1, "pairs": 3}', 'TypeError'),
        ('{"format": 1, "pairs": [{"pair": "x", "stages": []}]}', 'AttributeError'),
        (
            '{"format": 1, "pairs": [{"pair": "x", "stages": {"s f": {"outcome": "fine"}}}]}',
            "KeyError: 'margin'",
        ),
        (
            '{"format": 1, "pairs": [{"pair": "x", "stages": {"s f": ' + FINE + '}}]}',
            "unknown outcome 'fine'",
        ),
    ],
)
def test_what_cannot_be_read(
    content: str | None, found: str, tmp_path: Path, report: Callable[..., Path], raised: Lines
) -> None:
    good, bad = report('good', {LOSS: 0.1}), tmp_path / 'bad.json'
    if content is not None:
        bad.write_bytes(content.encode('latin-1'))
    for folders in ((good, bad), (bad, good)):
        lines = raised(lambda folders=folders: diff.diff(*folders))
        assert lines[0] == f'cannot compare the report {bad}'
        assert lines[1].startswith('  expected a JSON report of format 1; found ')
        assert found in lines[1]
        assert lines[2:] == [
            '  error: unreadable',
            f'  at: {bad}',
            '  next: write it again with this version: parity run --reports FOLDER',
        ]
    assert isinstance(CliRunner().invoke(app, ['diff-reports', str(good), str(bad)]).exception, ParityError)


def test_nothing_is_not_the_same_as_nothing(tmp_path: Path, raised: Lines) -> None:
    for name in ('old', 'new'):
        json_report.write([], tmp_path / name)
    assert 'found no stage' in raised(lambda: diff.diff(tmp_path / 'old', tmp_path / 'new'))[1]


@pytest.mark.parametrize(
    'options', [{'factor': 0.5}, {'factor': float('nan')}, {'floor': 0.0}, {'floor': -1.0}]
)
def test_options_out_of_range(options: dict[str, float], report: Callable[..., Path], raised: Lines) -> None:
    folder = report('old', {LOSS: 0.1})
    lines = raised(lambda: diff.diff(folder, folder, **options))
    assert lines[0] == 'cannot compare reports with these options'
    assert len(lines) == 5


def test_not_a_number_is_the_worst(tmp_path: Path, report: Callable[..., Path]) -> None:
    folder = report('old', {LOSS: 0.1})
    text = (folder / 'index.json').read_text()
    content = json.loads(text)
    content['pairs'][0]['stages'][LOSS]['margin'] = 'nan'
    (folder / 'index.json').write_text(json.dumps(content))
    assert diff.load(folder)['toy', LOSS].margin == float('inf')
