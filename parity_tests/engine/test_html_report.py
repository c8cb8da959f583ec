"""HTML reports: complete, self-contained, safe with hostile text, and below their size."""

import dataclasses
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest

from parity.comparison import Leaf
from parity.report import files, html, plots, series
from parity.stages import STAGES
from parity.verdict import CaseResult, StageResult, Verdict
from parity_tests.engine.pages import BROWSERS, HOSTILE, Page, external


def stepped(
    margin: float = 0.5, error: float = 1e-9, path: str = 'params/modules_critic/net/Dense_0/kernel'
) -> Leaf:
    kind = 'value' if margin > 1 else None
    return Leaf(f'step2 finetune/{path}', kind, 'f64[2]', 'f64[2]', error, 1e-8, margin, (0, 1), 'because')


def verdict(*leaves: Leaf, stage: str = 'update', dtype: str = 'float64', outcome: str = 'match') -> Verdict:
    result = StageResult(stage, dtype, outcome, leaves)
    return Verdict('toy', (CaseResult('generated', 'seed 3', 'parity check toy --seed 3', (result,)),))


# --- what is on a page


def test_one_page_per_pair_and_an_index(made: SimpleNamespace, tmp_path: Path) -> None:
    folder = tmp_path / 'new'
    written = html.write([made.verdict('match'), Verdict('other', ())], folder)
    assert written == [folder / 'toy.html', folder / 'other.html', folder / 'index.html']
    assert sorted(folder.iterdir()) == sorted(written)


def test_a_page_has_every_part(made: SimpleNamespace) -> None:
    words = Page(html.pair_page(made.verdict('match', 'mismatch', 'error', 'not_run'))).words()
    for part in (
        'toy error',
        '1 case, 1 of them generated; 4 leaves compared in 1.3 seconds',
        'toy: grads differs in float64: missing path of b reference f64[] port absent',
        'a f64[2] [1., 2.] f64[2] [1., 9.] 5e-10 1e-09 why 0.5 1',
        'b f64[] absent ∞ 0 structure ✗ missing path ∞',
        'float32: error ValueError: no',
        'float32: not_run no observations',
        'generated error 0.0 seed 3 parity check toy --seed 3',
        'numpy 2',
    ):
        assert part in words, part


def test_a_match_has_no_message(made: SimpleNamespace) -> None:
    title = 'The first stage that does not match'
    assert title not in html.pair_page(made.verdict('match'))
    assert title in html.pair_page(made.verdict('match', 'error'))  # twin


@pytest.mark.parametrize('outcome', ['match', 'mismatch', 'error', 'not_run'])
def test_an_outcome_is_told_by_symbol_and_word_as_well_as_colour(outcome: str, made: SimpleNamespace) -> None:
    badge = f'<span class="badge {outcome}" data-symbol="{html.SYMBOLS[outcome]}">{outcome}</span>'
    assert badge in html.pair_page(made.verdict(outcome))
    assert badge in html.index_page([made.verdict(outcome)])
    assert f'.{outcome} {{ color' in html.pair_page(made.verdict())


def test_the_index_links_to_every_pair(made: SimpleNamespace) -> None:
    page = Page(html.index_page([made.verdict('match', 'mismatch'), Verdict('a/b', ())]))
    assert {f'{files.stem(name)}.html' for name in ('toy', 'a/b')} <= set(page.links())
    assert 'toy mismatch 1 1.3 float64' in page.words()
    assert '0.5 ✗ ∞' in page.words()
    assert all(what in page.words() for what in STAGES.values())


@pytest.mark.parametrize(
    'verdicts', [[], [Verdict('empty', ())], [Verdict('e', (CaseResult('n', 'd', 'c', ()),))]]
)
def test_nothing_is_said_to_be_nothing(verdicts: list[Verdict]) -> None:
    index = html.index_page(verdicts)
    assert 'no pair was checked' in index if not verdicts else 'not_run' in index
    for empty in verdicts:
        assert 'nothing was checked' in html.pair_page(empty)


def test_a_stage_with_no_leaves_and_values_that_are_not_numbers() -> None:
    nan = dataclasses.replace(stepped(), error=math.nan, margin=math.nan, reference='f64[2] 2 not finite')
    for odd in (verdict(), verdict(nan), verdict(stepped(math.inf, math.inf), outcome='mismatch')):
        Page(html.pair_page(odd))
    assert 'no leaves' in html.pair_page(verdict())
    assert 'not a number' in html.pair_page(verdict(nan))


def test_the_worst_case_is_shown_in_full_and_the_others_by_their_worst_leaf(made: SimpleNamespace) -> None:
    results = [(made.leaf(f'worst{i}', 0.1 * i), made.leaf(f'second{i}', 0.01)) for i in range(3)]
    cases = tuple(
        CaseResult('n', f'seed {i}', 'c', (StageResult('loss', 'float64', 'match', leaves),))
        for i, leaves in enumerate(results)
    )
    (precision,) = html.stages_of(Verdict('toy', cases))['loss']
    assert precision.worst[0].description == 'seed 2'
    assert [leaf.path for leaf in precision.shown] == ['worst2', 'second2']
    words = Page(html.pair_page(Verdict('toy', cases))).words()
    assert all(path in words for path in ('worst0', 'worst1', 'worst2', 'second2'))
    assert 'second1' not in words


# --- size


def big(cases: int, leaves: int) -> Verdict:
    path = 'params/modules_critic/value_net/Dense_0/kernel'
    many = tuple(
        dataclasses.replace(
            stepped(path=f'{path}{i}'), reference='f64[256,256] mean 0.1 in [-2, 3]' * 2, why='why ' * 25
        )
        for i in range(leaves)
    )
    stages = tuple(StageResult(f's{i // 2}', f'float{64 - 32 * (i % 2)}', 'match', many) for i in range(15))
    return Verdict('big', tuple(CaseResult('n', f'seed {i}', 'command ' * 20, stages) for i in range(cases)))


def test_a_large_page_stays_below_its_size_and_says_so() -> None:
    page = html.pair_page(big(10, 900))
    assert len(page.encode()) < 1_500_000
    assert re.search(r'The worst \d+ of 900 leaves\.', page)


def test_twin_a_small_page_has_all_leaves() -> None:
    page = html.pair_page(big(1, 9))
    assert page.count('All 9 leaves.') == 15
    assert not re.search(r'The worst \d+ of', page)


def test_leaves_that_fit() -> None:
    few, many = big(1, 3).cases[0].stages[0], big(1, 9_000).cases[0].stages[0]
    assert html.fitting([few]) >= 3
    count = html.fitting([few, many])
    assert 1000 < count < 9000
    assert html.fitting([many, many]) == pytest.approx(count / 2, rel=0.01)
    assert html.fitting([]) == 1


def test_many_cases_are_counted(made: SimpleNamespace) -> None:
    cases = tuple(made.case('match') for _ in range(2 + html.OTHER_CASES))
    (precision,) = html.stages_of(Verdict('toy', cases))['loss']
    assert (len(precision.others), precision.hidden) == (html.OTHER_CASES, 1)
    assert '1 more cases are in the JSON file' in html.pair_page(Verdict('toy', cases))


# --- safety


def hostile() -> Verdict:
    leaf = Leaf(
        f'step1 {HOSTILE}/params/modules_{HOSTILE}', 'value', HOSTILE, HOSTILE, 1.0, 0.1, 10.0, (1,), HOSTILE
    )
    results = (
        StageResult('update', 'float64', 'mismatch', (leaf,)),
        StageResult(HOSTILE, HOSTILE, 'error', (), HOSTILE),
    )
    return Verdict(HOSTILE, (CaseResult(HOSTILE, HOSTILE, HOSTILE, results),), {HOSTILE: HOSTILE})


def test_hostile_text_is_text() -> None:
    for text in (html.pair_page(hostile()), html.index_page([hostile()])):
        page = Page(text)
        assert page.open == []
        assert external(page) == []
        assert '<script>alert(1)</script>"' in page.words()


def test_twin_hostile_markup_is_seen() -> None:
    assert external(Page(f'<p>{HOSTILE}</p>')) == ['script']
    assert external(Page('<a href="https://example.com" onclick="x">a</a>')) == [
        'https://example.com',
        'onclick',
    ]


@pytest.mark.parametrize(
    'name', ['../up', '/etc/x', 'a/b', '', '.', '..', '.hidden', 'index', 'Index', HOSTILE, 'x' * 300]
)
def test_a_file_stays_in_its_folder(name: str, tmp_path: Path) -> None:
    folder = tmp_path / 'reports'
    page, index = html.write([Verdict(name, ())], folder)
    assert sorted(folder.iterdir()) == sorted([page, index])
    assert [path.name for path in tmp_path.iterdir()] == ['reports']
    assert page.name in html.index_page([Verdict(name, ())])


def test_harmless_names_are_kept_and_others_stay_apart() -> None:
    assert [files.stem(name) for name in ('iql', 'my-pair_2.0')] == ['iql', 'my-pair_2.0']
    assert len({files.stem(name) for name in ('a/b', 'a_b', 'a:b', 'a b', 'index', 'a.b')}) == 6


def test_tables_are_tables(made: SimpleNamespace) -> None:
    for text in (html.pair_page(made.verdict('match', 'mismatch')), html.index_page([made.verdict('match')])):
        page = Page(text)
        assert all('scope' in attrs for tag, attrs in page.tags if tag == 'th')
        assert ('html', {'lang': 'en'}) in page.tags
        assert external(page) == []


# --- margins by layer, growth


def test_layers() -> None:
    assert series.layer('modules_a/net/Dense_0/kernel') == 'modules_a/net/Dense_0'
    assert series.layer('step1 x/opt_mu/modules_a/net/Dense_0/kernel') == 'modules_a/net/Dense_0'
    assert series.layer('reach/full/actor/modules_a') == 'modules_a'
    assert series.layer('info/critic/q') == series.WITHOUT_LAYER


def test_a_cell_has_the_worst_of_all_cases_and_steps() -> None:
    low, high = (
        stepped(0.2),
        dataclasses.replace(stepped(3.0), path='step5 x/params/modules_critic/net/Dense_0/bias'),
    )
    cases = (*verdict(low, stepped(0.9, path='info/q')).cases, *verdict(high, outcome='mismatch').cases)
    heat = series.heat(Verdict('toy', cases))
    assert heat.rows == ['modules_critic/net/Dense_0', series.WITHOUT_LAYER]
    cell = heat.cells[heat.rows[0], ('update', 'float64')]
    assert (cell.margin, cell.differs, cell.path) == (3.0, True, high.path)
    assert not heat.cells[heat.rows[1], ('update', 'float64')].differs
    assert 'class="over" title="step5' in html.pair_page(Verdict('toy', cases))
    assert 'class="over"' not in html.pair_page(verdict(low))  # twin


def test_growth_has_the_worst_of_each_step() -> None:
    leaves = [
        stepped(0.5, 1e-9),
        stepped(0.7, 1e-10),
        stepped(0.9, 5.0, path='info/q'),
        stepped(0.1, 9.0, 'opt_mu/x'),
    ]
    leaves += [dataclasses.replace(stepped(math.nan), path='step10 finetune/params/x'), stepped(path='')]
    found = verdict(*leaves, dataclasses.replace(stepped(), path='not a step/params/x'))
    assert series.margin_growth(found) == {'update float64': [(2, 0.9), (10, math.inf)]}
    assert series.error_growth(found) == {'update float64': [(2, 1e-9), (10, 1e-9)]}
    assert series.step_names(found) == {2: 'finetune', 10: 'finetune'}


def drawn(values: series.Series, **options: object) -> str:
    return plots.lines(values, ylabel='error', label='what', names={}, **options)


def test_a_plot_stands_in_a_page() -> None:
    svg = drawn({'a <b> $x$': [(0, 1e-9), (1, 1e-7)], '_b': [(0, 0.0), (1, math.inf), (2, 2.0)]}, limit=1.0)
    root = ElementTree.fromstring(svg)
    assert (root.get('role'), root.get('aria-label')) == ('img', 'what')
    words = ''.join(root.itertext())
    assert all(word in words for word in ('a <b> $x$', 'b', 'allowed: 1', 'error', 'step'))
    assert 'var(--ink)' in svg
    assert plots.INK not in svg
    assert '<style' not in svg


def test_every_line_is_drawn_apart() -> None:
    assert len(set(plots.LINES)) == len(plots.LINES)
    assert len({marker for _, marker, _ in plots.LINES}) == len(plots.LINES)  # without any colour
    counts = [drawn({f'l{i}': [(0, 1.0), (1, 2.0)] for i in range(n)}).count('<path') for n in (1, 2, 12)]
    assert counts == sorted(set(counts))


def test_what_cannot_be_drawn_is_in_the_numbers() -> None:
    assert drawn({'a': [(0, 0.0), (1, math.inf)]}) == drawn({}) == ''
    page = Page(html.pair_page(verdict(stepped(0.0, 0.0)))).words()
    assert 'Nothing to draw' in page
    assert '2 finetune 0' in page


def test_a_plot_is_the_same_again() -> None:
    values = {'a': [(i, 10.0**-i) for i in range(100)]}
    assert drawn(values) == drawn(values)
    assert drawn(values) != drawn({'a': values['a'][:50]})


@pytest.mark.parametrize(
    ('margin', 'heat'), [(0.0, 0.0), (1e-9, 0.0), (1.0, 0.5), (1e99, 0.75), (math.inf, 0.75)]
)
def test_colour_grows_with_the_margin(margin: float, heat: float) -> None:
    assert html._heat(margin) == pytest.approx(heat)
    assert html._heat(math.nan) == 0.0
    rising = [html._heat(value) for value in np.geomspace(1e-3, 1, 20)]
    assert rising == sorted(rising)


# --- with other programs


def test_libraries_for_pages_are_loaded_only_for_a_page() -> None:
    heavy = '{"matplotlib", "jinja2", "junitparser"}'
    code = f'import parity.cli, parity.report.html, sys; print({heavy} & set(sys.modules))'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout == 'set()\n'
    twin = code.replace('sys; ', 'sys; parity.report.html.index_page([]); ')
    done = subprocess.run([sys.executable, '-c', twin], capture_output=True, text=True, check=True)
    assert 'jinja2' in done.stdout


def test_a_browser_shows_a_page_without_complaint(tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f'no browser on PATH: {", ".join(BROWSERS)}')
    page, index = html.write([hostile()], tmp_path)
    for path in (page, index):
        words = [
            browser,
            '--headless',
            '--no-sandbox',
            '--enable-logging=stderr',
            f'--user-data-dir={tmp_path / "user"}',
        ]
        done = subprocess.run(
            [*words, '--dump-dom', path.as_uri()], capture_output=True, text=True, timeout=120
        )
        assert 'CONSOLE' not in done.stderr
        assert '&lt;script&gt;alert(1)' in done.stdout
        assert external(Page(done.stdout)) == []


def test_of_many_cases_the_first_and_every_failure_are_listed(made: SimpleNamespace) -> None:
    cases = [made.case('match')] * (html.LISTED_CASES + 7) + [made.case('mismatch'), made.case('match')]
    page = html.pair_page(Verdict('toy', tuple(cases)))
    last = html.LISTED_CASES
    assert f'<th scope="row">{last} generated</th>' in page
    assert f'<th scope="row">{last + 1} generated</th>' not in page
    assert f'<th scope="row">{last + 8} generated</th>' in page
    assert '8 more cases that match are in the JSON file.' in page
