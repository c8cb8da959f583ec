"""--reference: a checkout with its own `utils`, jax settings and configuration class, in another process."""

import os
import sys
from pathlib import Path

import jax
import pytest
from typer.testing import CliRunner

import reference_jax
from parity import ParityError
from parity.cli import app

SHARED = ('agent', 'encoders', 'distributions', 'implicit_q', 'networks', 'train_state')
# Like ml_collections.ConfigDict: no mapping, with keys as attributes, and of fixed keys.
CONFIG = """
import jax

jax.config.update('jax_enable_x64', True)
jax.config.update('jax_default_matmul_precision', 'float32')


class ConfigDict:
    def __init__(self, values):
        object.__setattr__(self, 'values', dict(values))

    def __getattr__(self, name):
        return self.values[name]

    def __getitem__(self, name):
        return self.values[name]

    def __setitem__(self, name, value):
        if name not in self.values:
            raise KeyError(name)
        self.values[name] = value

    def to_dict(self):
        return dict(self.values)
"""
EXTRA = """

def get_config():
    from utils.config import ConfigDict

    return ConfigDict({**plain_config(), 'dataset_class': 'GCDataset', 'frame_stack': None})
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """agents/iql.py and utils/, made from the reference's files."""
    source = Path(reference_jax.__file__).parent
    for folder in ('agents', 'utils'):
        (tmp_path / folder).mkdir()
    (tmp_path / 'utils' / '__init__.py').write_text("COLLIDES = 'with any other package of this name'\n")
    (tmp_path / 'utils' / 'config.py').write_text(CONFIG)
    for name in SHARED:
        text = (source / f'{name}.py').read_text().replace('reference_jax.', 'utils.')
        (tmp_path / 'utils' / f'{name}.py').write_text(text)
    agent = (source / 'iql.py').read_text().replace('reference_jax.', 'utils.')
    agent = agent.replace('get_config()', 'plain_config()').replace(
        'complete_config(config,', 'complete_config({key: config[key] for key in plain_config()},'
    )
    (tmp_path / 'agents' / 'iql.py').write_text(agent + EXTRA)
    return tmp_path


def edit(checkout: Path, file: str, old: str, new: str) -> None:
    path = checkout / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def invoke(*words: str) -> str:
    result = CliRunner().invoke(app, list(words))
    if isinstance(result.exception, ParityError):
        return str(result.exception)
    return f'{result.exit_code}\n{result.output}'


CHECK = ('check', 'iql', '--dtype', 'float64', '--reference')


def test_the_port_matches_the_checkout(checkout: Path) -> None:
    before = dict(os.environ), list(sys.path), jax.config.values.copy()
    output = invoke(*CHECK, str(checkout))
    assert output.startswith('0\n'), output
    assert 'only in the original configuration: dataset_class, frame_stack' in ' '.join(output.split())
    assert (dict(os.environ), list(sys.path), jax.config.values) == before
    assert not {'agents', 'agents.iql', 'utils', 'utils.config'} & set(sys.modules)


def test_twin_a_planted_bug_is_found(checkout: Path) -> None:
    edit(checkout, 'utils/agent.py', '1 - expectile) * diff**2', '1 - expectile) * diff**2 * (1 + 1e-9)')
    output = ' '.join(invoke(*CHECK, str(checkout), '--stage', 'forward', '--stage', 'loss').split())
    assert output.startswith('1 ')
    assert 'iql: loss differs in float64: value of finetuning_' in output
    assert f'next: parity check iql --reference {checkout} --seed 0 --values plain' in output


def test_twin_another_default_is_found(checkout: Path) -> None:
    edit(checkout, 'agents/iql.py', "'expectile': 0.9", "'expectile': 0.8")
    assert 'value of expectile' in invoke(*CHECK, str(checkout), '--stage', 'config')


def test_run_takes_what_the_checkout_has(checkout: Path) -> None:
    words = ('run', '--reference', str(checkout), '--examples', '1', '--stage', 'config')
    output = invoke(*words, '--reports', str(checkout / 'reports'))
    assert output.startswith('0\n')
    assert 'iql' in output
    assert 'hilp' not in output
    assert str(checkout) in (checkout / 'reports' / 'iql.html').read_text()


def test_agents_that_it_does_not_have_are_listed(checkout: Path) -> None:
    lines = invoke('run', 'iql', 'hilp', 'rebrac', '--reference', str(checkout)).splitlines()
    assert lines[0] == f'{checkout} does not have the agents of an original checkout'
    assert lines[1] == (
        f'  expected {checkout}/agents/hilp.py, {checkout}/agents/rebrac.py; found no such file'
    )
    assert invoke('run', '--reference', str(checkout / 'utils')).splitlines()[2].startswith('  error: 9')


def test_candidates_are_listed_where_there_is_not_one_class(checkout: Path) -> None:
    other = 'class Other(IQLAgent):\n    pass\n\n\ndef no_config():'
    edit(checkout, 'agents/iql.py', 'def get_config():', other)
    lines = invoke(*CHECK, str(checkout)).splitlines()
    assert lines[0] == 'agents.iql has not what an agent needs'
    assert lines[1].split('; ') == [
        '  expected get_config()',
        'found none',
        'expected one class with create',
        'found IQLAgent, Other',
    ]


def test_a_checkout_that_cannot_be_imported_is_said_with_its_cause(checkout: Path) -> None:
    edit(checkout, 'agents/iql.py', 'import copy', 'import copy\nimport no_such_library')
    lines = invoke(*CHECK, str(checkout)).splitlines()
    assert lines[0] == "cannot load 'agents.iql'"
    assert "ModuleNotFoundError: No module named 'no_such_library'" in lines[1]
