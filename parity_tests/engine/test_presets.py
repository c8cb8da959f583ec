"""Presets: what the values of a configuration are names of, compared in the stage config."""

import dataclasses
import functools
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from parity import Case, Pair, check
from parity.errors import ParityError
from parity.locating.locate import locate
from parity.presets import presets_of
from parity_tests.engine.planting import Substitution, planted
from torch_agents import encoders
from torch_agents.encoders import ImpalaEncoder
from torch_agents.pairs import ENCODERS, IQL

KEY = 'encoder'
REFERENCE, PORT = ENCODERS[KEY]


def outcome(port_table: Any) -> tuple[str, list[str]]:
    """The stage config with another table in the port: its outcome, and the leaves that differ."""
    verdict = check(pair_with(port_table), stages=['config'])
    leaves = [leaf.path for _, stage in verdict.stages() for leaf in stage.leaves if not leaf.matches]
    return verdict.outcome, leaves


def pair_with(port_table: Any) -> Pair:
    sys.modules['presets_of_a_test'] = SimpleNamespace(table=port_table)  # type: ignore[assignment]
    return dataclasses.replace(IQL, presets={KEY: (REFERENCE, 'presets_of_a_test:table')})


def test_ports_have_the_reference_s_presets() -> None:
    names = presets_of(IQL, 'reference')
    assert names['encoder=impala_small/num_blocks'] == 1
    assert names['encoder=impala/num_blocks'] == 2  # a default of the class
    assert names['encoder=resnet_34/class'] == 'ResNetEncoder'
    assert outcome(encoders.encoder_modules) == ('match', [])


@pytest.mark.parametrize(
    ('name', 'preset', 'leaf'),
    [
        ('impala_small', ImpalaEncoder, 'num_blocks'),
        ('impala', functools.partial(ImpalaEncoder, 2), 'width'),
        ('impala', encoders.ResNetEncoder, 'class'),
        ('resnet_34', functools.partial(encoders.ResNetEncoder, (3, 4, 6, 2)), 'stage_sizes'),
    ],
)
def test_twin_a_preset_that_differs(name: str, preset: Any, leaf: str) -> None:
    found, leaves = outcome({**encoders.encoder_modules, name: preset})
    assert found == 'mismatch'
    assert f'encoder={name}/{leaf}' in leaves


def test_twin_a_preset_too_few_and_too_many() -> None:
    fewer = {name: preset for name, preset in encoders.encoder_modules.items() if name != 'impala'}
    found, leaves = outcome({**fewer, 'another': ImpalaEncoder})
    assert found == 'mismatch'
    assert {path.split('/')[0] for path in leaves} == {'encoder=impala', 'encoder=another'}


def test_what_only_one_side_takes_is_not_compared() -> None:
    assert 'encoder=mlp/num_ensembles' not in presets_of(IQL, 'port')


def test_a_preset_is_located_in_its_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(encoders.encoder_modules, 'impala_small', ImpalaEncoder)
    (finding,) = locate(IQL, case=Case(sizes={'B': 4, 'O': 3, 'A': 2}), stage='config').findings
    assert finding.port is not None
    assert finding.port.file.endswith('torch_agents/encoders.py')
    assert finding.port.text.strip().startswith("'impala_small':")


def test_what_presets_of_both_sides_leave_to_a_default_is_located_there() -> None:
    wider = Substitution('encoders.py', 'stage_sizes, num_filters=64', 'stage_sizes, num_filters=32')
    with planted('iql', wider) as made:
        (finding,) = locate(made.pair, case=Case(sizes={'B': 4, 'O': 3, 'A': 2}), stage='config').findings
    assert finding.port is not None
    assert (finding.port.file.rsplit('/')[-1], finding.port.line) in made.lines
    assert finding.why == 'the default configuration differs in encoder=resnet_34/num_filters'


def test_no_table() -> None:
    with pytest.raises(ParityError, match=r'expected a mapping of names to classes.*found list'):
        presets_of(pair_with([]), 'port')
    missing = dataclasses.replace(IQL, presets={KEY: (REFERENCE, 'torch_agents.encoders:nothing')})
    with pytest.raises(ParityError, match='cannot load'):
        presets_of(missing, 'port')
