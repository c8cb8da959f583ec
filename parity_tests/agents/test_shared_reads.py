"""Equal reads within a loss are computed once, and nothing that is learnt changes."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from parity import Case, MismatchError
from parity.pair import registered
from parity_tests.agents.properties import assert_parity
from parity_tests.agents.small_agents import small_agent
from torch_agents import shared_reads as sharing
from torch_agents import train_state
from torch_agents.networks import MLP, VectorField, concatenate_inputs
from torch_agents.shared_reads import shared_reads

# of small agents; what is not listed asks nothing twice
SAVES = {('fb_repr', 'finetune'), ('hilp', 'pretrain'), ('hilp', 'finetune'), ('iql', 'finetune')}
# other sums: of two gradients before a layer, of the two parts of a layer
ROUNDS = {(name, method) for name in ('td_infonce', 'infom') for method in ('pretrain', 'finetune')}
UPDATES = [(name, method) for name in registered() for method in ('pretrain', 'finetune')]


@contextlib.contextmanager
def unshared() -> Iterator[None]:
    """Every read is computed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_state, 'shared_reads', contextlib.nullcontext)
        yield


def update(name: str, method: str) -> tuple[dict[str, torch.Tensor], int]:
    """The parameters after an update of a new agent, and the operations of its products."""
    agent, batch = small_agent(name)
    with FlopCounterMode(display=False) as counter:
        getattr(agent, method)(batch)
    return agent.network.params, counter.get_total_flops()


@pytest.mark.parametrize(('name', 'method'), UPDATES)
def test_an_update_is_the_same_with_fewer_products(name: str, method: str) -> None:
    shared_params, operations = update(name, method)
    with unshared():
        params, all_operations = update(name, method)
    for path, param in params.items():
        if (name, method) in ROUNDS:
            # Adam's first step is the sign of a gradient, and makes rounding whole where it is nothing else
            assert (shared_params[path] - param).abs().max() <= 2 * 3e-4, path
        else:
            assert torch.equal(shared_params[path], param), path
    saves = (name, method) in SAVES | ROUNDS or (name == 'dino_rebrac' and method == 'finetune')
    assert (operations < all_operations) == saves


def network() -> tuple[MLP, torch.Tensor]:
    torch.manual_seed(0)
    mlp, x = MLP((4, 2), layer_norm=True), torch.randn(3, 5)
    mlp(x)
    for param in mlp.parameters():
        torch.nn.init.normal_(param)
    return mlp, x


def frozen(mlp: MLP, x: torch.Tensor) -> torch.Tensor:
    """A frozen read, as TrainState's: of the detached parameters."""
    params = {name: param.detach() for name, param in mlp.named_parameters()}
    return torch.func.functional_call(mlp, params, x)


def test_a_frozen_read_is_the_trained_one_without_its_gradient() -> None:
    mlp, x = network()
    with shared_reads():
        trained, again = mlp(x), frozen(mlp, x)
    assert trained.requires_grad
    assert not again.requires_grad
    assert again.data_ptr() == trained.data_ptr()


def test_a_trained_read_is_not_a_frozen_one() -> None:
    mlp, x = network()
    with shared_reads():
        first, trained = frozen(mlp, x), mlp(x)
        with torch.no_grad():
            without = mlp(x + 0)
    assert torch.equal(first, trained)
    assert trained.requires_grad
    assert not without.requires_grad


def test_a_read_without_gradients_is_no_trained_one() -> None:
    mlp, x = network()
    with shared_reads():
        with torch.no_grad():
            mlp(x)
        assert mlp(x).requires_grad


def test_two_trained_reads_have_the_gradients_of_both() -> None:
    mlp, x = network()
    with shared_reads():
        (mlp(x).sum() + 2 * mlp(x).sum()).backward()
    found = [param.grad.clone() for param in mlp.parameters()]
    mlp.zero_grad()
    (3 * mlp(x).sum()).backward()
    for grad, param in zip(found, mlp.parameters(), strict=True):
        torch.testing.assert_close(grad, param.grad)


@pytest.mark.parametrize('what', ['another input', 'an input with a gradient', 'other parameters', 'outside'])
def test_unequal_reads_are_computed(what: str) -> None:
    mlp, x = network()
    calls = []
    mlp.register_forward_hook(lambda *args: calls.append(args))
    with contextlib.nullcontext() if what == 'outside' else shared_reads():
        mlp(x)
        if what == 'another input':
            mlp(x.clone())
        elif what == 'an input with a gradient':
            y = x.clone().requires_grad_()
            mlp(y)
            mlp(y)
        elif what == 'other parameters':
            params = {name: param + 1 for name, param in mlp.named_parameters()}
            other = torch.func.functional_call(mlp, params, x)
            assert not torch.equal(other, mlp(x))
        else:
            mlp(x)
    assert len(calls) == (3 if what == 'an input with a gradient' else 2)


def test_the_same_inputs_are_joined_once() -> None:
    x, y = torch.randn(3, 5), torch.randn(3, 2)
    with shared_reads():
        assert concatenate_inputs(x, None, y) is concatenate_inputs(x, y)
        assert concatenate_inputs(y, x) is not concatenate_inputs(x, y)
    assert concatenate_inputs(x, y) is not concatenate_inputs(x, y)


def test_a_vector_field_multiplies_its_conditions_once() -> None:
    torch.manual_seed(0)
    field = VectorField(5, (8, 8))
    goals, times, observations, latents = (torch.randn(3, *shape) for shape in ((5,), (), (4,), (6,)))
    field(goals, times, observations, None, latents)
    for param in field.parameters():
        torch.nn.init.normal_(param)
    expected = [field(goals + i, times, observations, None, latents) for i in range(2)]
    with shared_reads(), FlopCounterMode(display=False) as counter:
        found = [field(goals + i, times, observations, None, latents) for i in range(2)]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)
    rest = 8 * (5 + 1) + 8 * 8 + 8 * 5
    assert counter.get_total_flops() == 2 * 3 * (2 * rest + 8 * (4 + 6))


def test_a_vector_field_without_conditions() -> None:
    field = VectorField(5, (8,))
    goals, times = torch.randn(3, 5), torch.randn(3)
    field(goals, times)
    torch.nn.init.ones_(field.vector_field_net.Dense_0.weight)
    expected = field(goals, times)
    with shared_reads():
        assert torch.equal(field(goals, times), expected)


# --- twin: what a wrong sharing would learn is found


def test_twin_a_frozen_read_with_the_gradient_of_the_trained_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """iql's actor would have its weights' gradient reach value and critic."""

    def answers(function: Any, inputs: Any, params: Any = ()) -> Any:
        if not sharing.are_shared() or any(x.requires_grad for x in inputs):
            return function(*inputs)
        key = (function, *map(id, inputs), *(param.data_ptr() for param in params))
        return (
            sharing._reads.get().setdefault(key, sharing.Read(inputs, params, True, function(*inputs))).output
        )

    assert_parity(registered()['iql'], Case(), 'update')
    monkeypatch.setattr(sharing, 'shared', answers)
    assert_parity(registered()['iql'], Case(), 'loss', 'grads')
    with pytest.raises(MismatchError, match='update differs'):
        assert_parity(registered()['iql'], Case(), 'update')
