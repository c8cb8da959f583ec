"""Two bare functions: outputs and gradients by path, in both precisions; a difference is found by path."""

import dataclasses
from collections import namedtuple
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import parity
from parity import MismatchError, Verdict
from parity.report import html, json, junit
from torch_agents import random as torch_random

Lines = Callable[[Callable[[], object]], list[str]]
Heads = namedtuple('Heads', 'mean best')
RNG = np.random.default_rng(0)
PARAMS = {'w': RNG.normal(size=(4, 3)), 'layers': [np.zeros(3), RNG.normal(size=3)]}
INPUTS = {'params': PARAMS, 'x': RNG.normal(size=(5, 4)), 'key': np.array([1, 2], np.uint32), 'n': 3}


def reference(params: Any, x: Any, key: Any, n: int) -> dict[str, Any]:
    h = jnp.tanh(x @ params['w'] + params['layers'][0]) * params['layers'][1]
    noisy = h + jax.random.normal(key, h.shape)
    heads = Heads(noisy.mean(axis=0), h.argmax(axis=-1))
    return {'heads': heads, 'rest': [jax.lax.stop_gradient(h), None, h.sum() * n, h > 0]}


def port(params: Any, x: Any, key: Any, n: int) -> dict[str, Any]:
    h = torch.tanh(x @ params['w'] + params['layers'][0]) * params['layers'][1]
    noisy = h + torch_random.normal(key, h.shape)
    heads = Heads(noisy.mean(axis=0), h.argmax(axis=-1))
    return {'heads': heads, 'rest': [h.detach(), None, h.sum() * n, h > 0]}


def altered(change: Callable[[dict[str, Any]], Any]) -> Callable[..., Any]:
    """The port with another result."""
    return lambda **given: change(port(**given))


def wrong(verdict: Verdict, stage: str, dtype: str = 'float64') -> dict[str, str | None]:
    """The paths that differ in a stage, with the kind of their mismatch."""
    (found,) = [result for _, result in verdict.stages() if (result.stage, result.dtype) == (stage, dtype)]
    assert found.outcome in ('match', 'mismatch'), found.reason
    return {leaf.path: leaf.kind for leaf in found.leaves if not leaf.matches}


def same(reference: Any, port: Any, inputs: Any, **options: Any) -> bool:
    return parity.check_functions(reference, port, inputs, **options).outcome == 'match'


# --- what is compared


def test_nested_outputs_and_gradients_agree() -> None:
    verdict = parity.check_functions(reference, port, INPUTS)
    verdict.raise_if_mismatch()
    stages = {(stage.stage, stage.dtype): stage for _, stage in verdict.stages()}
    assert list(stages) == [(s, d) for s in ('forward', 'grads') for d in ('float64', 'float32')]
    paths = {key: {leaf.path for leaf in stage.leaves} for key, stage in stages.items()}
    outputs = {'heads/mean', 'heads/best', 'rest/0', 'rest/2', 'rest/3'}
    floats = {'params/w', 'params/layers/0', 'params/layers/1', 'x'}
    assert paths['forward', 'float64'] == paths['forward', 'float32'] == outputs
    assert paths['grads', 'float32'] == {f'vjp/{path}' for path in floats}
    reach = {path for path in paths['grads', 'float64'] if path.startswith('reach/')}
    assert reach == {
        f'reach/{output}/{path.replace("/", ".")}'
        for output in ('heads/mean', 'rest/0', 'rest/2')
        for path in floats
    }
    assert {leaf.reference for leaf in stages['grads', 'float64'].leaves if 'rest/0' in leaf.path} == {
        'bool[] False'
    }


def test_a_bare_array_is_the_output() -> None:
    verdict = parity.check_functions(jax.nn.silu, torch.nn.functional.silu, (np.linspace(-9, 9, 7),))
    assert {leaf.path for _, stage in verdict.stages() for leaf in stage.leaves} == {
        'output',
        'vjp/0',
        'reach/output/0',
    }
    assert verdict.outcome == 'match'


def test_complex_outputs_are_two_leaves_with_gradients() -> None:
    inputs = (RNG.normal(size=8),)
    assert same(jnp.fft.fft, torch.fft.fft, inputs)
    found = parity.check_functions(jnp.fft.fft, lambda x: torch.fft.fft(x).conj(), inputs)
    assert wrong(found, 'forward') == {'output/imag': 'value'}


@given(x=st.lists(st.floats(-50, 50), min_size=1, max_size=5))
@settings(max_examples=5)
def test_under_hypothesis(x: list[float]) -> None:
    parity.check_functions(jnp.sinh, torch.sinh, (np.array(x),)).raise_if_mismatch()


def test_an_input_that_is_not_used_has_gradient_zero() -> None:
    verdict = parity.check_functions(lambda x, y: x * 2, lambda x, y: x * 2, {'x': 1.5, 'y': np.ones(3)})
    verdict.raise_if_mismatch()
    assert 'f32[3] [0.0, 0.0, 0.0]' in {leaf.port for _, stage in verdict.stages() for leaf in stage.leaves}


def test_many_cases_and_targets_by_name() -> None:
    target = f'{__name__}:{{}}'.format
    cases = [(np.ones(3),), (np.zeros((2, 2)),), {'x': 0.5}]
    verdict = parity.check_functions(target('square'), target('square'), cases, dtypes=['float64'])
    verdict.raise_if_mismatch()
    assert [case.description for case in verdict.cases] == [
        'case 0: 0 f32[3] [1.0, 1.0, 1.0]',
        'case 1: 0 f32[2,2] [[0.0, 0.0], [0.0, 0.0]]',
        'case 2: x f32[] 0.5',
    ]


def square(x: Any) -> Any:
    return x * x


def test_a_reference_that_decides_on_values_needs_jit_false() -> None:
    def relu(x: Any) -> Any:
        return x if x.sum() > 0 else 0 * x

    (_, stage), *_ = parity.check_functions(relu, relu, (np.ones(3),)).stages()
    assert (stage.outcome, stage.reason.split(':')[0]) == ('error', 'TracerBoolConversionError')
    assert same(relu, relu, (np.ones(3),), jit=False)


def test_draws_agree_without_jit_as_well() -> None:
    inputs = {'key': np.array([3, 4], np.uint32), 'x': np.ones(3)}
    assert same(lambda key, x: x * jax.random.normal(key, (3,)), drawing, inputs, jit=False)
    assert not same(lambda key, x: x * jax.random.uniform(key, (3,)), drawing, inputs, jit=False)


def drawing(key: Any, x: Any) -> Any:
    return x * torch_random.normal(key, (3,))


def test_constants_have_the_precision_of_the_check() -> None:
    assert same(lambda x: x * jnp.array(0.1), lambda x: x * torch.tensor(0.1), (np.ones(3),))
    single = parity.check_functions(
        lambda x: x * jnp.array(0.1), lambda x: x * torch.tensor(0.1, dtype=torch.float32), (np.ones(3),)
    )
    assert wrong(single, 'forward') == {'output': 'value'}
    assert wrong(single, 'forward', 'float32') == {}


def test_nothing_global_is_changed() -> None:
    def failing(x: Any) -> Any:
        assert torch.get_default_dtype() == x.dtype
        raise RuntimeError('no')

    verdict = parity.check_functions(jnp.sin, failing, (np.ones(3),))
    assert {stage.reason for _, stage in verdict.stages()} == {'RuntimeError: no'}
    assert torch.get_default_dtype() == torch.float32
    assert not jax.config.jax_enable_x64


def test_a_port_that_writes_into_its_inputs_changes_no_other_run() -> None:
    x = np.ones(3, np.float32)
    assert same(lambda x: x * 2, lambda x: x.mul_(2), (x,))
    assert x.tolist() == [1, 1, 1]


def test_a_verdict_of_functions_has_every_report(tmp_path: Any) -> None:
    verdict = parity.check_functions(reference, altered(lambda out: out['heads']), INPUTS, name='twin')
    html.write([verdict], tmp_path)
    json.write([verdict], tmp_path)
    junit.write([verdict], tmp_path / 'junit.xml')
    assert 'heads/mean' in (tmp_path / 'twin.html').read_text()
    assert '<failure' in (tmp_path / 'junit.xml').read_text()


# --- twins: what differs is found


def changed(place: str, value: Callable[[Any], Any]) -> Callable[..., Any]:
    """The port with another value at one place of its result."""

    def change(out: dict[str, Any]) -> dict[str, Any]:
        if place.startswith('heads'):
            return {**out, 'heads': out['heads']._replace(**{place.split('/')[1]: value(out['heads'])})}
        rest = list(out['rest'])
        rest[int(place.split('/')[1])] = value(rest[int(place.split('/')[1])])
        return {**out, 'rest': rest}

    return altered(change)


@pytest.mark.parametrize(
    ('broken', 'expected'),
    [
        (changed('heads/mean', lambda heads: heads.mean + 1e-9), {'heads/mean': 'value'}),
        (changed('heads/best', lambda heads: heads.best.int()), {'heads/best': 'dtype'}),
        (changed('heads/best', lambda heads: heads.best ^ 1), {'heads/best': 'value'}),
        (changed('rest/2', lambda leaf: leaf[None]), {'rest/2': 'shape'}),
        (changed('rest/2', lambda leaf: leaf * np.nan), {'rest/2': 'non-finite'}),
        (changed('rest/3', lambda leaf: leaf.double()), {'rest/3': 'dtype'}),
        (changed('rest/1', lambda leaf: torch.ones(1)), {'rest/1': 'unexpected path'}),
        (changed('rest/0', lambda leaf: None), {'rest/0': 'missing path'}),
        (altered(lambda out: {**out, 'more': 1}), {'more': 'unexpected path'}),
    ],
)
def test_a_wrong_output(broken: Callable[..., Any], expected: dict[str, str]) -> None:
    assert wrong(parity.check_functions(reference, broken, INPUTS, grads=False), 'forward') == expected


def test_a_forgotten_stop_gradient_leaves_the_outputs_equal() -> None:
    def leaking(params: Any, x: Any, key: Any, n: int) -> Any:
        out = port(params, x, key, n)
        h = torch.tanh(x @ params['w'] + params['layers'][0]) * params['layers'][1]
        return {**out, 'rest': [h, *out['rest'][1:]]}

    verdict = parity.check_functions(reference, leaking, INPUTS)
    assert wrong(verdict, 'forward') == {}
    found = wrong(verdict, 'grads')
    assert {path for path in found if path.startswith('reach/')} == {
        f'reach/rest/0/{name}' for name in ('params.w', 'params.layers.0', 'params.layers.1', 'x')
    }
    assert 'vjp/x' in found


def test_a_gradient_that_stops_is_zero_and_differs() -> None:
    verdict = parity.check_functions(lambda x: 2 * x, lambda x: 2 * x.detach(), (np.ones(3),))
    assert wrong(verdict, 'grads') == {'vjp/0': 'value', 'reach/output/0': 'value'}


def test_torchs_softplus_is_linear_above_20() -> None:
    softplus = jax.nn.softplus, torch.nn.functional.softplus
    assert same(*softplus, (np.linspace(-30, 19, 13),))
    found = parity.check_functions(*softplus, (np.linspace(-30, 30, 13),))
    assert wrong(found, 'forward') == {'output': 'value'}
    with pytest.raises(MismatchError, match='softplus: forward differs in float64: value of output'):
        found.raise_if_mismatch()


def test_the_message_names_the_call(raised: Lines) -> None:
    with pytest.raises(MismatchError) as caught:
        parity.check_functions(square, lambda x: x, {'x': 2.0}, seed=3).raise_if_mismatch()
    last = str(caught.value).splitlines()[-1]
    assert last.startswith('  next: parity.check_functions(reference=square, port=')
    assert last.endswith('inputs=..., seed=3)  # inputs of case 0')


def test_64_bit_integers_where_jax_has_none() -> None:
    x = RNG.normal(size=(3, 4))
    best, narrow = (
        lambda x: {'best': x.argmax(-1)},
        lambda x: {'best': x.argmax(-1).astype(jnp.int32)},
    )
    assert same(best, best, {'x': x}, grads=False)
    found = parity.check_functions(narrow, best, {'x': x}, grads=False)
    assert wrong(found, 'forward') == {'best': 'dtype'}


# --- what cannot be checked


@pytest.mark.parametrize(
    ('inputs', 'problem'),
    [
        ([3], 'expected a mapping or a tuple, found int'),
        ({'x': np.array([1e300, 2, 1e39])}, 'x: 2 of 3 values are too large for float32'),
        ({'x': np.ones(2, complex)}, 'x: expected floats, integers or bools, found dtype complex128'),
    ],
)
def test_inputs_that_cannot_be_used(inputs: Any, problem: str, raised: Lines) -> None:
    assert raised(lambda: parity.check_functions(square, square, inputs)) == [
        'the inputs cannot be used',
        f'  {problem}',
        '  error: 1 problems; allowed: 0',
        '  at: parity.check_functions',
        '  next: give a mapping of keyword arguments, a tuple of positional ones, or a list of such cases',
    ]


def test_all_problems_at_once(raised: Lines) -> None:
    inputs = {'x': 1e300, 'y': {'z': np.ones(2, complex)}}
    lines = raised(lambda: parity.check_functions(square, square, inputs))
    assert lines[2] == '  error: 2 problems; allowed: 0'


@pytest.mark.parametrize(
    ('function', 'inputs', 'found'),
    [
        (square, {'x': np.arange(3)}, 'inputs x i64[3] [0, 1, 2]'),
        (lambda x: x > 0, {'x': 0.5}, 'outputs output bool[] True'),
    ],
)
def test_no_gradients(function: Any, inputs: Any, found: str, raised: Lines) -> None:
    lines = raised(lambda: parity.check_functions(function, function, inputs))
    assert lines[0] == 'there are no gradients to compare'
    assert lines[1] == f'  expected floating inputs and outputs; found {found}'
    assert same(function, function, inputs, grads=False)


def test_no_outputs(raised: Lines) -> None:
    def nothing(x: Any) -> None:
        return None

    lines = raised(lambda: parity.check_functions(nothing, nothing, (np.ones(3),), grads=False))
    assert lines[0] == 'nothing to compare'


def test_no_cases_is_no_match(raised: Lines) -> None:
    verdict = parity.check_functions(square, square, [])
    assert verdict.outcome == 'not_run'
    assert raised(verdict.raise_if_mismatch)[0] == 'square: could not check anything'


@pytest.mark.parametrize('side', ['reference', 'port'])
def test_a_function_that_raises(side: str) -> None:
    def raising(x: Any) -> Any:
        raise NotImplementedError('not ported yet')

    functions = {'reference': square, 'port': square, side: raising}
    verdict = parity.check_functions(**functions, inputs=(np.ones(2),))
    assert {(stage.outcome, stage.reason) for _, stage in verdict.stages()} == {
        ('error', 'NotImplementedError: not ported yet')
    }


def test_a_dataclass_and_a_mapping_with_the_same_paths() -> None:
    @dataclasses.dataclass
    class Out:
        y: Any

    assert same(lambda x: {'y': x * 2}, lambda x: Out(x * 2), (np.ones(3),))
    found = parity.check_functions(lambda x: {'y': x * 2}, lambda x: x * 2, (np.ones(3),), grads=False)
    assert wrong(found, 'forward') == {'y': 'missing path', 'output': 'unexpected path'}


# --- what the tolerances of functions are made for


def test_a_bound_that_inputs_lie_on_is_no_noise() -> None:
    inputs = (np.array([-1.0, 0.3, 1.0]),)
    verdict = parity.check_functions(lambda x: jnp.clip(x, -1, 1), lambda x: x.clamp(-1, 1), inputs)
    assert {s.outcome for _, s in verdict.stages() if s.stage == 'grads'} == {'mismatch'}


@pytest.mark.parametrize('seed', range(6))
def test_a_saturated_softmax_matches_although_its_gradient_cancels(seed: int) -> None:
    inputs = (100 * np.random.default_rng(seed).normal(size=(4, 9)),)
    parity.check_functions(jax.nn.softmax, lambda x: x.softmax(-1), inputs).raise_if_mismatch()


def test_twin_another_temperature_of_a_saturated_softmax_does_not() -> None:
    inputs = (100 * np.random.default_rng(0).normal(size=(4, 9)),)
    verdict = parity.check_functions(jax.nn.softmax, lambda x: (1.0001 * x).softmax(-1), inputs)
    assert verdict.outcome == 'mismatch'
