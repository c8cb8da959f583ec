"""Case files: what is written is read again, and whatever else is refused in five parts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from typer.testing import CliRunner

from parity import Case, ParityError, case_files
from parity.cases import batch_of, config_of, extra_of
from parity.cli import app
from parity.pair import Pair

CASE = Case(seed=3, sizes={'B': 4, 'L': 7}, config={'actor_loss': 'bc', 'hidden_dims': (3, 2)}, values='tiny')
FIELDS = {'format': 1, 'pair': 'toy', 'seed': 3, 'sizes': {'B': 4}, 'config': {}, 'values': 'plain'}
Lines = Callable[[Callable[[], object]], list[str]]


def written(path: Path, metadata: dict[str, str] | None) -> Path:
    safetensors.numpy.save_file({'rewards': np.zeros(3, np.float32)}, path, metadata)
    return path


def with_fields(path: Path, **fields: Any) -> Path:
    return written(path, {case_files.KEY: json.dumps({**FIELDS, **fields})})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / 'a-case.safetensors'


def test_a_case_is_the_same_again(toy: Pair, path: Path) -> None:
    again = case_files.load(case_files.save(path, toy, CASE), toy)
    batch, found = batch_of(toy, CASE), batch_of(toy, again)
    assert batch.keys() == found.keys()
    assert all(np.array_equal(batch[name], found[name]) for name in batch)
    assert config_of(toy, again, found) == config_of(toy, CASE, batch)
    config = config_of(toy, CASE, batch)
    extra = (extra_of(toy, case, config, batch)['latents'] for case in (CASE, again))
    assert np.array_equal(*extra)
    assert (again.seed, again.values) == (3, 'tiny')


def test_twin_another_case_is_another(toy: Pair, path: Path) -> None:
    again = case_files.load(case_files.save(path, toy, Case(seed=4, sizes={'B': 4})), toy)
    assert not np.array_equal(batch_of(toy, CASE)['rewards'], batch_of(toy, again)['rewards'])


def test_a_given_batch_is_kept(toy: Pair, path: Path) -> None:
    batch = batch_of(toy, Case(sizes={'B': 2}))
    batch['rewards'] = np.array([5.0, 0.0, 7.0, 0.0], np.float32)[::2]  # not contiguous
    again = case_files.load(case_files.save(path, toy, Case(batch=batch)), toy)
    assert batch_of(toy, again)['rewards'].tolist() == [5.0, 7.0]
    assert again.command('toy') == f'parity check toy --seed 0 --source {path} --values plain ' + ' '.join(
        f'--size {letter}={size}' for letter, size in again.sizes.items()
    )


@pytest.mark.parametrize(
    ('fields', 'found'),
    [
        ({'format': 2}, 'format 2'),
        ({'pair': 'iql'}, "pair 'iql' instead of 'toy'"),
        ({'seed': -1}, 'seed -1'),
        ({'seed': True}, 'seed True'),
        ({'seed': '3', 'values': 'odd'}, "seed '3'; values 'odd'"),
        ({'values': ['plain']}, "values ['plain']"),
        ({'sizes': {'Q': 3}}, "sizes {'Q': 3}"),
        ({'sizes': {'B': 0}}, "sizes {'B': 0}"),
        ({'sizes': None}, 'sizes None'),
        ({'config': {'beta': 1}}, "config {'beta': 1}"),
        ({'config': 7}, 'config 7'),
        ({'extra': 1, 'more': 2}, "unknown 'extra'; unknown 'more'"),
    ],
)
def test_bad_fields_are_refused(
    toy: Pair, path: Path, raised: Lines, fields: dict[str, Any], found: str
) -> None:
    lines = raised(lambda: case_files.load(with_fields(path, **fields), toy))
    assert lines == [
        f'cannot use the case file {path}',
        f'  expected what parity locate wrote, of format 1; {found}',
        f'  error: {found.count(";") + 1} problems; allowed: 0',
        f'  at: {path}',
        '  next: parity locate PAIR --reports DIR writes one',
    ]


def test_twin_good_fields_are_not(toy: Pair, path: Path) -> None:
    assert case_files.load(with_fields(path), toy) == Case(3, {'B': 4}, {}, 'plain', str(path))


@pytest.mark.parametrize('metadata', [None, {'other': '1'}, {'parity_case': '{'}, {'parity_case': '[]'}])
def test_what_is_no_case_file_is_refused(
    toy: Pair, path: Path, raised: Lines, metadata: dict[str, str] | None
) -> None:
    lines = raised(lambda: case_files.load(written(path, metadata), toy))
    assert lines[0] == f'cannot use the case file {path}'


def test_fields_nested_too_deep_are_refused(toy: Pair, path: Path, raised: Lines) -> None:
    deep = '[' * 100_000
    lines = raised(lambda: case_files.load(written(path, {case_files.KEY: deep}), toy))
    assert 'RecursionError' in lines[1]


@pytest.mark.parametrize('share', [0.0, 0.05, 0.5, 0.99])
def test_a_truncated_file_is_refused(toy: Pair, path: Path, raised: Lines, share: float) -> None:
    content = case_files.save(path, toy, CASE).read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert raised(lambda: case_files.load(path, toy))[0] == f'cannot use the case file {path}'


def test_no_file_and_another_name_are_refused(toy: Pair, path: Path, raised: Lines) -> None:
    assert 'FileNotFoundError' in raised(lambda: case_files.load(path, toy))[1]
    assert 'found the name a.npz' in raised(lambda: case_files.load(path.with_name('a.npz'), toy))[1]


def test_a_configuration_that_json_cannot_hold_is_refused(toy: Pair, path: Path, raised: Lines) -> None:
    case = Case(config={'alpha': np.float32(3)})
    assert raised(lambda: case_files.save(path, toy, case))[0] == f'cannot write the case file {path}'
    assert not path.exists()


@pytest.mark.parametrize('command', ['check', 'locate'])
def test_the_commands_refuse_a_bad_file_and_two_cases(path: Path, command: str) -> None:
    for words, message in (
        (('--case', str(with_fields(path))), f'cannot use the case file {path}'),
        (('--case', str(path), '--seed', '0'), f'--case {path} is a whole case'),
    ):
        error = CliRunner().invoke(app, [command, 'iql', *words]).exception
        assert isinstance(error, ParityError)
        assert str(error).splitlines()[0] == message
        assert len(str(error).splitlines()) == 5
