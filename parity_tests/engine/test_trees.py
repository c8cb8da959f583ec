"""Flat paths and back."""

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


def test_branches() -> None:
    leaves = {'a/b': 1, 'a/c/d': 2, 'e/b': 3}
    assert trees.branches(leaves) == {'a': {'b': 1, 'c/d': 2}, 'e': {'b': 3}}
    assert trees.branches(leaves) == {first: trees.subtree(leaves, first) for first in 'ae'}
