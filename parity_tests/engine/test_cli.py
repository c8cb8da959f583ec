"""The command line: exit codes, messages for bad input, and nothing written when there is one."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from typer.testing import CliRunner

from fixtures import FixtureError
from parity.batches import generate
from parity.cases import DEFAULT_SIZES
from parity.cli import app
from parity.errors import ParityError
from parity.pair import find
from parity.trees import Arrays


def message(*words: str) -> list[str]:
    """The lines of the error that the command line ends with."""
    result = CliRunner().invoke(app, list(words))
    assert isinstance(result.exception, ParityError), result.output
    return str(result.exception).splitlines()


@pytest.fixture
def batch() -> Arrays:
    return generate(find('iql').batch, DEFAULT_SIZES, seed=0, style='plain')


def saved(tmp_path: Path, batch: Arrays) -> str:
    path = tmp_path / 'batch.safetensors'
    safetensors.numpy.save_file(batch, path)
    return str(path)


def test_a_good_batch_file_is_checked(tmp_path: Path, batch: Arrays) -> None:
    words = ['check', 'iql', '--source', saved(tmp_path, batch), '--stage', 'forward', '--dtype', 'float64']
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert 'match' in result.output


def test_missing_unexpected_misshaped_and_nan_entries_are_listed_together(
    tmp_path: Path, batch: Arrays
) -> None:
    batch['reward'] = batch.pop('rewards')
    batch['actions'] = batch['actions'][:3].copy()
    batch['masks'][1] = np.nan
    lines = message(
        'check', 'iql', '--source', saved(tmp_path, batch), '--reports', str(tmp_path / 'reports')
    )
    assert lines[0] == 'the batch cannot be used'
    for problem in (
        "missing key 'rewards'",
        "unexpected key 'reward'",
        'actions: expected shape (5, 2), found f32[3,2]',
        'masks: expected finite values, found 1 NaN or infinite of 5',
    ):
        assert problem in lines[1]
    assert lines[2] == '  error: 4 problems; allowed: 0'
    assert lines[4].startswith('  next: give exactly the entries')
    assert not (tmp_path / 'reports').exists()


def test_an_unreadable_batch_file(tmp_path: Path) -> None:
    path = tmp_path / 'batch.safetensors'
    path.write_bytes(b'no tensors')
    assert message('check', 'iql', '--source', str(path))[0] == f'cannot read the batch {path}'


@pytest.mark.parametrize(
    ('words', 'first'),
    [
        (['check', 'iqql'], 'unknown pair: iqql'),
        (['check', 'iql', '--set', 'expectil=0.8'], 'unknown config key: expectil'),
        (['check', 'iql', '--set', 'expectile=high'], 'cannot use --set expectile=high'),
        (['check', 'iql', '--set', 'const_std=maybe'], 'cannot use --set const_std=maybe'),
        (['check', 'iql', '--size', 'B=0'], "cannot use --size {'B': 0}"),
        (['check', 'iql', '--values', 'odd'], 'unknown style: odd'),
        (['check', 'iql', '--stage', 'losses'], 'unknown stage: losses'),
        (['check', 'iql', '--dtype', 'float16'], 'unknown dtype: float16'),
        (['check', 'no.such.module:PAIR'], "cannot load 'no.such.module:PAIR'"),
        (['run', 'json:dumps'], 'json:dumps is not a pair'),
        (['run', 'iql', '--stage', 'losses'], 'unknown stage: losses'),
        (['run', 'iql', '--steps', '9'], '--steps is for long rollouts only'),
        (['run', 'iql', '--stage', 'rollout', '--steps', '1'], 'cannot run 1 updates'),
    ],
)
def test_bad_input_has_a_five_part_message(words: list[str], first: str) -> None:
    lines = message(*words)
    assert lines[0] == first
    assert [line.split(':')[0] for line in lines[2:]] == ['  error', '  at', '  next']
    assert len(lines) == 5


def test_an_unknown_recording() -> None:
    result = CliRunner().invoke(app, ['check', 'iql', '--source', 'hopper'])
    assert isinstance(result.exception, FixtureError)
    assert str(result.exception).splitlines()[0] == 'unknown fixture: hopper'


def test_a_size_that_the_pair_does_not_have() -> None:
    result = CliRunner().invoke(app, ['check', 'iql', '--size', 'H=3', '--stage', 'config'])
    assert str(result.exception).splitlines()[:2] == [
        'unknown dimension: H',
        "  expected one of A, B, O; found 'H'",
    ]
    assert CliRunner().invoke(app, ['check', 'iql', '--size', 'O=3', '--stage', 'config']).exit_code == 0


def test_bad_input_exits_with_2_and_a_mismatch_with_1() -> None:
    command = [sys.executable, '-m', 'parity', 'check', 'iqql']
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith('unknown pair: iqql')
    words = ['check', 'parity_tests.engine.broken_ports:OTHER_DEFAULT', '--stage', 'config']
    assert CliRunner().invoke(app, words).exit_code == 1


def test_a_port_that_raises_could_not_be_checked() -> None:
    words = ['check', 'parity_tests.engine.broken_ports:RAISING', '--stage', 'loss', '--dtype', 'float64']
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert 'NotImplementedError: not ported yet' in result.output


def test_the_printed_command_checks_the_same_case(tmp_path: Path) -> None:
    words = ['check', 'iql', '--seed', '4', '--values', 'tied', '--size', 'B=2', '--set', 'actor_loss=ddpgbc']
    words += ['--set', 'actor_hidden_dims=6,4', '--stage', 'config']
    first, second = tmp_path / 'first', tmp_path / 'second'
    CliRunner().invoke(app, [*words, '--reports', str(first)])
    case = json.loads((first / 'iql.json').read_text())['cases'][0]
    again = case['command'].split()[1:]
    CliRunner().invoke(app, [*again, '--stage', 'config', '--reports', str(second)])
    assert json.loads((second / 'iql.json').read_text())['cases'][0]['command'] == case['command']


def test_list_names_pairs_stages_and_switches() -> None:
    assert all(word in CliRunner().invoke(app, ['list']).output for word in ('iql', 'infom', 'rollout'))
    assert 'switch actor_loss' in CliRunner().invoke(app, ['list', 'iql']).output


def test_a_long_rollout_says_whose_growth_it_is(tmp_path: Path) -> None:
    words = ['run', 'iql', '--stage', 'rollout', '--steps', '4', '--dtype', 'float64']
    result = CliRunner().invoke(app, [*words, '--reports', str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert 'iql float64, walker2d: the growth is that of the reference: after step 3' in result.output
    report = json.loads((tmp_path / 'iql.json').read_text())
    assert [(growth['source'], len(growth['drifts'])) for growth in report['growth']] == [
        ('halfcheetah', 4),
        ('walker2d', 4),
    ]
