"""Twins side by side: the share of identical lines, definitions and keys, and the command."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from parity import twins
from parity.cli import app
from parity.pair import Pair

SOURCE = """
class Agent:
    def create(cls):
        def inner(x):
            return {'a': 1, **other, 'b': {'c': batch['d']}}
        return inner

    async def update(self): ...


def get_config():
    return dict(lr=1), prefixed('actor', info)[f'{name}/x']
"""


def test_definitions() -> None:
    expected = ['Agent', 'Agent.create', 'Agent.create.inner', 'Agent.update', 'get_config']
    assert twins.definitions(SOURCE) == expected


def test_definitions_in_branches_are_found() -> None:
    assert twins.definitions('if x:\n    def f(): ...\nelse:\n    class g: ...') == ['f', 'g']


def test_names_that_the_frameworks_give() -> None:
    names = ['Net', 'Net.setup', 'Net.__call__', 'Net.__init__', 'Net.call', 'setup_all']
    assert twins.neutral(names) == ['Net', 'Net.forward', 'Net.call', 'setup_all']


def test_keys() -> None:
    assert twins.info_keys(SOURCE) == ['a', 'b', 'c', 'd', 'lr', "f'{name}/x'", 'actor']


@pytest.mark.parametrize(
    ('reference', 'port', 'share'),
    [
        ('a\nb\nc\nd', 'a\nb\nc\nd', 1.0),
        ('a\nb\nc\nd', 'a\nx\nc\nd', 0.75),
        ('a\nb', 'a\nb\nc\nd', 0.5),
        ('a\nb\nc\nd', 'a\nb', 0.5),
        ('a\nb', 'b\na', 0.5),
        ('  a', 'a', 0.0),
        ('', 'a', 0.0),
        ('', '', 1.0),
    ],
)
def test_share(reference: str, port: str, share: float) -> None:
    assert twins.share(reference, port) == share


# --- side by side


def signs(reference: list[str], port: list[str], *, everything: bool = False) -> str:
    return ''.join(
        row.sign for row in twins.rows('\n'.join(reference), '\n'.join(port), everything=everything)
    )


LINES = [f'line number {i}' for i in range(20)]


def test_only_what_differs_is_shown_with_context() -> None:
    changed = [*LINES[:10], 'line Number 10', *LINES[11:]]
    assert signs(LINES, changed) == '~  |  ~'
    assert signs(LINES, changed, everything=True) == 10 * ' ' + '|' + 9 * ' '
    assert signs(LINES, LINES) == '~'
    assert signs(LINES[:1], ['#']) == '<>'


def test_similar_lines_are_beside_each_other() -> None:
    assert signs(['import jax', 'from reference import a'], ['x = 5 + 7', 'from port import a']) == '<>|'
    (*_, row) = twins.rows('import jax\nfrom reference import a', 'x = 5 + 7\nfrom port import a')
    assert (row.reference, row.port) == ((2, 'from reference import a'), (2, 'from port import a'))


@pytest.mark.parametrize(
    'port', [LINES[3:], LINES[::-1], ['#', *LINES, '#'], LINES[:7] + ['line number 99'] * 4]
)
def test_every_line_of_both_is_there_once(port: list[str]) -> None:
    rows = list(twins.rows('\n'.join(LINES), '\n'.join(port), everything=True))
    for side, lines in (('reference', LINES), ('port', port)):
        found = [getattr(row, side) for row in rows if getattr(row, side)]
        assert found == list(enumerate(lines, 1))


# --- the command


@pytest.fixture
def pair(tmp_path: Path, toy: Pair, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Pair]:
    """A pair from two sources."""

    def make(reference: str, port: str) -> Pair:
        for name, source in (('reference_side', reference), ('port_side', port)):
            (tmp_path / f'{name}.py').write_text(source)
        found = twins.Twins(tmp_path / 'reference_side.py', tmp_path / 'port_side.py', (reference, port))
        monkeypatch.setattr(twins, 'twins', lambda _: found)
        return toy

    return make


def invoke(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ['twins', 'toy_agents:TOY', *words])
    return result.exit_code, result.output


def test_the_command(pair: Callable[[str, str], Pair]) -> None:
    port = SOURCE.replace('inner(x):', 'inner(x, y=[0]):  # parity: torch needs y')
    pair(SOURCE, port)
    code, output = invoke()
    assert code == 0
    assert 'def inner(x):' in output
    assert 'def inner(x, y=[0]):  # parity: torch needs y' in output
    assert 'get_config' not in output
    assert output.splitlines()[-1] == (
        "92% identical lines; 1 marked '# parity:'; the same definitions and keys in order"
    )
    assert 'get_config' in invoke('--all')[1]


@pytest.mark.parametrize(
    ('old', 'new', 'line'),
    [
        ('def update', 'def step', 'definition + Agent.step'),
        ("'a': 1", "'A': 1", 'key + A'),
        ("batch['d']", 'batch', 'key - d'),
        ('dict(lr', 'dict(rate', 'key + rate'),
    ],
)
def test_other_definitions_or_keys_exit_with_1(
    old: str, new: str, line: str, pair: Callable[[str, str], Pair]
) -> None:
    pair(SOURCE, SOURCE.replace(old, new))
    code, output = invoke()
    assert code == 1
    assert line in output.splitlines()
    assert 'not the same definitions and keys in order' in output


def test_brackets_are_not_markup(pair: Callable[[str, str], Pair]) -> None:
    pair(SOURCE, SOURCE.replace('...', "x['[red]'], '[/no]'"))
    assert "x['[red]'], '[/no]'" in invoke()[1]


def test_a_pair_of_real_files() -> None:
    result = CliRunner().invoke(app, ['twins', 'torch_agents.pairs:IQL'])
    assert result.exit_code == 0, result.output
    assert 'reference reference_jax/iql.py' in result.output
    assert 'port torch_agents/iql.py' in result.output


def test_no_source_has_a_five_part_message(
    toy: Pair, raised: Callable[[Callable[[], object]], list[str]]
) -> None:
    for reference in (dict, type('Made', (), {'__module__': 'nowhere'})):
        lines = raised(lambda reference=reference: twins.twins(dataclasses.replace(toy, reference=reference)))
        assert lines[0] == 'toy: the reference has no source file'
        assert [line.split(':')[0] for line in lines[2:]] == ['  error', '  at', '  next']


def test_a_narrow_terminal_folds_long_lines() -> None:
    long = f'value = {"+".join(["number"] * 30)}'
    console = Console(width=60, color_system=None)
    with console.capture() as capture:
        console.print(twins.side_by_side(twins.Twins(Path('r/a.py'), Path('p/a.py'), (long, long + ' + 1'))))
    assert max(map(len, capture.get().splitlines())) <= 60
    assert capture.get().count('number') >= 40
