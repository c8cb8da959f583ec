"""Every kind of optimiser and every nesting crosses the bridge, and both frameworks go on in step."""

import jax
import numpy as np
import optax
import pytest
import torch

import weight_bridge
from parity_tests.bridge.optimizers import (
    CASES,
    LR,
    Net,
    Port,
    Reference,
    batch,
    groups,
    leaves,
    partitioned,
    schedule,
    ten_steps,
)
from weight_bridge import BridgeError

pytestmark = pytest.mark.xdist_group('optimizers')

SAME = 1e-12
OTHER = 1e-5


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


@pytest.fixture
def params(randomised):
    return randomised(weight_bridge.to_flax(Net()))


@pytest.fixture
def reference(case, params, rng):
    """The Flax model after three steps."""
    made = Reference(case, params)
    for _ in range(3):
        made.step(*batch(rng))
    return made


@pytest.fixture
def port(case, params, rng):
    """The torch model after three steps."""
    made = Port(case, params)
    for count in range(3):
        made.step(*batch(rng), count)
    return made


def counted(needed):
    return {'count': 3} if needed else {}


def to_torch(case, reference):
    """A new port that got the reference's parameters and state."""
    port = Port(case, reference.params)
    weight_bridge.optimizer_to_torch(reference.state, port.optimizer, port.module, **counted(case.counted[0]))
    return port


def to_optax(case, port, like=None):
    """A new reference that got the port's parameters and state."""
    reference = Reference(case, weight_bridge.to_flax(port.module))
    reference.state = weight_bridge.optimizer_to_optax(
        port.optimizer,
        port.module,
        like=reference.state if like is None else like,
        **counted(case.counted[1]),
    )
    return reference


def test_torch_goes_on_where_optax_stopped(case, reference, rng):
    assert ten_steps(reference, to_torch(case, reference), rng, 3) < SAME


def test_optax_goes_on_where_torch_stopped(case, port, rng):
    assert ten_steps(to_optax(case, port), port, rng, 3) < SAME


def test_the_state_has_the_structure_shapes_and_dtypes_of_optax(case, port):
    fresh, state = Reference(case, weight_bridge.to_flax(port.module)).state, to_optax(case, port).state
    assert jax.tree.structure(state) == jax.tree.structure(fresh)
    described = [[(leaf.shape, leaf.dtype) for leaf in leaves(tree)] for tree in (state, fresh)]
    assert described[0] == described[1]


def test_a_state_makes_the_round_trip(case, reference):
    back = to_optax(case, to_torch(case, reference), like=reference.state).state
    compare = np.testing.assert_array_equal if case.exact else close
    jax.tree.map(compare, back, jax.device_get(reference.state))


def close(back, there):
    np.testing.assert_allclose(back, there, rtol=1e-15, atol=0)


def test_twin_a_moment_that_is_lost_shows(case, reference, rng):
    port = to_torch(case, reference)
    moments = {name for state in port.optimizer.state.values() for name in state} - {'step'}
    for name in moments:
        lost = to_torch(case, reference)
        for state in lost.optimizer.state.values():
            if name in state:
                state[name].zero_()
        reference_again = Reference(case, reference.params)
        reference_again.state = reference.state
        # a centred second moment without its mean is NaN
        assert not ten_steps(reference_again, lost, np.random.default_rng(1), 3) < OTHER


def test_the_structure_is_enough_to_read_into(params, rng):
    case = CASES['partitions']
    port = Port(case, params)
    port.step(*batch(rng), 0)
    like = jax.eval_shape(case.tx().init, params)
    there, here = to_optax(case, port, like).state, to_optax(case, port).state
    jax.tree.map(np.testing.assert_array_equal, there, here)


def test_a_torch_optimizer_that_never_stepped_is_an_initial_state(case, params):
    port = Port(case, params)
    state = weight_bridge.optimizer_to_optax(
        port.optimizer, port.module, like=case.tx().init(params), **({'count': 0} if case.counted[1] else {})
    )
    jax.tree.map(np.testing.assert_array_equal, state, jax.device_get(case.tx().init(params)))
    assert not port.optimizer.state


def test_the_entries_are_those_that_torch_makes_itself(case, reference, port):
    """Names, order, shapes, dtypes and strides; stepping without error is not enough for `state_dict`."""
    own, ours = port, to_torch(case, reference)
    for mine, theirs in zip(ours.module.parameters(), own.module.parameters(), strict=True):
        entries, expected = ours.optimizer.state.get(mine, {}), own.optimizer.state.get(theirs, {})
        assert list(entries) == list(expected)
        for name in expected:
            assert (entries[name].shape, entries[name].dtype) == (expected[name].shape, expected[name].dtype)
            assert entries[name].stride() == expected[name].stride()
    ours.case.port(ours.module).load_state_dict(ours.optimizer.state_dict())


def test_injected_hyperparameters_become_those_of_the_groups(params):
    case = CASES['inject in partitions']
    state = case.tx().init(params)
    port = Port(case, params)
    for group in port.optimizer.param_groups:
        group.update(lr=1.0, betas=(0.1, 0.1), eps=1.0)
    weight_bridge.optimizer_to_torch(state, port.optimizer, port.module)
    found = [(group['lr'], group['betas'], group['eps']) for group in port.optimizer.param_groups]
    assert found == [(LR, (0.9, 0.999), 1e-8), (1e-2, (0.9, 0.9), 1e-8)]
    port.optimizer.param_groups[1]['lr'] = 0.5
    back = weight_bridge.optimizer_to_optax(port.optimizer, port.module, like=state)
    assert back.inner_states['other'].inner_state.hyperparams['learning_rate'] == 0.5


def test_each_partition_can_have_a_torch_optimizer_of_its_own(params, rng):
    """Adam for the kernels and SGD for the rest are two optimisers in torch; each takes its partition."""
    tx = partitioned(kernel=optax.adam(LR), other=optax.sgd(LR, momentum=0.9))
    grads = jax.tree.map(np.ones_like, params)
    _, state = tx.update(grads, tx.init(params), params)
    module = Net()
    adam = torch.optim.Adam(groups(module, kernel={'lr': LR}))
    sgd = torch.optim.SGD(groups(module, other={'lr': LR}), momentum=0.9)
    for label, optimizer in (('kernel', adam), ('other', sgd)):
        part = state.inner_states[label]
        weight_bridge.optimizer_to_torch(part, optimizer, module)
        back = weight_bridge.optimizer_to_optax(optimizer, module, like=part)
        jax.tree.map(np.testing.assert_array_equal, back, jax.device_get(part))
    assert len(adam.state) == 2
    assert len(sgd.state) == 5


def refusal(case, tx, params, port_of=None, **options):
    """The problems of both directions, which must be the same, and must leave the optimiser as it was."""
    module = Net()
    optimizer = (port_of or case.port)(module)
    groups_before = [{**group, 'params': list(group['params'])} for group in optimizer.param_groups]
    with pytest.raises(BridgeError) as there:
        weight_bridge.optimizer_to_torch(tx.init(params), optimizer, module, **options)
    with pytest.raises(BridgeError) as back:
        weight_bridge.optimizer_to_optax(optimizer, module, like=tx.init(params), **options)
    assert not optimizer.state
    assert [{**group, 'params': list(group['params'])} for group in optimizer.param_groups] == groups_before
    assert [str(problem) for problem in there.value.problems] == [str(p) for p in back.value.problems]
    return [str(problem) for problem in there.value.problems]


class TestRefused:
    """What has no counterpart, or one that computes something else."""

    def test_another_optimizer(self, params):
        (problem,) = refusal(CASES['adam'], optax.sgd(LR, momentum=0.9), params)
        assert problem == (
            'optimizer: param_groups[0]: expected 1 ScaleByAdamState for each parameter (torch.optim.Adam), '
            'found 1 TraceState for all (among TraceState, EmptyState)'
        )

    def test_a_partition_that_torch_does_not_have(self, params):
        tx = partitioned(kernel=optax.adam(LR), other=optax.sgd(LR))
        (problem,) = refusal(CASES['adam'], tx, params)
        others = 'offset, Dense_0/bias, LayerNorm_0/scale, LayerNorm_0/bias, Dense_1/bias'
        assert f'found no state for {others} (among PartitionState' in problem

    def test_a_frozen_parameter_that_torch_steps(self, params):
        (problem,) = refusal(CASES['frozen'], optax.adam(LR), params)[:1]
        assert problem.startswith('optimizer: offset: expected held by the optimiser, found not held')

    @pytest.mark.parametrize(
        ('tx', 'name'),
        [
            (optax.amsgrad(LR), 'ScaleByAmsgradState'),
            (optax.chain(optax.adam(LR), optax.ema(0.9)), 'EmaState'),
            (optax.apply_if_finite(optax.adam(LR), 3), 'ApplyIfFiniteState'),
            (optax.rmsprop(LR, bias_correction=True), 'ScaleByRmsWithCountState'),
        ],
    )
    def test_states_that_torch_has_not_are_named(self, tx, name, params):
        assert any(name in problem for problem in refusal(CASES['adam'], tx, params))

    def test_multi_steps_too(self, params):
        tx = optax.MultiSteps(optax.adam(LR), 2)
        assert any('MultiStepsState' in problem for problem in refusal(CASES['adam'], tx, params))

    @pytest.mark.parametrize(
        ('options', 'text'),
        [
            ({'dampening': 0.1}, 'expected dampening=0.0, found dampening=0.1 (torch scales all gradients'),
            ({'maximize': True}, 'expected maximize=False, found maximize=True'),
        ],
    )
    def test_settings_that_optax_has_not(self, options, text, params):
        def make(module):
            return torch.optim.SGD(module.parameters(), LR, momentum=0.9, **options)

        (problem,) = refusal(None, optax.sgd(LR, momentum=0.9), params, make)
        assert text in problem

    @pytest.mark.parametrize(
        'tx',
        [
            optax.rmsprop(schedule, eps_in_sqrt=False, momentum=0.9),
            optax.chain(optax.rmsprop(LR, eps_in_sqrt=False, momentum=0.9), optax.clip(1.0)),
            optax.inject_hyperparams(optax.rmsprop)(schedule, eps_in_sqrt=False, momentum=0.9),
            optax.chain(optax.scale_by_rms(), optax.clip(1.0), optax.trace(0.9), optax.scale(-LR)),
        ],
        ids=['schedule', 'more after it', 'injected schedule', 'something between'],
    )
    def test_a_trace_of_past_learning_rates(self, tx, params):
        (problem,) = refusal(CASES['rmsprop momentum'], tx, params, count=0)
        assert 'expected the trace right after the second moments' in problem

    def test_a_trace_after_the_learning_rate(self, params):
        tx = optax.chain(optax.scale(-LR), optax.trace(0.9))
        (problem,) = refusal(CASES['momentum'], tx, params)
        assert 'found EmptyState, [TraceState]' in problem

    def test_a_count_that_neither_side_has(self, params):
        module = Net()
        rmsprop = torch.optim.RMSprop(module.parameters())
        state = optax.rmsprop(LR).init(params)
        with pytest.raises(BridgeError, match=r'pass count=...: RMSprop counts them'):
            weight_bridge.optimizer_to_torch(state, rmsprop, module)
        sgd = torch.optim.SGD(module.parameters())
        with pytest.raises(BridgeError, match=r'pass count=...: SGD does not count them'):
            weight_bridge.optimizer_to_optax(sgd, module, like=optax.sgd(schedule).init(params))

    def test_counts_that_differ(self, params):
        adam, scheduled = optax.adam(schedule).init(params)
        state = adam, scheduled._replace(count=np.asarray(5))
        with pytest.raises(BridgeError, match=r'opt_state/1/count: expected 0 as opt_state/0/count, found 5'):
            weight_bridge.optimizer_to_torch(state, torch.optim.Adam((m := Net()).parameters()), m)
        module = Net()
        adam = torch.optim.Adam(module.parameters())
        with pytest.raises(BridgeError, match='count: expected 0 as in torch, found 3'):
            weight_bridge.optimizer_to_optax(adam, module, like=optax.adam(LR).init(params), count=3)

    def test_a_hyperparameter_that_torch_has_not(self, params):
        tx = optax.inject_hyperparams(
            lambda learning_rate, max_norm: optax.chain(
                optax.clip_by_global_norm(max_norm), optax.adam(learning_rate)
            )
        )(LR, 1.0)
        (problem,) = refusal(CASES['adam'], tx, params)
        assert 'found max_norm (or bridge its inner_state alone)' in problem
        module = Net()
        weight_bridge.optimizer_to_torch(
            tx.init(params).inner_state, torch.optim.Adam(module.parameters()), module
        )

    def test_a_value_that_torch_has_not(self, params):
        tx = optax.inject_hyperparams(optax.adam)(LR, eps_root=1e-3)
        assert any('eps_root: expected 0.0, found 0.001' in p for p in refusal(CASES['adam'], tx, params))

    def test_decay_that_torch_would_put_into_the_moments(self, params):
        tx = optax.inject_hyperparams(optax.adamw)(LR, weight_decay=0.1)
        (problem,) = refusal(CASES['adam'], tx, params)
        assert 'expected torch.optim.AdamW, found Adam' in problem

    def test_hyperparameters_of_a_part_of_a_group(self, params):
        tx = partitioned(kernel=optax.inject_hyperparams(optax.adam)(LR), other=optax.adam(1e-2))
        (problem,) = refusal(CASES['adam'], tx, params)
        assert 'expected all of param_groups[0] or nothing of it' in problem

    def test_hyperparameters_of_nobody(self, params):
        tx = partitioned(kernel=optax.inject_hyperparams(optax.sgd)(LR), other=optax.sgd(LR, 0.9))
        problems = refusal(CASES['masked'], tx, params)
        assert any('a state beside them that says which parameters they are for' in p for p in problems)

    def test_a_dtype_that_cannot_hold_the_values(self, params, rng):
        case = CASES['adam']
        port = Port(case, params)
        port.step(*batch(rng), 0)
        like = optax.adam(LR, mu_dtype='bfloat16').init(params)
        with pytest.raises(BridgeError, match=r'values that bfloat16 cannot hold') as error:
            weight_bridge.optimizer_to_optax(port.optimizer, port.module, like=like)
        assert {problem.kind for problem in error.value.problems} == {'value'}

    def test_another_model(self, params):
        tx = optax.adam(LR)
        other = {**params, 'offset': np.zeros(3), 'extra': np.zeros(1)}
        problems = refusal(CASES['adam'], tx, other)
        assert 'shape: opt_state/0/mu/offset: expected f64[2], found f64[3] (torch: offset)' in problems
        assert 'unexpected path: opt_state/0/nu/extra: expected nothing, found f64[1]' in problems

    def test_an_unknown_torch_optimizer(self, params):
        (problem,) = refusal(None, optax.adam(LR), params, lambda m: torch.optim.Adadelta(m.parameters()))
        assert 'expected torch.optim.Adam, AdamW, SGD, RMSprop or a class Lion, found Adadelta' in problem


def test_where_both_sides_define_rmsprop_differently(params):
    """Why `eps_in_sqrt=False` is needed: Optax's default is off by more than any rounding."""
    case = CASES['rmsprop']
    other = type(case)(lambda: optax.rmsprop(LR, decay=0.99, eps=1e-4), case.port, counted=(True, False))
    same = type(case)(
        lambda: optax.rmsprop(LR, decay=0.99, eps=1e-4, eps_in_sqrt=False),
        lambda m: torch.optim.RMSprop(m.parameters(), LR, alpha=0.99, eps=1e-4),
        counted=(True, False),
    )
    differences = []
    for one in (other, same):
        reference = Reference(one, params)
        reference.step(*batch(np.random.default_rng(2)))
        port = Port(same, reference.params)
        weight_bridge.optimizer_to_torch(reference.state, port.optimizer, port.module, count=1)
        differences.append(ten_steps(reference, port, np.random.default_rng(3), 1))
    assert differences[0] > 1e-3
    assert differences[1] < SAME
