"""Values arrive bit for bit: every dtype, layout in memory and special value; random trees; lazy imports."""

import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn

import weight_bridge
from weight_bridge import BridgeError
from weight_bridge.paths import flatten, unflatten

DTYPES = {
    torch.float64: np.float64,
    torch.float32: np.float32,
    torch.float16: np.float16,
    torch.bfloat16: ml_dtypes.bfloat16,
    torch.float8_e4m3fn: ml_dtypes.float8_e4m3fn,
    torch.complex64: np.complex64,
    torch.int32: np.int32,
    torch.uint8: np.uint8,
    torch.bool: np.bool_,
}
KINDS = {'kernel': 'Dense', 'scale': 'Norm', 'embedding': 'Embed'}


class Holder(nn.Module):
    """One parameter of any shape and dtype: a bare one, or the weight of a declared layer."""

    def __init__(self, shape, dtype, name='value'):
        super().__init__()
        parameter = nn.Parameter(torch.zeros(shape, dtype=dtype), requires_grad=False)
        self.register_parameter('weight' if name in KINDS else name, parameter)


def holder(shape, dtype, name='value'):
    rule = {'flax_rule': 'Conv' if name == 'kernel' and len(shape) > 3 else KINDS.get(name)}
    return type('Declared', (Holder,), rule)(shape, dtype, name)


def through(leaf, dtype=torch.float64):
    module = holder(leaf.shape, dtype)
    return weight_bridge.to_flax(weight_bridge.to_torch({'value': leaf}, module))['value']


def bits(array):
    return np.ascontiguousarray(array).tobytes()


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
@pytest.mark.parametrize('shape', [(7,), (), (0, 3), (2, 1, 3)], ids=str)
def test_every_bit_pattern_survives(dtype, shape, rng):
    size = max(1, int(np.prod(shape)))
    width = np.dtype(DTYPES[dtype]).itemsize * size
    raw = rng.integers(0, 2 if dtype is torch.bool else 256, width, dtype=np.uint8)
    leaf = raw.view(DTYPES[dtype])[: int(np.prod(shape))].reshape(
        shape
    )  # any bits: NaN payloads and subnormals too
    back = through(leaf, dtype)
    assert (back.dtype, back.shape, bits(back)) == (leaf.dtype, leaf.shape, bits(leaf))


def test_all_of_bfloat16_and_of_float16():
    every = np.arange(2**16, dtype=np.uint16)
    for dtype in (torch.bfloat16, torch.float16):
        assert bits(through(every.view(DTYPES[dtype]), dtype)) == bits(every)


SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, 2**-149, -(2.0**-126)])


def test_special_values_are_copied_and_not_judged():
    for leaf in (SPECIAL, SPECIAL.astype(np.float32)):
        back = through(leaf)
        np.testing.assert_array_equal(back, leaf)
        np.testing.assert_array_equal(np.signbit(back), np.signbit(leaf))


def test_a_cast_that_keeps_every_value_is_made():
    assert through(SPECIAL, torch.float32).dtype == np.float32
    np.testing.assert_array_equal(through(SPECIAL, torch.float32), SPECIAL)
    np.testing.assert_array_equal(through(np.ones(2, ml_dtypes.bfloat16), torch.float16), np.ones(2))


@pytest.mark.parametrize(
    ('values', 'dtype', 'lost'),
    [
        ([0.1, 0.5], torch.float32, 1),
        ([1e300, np.inf], torch.float32, 1),
        ([1e-320, -1e-320, 0.0], torch.float32, 2),
        ([1 + 2**-9, 1.0], torch.bfloat16, 1),
        ([65520.0, 65504.0], torch.float16, 1),
    ],
)
def test_a_cast_that_loses_a_value_is_refused(values, dtype, lost):
    name = np.dtype(DTYPES[dtype]).name
    with pytest.raises(BridgeError) as error:
        through(np.array(values), dtype)
    assert f'with {lost} of {len(values)} values that {name} cannot hold (torch: value)' in str(error.value)
    assert 'next: create the module with dtype=torch.float64' in str(error.value)


def test_integers_keep_their_value_or_are_refused():
    assert through(np.array([-5]), torch.int32) == -5
    with pytest.raises(BridgeError, match='1 of 2 values'):
        through(np.array([2**31, 0]), torch.int32)


MEMORIES = {
    'transposed': lambda a: np.asfortranarray(a),
    'reversed': lambda a: a[::-1, ::-1],
    'strided': lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    'broadcast': lambda a: np.broadcast_to(a[:1], a.shape),
    'big-endian': lambda a: a.astype('>f8'),
}


@pytest.mark.parametrize('memory', MEMORIES)
def test_any_memory_layout_can_be_read(memory, rng):
    leaf = MEMORIES[memory](rng.normal(size=(3, 4)))
    leaf.flags.writeable = False
    np.testing.assert_array_equal(through(leaf), leaf)


def test_the_module_and_the_trees_share_no_memory():
    module = nn.Linear(2, 2)
    leaf, bias = np.ones((2, 2)), np.ones(2)
    weight_bridge.to_torch({'kernel': leaf, 'bias': bias}, module)
    out = weight_bridge.to_flax(module)
    leaf[:], bias[:] = 5, 5
    out['kernel'][:], out['bias'][:] = 7, 7
    assert out['kernel'].flags.c_contiguous
    assert torch.equal(module.weight, torch.ones(2, 2))
    assert torch.equal(module.bias, torch.ones(2))


def test_a_parameter_of_any_memory_layout_is_written_and_read(rng):
    module = nn.Conv2d(3, 4, 2).to(memory_format=torch.channels_last)
    tree = {'kernel': rng.normal(size=(2, 2, 3, 4)), 'bias': rng.normal(size=4)}
    back = weight_bridge.to_flax(weight_bridge.to_torch(tree, module))
    assert module.weight.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_array_equal(back['kernel'], tree['kernel'])


names = st.text('abcXYZ_012', min_size=1, max_size=3)
arrays = hnp.arrays(np.float64, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3))
trees = st.dictionaries(
    names, st.recursive(arrays, lambda t: st.dictionaries(names, t, min_size=1, max_size=3)), min_size=1
)


@given(trees)
@settings(deadline=None, max_examples=30)
def test_flatten_and_unflatten_are_inverse(tree):
    flat = flatten(tree)
    again = flatten(unflatten(flat))
    assert list(flat) == list(again)
    assert all(again[path] is flat[path] for path in flat)


def module_of(tree):
    """A module with the bare parameters of the tree; its names are made safe from those of nn.Module."""
    module = nn.Module()
    for key, node in tree.items():
        if isinstance(node, dict):
            module.add_module(f'm_{key}', module_of(node))
        else:
            module.register_parameter(f'p_{key}', nn.Parameter(torch.zeros(node.shape)))
    return module


def renamed(tree):
    return {
        f'm_{key}' if isinstance(node, dict) else f'p_{key}': renamed(node)
        if isinstance(node, dict)
        else node
        for key, node in tree.items()
    }


@given(trees)
@settings(deadline=None, max_examples=30)
def test_random_trees_make_the_round_trip(tree):
    expected = renamed(tree)
    found = weight_bridge.to_flax(weight_bridge.to_torch(expected, module_of(tree)))
    assert {p: (a.shape, bits(a)) for p, a in flatten(found).items()} == {
        p: (a.shape, bits(a)) for p, a in flatten(expected).items()
    }


@given(
    st.sampled_from(sorted(KINDS)),
    hnp.array_shapes(min_dims=2, max_dims=5, min_side=0, max_side=4),
    st.randoms(),
)
@settings(deadline=None, max_examples=30)
def test_every_rule_makes_the_round_trip_from_torch(name, shape, random):
    module = holder(shape, torch.float64, name)
    values = torch.tensor([random.random() for _ in range(module.weight.numel())]).reshape(shape)
    module.weight.copy_(values)
    tree = weight_bridge.to_flax(module)
    module.weight.zero_()
    weight_bridge.to_torch(tree, module)
    assert torch.equal(module.weight, values)
    assert list(tree) == [name]
    assert sorted(tree[name].shape) == sorted(shape)


def run(code):
    return subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=True, timeout=60
    ).stdout


def test_importing_the_bridge_imports_no_framework():
    code = "import sys, weight_bridge; print(sorted({'jax', 'flax', 'optax', 'torch'} & set(sys.modules)))"
    assert run(code) == '[]\n'
    assert (
        run(code.replace('weight_bridge;', 'weight_bridge.convert;')) == "['torch']\n"
    )  # the twin: it can be seen


def test_numpy_trees_are_bridged_without_jax():
    code = (
        'import sys, torch, weight_bridge as bridge; module = torch.nn.Linear(2, 3); '
        'bridge.to_torch(bridge.to_flax(module), module); bridge.grads_to_flax(module); '
        "print(sorted({'jax', 'flax', 'optax'} & set(sys.modules)))"
    )
    assert run(code) == '[]\n'


def test_the_package_offers_what_it_lists():
    assert all(getattr(weight_bridge, name) for name in weight_bridge.__all__)
    with pytest.raises(AttributeError, match='to_tensorflow'):
        weight_bridge.to_tensorflow  # noqa: B018  reading the attribute is the test
