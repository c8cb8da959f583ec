"""Flat paths and back, and one-line summaries of arrays."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parity import trees

Point = namedtuple('Point', 'x y')
NAMES = st.text('abc_0 ', min_size=1, max_size=3)
TREES = st.dictionaries(
    NAMES, st.recursive(st.integers(), lambda child: st.dictionaries(NAMES, child, min_size=1), max_leaves=8)
)


@dataclass
class Record:
    weight: object
    bias: object


@pytest.mark.parametrize(
    ('tree', 'leaves'),
    [
        ({'a': {'b': 1, 'c': 2}, 'd': 3}, {'a/b': 1, 'a/c': 2, 'd': 3}),
        (OrderedDict(z=1, a=2), {'z': 1, 'a': 2}),
        ([1, (2, [3])], {'0': 1, '1/0': 2, '1/1/0': 3}),
        (Point(1, {'a': 2}), {'x': 1, 'y/a': 2}),
        (Record(1, [2]), {'weight': 1, 'bias/0': 2}),
        ({'a': Record, 'b': None, 'c': 'text'}, {'a': Record, 'b': None, 'c': 'text'}),
        ({7: 1}, {'7': 1}),
        ({}, {}),
        ({'a': {}, 'b': []}, {}),
        (5, {'': 5}),
    ],
)
def test_flatten(tree: object, leaves: dict) -> None:
    assert list(trees.flatten(tree)) == list(leaves.items())


def test_a_prefix_comes_first() -> None:
    assert dict(trees.flatten({'a': 1}, 'x/y')) == {'x/y/a': 1}
    assert dict(trees.flatten(1, 'x')) == {'x': 1}


def test_flat_converts_every_leaf() -> None:
    leaves = trees.flat({'a': [1.5, 2]}, np.asarray, 'p')
    assert {path: leaf.dtype.kind for path, leaf in leaves.items()} == {'p/a/0': 'f', 'p/a/1': 'i'}


@pytest.mark.parametrize('tree', [{'a': {'b': 1}, 'a/b': 2}, {1: 1, '1': 2}])
def test_two_leaves_under_one_path_are_an_error(tree: dict) -> None:
    with pytest.raises(ValueError, match='path'):
        trees.flat(tree, np.asarray)


@given(TREES)
@settings(deadline=None)
def test_unflatten_is_the_inverse(tree: dict) -> None:
    assert trees.unflatten(dict(trees.flatten(tree))) == tree


def test_twin_unflatten_knows_nothing_of_sequences_and_empty_containers() -> None:
    assert trees.unflatten(dict(trees.flatten({'a': [1], 'b': {}}))) == {'a': {'0': 1}}


def test_astype_leaves_everything_but_floats_alone() -> None:
    kinds = np.float64, np.float16, np.int64, np.uint32, np.bool_
    leaves = {str(i): np.zeros(2, kind) for i, kind in enumerate(kinds)}
    made = trees.astype(leaves, 'float32')
    assert [leaf.dtype.name for leaf in made.values()] == ['float32', 'float32', 'int64', 'uint32', 'bool']


def test_subtree_takes_off_what_with_prefix_puts_on() -> None:
    leaves = {'a': 1, 'b/c': 2}
    assert trees.with_prefix('step', leaves) == {'step/a': 1, 'step/b/c': 2}
    assert trees.subtree({**trees.with_prefix('step', leaves), 'steps/a': 3, 'step': 4}, 'step') == leaves


@pytest.mark.parametrize(
    ('array', 'text'),
    [
        (np.float64(0.1), 'f64[] 0.1'),
        (np.float32(0.1), 'f32[] 0.1'),
        (np.array([1, 2], np.int64), 'i64[2] [1, 2]'),
        (np.array(True), 'bool[] True'),
        (np.array([1.0, np.nan, -np.inf]), 'f64[3] [1.0, nan, -inf]'),
        (np.arange(6, dtype=np.uint32), 'u32[6] mean 2.5 in [0, 5]'),
        (np.array([True] * 6 + [False] * 2), 'bool[8] mean 0.75 in [0, 1]'),
        (np.array([[1, 2, 3], [4, 5, np.nan]], np.float32), 'f32[2,3] mean 3 in [1, 5], 1 not finite'),
        (np.array([np.nan, np.inf] * 4), 'f64[8], 8 not finite'),
        (np.zeros((3, 0)), 'f64[3,0]'),
        (np.zeros((0,), bool), 'bool[0]'),
        (np.zeros(2, complex), 'c128[2]'),
    ],
)
def test_summary(array: np.ndarray, text: str) -> None:
    assert trees.summary(np.asarray(array)) == text


@pytest.mark.parametrize('shape', [(2, 2), (4,), (1, 3, 1), (2, 3, 4)])
def test_a_summary_is_one_line(shape: tuple[int, ...]) -> None:
    array = -np.ones(shape) / 3 * np.logspace(0, -17, int(np.prod(shape))).reshape(shape)
    assert '\n' not in trees.summary(array)


def test_a_summary_of_the_largest_values_does_not_overflow() -> None:
    assert trees.summary(np.full(8, 1.7e308)).endswith('in [1.7e+308, 1.7e+308]')


def test_a_summary_shows_all_digits_of_a_small_difference() -> None:
    assert trees.summary(np.array(1.0)) != trees.summary(np.nextafter(np.array(1.0), 2))


@pytest.mark.parametrize(
    ('dtype', 'text'), [('float16', 'f16'), ('uint8', 'u8'), ('int32', 'i32'), ('bool', 'bool')]
)
def test_short_dtype(dtype: str, text: str) -> None:
    assert trees.short_dtype(np.dtype(dtype)) == text
