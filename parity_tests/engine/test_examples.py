"""The examples: each pair matches, each planted bug shows at its stage, and the READMEs say what happens."""

import re
import runpy
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

import parity
from parity import Case
from parity.cli import app

FOLDER = Path(parity.__file__).parents[1] / 'examples'
NAMES = ('cnn_batchnorm', 'transformer', 'flow_sampler', 'optimizer')
EXIT = {'match': 0, 'mismatch': 1}
# Of the size that the commands of the READMEs check: what is compiled for one is compiled for all.
CASES = Case(seed=1), Case(seed=2, values='huge'), Case(seed=3, values='duplicates')
EVERY = pytest.mark.parametrize('name', NAMES)

pytestmark = [
    pytest.mark.skipif(not FOLDER.exists(), reason='not in a source tree'),
    pytest.mark.xdist_group('examples'),
]


def blocks(name: str) -> list[tuple[str, list[str]]]:
    """The commands in a README, each with the lines that it says are printed."""
    text = (FOLDER / name / 'README.md').read_text().replace('\\\n', '')
    lines = [line[4:] for line in text.split('\n') if line.startswith('    ')]
    starts = [i for i, line in enumerate(lines) if line.startswith('$ ')]
    return [
        (lines[start][2:], lines[start + 1 : end])
        for start, end in zip(starts, [*starts[1:], len(lines)], strict=True)
    ]


def commands(program: str) -> list[tuple[str, list[str]]]:
    names = [*NAMES, ''] if FOLDER.exists() else []
    return [block for name in names for block in blocks(name) if block[0].startswith(program)]


def caught() -> dict[str, str]:
    """The stage at which each planted bug shows, as the table of examples/README.md says."""
    rows = re.findall(r'^\| \[(\w+)\].*\| (\w+) \|$', (FOLDER / 'README.md').read_text(), re.MULTILINE)
    return dict(rows)


@EVERY
def test_a_pair_matches_in_generated_cases(name: str) -> None:
    parity.check(f'examples.{name}.pair:PAIR', cases=CASES).raise_if_mismatch()


@EVERY
def test_the_planted_bug_shows_at_its_stage(name: str) -> None:
    verdict = parity.check(f'examples.{name}.pair:PLANTED', cases=CASES, dtypes=['float64'])
    for case in verdict.cases:
        assert next(stage.stage for stage in case.stages if stage.outcome == 'mismatch') == caught()[name]
        assert [stage.reason for stage in case.stages if stage.outcome == 'error'] == []


@pytest.mark.parametrize(
    'block', commands('parity check') + commands('parity run'), ids=lambda block: block[0]
)
def test_the_commands_print_what_the_readmes_show(block: tuple[str, list[str]], tmp_path: Path) -> None:
    """Numbers and the worst leaf may differ by machine: what counts is the stage and the outcome."""
    command, shown = block
    words = shlex.split(command)[1:]
    words += ['--jobs', '1', '--reports', str(tmp_path)] if words[0] == 'run' else []
    result = CliRunner().invoke(app, words)
    assert result.exit_code == EXIT[shown[-1]], result.output
    headlines = re.findall(r'^.* differs in \w+:', '\n'.join(shown), re.MULTILINE)
    assert bool(headlines) == ('pair:PLANTED' in command and words[0] == 'check')
    assert [line for line in headlines if line not in result.output] == []


@pytest.mark.slow
@pytest.mark.parametrize('block', commands('parity locate'), ids=lambda block: block[0])
def test_what_the_readmes_show_is_located(block: tuple[str, list[str]]) -> None:
    command, shown = block
    result = CliRunner(env={'COLUMNS': '100'}).invoke(app, shlex.split(command)[1:])
    assert result.exit_code == EXIT['mismatch'], result.output
    assert [line for line in shown if line != '...' and line not in result.output] == []
    assert sum('│ >' in line for line in shown) >= 1


def test_every_planted_bug_is_located_in_its_readme() -> None:
    located = [command.split()[2] for command, _ in commands('parity locate')]
    assert sorted(located) == [f'examples.{name}.pair:PLANTED' for name in sorted(NAMES)]


@EVERY
def test_a_readme_shows_the_pair_and_its_bug(name: str) -> None:
    checked = [command for command, _ in blocks(name) if command.startswith('parity check')]
    assert checked == [f'parity check examples.{name}.pair:{attr}' for attr in ('PAIR', 'PLANTED')]
    assert f' {caught()[name]} differs in float64:' in (FOLDER / name / 'README.md').read_text()


def test_every_example_is_listed() -> None:
    assert sorted(caught()) == sorted(NAMES) == sorted(path.parent.name for path in FOLDER.glob('*/pair.py'))


def test_the_table_of_the_transformer_is_what_is_proposed(capsys: pytest.CaptureFixture[str]) -> None:
    ((command, shown),) = commands('python -m')
    runpy.run_module(command.split()[-1], run_name='__main__')
    printed = capsys.readouterr().out
    assert printed == (FOLDER / 'transformer' / 'mapping.toml').read_text()
    assert printed.startswith(shown[0])
