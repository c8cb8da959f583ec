"""What the port's side does around a stage: it copies a state again only where something has changed."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from parity.backends import TorchSide
from parity.batches import generate
from parity.cases import DEFAULT_SIZES
from parity.sides import State, UpdateCall
from torch_agents.iql import IQLAgent
from torch_agents.pairs import IQL

PATH = 'modules_value/value_net/Dense_0/kernel'
BATCH = generate(IQL.batch, DEFAULT_SIZES, 0, 'plain')


@pytest.fixture
def side() -> TorchSide:
    made = TorchSide(IQLAgent, 'float32')
    config = {**IQL.get_config('port'), **IQL.sizes, 'batch_size': DEFAULT_SIZES['B']}
    made.create(0, BATCH, config)
    return made


def in_place(side: TorchSide) -> None:
    with torch.no_grad():
        next(side.agent.network.parameters()).add_(1)


def by_an_update(side: TorchSide) -> None:
    side.update(UpdateCall('pretrain'), BATCH)


def by_another_state(side: TorchSide) -> None:
    side.restore(side.state().scaled(0, 0.5))


@pytest.mark.parametrize('change', [in_place, by_an_update, by_another_state])
def test_a_changed_agent_is_restored(change: Callable[[TorchSide], None], side: TorchSide) -> None:
    state = side.state()
    side.restore(state)
    change(side)
    assert not same(side.state(), state)  # twin
    side.restore(state)
    assert same(side.state(), state)


def test_an_unchanged_agent_is_left_alone(side: TorchSide, monkeypatch: pytest.MonkeyPatch) -> None:
    state = side.state()
    side.restore(state)
    side.losses((), BATCH, state.key)
    monkeypatch.setattr('weight_bridge.to_torch', lambda *args: pytest.fail('copied again'))
    side.restore(state)
    with pytest.raises(pytest.fail.Exception, match='copied again'):
        side.restore(side.state())


def same(one: State, other: State) -> bool:
    found, expected = one.leaves(), other.leaves()
    return all(np.array_equal(found[path], leaf) for path, leaf in expected.items())
