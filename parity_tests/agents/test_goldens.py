"""The golden values of the original agents, computed by the reference and by the port.

Initial parameters and keys are exact. Everything else is relative to a leaf's largest value, in float64 to
1e-10 for one call and to 1e-6 after updates; in float32, where float64 has decided semantics, to 1e-4.

A gradient may also be off by the rounding of what cancelled in it: SAFETY machine epsilons of the *whole*
gradient's largest entry. That is all there is where a gradient is zero in theory, as td_infonce's of the last
two biases of psi: they add the same vector to every psi(g), which shifts all logits of a row alike, and no
softmax over the row sees that.

Adam divides by the size of the gradient, so that one of pure rounding makes it step by up to the learning
rate in either direction. A parameter may be as far off as its gradient is not known, at most that step, and
is judged by its moments (`tolerances.adam_slack`). What it does to everything later is measured: td_infonce
reports the shifted logits, and with logit_agg='min' they decide which member counts. A package repeats its
updates from parameters moved by a few roundings, and may be off by SAFETY times as far as its results move.
"""

import contextlib
import copy
import functools
from collections.abc import Callable
from unittest import mock

import jax
import numpy as np
import pytest
import torch

import fixtures
import reference_jax
import reference_jax.encoders
import torch_agents
import torch_agents.encoders
from fixtures import Golden
from parity import chunks, tolerances, trees
from parity.backends import JaxSide, TorchSide
from parity.sides import LossCall, Side, State, UpdateCall
from parity.trees import Arrays, subtree, with_prefix

Errors = dict[str, float | np.ndarray]
PACKAGES = {'reference_jax': reference_jax, 'torch_agents': torch_agents}
FULL, PARTIAL = (('full_update', True),), (('full_update', False),)
LOSSES = (
    LossCall('pretraining_loss', 'pretraining_loss'),
    LossCall('finetuning_loss_full', 'finetuning_loss', FULL),
    LossCall('finetuning_loss_partial', 'finetuning_loss', PARTIAL),
)


def encoder_of(golden: Golden, package: str) -> contextlib.AbstractContextManager:
    """Within it the file's encoder, made small to keep the file small, is registered under its name."""
    modules = PACKAGES[package].encoders.encoder_modules
    entry = golden.meta.get('encoder')
    if entry is None:
        return contextlib.nullcontext()
    kwargs = {key: tuple(v) if isinstance(v, list) else v for key, v in entry['kwargs'].items()}
    cls = getattr(modules[entry['name']], 'func', modules[entry['name']])
    return mock.patch.dict(modules, {entry['name']: functools.partial(cls, **kwargs)})


@functools.cache
def created(name: str, package: str) -> tuple[Golden, Side]:
    """The golden file, and the created agent in its precision."""
    golden = fixtures.load_golden(name)
    target = PACKAGES[package].agents[golden.meta['agent']]
    side_type = JaxSide if package == 'reference_jax' else TorchSide
    side = side_type(target, golden.meta['dtype'])
    with encoder_of(golden, package):
        side.create(golden.meta['seed'], golden.flat('batch'), golden.meta['config'])
    return golden, side


def started(name: str, package: str, sample: int | None = None) -> tuple[Golden, Side]:
    """A copy of the agent with the golden file's parameters, a fresh Adam state and its initial key.

    sample: move every leaf of the parameters by some roundings; each number moves them elsewhere.
    """
    golden, initial = created(name, package)
    # a Flax agent never changes in place, and what shares its parts shares its compilations
    side = copy.copy(initial) if package == 'reference_jax' else copy.deepcopy(initial)
    params = golden.flat('params')
    zeros = {path: np.zeros_like(leaf) for path, leaf in params.items()}
    counts = dict.fromkeys(params, np.int32(0))
    state = State(params, zeros, zeros, counts, golden.tensors['init_rng'])
    roundings = 4 * float(np.finfo(golden.meta['dtype']).eps)
    side.restore(state if sample is None else state.scaled(sample, roundings))
    return golden, side


# --- what a package computes for each group of a file's keys


def initial_params(name: str, package: str) -> Arrays:
    golden, side = created(name, package)
    # Flax makes kernels in float32 in every mode: the file's dtypes differ, the values must not
    found = with_prefix('init_params', side.state().params)
    return {path: lossless(leaf, golden.tensors[path].dtype) for path, leaf in found.items()}


def lossless(leaf: np.ndarray, dtype: np.dtype) -> np.ndarray:
    assert (leaf.astype(dtype) == leaf).all()
    return leaf.astype(dtype)


def initial_key(name: str, package: str) -> Arrays:
    return {'init_rng': created(name, package)[1].state().key}


@functools.cache
def all_losses(name: str, package: str) -> Arrays:
    """The losses, their info and gradients, of the three losses in one program."""
    golden, side = started(name, package)
    values, grads = side.losses(LOSSES, golden.flat('batch'), golden.tensors['rng'])
    found = {path: leaf for path, leaf in values.items() if '/draws/' not in path}
    for call in LOSSES:
        found |= with_prefix(f'{call.name}/grads', subtree(grads, call.name))
    return found


def part_of(compute: Callable[..., Arrays], group: str) -> Callable[..., Arrays]:
    """A computation of several groups, reduced to one of them."""
    return lambda *args: with_prefix(group, subtree(compute(*args), group))


@functools.cache
def pretraining(name: str, package: str, sample: int | None = None) -> Arrays:
    """The updates, and the target reset after them."""
    golden, side = started(name, package, sample)
    found = run(side, golden, 'pretrain', [UpdateCall('pretrain')] * golden.meta['pretrain_steps'])
    if 'target_reset' in groups_of(golden):
        side.update(UpdateCall('target_reset'), golden.flat('batch'))
        found |= with_prefix('target_reset/params', side.state().params)
    return found


@functools.cache
def finetuning(name: str, package: str, sample: int | None = None) -> Arrays:
    golden, side = started(name, package, sample)
    calls = [UpdateCall('finetune', FULL if full else PARTIAL) for full in golden.meta['finetune_pattern']]
    return run(side, golden, 'finetune', calls)


def run(side: Side, golden: Golden, group: str, calls: list[UpdateCall]) -> Arrays:
    """The info of each update and the state after the last, under the golden file's names."""
    found: Arrays = {}
    for i, call in enumerate(calls):
        found |= with_prefix(f'step{i}/info', side.update(call, golden.flat('batch')))
    state = side.state()
    counts = {int(count) for count in state.opt_count.values()}
    assert len(counts) == 1
    moments = with_prefix('opt_mu', state.opt_mu) | with_prefix('opt_nu', state.opt_nu)
    params = with_prefix('params', state.params)
    found |= {**params, **moments, 'opt_count': np.asarray(counts.pop(), np.int32), 'rng': state.key}
    return with_prefix(group, found)


def sampled_actions(name: str, package: str) -> Arrays:
    golden, side = started(name, package)
    batch, key = golden.flat('batch'), golden.tensors['sample_rng']
    return {
        f'sample_actions/{path}': side.actions(
            batch['observations'], batch.get('latents'), key, float(path.removeprefix('temperature_'))
        )
        for path in golden.flat('sample_actions')
    }


def output_of(method: str, *inputs: str) -> Callable[[str, str], Arrays]:
    """A method's output: inputs are keys of the file, `batch` the whole batch. A tuple's have numbers."""

    def compute(name: str, package: str) -> Arrays:
        golden, side = started(name, package)
        args = [golden.flat(key) if key == 'batch' else golden.tensors[key] for key in inputs]
        if package == 'reference_jax':
            with jax.enable_x64(side.dtype == 'float64'):
                return trees.flat(getattr(side.agent, method)(*args), np.asarray, method)
        args = [as_tensors(arg) for arg in args]
        return trees.flat(getattr(side.agent, method)(*args), np.asarray, method)

    return compute


def numbered(compute: Callable[[str, str], Arrays]) -> Callable[[str, str], Arrays]:
    """A single output under the number that it has in a tuple of several."""

    def numbered_compute(name: str, package: str) -> Arrays:
        return {path if '/' in path else f'{path}/0': leaf for path, leaf in compute(name, package).items()}

    return numbered_compute


def as_tensors(value: Arrays | np.ndarray) -> dict[str, torch.Tensor] | torch.Tensor:
    if isinstance(value, dict):
        return {key: torch.tensor(array) for key, array in value.items()}
    return torch.tensor(value)


SAMPLES = 4
UPDATES = ('pretrain', 'target_reset', 'finetune')
INPUTS = ('params', 'batch', 'rng', 'sample_rng')
OUTPUTS = {
    'init_params': initial_params,
    'init_rng': initial_key,
    **{call.name: part_of(all_losses, call.name) for call in LOSSES},
    **{group: part_of(pretraining, group) for group in ('pretrain', 'target_reset')},
    'finetune': finetuning,
    'sample_actions': sampled_actions,
    'sample_latents': numbered(output_of('sample_latents', 'batch', 'sample_rng')),
    'infer_latent': output_of('infer_latent', 'batch'),
    'get_phis': output_of('get_phis', 'batch/observations'),
    'predict_rewards': output_of('predict_rewards', 'batch/observations'),
    'predict_next_observations': output_of(
        'predict_next_observations', 'batch/observations', 'batch/actions'
    ),
}


# --- how far it may be from the file's values


def allowed_errors(name: str, package: str, group: str) -> Errors:
    """How far each leaf of a group may be off; the reasons stand at the head of this file."""
    golden = fixtures.load_golden(name)
    expected = keys_of(golden, group)
    if group in ('init_params', 'init_rng'):
        return dict.fromkeys(expected, 0.0)
    relative = relative_tolerance(golden, group)
    allowed: Errors = {path: relative * largest(leaf) for path, leaf in expected.items()}
    sources = [cancellation(golden, group, expected)]
    if group in UPDATES:
        sources += [noise(name, package, group), close_comparisons(golden, expected)]
    for source in sources:
        allowed |= {path: allowed[path] + extra for path, extra in source.items()}
    return allowed


def relative_tolerance(golden: Golden, group: str) -> float:
    if golden.meta['dtype'] == 'float32':
        return 1e-4
    return 1e-6 if group in UPDATES else 1e-10


def cancellation(golden: Golden, group: str, expected: Arrays) -> Errors:
    """The rounding of what cancelled in a gradient, and what Adam made of it. Exact zeros stay exact."""
    floor = tolerances.SAFETY * float(np.finfo(golden.meta['dtype']).eps) * largest_gradient(golden)
    found: Errors = {path: floor for path in expected if '/grads/' in path}
    count, allowed_mu = int(expected.get(f'{group}/opt_count', 0)), (1 - tolerances.ADAM_BETAS[0]) * floor
    for path, second in subtree(expected, f'{group}/opt_nu').items():
        slack = tolerances.adam_slack(second, count, allowed_mu, golden.meta['config']['lr'])
        found[f'{group}/params/{path}'] = count * slack
        found[f'{group}/opt_mu/{path}'] = floor
        found[f'{group}/opt_nu/{path}'] = tolerances.square_slack(second, count, allowed_mu)
    return {path: extra for path, extra in found.items() if expected[path].any()}


def largest_gradient(golden: Golden) -> float:
    return max(largest(leaf) for path, leaf in golden.tensors.items() if '/grads/' in path)


def noise(name: str, package: str, group: str) -> Errors:
    """SAFETY times as far as the package's own results move with the rounding of its parameters."""
    own, *samples = (OUTPUTS[group](name, package, i) for i in (None, *range(SAMPLES)))
    floats = {path: leaf for path, leaf in own.items() if leaf.dtype.kind == 'f'}
    found = [chunks.differences(sample, floats) for sample in samples]
    return {path: tolerances.SAFETY * max(noise[path] for noise in found) for path in floats}


def close_comparisons(golden: Golden, expected: Arrays) -> Errors:
    """In float32 one of the B x B comparisons in binary_accuracy may be too close for the samples."""
    if golden.meta['dtype'] == 'float64':
        return {}
    one = 1 / golden.meta['batch_size'] ** 2
    return {path: one for path in expected if path.endswith('/binary_accuracy')}


def largest(leaf: np.ndarray) -> float:
    return tolerances.largest(leaf.astype(np.float64))


def assert_golden(found: Arrays, expected: Arrays, allowed: Errors) -> None:
    """Every expected leaf, and no other, of its shape and dtype and within its allowed error."""
    assert expected
    assert sorted(found) == sorted(expected)
    for path, leaf in expected.items():
        assert (found[path].shape, found[path].dtype) == (leaf.shape, leaf.dtype), path
        error = np.abs(found[path].astype(np.float64) - leaf.astype(np.float64))
        wrong = ~(error <= allowed[path])
        assert not wrong.any(), f'{path}: {error[wrong].max():.2e} off; allowed: {np.max(allowed[path]):.2e}'


# --- the tests


def groups_of(golden: Golden) -> list[str]:
    """The first parts of a file's keys."""
    return sorted({path.split('/')[0] for path in golden.tensors})


def unused_groups(golden: Golden) -> set[str]:
    """The groups that are neither an input nor compared."""
    return set(groups_of(golden)) - set(INPUTS) - set(OUTPUTS)


def keys_of(golden: Golden, group: str) -> Arrays:
    """The tensors of one group, under their whole keys."""
    return {path: leaf for path, leaf in golden.tensors.items() if path.split('/')[0] == group}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each golden file, package and group of keys that is not an input."""
    if 'group' not in metafunc.fixturenames:
        return
    params = [
        pytest.param(
            name,
            package,
            group,
            id=f'{name}-{package}-{group}',
            marks=[pytest.mark.xdist_group(agent_of(name)), *slow(name, package, group)],
        )
        for name in fixtures.goldens()
        for package in PACKAGES
        for group in groups_of(fixtures.load_golden(name))
        if group not in INPUTS
    ]
    metafunc.parametrize(('name', 'package', 'group'), params)


def slow(name: str, package: str, group: str) -> list[pytest.MarkDecorator]:
    """What compiling the reference takes longest for, and says least; the port is compared with all of it.

    float64 has decided what it computes; one configuration of each agent has, too, as port and reference are
    compared in all of them; and so has one agent on images.
    """
    if package == 'torch_agents':
        return []
    double = (other for other in fixtures.goldens() if other.endswith('-f64'))
    first = next(other for other in double if agent_of(other) == agent_of(name))
    another = name != first and (group in UPDATES or name != 'iql-impala-f64')
    return [pytest.mark.slow] if another else []


def agent_of(name: str) -> str:
    return name.split('-')[0]


def test_the_original_and_the_packages_agree(name: str, package: str, group: str) -> None:
    expected = keys_of(fixtures.load_golden(name), group)
    assert_golden(OUTPUTS[group](name, package), expected, allowed_errors(name, package, group))


@pytest.mark.parametrize('name', fixtures.goldens())
def test_no_key_of_a_golden_file_stays_unused(name: str) -> None:
    golden = fixtures.load_golden(name)
    assert not unused_groups(golden)
    assert set(INPUTS) <= set(groups_of(golden))


def test_twin_a_key_of_another_group_is_seen() -> None:
    golden = fixtures.load_golden('iql-awr-f64')
    more = Golden(golden.name, golden.meta, {**golden.tensors, 'get_psis': np.zeros(3)})
    assert unused_groups(more) == {'get_psis'}


def test_twin_a_key_of_a_known_group_is_seen() -> None:
    with pytest.raises(AssertionError):
        assert_golden({'loss/a': np.ones(2)}, {'loss/a': np.ones(2), 'loss/b': np.ones(2)}, {})


def test_all_agents_but_rebrac_which_the_original_has_not_have_golden_files() -> None:
    assert {agent_of(name) for name in fixtures.goldens()} == set(reference_jax.agents) - {'rebrac'}


@pytest.mark.parametrize('package', PACKAGES)
def test_the_registered_encoders_are_put_back(package: str) -> None:
    modules = PACKAGES[package].encoders.encoder_modules
    golden, before = fixtures.load_golden('iql-impala-f64'), dict(modules)
    with encoder_of(golden, package):
        assert modules['impala_debug'] != before['impala_debug']
    assert modules == before


def compare_changed(name: str, path: str, factor: float) -> None:
    """Compare a group of a file with itself, one leaf changed, as strictly as with the port."""
    group = path.split('/')[0]
    expected = keys_of(fixtures.load_golden(name), group)
    found = {**expected, path: expected[path] * expected[path].dtype.type(factor)}
    assert_golden(found, expected, allowed_errors(name, 'torch_agents', group))


@pytest.mark.parametrize(
    ('name', 'path', 'error'),
    [
        ('iql-awr-f64', 'pretraining_loss/loss', 1e-9),
        ('iql-awr-f64', 'finetune/params/modules_value/value_net/Dense_0/kernel', 1e-5),
        ('td_infonce-mean-f64', 'pretraining_loss/grads/modules_critic/psi/Dense_0/kernel', 1e-9),
        ('td_infonce-mean-f64', 'pretrain/params/modules_critic/psi/Dense_2/bias', 1e-5),
        ('dino_rebrac-mlp-f64', 'finetune/params/modules_target_repr_center/value', 1e-5),
        ('hilp-impala-f32', 'get_phis', 1e-3),
        ('hilp-default-f64', 'init_params/modules_value/phi/Dense_0/kernel', 1e-7),
    ],
)
def test_twin_a_changed_golden_value_fails(name: str, path: str, error: float) -> None:
    compare_changed(name, path, 1.0)
    with pytest.raises(AssertionError, match=path):
        compare_changed(name, path, 1 + error)
