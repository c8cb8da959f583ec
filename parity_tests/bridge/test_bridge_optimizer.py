"""An Adam state crosses the bridge, and both frameworks go on from it in step."""

from collections import namedtuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from torch import nn

import weight_bridge
from weight_bridge import BridgeError
from weight_bridge.paths import flatten

LR = 3e-2


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.Dense_0, self.LayerNorm_0, self.conv = nn.Linear(4, 3), nn.LayerNorm(3), nn.Conv2d(2, 3, 2)
        self.log_stds = nn.Parameter(torch.zeros(2))


@pytest.fixture
def module():
    return Net()


@pytest.fixture
def optimizer(module):
    return torch.optim.Adam(module.parameters(), LR)


@pytest.fixture
def reference():
    """Steps of Optax: one function of gradients, so that ten of them are compiled once."""
    return jax.jit(lambda grads, state, params: step(optax.adam(LR), grads, state, params))


def step(adam, grads, state, params):
    updates, state = adam.update(grads, state, params)
    return optax.apply_updates(params, updates), state


def give(module, grads):
    """Puts a tree of gradients into `.grad`: the bridge's own copy, over a module of the same layout."""
    holder = weight_bridge.to_torch(grads, Net())
    for parameter, grad in zip(module.parameters(), holder.parameters(), strict=True):
        parameter.grad = grad.detach()


def differences(tree, other):
    flat, others = flatten(tree), flatten(other)
    assert flat.keys() == others.keys()
    return {path: np.abs(np.asarray(flat[path]) - np.asarray(others[path])).max() for path in flat}


def ten_steps(reference, params, state, module, optimizer, randomised):
    """The largest difference of a parameter after each of ten steps with the same random gradients."""
    worst = []
    for _ in range(10):
        grads = randomised(params)
        give(module, grads)
        optimizer.step()
        params, state = reference(grads, state, params)
        worst.append(max(differences(weight_bridge.to_flax(module), params).values()))
    return max(worst)


@pytest.fixture
def stepped(module, reference, randomised):
    """Parameters and an Optax state after three steps."""
    params = randomised(weight_bridge.to_flax(module))
    state = optax.adam(LR).init(params)
    for _ in range(3):
        params, state = reference(randomised(params), state, params)
    return params, state


def test_torch_goes_on_where_optax_stopped(stepped, module, optimizer, reference, randomised):
    params, state = stepped
    weight_bridge.to_torch(params, module)
    assert weight_bridge.optimizer_to_torch(state, optimizer, module) is optimizer
    assert optimizer.state[module.log_stds]['step'].item() == 3
    assert ten_steps(reference, params, state, module, optimizer, randomised) < 1e-12


@pytest.mark.parametrize('lost', ['step', 'exp_avg', 'exp_avg_sq'])
def test_twin_without_a_part_of_the_state_the_steps_differ(
    lost, stepped, module, optimizer, reference, randomised
):
    params, state = stepped
    weight_bridge.optimizer_to_torch(state, optimizer, weight_bridge.to_torch(params, module))
    for entry in optimizer.state.values():
        entry[lost].zero_()
    assert ten_steps(reference, params, state, module, optimizer, randomised) > 1e-4


def test_optax_goes_on_where_torch_stopped(module, optimizer, reference, randomised):
    for _ in range(4):
        give(module, randomised(weight_bridge.to_flax(module)))
        optimizer.step()
    params, state = weight_bridge.to_flax(module), weight_bridge.optimizer_to_optax(optimizer, module)
    fresh = optax.adam(LR).init(params)
    assert jax.tree.structure(state) == jax.tree.structure(fresh)
    assert [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(state)] == [
        (leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(fresh)
    ]
    assert (state[0].count, state[0].count.dtype) == (4, np.int32)
    assert ten_steps(reference, params, state, module, optimizer, randomised) < 1e-12
    assert ten_steps(reference, params, fresh, module, optimizer, randomised) > 1e-4  # the twin


def test_a_state_makes_the_round_trip_bit_for_bit(stepped, module, optimizer):
    _, state = stepped
    weight_bridge.optimizer_to_torch(state, optimizer, module)
    back = weight_bridge.optimizer_to_optax(optimizer, module)
    assert back[0].count == state[0].count
    jax.tree.map(np.testing.assert_array_equal, back, jax.device_get(state))


def test_a_new_optimizer_has_the_state_that_optax_starts_with(module, optimizer):
    state = weight_bridge.optimizer_to_optax(optimizer, module)
    fresh = optax.adam(LR).init(weight_bridge.to_flax(module))
    jax.tree.map(np.testing.assert_array_equal, state, jax.device_get(fresh))
    assert not optimizer.state  # reading creates no entries


NESTINGS = {
    'chain': lambda: optax.chain(optax.clip(10.0), optax.chain(optax.scale_by_adam(), optax.scale(-LR))),
    'schedule': lambda: optax.adam(optax.constant_schedule(LR)),
    'hyperparameters': lambda: optax.inject_hyperparams(optax.adam)(learning_rate=LR),
    'adamw': lambda: optax.adamw(LR),
}


@pytest.mark.parametrize('nesting', NESTINGS)
def test_the_adam_state_is_found_at_any_depth(nesting, module, optimizer, randomised):
    params = weight_bridge.to_flax(module)
    adam = NESTINGS[nesting]()
    grads = randomised(params)
    _, state = adam.update(grads, adam.init(params), params)
    weight_bridge.optimizer_to_torch(state, optimizer, module)
    mu = weight_bridge.optimizer_to_optax(optimizer, module)[0].mu
    jax.tree.map(lambda m, g: np.testing.assert_allclose(m, 0.1 * g, rtol=1e-12), mu, grads)


def test_optax_need_not_be_there_for_the_way_to_torch(module, optimizer):
    ScaleByAdamState = namedtuple('ScaleByAdamState', 'count mu nu')
    zeros = jax.tree.map(np.zeros_like, weight_bridge.to_flax(module))
    weight_bridge.optimizer_to_torch(
        {'inner': [ScaleByAdamState(np.int64(7), zeros, zeros)]}, optimizer, module
    )
    assert {entry['step'].item() for entry in optimizer.state.values()} == {7}


def test_the_state_is_what_torch_itself_would_have(stepped, module, optimizer, randomised):
    own = torch.optim.Adam(module.parameters(), LR)
    give(module, randomised(weight_bridge.to_flax(module)))
    own.step()
    weight_bridge.optimizer_to_torch(stepped[1], optimizer, module)
    for parameter in module.parameters():
        ours, theirs = optimizer.state[parameter], own.state[parameter]
        assert list(ours) == list(theirs)
        for name in theirs:
            assert (ours[name].dtype, ours[name].shape) == (theirs[name].dtype, theirs[name].shape)
            assert (ours[name].stride(), ours[name].requires_grad) == (theirs[name].stride(), False)


def refusal(opt_state, optimizer, module):
    """The error of `optimizer_to_torch`, which must leave the optimiser's state alone."""
    before = {parameter: dict(entry) for parameter, entry in optimizer.state.items()}
    with pytest.raises(BridgeError) as error:
        weight_bridge.optimizer_to_torch(opt_state, optimizer, module)
    assert {parameter: dict(entry) for parameter, entry in optimizer.state.items()} == before
    return error.value


def test_all_problems_of_a_state_are_listed_at_once(module):
    params = weight_bridge.to_flax(module)
    adam = optax.chain(optax.adam(LR), optax.ema(0.9))
    (state, empty), ema = adam.init({'Dense_0': params['Dense_0']})
    mu = {**params, 'log_stds': np.zeros(3)}
    nu = {**params, 'Dense_0': {'kernel': np.zeros((4, 3), int)}, 'extra': np.zeros(())}
    state = (state._replace(count=jnp.asarray(-1), mu=mu, nu=nu), empty), ema
    optimizer = torch.optim.Adam([*list(module.parameters())[1:], nn.Parameter(torch.ones(5))], amsgrad=True)
    assert str(refusal(state, optimizer, module)).split('\n') == [
        'optimizer_to_torch: 9 problems; nothing was copied',
        '  optimizer: param_groups[0]: expected amsgrad=False, found amsgrad=True '
        "(torch keeps the largest raw second moment, Optax's amsgrad the corrected)",
        '  optimizer: the optimiser: expected parameters of the module, found another one of shape (5,)',
        '  optimizer: log_stds: expected held by the optimiser, found not held (torch: log_stds)',
        '  optimizer: opt_state/1: expected a state that torch has too, found EmaState',
        '  shape: opt_state/0/0/mu/log_stds: expected f64[2], found f64[3] (torch: log_stds)',
        '  dtype: opt_state/0/0/nu/Dense_0/kernel: expected f64[4,3], found i64[4,3] (torch: Dense_0.weight)',
        '  missing path: opt_state/0/0/nu/Dense_0/bias: expected f64[3], found nothing (torch: Dense_0.bias)',
        '  unexpected path: opt_state/0/0/nu/extra: expected nothing, found f64[]',
        '  optimizer: opt_state/0/0/count: expected 0 to 16777216, found -1',
        '  next: compare the paths with those of weight_bridge.to_flax(module); a layer class of your own '
        "names its rule with a class attribute, e.g. flax_rule = 'Dense'",
        '  next: give the module the parameters that it lacks, or pass only its part of the tree',
        '  next: create both sides from the same configuration and the same example inputs',
        '  next: cast the leaf on the side that made it; the bridge turns no kind of number into another',
        '  next: make both optimisers of the same kind, over exactly the parameters of the module as it is '
        'now; weight_bridge/torch_state.py says which Optax state is which state of torch.optim',
    ]


@pytest.mark.parametrize(
    'other', [optax.sgd(LR, momentum=0.9), optax.amsgrad(LR), optax.chain(*[optax.adam(LR)] * 2)]
)
def test_a_state_without_exactly_one_adam_is_refused(other, module, optimizer):
    state = other.init(weight_bridge.to_flax(module))
    expected = 'expected 1 ScaleByAdamState for each parameter (torch.optim.Adam), found'
    assert expected in str(refusal(state, optimizer, module))


def test_an_adam_state_needs_an_adam(module):
    sgd = torch.optim.SGD(module.parameters(), LR)
    state = optax.adam(LR).init(weight_bridge.to_flax(module))
    expected = 'expected no state for each parameter (torch.optim.SGD), found 1 ScaleByAdamState for all'
    assert expected in str(refusal(state, sgd, module))
    with pytest.raises(BridgeError, match=r'expected torch.optim.Adam, found SGD'):
        weight_bridge.optimizer_to_optax(sgd, module)


def test_a_skipped_parameter_is_named_with_the_bug_that_skipped_it(module, optimizer, randomised):
    for skipped in ([], ['log_stds', 'conv.bias'], ['log_stds']):
        give(module, randomised(weight_bridge.to_flax(module)))
        for name in skipped:
            module.get_parameter(name).grad = None  # what zero_grad() leaves where a loss does not reach
        optimizer.step()
    with pytest.raises(BridgeError) as error:
        weight_bridge.optimizer_to_optax(optimizer, module)
    assert str(error.value).split('\n') == [
        'optimizer_to_optax: 2 problems; nothing was copied',
        '  count: log_stds: expected step 3 as elsewhere, found step 1',
        '  count: conv/bias: expected step 3 as elsewhere, found step 2',
        '  next: optax has one count for the whole tree, so a skipped step has no counterpart: '
        "a gradient was None where JAX's is zero; give every parameter a gradient, "
        'zero_grad(set_to_none=False) keeps it',
    ]


def test_a_state_of_another_time_is_refused(module, optimizer, randomised):
    give(module, randomised(weight_bridge.to_flax(module)))
    optimizer.step()
    del optimizer.state[module.log_stds]['exp_avg']
    module.float()
    with pytest.raises(BridgeError) as error:
        weight_bridge.optimizer_to_optax(optimizer, module)
    problems = [str(problem) for problem in error.value.problems]
    assert (
        'optimizer: log_stds: expected exp_avg, exp_avg_sq, step, found exp_avg_sq, step (torch: log_stds)'
        in problems
    )
    assert (
        'optimizer: Dense_0/bias: expected ((3,), torch.float32), found exp_avg ((3,), torch.float64) '
        '(torch: Dense_0.bias)' in problems
    )
