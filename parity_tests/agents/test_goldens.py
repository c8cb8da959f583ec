"""The golden values of the original agents, computed by the reference and by the port.

float64: losses, info and gradients to 1e-10 of a leaf's largest value; after updates 1e-6. float32: 1e-4, for
float64 decides semantics. Initial parameters and keys exactly, in both.
"""

import functools

import numpy as np
import pytest

import fixtures
from parity.backends import JaxSide, TorchSide
from parity.pair import registered
from parity.sides import LossCall, Side, State, UpdateCall
from parity.trees import Arrays, with_prefix

FULL, PARTIAL = (('full_update', True),), (('full_update', False),)
LOSSES = {
    'pretraining_loss': LossCall('loss', 'pretraining_loss'),
    'finetuning_loss_full': LossCall('loss', 'finetuning_loss', FULL),
    'finetuning_loss_partial': LossCall('loss', 'finetuning_loss', PARTIAL),
}


@functools.cache
def side_of(name: str, package: str) -> tuple[fixtures.Golden, Side]:
    """The golden file, and the created agent in its precision."""
    golden = fixtures.load_golden(name)
    pair, mode = registered()[golden.meta['agent']], golden.meta['dtype']
    jax = package == 'reference_jax'
    side = JaxSide(pair.load('reference'), mode) if jax else TorchSide(pair.load('port'), mode)
    side.create(golden.meta['seed'], golden.flat('batch'), golden.meta['config'])
    return golden, side


@functools.cache
def initial_state(name: str, package: str) -> State:
    return side_of(name, package)[1].state()


def started(name: str, package: str) -> tuple[fixtures.Golden, Side]:
    """The agent with the golden file's parameters, a fresh Adam state and its initial key."""
    golden, side = side_of(name, package)
    initial = initial_state(name, package)
    params = golden.flat('params')
    zeros = {path: np.zeros_like(leaf) for path, leaf in params.items()}
    side.restore(State(params, zeros, zeros, dict.fromkeys(params, np.int32(0)), initial.key))
    return golden, side


def assert_golden(found: Arrays, expected: Arrays, tolerance: float) -> None:
    """Every expected leaf, and no other, within tolerance of the leaf's largest value."""
    assert expected
    assert sorted(found) == sorted(expected)
    for path, leaf in expected.items():
        size = np.abs(leaf.astype(np.float64)).max(initial=0.0)
        np.testing.assert_allclose(
            found[path], leaf, rtol=0, atol=tolerance * size, strict=path != 'opt_count', err_msg=path
        )


def tolerance_of(golden: fixtures.Golden, float64: float) -> float:
    return float64 if golden.meta['dtype'] == 'float64' else 1e-4


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every golden file of a registered agent, with both packages."""
    names = [name for name in fixtures.goldens() if name.split('-')[0] in registered()]
    params = [
        pytest.param(name, package, id=f'{name}-{package}', marks=pytest.mark.xdist_group(name.split('-')[0]))
        for name in names
        for package in ('reference_jax', 'torch_agents')
    ]
    if 'package' in metafunc.fixturenames:
        metafunc.parametrize(('name', 'package'), params)


def test_initial_parameters_and_key_are_exact(name: str, package: str) -> None:
    golden, state = side_of(name, package)[0], initial_state(name, package)
    expected = golden.flat('init_params')
    assert sorted(state.params) == sorted(expected)
    for path, leaf in expected.items():
        np.testing.assert_array_equal(state.params[path], leaf, err_msg=path)
    np.testing.assert_array_equal(state.key, golden.tensors['init_rng'])


@pytest.mark.parametrize('loss', LOSSES)
def test_losses_info_and_gradients(name: str, package: str, loss: str) -> None:
    golden, side = started(name, package)
    values, grads = side.losses((LOSSES[loss],), golden.flat('batch'), golden.tensors['rng'])
    found = {path.removeprefix('loss/'): leaf for path, leaf in values.items() if '/draws/' not in path}
    found |= {f'grads/{path.removeprefix("loss/")}': leaf for path, leaf in grads.items()}
    assert_golden(found, golden.flat(loss), tolerance_of(golden, 1e-10))


def test_pretraining_updates_and_target_reset(name: str, package: str) -> None:
    golden, side = started(name, package)
    found = run(side, golden, [UpdateCall('pretrain')] * golden.meta['pretrain_steps'])
    assert_golden(found, golden.flat('pretrain'), tolerance_of(golden, 1e-6))
    if any(path.startswith('target_reset/') for path in golden.tensors):
        side.update(UpdateCall('target_reset'), golden.flat('batch'))
        found = with_prefix('params', side.state().params)
        assert_golden(found, golden.flat('target_reset'), tolerance_of(golden, 1e-6))


def test_finetuning_updates(name: str, package: str) -> None:
    golden, side = started(name, package)
    calls = [UpdateCall('finetune', FULL if full else PARTIAL) for full in golden.meta['finetune_pattern']]
    assert_golden(run(side, golden, calls), golden.flat('finetune'), tolerance_of(golden, 1e-6))


def test_sampled_actions(name: str, package: str) -> None:
    golden, side = started(name, package)
    batch, expected = golden.flat('batch'), golden.flat('sample_actions')
    found = {
        path: side.actions(
            batch['observations'],
            batch.get('latents'),
            golden.tensors['sample_rng'],
            float(path.split('_')[1]),
        )
        for path in expected
    }
    assert_golden(found, expected, tolerance_of(golden, 1e-10))


def run(side: Side, golden: fixtures.Golden, calls: list[UpdateCall]) -> Arrays:
    """The info of each update and the state after the last, under the golden file's names."""
    found: Arrays = {}
    for i, call in enumerate(calls):
        found |= with_prefix(f'step{i}/info', side.update(call, golden.flat('batch')))
    state = side.state()
    counts = {int(count) for count in state.opt_count.values()}
    assert len(counts) == 1
    moments = with_prefix('opt_mu', state.opt_mu) | with_prefix('opt_nu', state.opt_nu)
    params = with_prefix('params', state.params)
    return {**found, **params, **moments, 'opt_count': np.int32(counts.pop()), 'rng': state.key}


def test_a_changed_golden_value_fails() -> None:
    expected = {'loss': np.float64(1.0), 'bias': np.array([1.0, 2.0])}
    assert_golden(expected, expected, 1e-10)
    with pytest.raises(AssertionError, match='bias'):
        assert_golden({**expected, 'bias': np.array([1.0, 2.0 + 1e-9])}, expected, 1e-10)
    with pytest.raises(AssertionError):
        assert_golden({'loss': expected['loss']}, expected, 1e-10)
