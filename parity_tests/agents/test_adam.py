"""Adam steps a whole tree as optax does, and leaves out what would move nothing."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import weight_bridge
from parity.pair import registered
from parity_tests.agents.small_agents import small_agent
from torch_agents import adam
from torch_agents.adam import step_all

LR = 3e-4
NAMES = ('a', 'b', 'c')


class Tree(nn.Module):
    """Three parameters, and the Adam that steps them."""

    def __init__(self) -> None:
        super().__init__()
        for i, name in enumerate(NAMES):
            self.register_parameter(name, nn.Parameter(torch.linspace(-1, 1 + i, 3 + i, dtype=torch.float64)))
        self.tx = torch.optim.Adam(self.parameters(), LR, fused=True)
        self.looks: dict[Any, Any] = {}

    def update(self, used: dict[str, float], settled: tuple[str, ...] = ()) -> None:
        """One step, in which those used have these gradients, and those settled their values."""
        for name, param in self.named_parameters():
            param.grad = torch.full_like(param, used[name]) if name in used else None
        step_all(self.tx, list(self.parameters()), self.looks, [self.get_parameter(name) for name in settled])

    def resting(self) -> set[str]:
        """What the last step left out."""
        return {name for name, param in self.named_parameters() if param.grad is None}

    def values(self) -> dict[str, np.ndarray]:
        """The parameters and their moments."""
        entries = {name: self.tx.state[param] for name, param in self.named_parameters()}
        moments = {f'{name}/{key}': x for name, entry in entries.items() for key, x in entry.items()}
        return {
            key: x.detach().numpy().copy() for key, x in {**dict(self.named_parameters()), **moments}.items()
        }


def optax_values(updates: list[dict[str, float]]) -> dict[str, np.ndarray]:
    """What optax makes of the tree with these updates."""
    with jax.enable_x64(True):
        params = {name: jnp.asarray(param.detach().numpy()) for name, param in Tree().named_parameters()}
        tx = optax.adam(LR)
        state = tx.init(params)
        for used in updates:
            grads = {name: jnp.full_like(param, used.get(name, 0)) for name, param in params.items()}
            steps, state = tx.update(grads, state)
            params = optax.apply_updates(params, steps)
        found = dict(params)
        for name in NAMES:
            found |= {f'{name}/step': state[0].count, f'{name}/exp_avg': state[0].mu[name]}
            found |= {f'{name}/exp_avg_sq': state[0].nu[name]}
        return {key: np.asarray(x) for key, x in found.items()}


def assert_as_optax(updates: list[dict[str, float]]) -> None:
    tree = Tree()
    for used in updates:
        tree.update(used)
    found, expected = tree.values(), optax_values(updates)
    assert found.keys() == expected.keys()
    for key, value in found.items():
        np.testing.assert_allclose(value, expected[key], rtol=1e-12, atol=1e-15, err_msg=key)


UPDATES = st.lists(st.dictionaries(st.sampled_from(NAMES), st.floats(-2, 2)), min_size=1, max_size=6)


@given(UPDATES)
def test_any_updates_are_those_of_optax(updates: list[dict[str, float]]) -> None:
    assert_as_optax(updates)


def test_what_was_never_used_rests() -> None:
    tree = Tree()
    tree.update({'a': 1.0})
    for _ in range(2):
        tree.update({'a': 1.0})
        assert tree.resting() == {'b', 'c'}
    tree.update({'b': 1.0})
    assert tree.resting() == {'c'}
    tree.update({})
    assert tree.resting() == {'c'}


def by_hand(tree: Tree) -> None:
    tree.b.grad = torch.ones_like(tree.b)
    tree.tx.step()
    tree.b.grad = None


def by_the_bridge(tree: Tree) -> None:
    other = Tree()
    other.update({'b': 1.0})
    adam_state = weight_bridge.optimizer_to_optax(other.tx, other)
    weight_bridge.optimizer_to_torch(adam_state, tree.tx, tree)


def from_a_state_dict(tree: Tree) -> None:
    other = Tree()
    other.update({'b': 1.0})
    tree.tx.load_state_dict(other.tx.state_dict())


def in_place(tree: Tree) -> None:
    tree.tx.state[tree.b]['exp_avg'] += 1
    tree.tx.state[tree.b]['exp_avg_sq'] += 1


@pytest.mark.parametrize('move', [by_hand, by_the_bridge, from_a_state_dict, in_place])
def test_moments_that_others_wrote_move_a_parameter(move: Any) -> None:
    tree = Tree()
    for _ in range(3):
        tree.update({'a': 1.0})
    move(tree)
    before = tree.b.detach().clone()
    tree.update({'a': 1.0})
    assert tree.resting() == {'c'}
    assert not torch.equal(tree.b, before)


def test_of_what_is_settled_the_moments_are_stepped_alone() -> None:
    tree, other = Tree(), Tree()
    for used in ({'a': 1.0}, {}):
        tree.update(used)
        other.update(used, settled=('a', 'b'))
    assert torch.equal(other.a, Tree().a)
    assert not torch.equal(tree.a, other.a)
    moments = [one.values() for one in (tree, other)]
    for key in moments[0].keys() - {'a'}:
        np.testing.assert_array_equal(moments[0][key], moments[1][key], key)


@pytest.mark.parametrize('name', list(registered()))
def test_agents_learn_the_same_bit_for_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    learnt = learn(name)
    monkeypatch.setattr(adam, 'is_resting', lambda *args: False)
    for key, value in learn(name).items():
        assert torch.equal(learnt[key], value), key


def learn(name: str) -> dict[str, torch.Tensor]:
    """Parameters, moments and steps after updates of all kinds."""
    agent, batch = small_agent(name)
    for method in ('pretrain', 'pretrain', 'finetune', 'finetune', 'pretrain', 'finetune'):
        getattr(agent, method)(batch)
    params = agent.network.params
    moments = {
        f'{path}/{key}': x for path, p in params.items() for key, x in agent.network.tx.state[p].items()
    }
    return params | moments


# --- twin: resting for too long is found


def test_twin_what_was_used_before_does_not_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    def whenever_unused(param: Any, state: Any, looks: Any) -> bool:
        looks[param] = adam.Look([], [], are_zero=True)
        return bool(state)

    updates = [{'a': 1.0, 'b': 1.0}, {'a': 1.0}]
    assert_as_optax(updates)
    monkeypatch.setattr(adam, 'is_resting', whenever_unused)
    with pytest.raises(AssertionError, match='b'):
        assert_as_optax(updates)
