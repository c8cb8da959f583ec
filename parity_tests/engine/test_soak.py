"""A soak checks generated examples part by part, goes on where it was ended, and tells what differs."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner
from typer.testing import Result as Ran

from parity.cli import app
from parity.generated import PER_STRUCTURE, generated_cases, part_of
from parity.pair import find
from parity.soaking import report
from parity.soaking.parts import APART, Part, Result, check_part, digest, parts_of, read, result_of
from parity.verdict import CaseResult, StageResult, Verdict
from parity_tests.engine.pages import Page

pytestmark = pytest.mark.xdist_group('soak')

BROKEN = 'parity_tests.engine.broken_ports:LAYER_NORM_EPSILON'
RESULT = Result(Part('toy', '0', 3, 0, 5, ('loss',)), 'match', 40, 0.5, (), 1.0)


def soak(folder: Path, *words: str) -> Ran:
    options = ['--stage', 'config', '--part', '2', '--jobs', '1', '--reports', str(folder)]
    return CliRunner().invoke(app, ['soak', 'iql', *options, *words])


def lines(folder: Path) -> list[str]:
    return (folder / 'soak.jsonl').read_text().splitlines()


def test_parts_are_those_of_all_generated_cases() -> None:
    pair = find('iql')
    assert generated_cases(pair, PER_STRUCTURE + 50, 4) == part_of(pair, 4, 0) + part_of(pair, 4, 1)[:50]


def test_every_pair_has_as_many_examples() -> None:
    parts = parts_of(['iql', 'hilp'], 450, 7, ['loss'], 200)
    assert [(part.pair, part.number, part.examples) for part in parts] == [
        (name, number, count) for number, count in ((0, 200), (1, 200), (2, 50)) for name in ('iql', 'hilp')
    ]
    assert {part.seed for part in parts} == {7}


def test_a_run_that_was_ended_goes_on(tmp_path: Path) -> None:
    assert soak(tmp_path, '--examples', '3').exit_code == 0
    first, last = lines(tmp_path)
    (tmp_path / 'soak.jsonl').write_text(f'{first}\n{last[:30]}')  # ended while it was written
    assert soak(tmp_path, '--examples', '5').exit_code == 0
    made = lines(tmp_path)
    assert made[0] == first  # not checked again
    assert [result.part.examples for result in read(tmp_path / 'soak.jsonl')] == [2, 2, 1]


def test_results_of_other_code_or_options_are_not_counted(tmp_path: Path) -> None:
    soak(tmp_path, '--examples', '2')
    (mine,) = read(tmp_path / 'soak.jsonl')
    other = dataclasses.replace(mine, part=dataclasses.replace(mine.part, code='0' * 16), outcome='mismatch')
    (tmp_path / 'soak.jsonl').write_text(f'{other.line()}\n{mine.line()}\n')
    ran = soak(tmp_path, '--examples', '2')
    assert (ran.exit_code, len(lines(tmp_path))) == (0, 2)
    assert '1 other parts' in ran.output


def test_twin_a_port_that_differs_fails(tmp_path: Path) -> None:
    ran = CliRunner().invoke(
        app,
        ['soak', BROKEN, '--examples', '1', '--stage', 'loss', '--jobs', '1', '--reports', str(tmp_path)],
    )
    assert ran.exit_code == 1, ran.output
    assert 'loss differs in float64' in ran.output
    assert f'next: parity check {BROKEN}' in ran.output.replace('\n', ' ')
    words = Page((tmp_path / 'soak.html').read_text()).words()
    assert 'Examples that differ: 1' in words
    assert 'loss differs in float64' in words


def test_an_example_that_raises_is_an_error() -> None:
    failed = StageResult('loss', 'float64', 'error', reason='ValueError: no')
    case = CaseResult('generated', 'seed 3', 'parity check toy --seed 3', (failed,))
    found = result_of(RESULT.part, Verdict('toy', (case,)))
    assert (found.outcome, found.leaves) == ('error', 0)
    assert 'ValueError: no' in found.failures[0]
    assert 'parity check toy --seed 3' in found.failures[0]


def test_the_table_counts_each_pair_and_all() -> None:
    other = dataclasses.replace(RESULT, part=dataclasses.replace(RESULT.part, pair='other'), margin=0.7)
    more = dataclasses.replace(RESULT, part=dataclasses.replace(RESULT.part, number=1), margin=0.2)
    found = {row.pair: (row.examples, row.parts, row.margin) for row in report.rows([RESULT, other, more])}
    assert found == {'toy': (10, 2, 0.5), 'other': (5, 1, 0.7), 'all': (15, 3, 0.7)}


def test_a_digest_is_that_of_the_code_of_both_sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = find(BROKEN)
    assert digest(pair) == digest(dataclasses.replace(pair, name='another'))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / 'my_port_of_soak.py').write_text('class Agent: ...\n')
    own = dataclasses.replace(pair, port='my_port_of_soak:Agent')
    before = digest(own)
    (tmp_path / 'my_port_of_soak.py').write_text('class Agent: ...  # changed\n')
    assert digest(own) != before != digest(pair)


def test_what_no_check_uses_is_no_part_of_it() -> None:
    """In a process of its own, which has imported all that the check of a part takes."""
    part = Part(BROKEN, '', 0, 0, 1, ('config',))
    code = f"""
import sys
from parity.soaking.parts import *
check_part({part!r}, print)
print([name for name in sys.modules if name.startswith({APART!r})])
"""
    ran = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == '[]'


def test_an_unknown_stage_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    ran = CliRunner().invoke(app, ['soak', 'iql', '--stage', 'losss', '--reports', str(tmp_path / 'none')])
    assert ran.exit_code != 0
    assert not (tmp_path / 'none').exists()


def test_a_part_is_checked_with_the_stages_that_a_pair_has() -> None:
    part = Part('iql', '', 0, 0, 1, ('config', 'contractions'))
    assert check_part(part, lambda line: None).outcome == 'match'
