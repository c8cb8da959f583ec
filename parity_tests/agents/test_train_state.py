"""What the ports' train state does beyond what its twin does: torch's default dtype, and being compiled."""

from typing import Any

import numpy as np
import pytest
import torch

from parity.backends.torch_function import default_dtype
from torch_agents.iql import IQLAgent
from torch_agents.train_state import gradient_info, gradients

SIZES = {'value_hidden_dims': (8, 8), 'actor_hidden_dims': (8, 8)}


def example() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.normal(size=(5, 4)), rng.uniform(-1, 1, size=(5, 3))


def batch(dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """A batch like the example."""
    observations, actions = (torch.tensor(x, dtype=dtype) for x in example())
    rewards = torch.ones(5, dtype=dtype)
    return {
        'observations': observations,
        'next_observations': observations.flip(0),
        'actions': actions,
        'rewards': rewards,
        'masks': rewards,
    }


@pytest.mark.parametrize('name', ['float32', 'float64'])
def test_without_a_dtype_an_agent_has_the_default_one(name: str) -> None:
    dtype = getattr(torch, name)
    named = IQLAgent.create(3, *example(), SIZES, dtype=dtype)
    with default_dtype(name):
        agent = IQLAgent.create(3, *example(), SIZES)
        _, info = agent.finetune(batch(dtype))
    assert {param.dtype for param in agent.network.params.values()} == {dtype}
    assert info['value/value_loss'].dtype == dtype
    named.finetune(batch(dtype))
    for path, param in agent.network.params.items():
        assert torch.equal(param, named.network.params[path]), path


@pytest.mark.parametrize(('changed', 'count'), [({}, 1), ({'discount': 0.5}, 2)], ids=['same', 'twin'])
def test_a_loss_is_compiled_once(
    changed: dict[str, Any], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that the first call leaves makes the second one another; the twin's configuration does."""
    graphs = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    agent = IQLAgent.create(3, *example(), SIZES)
    monkeypatch.setattr(agent, 'finetuning_loss', torch.compile(agent.finetuning_loss, backend=backend))
    agent.finetune(batch(torch.float32))
    agent.config |= changed
    agent.finetune(batch(torch.float32))
    assert len(graphs) == count


@pytest.mark.parametrize(('used', 'lowest'), [('ab', 1.0), ('a', 0.0)], ids=['all', 'some'])
def test_what_a_loss_does_not_use_has_gradient_zero_in_its_info(used: str, lowest: float) -> None:
    """It shows where all other gradients have one sign, which no generated case has."""
    params = {name: torch.nn.Parameter(torch.ones(2)) for name in 'ab'}
    sum((i + 1) * params[name].sum() for i, name in enumerate(used)).backward()
    info = gradient_info(gradients(params.values()))
    expected = {
        'grad/max': float(len(used)),
        'grad/min': lowest,
        'grad/norm': sum(range(len(used) + 1)) * 2**0.5,
    }
    assert {key: value.item() for key, value in info.items()} == pytest.approx(expected)
