"""The draws of both sides, in order: the first that differs, with its lines, and keys used twice."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from parity import Case, Pair, registered
from parity.locating.draws import Draw, DrawFinding, draw_findings, draws
from parity.locating.reach import ReachCell, reach_table
from parity.runs import Runs
from parity.stages import LOSSES
from parity.strategies import structures
from parity_tests.engine.broken_ports import LEAKY_TARGET
from torch_agents import infom, random

PRETRAINING, FINETUNING = LOSSES[:2]
ALL = [
    pytest.param(pair, id=name, marks=pytest.mark.xdist_group(name)) for name, pair in registered().items()
]


def both(pair: Pair, call: Any, **structure: Any) -> tuple[list[Draw], list[Draw]]:
    return draws(Runs(pair, Case(seed=3, **structure)), call)


@pytest.mark.parametrize('pair', ALL)
@pytest.mark.parametrize('call', [PRETRAINING, FINETUNING], ids=lambda call: call.name)
def test_a_correct_port_draws_alike(pair: Pair, call: Any) -> None:
    reference, port = both(pair, call, **structures(pair)[0])  # which other tests have compiled
    assert len(reference) == len(port)
    assert draw_findings(reference, port) == []


def test_what_a_draw_is_made_of() -> None:
    reference, port = both(registered()['infom'], PRETRAINING)
    for log, module in ((reference, 'distributions.py'), (port, 'distributions.py')):
        first = next(draw for draw in log if draw.kind == 'normal')
        assert first.shape == (5, 3)
        assert first.dtype == 'float64'
        assert len(first.key) == 2
        assert first.line.startswith(module)
        assert 'random.normal(seed' in first.text


def with_draws(monkeypatch: pytest.MonkeyPatch, change: Callable[..., Any]) -> list[DrawFinding]:
    """What is found where every normal of infom's own file is drawn otherwise."""

    class Changed:
        normal = staticmethod(change)

        def __getattr__(self, name: str) -> Any:
            return getattr(random, name)

    monkeypatch.setattr(infom, 'random', Changed())
    return draw_findings(*both(registered()['infom'], PRETRAINING))


def test_twin_another_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = with_draws(
        monkeypatch, lambda key, shape, dtype: random.normal(key, shape[:1], dtype)[:, None]
    )
    assert found.difference == 'shape'
    assert found.port is not None
    assert found.port.shape == (5,)


def test_twin_another_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = with_draws(monkeypatch, lambda key, shape, dtype: random.uniform(key, shape, dtype))
    assert found.difference == 'distribution'
    assert 'reference normal float64[5, 4]' in found.description
    assert 'port uniform' in found.description


def test_twin_another_dtype(monkeypatch: pytest.MonkeyPatch) -> None:
    change = lambda key, shape, dtype: random.normal(key, shape, torch.float32).double()  # noqa: E731
    (found,) = with_draws(monkeypatch, change)
    assert found.difference == 'dtype'


def test_twin_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    change = lambda key, shape, dtype: random.normal(random.fold_in(key, 1), shape, dtype)  # noqa: E731
    (found,) = with_draws(monkeypatch, change)
    assert found.difference == 'key'
    assert found.description.endswith('the reference draws nothing from it')
    assert found.reference is not None
    assert found.reference.line.startswith('infom.py')


def test_twin_a_key_used_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    first: list[Any] = []

    def repeated(key: Any, shape: Any, dtype: Any) -> Any:
        first.append(key)
        return random.normal(first[0], shape, dtype)

    key, reused = with_draws(monkeypatch, repeated)
    assert key.difference == 'key'
    assert 'the reference has this key at draw' in key.description
    assert reused.difference == 're-used key'
    assert reused.description.count('normal at') == 2


def test_twin_a_missing_and_an_unexpected_draw() -> None:
    draw = Draw('normal', (2,), 'float64', (0, 1), 'a.py:1', 'normal(key)')
    other = dataclasses.replace(draw, key=(0, 2), line='a.py:2')
    (missing,), (unexpected,) = draw_findings([draw, other], [draw]), draw_findings([draw], [draw, other])
    assert (missing.difference, missing.index, missing.port) == ('missing draw', 1, None)
    assert (unexpected.difference, unexpected.index, unexpected.reference) == ('unexpected draw', 1, None)
    assert json.loads(json.dumps(dataclasses.asdict(missing)))['reference']['line'] == 'a.py:2'


# --- which term reaches which network


@pytest.mark.parametrize('name', ['iql', 'rebrac'])
def test_a_correct_port_reaches_alike(name: str) -> None:
    cells = reach_table(Runs(registered()[name], Case(seed=3)))
    assert {cell.reference for cell in cells} == {True, False}
    assert not any(cell.differs for cell in cells)


def test_twin_a_leak_is_the_one_cell_that_differs() -> None:
    (cell,) = {
        dataclasses.replace(cell, loss='')
        for cell in reach_table(Runs(LEAKY_TARGET, Case(seed=3)))
        if cell.differs
    }
    assert cell == ReachCell('', 'value/value_loss', 'modules_target_critic', False, True)
    assert cell.describe().endswith(
        'value/value_loss -> modules_target_critic: the gradient arrives in the port only'
    )
