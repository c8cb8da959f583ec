"""Reports: JSON whole or not at all, text with every failure in it."""

import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console, RenderableType

from parity import stages
from parity.report import json as json_report
from parity.report import text
from parity.verdict import StageResult, Verdict

# --- JSON


def test_one_file_per_pair_and_an_index(made: SimpleNamespace, tmp_path: Path) -> None:
    folder = tmp_path / 'new' / 'reports'
    written = json_report.write([made.verdict('match'), Verdict('other', ())], folder)
    assert written == [folder / 'toy.json', folder / 'other.json', folder / 'index.json']
    assert sorted(folder.iterdir()) == sorted(written)


def test_a_report_is_the_verdict(made: SimpleNamespace, tmp_path: Path) -> None:
    verdict = made.verdict('match', 'error')
    content = json.loads(json_report.write([verdict], tmp_path)[0].read_text())
    assert content == {'format': json_report.FORMAT, **json.loads(json.dumps(verdict.as_dict()))}


def test_a_report_is_replaced(made: SimpleNamespace, tmp_path: Path) -> None:
    for outcome in ('match', 'mismatch'):
        path, _ = json_report.write([made.verdict(outcome)], tmp_path)
    assert json.loads(path.read_text())['outcome'] == 'mismatch'


def not_json(name: str) -> None:
    raise AssertionError(f'{name} is not JSON')


def test_infinities_are_text(made: SimpleNamespace, tmp_path: Path) -> None:
    for path in json_report.write([made.verdict('mismatch')], tmp_path):
        json.loads(path.read_text(), parse_constant=not_json)
    leaf = json.loads((tmp_path / 'toy.json').read_text())['cases'][0]['stages'][0]['leaves'][0]
    assert (leaf['error'], leaf['margin'], leaf['allowed']) == ('inf', 'inf', 0.0)
    assert float(leaf['margin']) == float('inf')


def test_twin_an_infinity_that_is_not_text_is_seen() -> None:
    with pytest.raises(AssertionError, match='Infinity is not JSON'):
        json.loads(json.dumps(float('inf')), parse_constant=not_json)


def test_a_failed_write_leaves_the_old_report_and_nothing_else(
    made: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    json_report.write([made.verdict('match')], tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(*_: object) -> None:
        raise OSError('no space left')

    with monkeypatch.context() as patch:
        patch.setattr(os, 'replace', fail)
        with pytest.raises(OSError, match='no space left'):
            json_report.write([made.verdict('mismatch')], tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_others_may_read_a_report(made: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / 'plain').write_text('')
    path, _ = json_report.write([made.verdict('match')], tmp_path)
    assert path.stat().st_mode == (tmp_path / 'plain').stat().st_mode


def test_index(made: SimpleNamespace) -> None:
    assert json_report.index([made.verdict('match', 'error')]) == {
        'format': json_report.FORMAT,
        'pairs': [
            {
                'pair': 'toy',
                'outcome': 'error',
                'file': 'toy.json',
                'cases': 1,
                'generated': 1,
                'leaves': 1,
                'seconds': 1.3,
                'stages': {
                    'loss float64': {'outcome': 'match', 'margin': 0.5, 'path': 'a', 'case': 'seed 3'},
                    'update float32': {'outcome': 'error', 'margin': 0.0, 'path': '', 'case': 'seed 3'},
                },
            }
        ],
    }


def stage(made: SimpleNamespace, outcome: str, margin: float, path: str = 'a') -> StageResult:
    return StageResult('loss', 'float64', outcome, (made.leaf(path, margin),))


@pytest.mark.parametrize(
    ('stages', 'worst'),
    [
        ([('match', 0.2), ('match', 0.9), ('match', 0.3)], ('match', 0.9)),
        ([('match', 0.2), ('mismatch', 1.5), ('match', 0.3)], ('mismatch', 1.5)),
        ([('mismatch', 9.0), ('mismatch', 1.5)], ('mismatch', 9.0)),
        ([('mismatch', 9.0), ('error', 0.0)], ('error', 0.0)),
        ([('match', 0.9), ('not_run', 0.0)], ('not_run', 0.0)),
    ],
)
def test_the_index_has_the_worst_of_all_cases(
    stages: list[tuple[str, float]], worst: tuple[str, float], made: SimpleNamespace
) -> None:
    for several in (stages, stages[::-1]):
        results = [stage(made, *entry, path=f'p{entry[1]}') for entry in several]
        cases = tuple(made.case() for _ in results)
        verdict = Verdict(
            'toy',
            tuple(
                type(c)('n', f'd{r.leaves[0].margin}', 'c', (r,)) for c, r in zip(cases, results, strict=True)
            ),
        )
        (entry,) = json_report.worst_of_stages(verdict).values()
        assert (entry['outcome'], entry['margin']) == worst
        assert (entry['path'], entry['case']) == (f'p{worst[1]}', f'd{worst[1]}')


def test_precisions_are_apart(made: SimpleNamespace) -> None:
    case = made.case('match', 'mismatch', 'error', 'not_run')
    assert list(json_report.worst_of_stages(Verdict('toy', (case,)))) == [
        'loss float64',
        'grads float64',
        'update float32',
        'actions float32',
    ]


# --- text


def rendered(parts: Sequence[RenderableType], width: int = 120) -> list[str]:
    """What a terminal of this width shows, without colours."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    for part in parts:
        console.print(part, soft_wrap=not hasattr(part, 'columns'))
    return [line.rstrip() for line in console.file.getvalue().split('\n') if line.strip()]


def cells(verdicts: Sequence[Verdict], width: int = 120) -> list[list[str]]:
    """The rows of the overview, the header first."""
    lines = rendered([text.overview(verdicts)], width)
    rows = [line.replace('┃', '│').split('│')[1:-1] for line in lines if line[0] in '┃│']
    return [[cell.strip() for cell in row] for row in rows]


def test_overview(made: SimpleNamespace) -> None:
    assert cells([made.verdict('match', 'mismatch', 'error', 'not_run')]) == [
        ['pair', '', 'cases', 'loss', 'grads', 'update', 'actions'],
        ['toy', 'f64', '1', '0.5', 'inf', '', ''],
        ['toy', 'f32', '1', '', '', 'error', 'not_run'],
    ]


def test_a_stage_of_one_pair_has_a_column(made: SimpleNamespace) -> None:
    header, *_ = cells([made.verdict('match'), made.verdict('error'), Verdict('empty', ())])
    assert header == ['pair', '', 'cases', 'loss', 'update']


def test_every_verdict_has_a_row(made: SimpleNamespace) -> None:
    names = [row[0] for row in cells([made.verdict('match'), Verdict('empty', ())])]
    assert names == ['pair', 'toy', 'empty']


def test_the_overview_of_all_stages_fits_a_pipe(made: SimpleNamespace) -> None:
    results = tuple(
        StageResult(name, dtype, 'mismatch', (made.leaf('a', 1.2e12),))
        for name in stages.STAGES
        for dtype in ('float64', 'float32')
    )
    case = type(made.case())('n', 'd', 'c', results)
    (_, *rows) = cells([Verdict('walker-infom', (case,))], width=120)
    assert [row[:2] for row in rows] == [['walker-infom', 'f64'], ['walker-infom', 'f32']]
    assert all(cell == '1.2e+12' for row in rows for cell in row[3:])


def test_a_match_has_no_failures(made: SimpleNamespace) -> None:
    assert text.failures(made.verdict('match', 'match')) == []


def test_failures(made: SimpleNamespace) -> None:
    verdict = made.verdict('match', 'mismatch', 'error', 'not_run')
    assert rendered(text.failures(verdict), width=30) == [
        *made.failure,
        '  also: value of a, margin 3',
        '  update float32: error: ValueError: no',
        '  actions float32: not_run: no observations',
    ]


def test_failures_that_were_not_compared(made: SimpleNamespace) -> None:
    assert rendered(text.failures(made.verdict('match', 'error', 'mismatch'))) == [
        'toy: update float32: error: ValueError: no',
        '  at: seed 3',
        '  next: parity check toy --seed 3',
        '  grads float64: mismatch: 2 of 3 leaves differ',
    ]


@pytest.mark.parametrize('count', [0, 1, 2, 9])
def test_further_leaves_are_shown_or_counted(count: int, made: SimpleNamespace) -> None:
    leaves = [made.leaf(f'p{i}', 9.0 - i / 10) for i in range(1 + count)] + [made.leaf('fine', 0.1)]
    case = type(made.case())('n', 'd', 'c', (StageResult('loss', 'float64', 'mismatch', tuple(leaves)),))
    lines = rendered(text.failures(Verdict('toy', (case,))))[6:]
    also = [f'  also: value of p{i}, margin {9 - i / 10:.3g}' for i in range(1, 1 + min(count, text.SHOWN))]
    rest = [f'  and {count - text.SHOWN} more; all of them are in the JSON report']
    assert lines == also + (rest if count > text.SHOWN else [])


def test_brackets_are_not_markup(made: SimpleNamespace) -> None:
    broken = StageResult('loss', 'float64', 'error', (), 'KeyError: [red]x[/nothing]')
    case = type(made.case())('n', 'B=1 [bold]', 'parity check x:[y]', (broken,))
    lines = rendered(text.failures(Verdict('toy', (case,))))
    assert lines == [
        'toy: loss float64: error: KeyError: [red]x[/nothing]',
        '  at: B=1 [bold]',
        '  next: parity check x:[y]',
    ]


def test_every_outcome_has_a_colour(made: SimpleNamespace) -> None:
    assert set(text.COLOURS) == set(made.stages)
