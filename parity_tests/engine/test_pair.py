"""Pairs are found by name or by target; what cannot be loaded is said with its cause."""

import importlib.metadata
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from types import ModuleType

import pytest

from parity import pair as pair_module
from parity.pair import Pair, find, load_target, registered
from parity_tests.engine.conftest import CONFIG

Lines = Callable[[Callable[[], object]], list[str]]


@pytest.mark.parametrize('target', ['toy_agents:NUMBER', 'toy_agents:NUMBER.real'])
def test_a_target_is_an_attribute_of_a_module(target: str, toy: Pair) -> None:
    assert load_target(target, where='here') == 7


def test_a_target_without_attribute_is_the_module(toy: Pair) -> None:
    assert load_target('toy_agents', where='here') is sys.modules['toy_agents']


@pytest.mark.parametrize(
    ('target', 'cause', 'module'),
    [
        ('nowhere:X', "ModuleNotFoundError: No module named 'nowhere'", 'nowhere'),
        ('toy_agents.deeper:X', 'ModuleNotFoundError: ', 'toy_agents.deeper'),
        (
            'toy_agents:Missing',
            "AttributeError: module 'toy_agents' has no attribute 'Missing'",
            'toy_agents',
        ),
        ('toy_agents:NUMBER.x', "AttributeError: 'int' object has no attribute 'x'", 'toy_agents'),
        ('', 'ValueError: Empty module name', '...'),
        (':X', 'ValueError: Empty module name', '...'),
        ('.relative:X', 'TypeError: ', '.relative'),
    ],
)
def test_what_cannot_be_loaded(target: str, cause: str, module: str, toy: Pair, raised: Lines) -> None:
    lines = raised(lambda: load_target(target, where='here'))
    assert lines[0] == f'cannot load {target!r}'
    assert lines[1].startswith(f"  expected 'module:attr'; found {cause}")
    assert lines[2:] == ['  error: not importable', '  at: here', f'  next: python -c "import {module}"']


def test_a_module_that_fails_to_import_is_said_with_its_cause(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch, raised: Lines
) -> None:
    (tmp_path / 'failing_agents.py').write_text('1 / 0')
    monkeypatch.syspath_prepend(tmp_path)
    lines = raised(lambda: load_target('failing_agents:X', where='here'))
    assert lines[1] == "  expected 'module:attr'; found ZeroDivisionError: division by zero"


# --- a pair's sides


def test_a_side_is_a_target_or_the_class_itself(toy: Pair) -> None:
    cls = toy.load('reference')
    assert cls.__name__ == 'Agent'
    assert Pair('own', cls, cls, batch={}).load('port') is cls


def test_a_side_that_is_missing_is_named(raised: Lines) -> None:
    lines = raised(lambda: Pair('own', 'nowhere:A', 'nowhere:B', batch={}).load('port'))
    assert (lines[0], lines[3]) == ("cannot load 'nowhere:B'", '  at: pair own, port')


def test_the_configuration_is_that_of_the_classs_module(toy: Pair) -> None:
    assert toy.get_config('reference') == CONFIG
    toy.get_config('reference')['alpha'] = 0
    assert toy.get_config('reference') == CONFIG


def test_a_subclass_elsewhere_has_the_configuration_of_its_base(
    toy: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, 'toy_variant', ModuleType('toy_variant'))
    variant = type('Variant', (toy.load('port'),), {'__module__': 'toy_variant'})
    assert Pair('v', variant, variant, batch={}).get_config('port') == CONFIG


def test_a_class_without_configuration(monkeypatch: pytest.MonkeyPatch, raised: Lines) -> None:
    monkeypatch.setitem(sys.modules, 'bare_agents', ModuleType('bare_agents'))
    bare = type('Bare', (), {'__module__': 'bare_agents'})
    assert raised(lambda: Pair('own', bare, bare, batch={}).get_config('port')) == [
        'own: the port has no default configuration',
        '  expected get_config() beside Bare; found none',
        '  error: not defined',
        '  at: bare_agents',
        '  next: define get_config() -> dict in that module',
    ]


# --- finding


@pytest.fixture
def points(toy: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only these entry points exist."""
    values = {'zeta': 'toy_agents:TOY', 'number': 'toy_agents:NUMBER'}
    found = [EntryPoint(name, value, pair_module.GROUP) for name, value in values.items()]
    monkeypatch.setattr(
        importlib.metadata, 'entry_points', lambda group: found if group == 'parity.pairs' else []
    )


@pytest.mark.usefixtures('points')
def test_registered_pairs_come_sorted_from_the_entry_points() -> None:
    assert list(registered()) == ['number', 'zeta']


@pytest.mark.usefixtures('points')
@pytest.mark.parametrize('name', ['zeta', 'toy_agents:TOY'])
def test_find(name: str, toy: Pair) -> None:
    assert find(name) is toy


@pytest.mark.usefixtures('points')
def test_an_unknown_name(raised: Lines) -> None:
    assert raised(lambda: find('iqk')) == [
        'unknown pair: iqk',
        "  expected one of number, zeta; found 'iqk'",
        '  error: 1 unknown; allowed: 0',
        '  at: the command line',
        '  next: parity list',
    ]


@pytest.mark.usefixtures('points')
@pytest.mark.parametrize('name', ['number', 'toy_agents:NUMBER'])
def test_what_is_not_a_pair(name: str, raised: Lines) -> None:
    assert raised(lambda: find(name)) == [
        f'{name} is not a pair',
        '  expected a parity.Pair; found int',
        '  error: wrong type',
        f'  at: {name}',
        '  next: name a module-level parity.Pair, as in torch_agents/pairs.py',
    ]


def test_a_broken_entry_point_is_named(monkeypatch: pytest.MonkeyPatch, raised: Lines) -> None:
    broken = [EntryPoint('broken', 'nowhere:P', pair_module.GROUP)]
    monkeypatch.setattr(importlib.metadata, 'entry_points', lambda group: broken)
    assert raised(registered)[3] == '  at: entry point broken of parity.pairs'


def test_the_shipped_pairs_are_registered() -> None:
    assert {'iql', 'infom'} <= set(registered())
    assert all(isinstance(entry, Pair) for entry in registered().values())
