"""The page of what was located: every part, both sides' lines, hostile text, links from the report."""

import dataclasses
import json
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from parity.cli import app
from parity.locating.divergence import Divergence, Place
from parity.locating.reach import ReachCell
from parity.report import files, html, locate_page
from parity.report.locate_page import Smallest
from parity_tests.engine.located import DRAW, FOUND, UPDATE
from parity_tests.engine.pages import BROWSERS, HOSTILE, Page, external

WRONG = 'parity_tests.engine.model_pairs:LINEN_EPSILON'
RIGHT = 'parity_tests.engine.model_pairs:LINEN'
SMALLEST = Smallest(
    Path('r/toy-case.safetensors'), 'seed 0 B=1', 'parity check toy --case r/toy-case.safetensors'
)


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def whole() -> Divergence:
    return dataclasses.replace(
        FOUND, draws=(DRAW,), updates=(UPDATE,), notes=('a note',), versions={'jax': '1'}
    )


def test_a_page_has_every_part() -> None:
    words = Page(locate_page.page(whole(), SMALLEST)).words()
    for part in (
        'Where toy parts mismatch seed 3; 1.0 seconds.',
        'Again: parity locate toy --seed 3',
        'seed 0 B=1, is toy-case.safetensors : parity check toy --case r/toy-case.safetensors',
        'With the causes undone all of it agrees. a note',
        '1. normalisation epsilon module in loss train',
        'reference reference.py:7 in Net.__call__',
        'port port.py:12 in Net.forward',
        'reference f64[3] mean 1 port f64[3] mean 2 difference 0.5, allowed 1e-11',
        'cause normalisation epsilon: LayerNorm.eps = 1e-06 instead of 1e-05',
        'tried 1 change; margin 1e+09 as it is, 0.1 with this one',
        'suspected because computed otherwise',
        'modules net/norm reaches loss agreed before f64[3] of x',
        'net carrier forward net/norm culprit forward outputs/output: error 5.00e-01, allowed 1.00e-14',
        'term net target loss both ✗ port only',
        'train: loss -> target: the gradient arrives in the port only',
        'key normal float32[5] from key (1, 2), port.py:3 normal float32[5] from key (3, 4), reference.py:4',
        'wrong rate tau is 0.5 instead of 0.005 step1 finetune net/up/kernel 0.2',
        'loss float64: 1 of 5 leaves differ',
        'jax 1',
    ):
        assert part in words, part


def test_twin_what_is_not_there_is_not_shown() -> None:
    found = dataclasses.replace(FOUND, modules={}, reach=(), explained=None)
    words = Page(locate_page.page(found)).words()
    for part in (
        'Random draws',
        'Updates',
        'Modules',
        'What reaches what',
        'smallest case',
        'With the causes',
    ):
        assert part not in words, part
    assert 'Nothing differs.' in locate_page.page(Divergence('toy', 'seed 3', 'c'))


def test_lines_of_both_sides_are_shown_around_the_one(tmp_path: Path) -> None:
    source = tmp_path / 'odd.py'
    source.write_text(''.join(f'    line{i} = "<b>"\n' for i in range(1, 9)))
    place = Place(str(source), 4, 'f', 'line4')
    page = locate_page.page(
        dataclasses.replace(FOUND, findings=(dataclasses.replace(FOUND.findings[0], port=place),))
    )
    shown = [i for i in range(1, 9) if f'line{i} = &#34;&lt;b&gt;&#34;' in page]
    assert shown == [2, 3, 4, 5, 6]
    assert page.count('<mark>') == 1
    assert '<mark>&gt;    4 line4 =' in page


def test_calls_that_agree_are_folded_and_named() -> None:
    page = locate_page.page(FOUND)
    assert page.count('calls agree</summary>') == 2  # net/up; other and what is in it
    assert '2 calls agree' in page
    assert '<details><summary><span class="match">' in page
    assert 'other/up' in page


def test_the_table_has_every_network_of_its_terms() -> None:
    cell = ReachCell('train', 'other', 'Net', True, False)
    words = Page(locate_page.page(dataclasses.replace(FOUND, reach=(*FOUND.reach, cell)))).words()
    assert 'term net target Net loss both ✗ port only other ✗ reference only' in words


def test_a_large_divergence_makes_no_large_page() -> None:
    finding = dataclasses.replace(FOUND.findings[0], parameters=('modules_net/Dense_0/kernel',) * 5_000)
    (stage,) = FOUND.stages
    stage = dataclasses.replace(stage, leaves=stage.leaves * 5_000)
    page = locate_page.page(dataclasses.replace(FOUND, stages=(stage,), findings=(finding,) * 500))
    assert len(page.encode()) < 200_000
    assert f'The first {locate_page.FINDINGS} of 500.' in page
    assert f'and {5_000 - locate_page.WORDS:} more' in page


def hostile(value: Any) -> Any:
    """The value with every text in it hostile, but for words that are one of a few."""
    if isinstance(value, str):
        return value if value in ('match', 'mismatch', 'carrier', 'culprit', 'missing') else HOSTILE
    if isinstance(value, dict):
        return {hostile(key): hostile(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(map(hostile, value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: hostile(getattr(value, field.name)) for field in dataclasses.fields(value)}
        # no file can have a lone surrogate in its name
        file = {'file': HOSTILE[:-1]} if isinstance(value, Place) else {}
        return dataclasses.replace(value, **(fields | file))
    return value


def test_hostile_text_is_text() -> None:
    draw = dataclasses.replace(DRAW, reference=None)
    found = hostile(dataclasses.replace(whole(), draws=(draw,)))
    for page in map(Page, (locate_page.page(found, hostile(SMALLEST), is_checked=True), linking(found))):
        assert page.open == []
        assert external(page) == []
        assert '<script>alert(1)</script>"' in page.words()


def linking(found: Divergence) -> str:
    from parity.verdict import Verdict

    return html.pair_page(Verdict(found.pair, (), located=found))


def test_twin_the_unescaped_text_would_run() -> None:
    page = locate_page.page(hostile(whole()))
    assert 'script' in external(Page(page.replace('&lt;', '<').replace('&gt;', '>')))


def test_the_pair_page_links_to_it(made: SimpleNamespace) -> None:
    verdict = made.verdict('mismatch')
    assert 'toy-locate.html' not in html.pair_page(verdict)  # twin
    page = Page(html.pair_page(dataclasses.replace(verdict, located=FOUND)))
    assert 'toy-locate.html' in page.links()
    assert 'port port.py:12 x = self.norm(x) reference reference.py:7' in page.words()


def test_it_links_back_only_to_what_is_there(tmp_path: Path) -> None:
    locate_page.write(FOUND, tmp_path)
    assert 'toy.html' not in Page((tmp_path / 'toy-locate.html').read_text()).links()
    (tmp_path / 'toy.html').touch()
    written = locate_page.write(FOUND, tmp_path)
    assert 'toy.html' in Page(written[1].read_text()).links()
    assert [path.name for path in written] == ['toy-locate.json', 'toy-locate.html']


def test_no_pair_shares_its_file() -> None:
    assert files.located_stem('toy') == 'toy-locate'
    assert files.stem('toy-locate') not in ('toy-locate', files.stem('toy'))
    assert len({files.located_stem(name) for name in ('a', 'a-locate', 'a/b', 'a_b')}) == 4


def test_a_browser_shows_it_without_complaint(tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f'no browser on PATH: {", ".join(BROWSERS)}')
    _, page = locate_page.write(hostile(whole()), tmp_path)
    words = [
        browser,
        '--headless',
        '--no-sandbox',
        '--enable-logging=stderr',
        f'--user-data-dir={tmp_path / "u"}',
    ]
    done = subprocess.run([*words, '--dump-dom', page.as_uri()], capture_output=True, text=True, timeout=120)
    assert 'CONSOLE' not in done.stderr
    assert external(Page(done.stdout)) == []


# --- the commands


def test_locate_writes_a_page_data_and_a_case_that_differs_again(tmp_path: Path) -> None:
    words = ('--stage', 'loss', '--seed', '1', '--values', 'tiny', '--size', 'B=3')
    result = run('locate', WRONG, *words, '--reports', str(tmp_path))
    assert result.exit_code == 1, result.output
    names = ['linen_net-case.safetensors', 'linen_net-locate.html', 'linen_net-locate.json']
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert json.loads((tmp_path / names[2]).read_text())['outcome'] == 'mismatch'
    again = ('--case', str(tmp_path / names[0]), '--stage', 'loss', '--dtype', 'float64', '--no-locate')
    assert f': seed 0 plain values B=1; next: parity check {WRONG} --case' in result.output
    assert run('check', WRONG, *again).exit_code == 1
    twin = run('check', RIGHT, *again)  # the pairs have one name
    assert twin.exit_code == 0, twin.output


def test_without_shrinking_the_case_is_the_one_that_was_located(tmp_path: Path) -> None:
    words = ('--stage', 'loss', '--seed', '1', '--size', 'B=3', '--reports', str(tmp_path), '--shrink', '0')
    result = run('locate', WRONG, *words, '--json')
    assert json.loads(result.stdout)['outcome'] == 'mismatch'
    assert 'seed 1 plain values B=3; next:' in result.stderr


def test_where_nothing_differs_there_is_no_case(tmp_path: Path) -> None:
    assert run('locate', RIGHT, '--stage', 'loss', '--seed', '1', '--reports', str(tmp_path)).exit_code == 0
    assert sorted(path.suffix for path in tmp_path.iterdir()) == ['.html', '.json']


def test_check_and_run_link_to_what_they_located(tmp_path: Path) -> None:
    choice = ('--stage', 'loss', '--dtype', 'float64')
    run('check', WRONG, '--seed', '1', *choice, '--reports', str(tmp_path / 'check'))
    assert 'linen_net-locate.html' in Page((tmp_path / 'check' / 'linen_net.html').read_text()).links()
    assert (tmp_path / 'check' / 'linen_net-locate.html').exists()
    result = run('run', WRONG, '--examples', '1', *choice, '--reports', str(tmp_path / 'run'))
    assert '  port      model_pairs.py:' in result.output
    assert (tmp_path / 'run' / 'linen_net-locate.html').exists()
    twin = run('run', WRONG, '--examples', '1', *choice, '--reports', str(tmp_path / 'twin'), '--no-locate')
    assert '  port      model_pairs.py:' not in twin.output
    assert not (tmp_path / 'twin' / 'linen_net-locate.html').exists()
    assert 'linen_net-locate' not in (tmp_path / 'twin' / 'linen_net.html').read_text()
