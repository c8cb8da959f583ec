"""Structure first, then every value against its tolerance; every kind of mismatch can occur."""

import tracemalloc
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parity import chunks
from parity.comparison import Kind, Leaf, compare
from parity.errors import ParityError
from parity.tolerances import EXACT, Tolerance, largest

ONE = Tolerance(1.0, 'one')


def one(
    reference: object, port: object, allowed: object = 0.0, truth: object = None, dtype: str = 'float64'
) -> Leaf:
    """The result for one leaf; None is an absent one."""
    sides = [
        {} if side is None else {'a': side if isinstance(side, np.ndarray) else np.array(side, dtype)}
        for side in (reference, port)
    ]
    exact = sides[0] if truth is None else {'a': np.array(truth, float)}
    (leaf,) = compare(*sides, exact, {'a': Tolerance(allowed, 'because')})
    return leaf


# --- structure

DIFFERENT: dict[Kind, tuple[object, object]] = {
    'missing path': (1.0, None),
    'unexpected path': (None, 1.0),
    'shape': ([1.0], 1.0),
    'dtype': (1.0, np.array(1.0, np.float32)),
    'non-finite': (1.0, np.nan),
    'value': (1.0, 5.0),
}


@pytest.mark.parametrize('kind', get_args(Kind))
def test_every_kind_of_mismatch(kind: Kind) -> None:
    reference, port = DIFFERENT[kind]
    leaf = one(reference, port)
    assert leaf.kind == kind
    assert not leaf.matches
    assert leaf.margin == np.inf
    assert leaf.allowed == 0


def test_twin_equal_leaves_match() -> None:
    leaf = one([1.0, 2.0], [1.0, 2.0])
    assert (leaf.kind, leaf.matches, leaf.error, leaf.margin, leaf.why) == (None, True, 0, 0, 'because')


@pytest.mark.parametrize('kind', [kind for kind in get_args(Kind) if kind != 'value'])
def test_no_tolerance_excuses_structure(kind: Kind) -> None:
    assert one(*DIFFERENT[kind], allowed=np.inf).kind == kind


def test_twin_a_tolerance_excuses_a_value() -> None:
    assert one(*DIFFERENT['value'], allowed=4.0).matches


def test_absent_sides_are_named() -> None:
    assert (one(1.0, None).reference, one(1.0, None).port) == ('f64[] 1.0', 'absent')
    assert (one(None, 1.0).reference, one(None, 1.0).port) == ('absent', 'f64[] 1.0')


@pytest.mark.parametrize(
    ('reference', 'port'),
    [([], [[]]), (np.zeros((2, 3)), np.zeros((3, 2))), (np.zeros(3), np.zeros((1, 3))), (1.0, [1.0])],
)
def test_shapes_never_broadcast(reference: object, port: object) -> None:
    assert one(reference, port, allowed=9.0).kind == 'shape'


@pytest.mark.parametrize(
    ('reference', 'port'), [('float32', 'float64'), ('int32', 'int64'), ('int32', 'uint32'), ('bool', 'int8')]
)
def test_dtypes_are_compared(reference: str, port: str) -> None:
    assert one(np.ones(2, reference), np.ones(2, port), allowed=9.0).kind == 'dtype'


def test_zero_leaves_are_an_error() -> None:
    with pytest.raises(ParityError) as caught:
        compare({}, {}, {}, {})
    assert str(caught.value).split('\n') == [
        'nothing to compare',
        '  expected at least one leaf; found none on either side',
        '  error: 0 leaves; allowed: at least 1',
        '  at: comparison',
        '  next: check that the stage applies to this pair: parity list',
    ]


# --- not finite

NAN, INF = np.nan, np.inf


@pytest.mark.parametrize(
    ('reference', 'port', 'where'),
    [
        ([1.0, NAN], [1.0, 1.0], (1,)),
        ([1.0, 1.0], [NAN, 1.0], (0,)),
        ([INF, 1.0], [1e38, 1.0], (0,)),
        ([INF], [-INF], (0,)),
        ([NAN, INF], [NAN, NAN], (1,)),
        ([[1.0, 1.0], [1.0, NAN]], [[1.0, 1.0], [NAN, 1.0]], (1, 0)),
        (NAN, 1.0, ()),
    ],
)
@pytest.mark.parametrize('dtype', ['float64', 'float32'])
def test_non_finite_on_one_side(reference: object, port: object, where: tuple, dtype: str) -> None:
    leaf = one(reference, port, allowed=INF, dtype=dtype)
    assert leaf.kind == 'non-finite'
    assert leaf.where == where


@pytest.mark.parametrize('both', [[NAN, 1.0], [INF, -INF], [NAN, NAN], INF])
def test_twin_the_same_on_both_sides_matches(both: object) -> None:
    assert one(both, both).matches


def test_other_values_of_a_partly_non_finite_leaf_still_count() -> None:
    leaf = one([NAN, INF, 1.0], [NAN, INF, 2.0])
    assert (leaf.kind, leaf.where, leaf.error) == ('value', (2,), 1.0)


# --- values


@pytest.mark.parametrize(('error', 'matches'), [(0.0, True), (0.5, True), (1.0, True), (1.25, False)])
def test_the_margin_decides(error: float, matches: bool) -> None:
    leaf = one([0.0, 2.0], [0.0, 2.0 + error], allowed=1.0)
    assert (leaf.matches, leaf.margin, leaf.error) == (matches, error, error)
    assert leaf.allowed == 1.0
    assert leaf.where == ((1,) if error else (0,))


def test_nothing_allowed_means_equal() -> None:
    assert one([1.0, -0.0], [1.0, 0.0]).margin == 0
    assert one([1.0, 0.0], [1.0, 5e-324]).margin == np.inf


def test_tolerances_of_single_entries() -> None:
    leaf = one([0.0, 0.0, 0.0], [3.0, 2.0, 0.0], allowed=np.array([4.0, 1.0, 0.0]))
    assert (leaf.where, leaf.error, leaf.allowed, leaf.margin) == ((1,), 2.0, 1.0, 2.0)
    assert leaf.kind == 'value'
    assert one([0.0, 0.0], [3.0, 1.0], allowed=np.array([4.0, 1.0])).matches  # twin


def test_an_entry_that_must_be_exact_beside_tolerant_ones() -> None:
    leaf = one([0.0, 0.0], [3.0, 1e-300], allowed=np.array([4.0, 0.0]))
    assert (leaf.where, leaf.margin) == ((1,), np.inf)


def test_a_margin_beyond_float64_is_infinite() -> None:
    assert one([1.0, 2.0], [1.0, 1e300], allowed=1e-300).margin == np.inf


@pytest.mark.parametrize('value', [0.0, 3.0])
def test_leaf_without_dimensions(value: float) -> None:
    leaf = one(0.0, value, allowed=1.0)
    assert (leaf.margin, leaf.where, leaf.matches) == (value, (), value == 0)


def test_an_empty_leaf_matches_only_an_empty_leaf() -> None:
    leaf = one(np.zeros((0, 3)), np.zeros((0, 3)))
    assert (leaf.kind, leaf.margin, leaf.where) == (None, 0.0, ())
    assert one(np.zeros((0, 3)), np.zeros((1, 3))).kind == 'shape'


@pytest.mark.parametrize('dtype', ['int32', 'uint32', 'bool', 'uint8'])
def test_other_values_than_floats_are_equal_or_not(dtype: str) -> None:
    leaf = one([0, 1, 1], [0, 1, 0], dtype=dtype)
    assert (leaf.kind, leaf.where, leaf.error) == ('value', (2,), 1.0)
    assert one([0, 1, 1], [0, 1, 1], dtype=dtype).matches


# --- the truth


def test_the_port_is_measured_against_the_truth() -> None:
    assert one([1.0], [1.5], allowed=0.25, truth=[1.5]).margin == 0
    leaf = one([1.0], [1.0], allowed=0.25, truth=[1.5])  # equal to the reference, far from the truth
    assert (leaf.kind, leaf.error, leaf.margin) == ('value', 0.5, 2.0)


def test_float32_is_measured_in_float64() -> None:
    truth = 1 + 2.0**-30
    leaf = one([1.0], [1.0], allowed=2.0**-30, truth=[truth], dtype='float32')
    assert (leaf.error, leaf.margin) == (2.0**-30, 1.0)


def test_both_overflow_where_the_truth_is_finite() -> None:
    assert one([INF, 1.0], [INF, 1.0], truth=[1e39, 1.0], dtype='float32').matches
    assert one([INF, 1.0], [3e38, 1.0], truth=[1e39, 1.0], dtype='float32').kind == 'non-finite'  # twin


@pytest.mark.parametrize('truth', [NAN, INF])
def test_a_truth_that_is_not_finite_excuses_nothing(truth: float) -> None:
    leaf = one([1.0, 2.0], [1.0, 50.0], allowed=1.0, truth=[truth, 2.0])
    assert leaf.kind == 'value'
    assert leaf.margin > 1


@pytest.mark.parametrize('allowed', [INF, np.array([INF])])
def test_not_even_an_infinite_tolerance_allows_an_infinite_error(allowed: object) -> None:
    leaf = one([1.0], [1.0], allowed=allowed, truth=[INF])
    assert (leaf.kind, leaf.margin) == ('value', INF)
    assert one([1.0], [2.0], allowed=allowed).matches  # twin


# --- many leaves

MANY = {'far': 8.0, 'same': 0.0, 'inside': 0.5, 'worse': 9.0}


def compare_many(port: dict[str, object]) -> list[Leaf]:
    reference = {path: np.zeros(2) for path in MANY}
    return compare(reference, port, reference, dict.fromkeys(reference, ONE))


def test_worst_first() -> None:
    leaves = compare_many({path: np.array([0.0, error]) for path, error in MANY.items()})
    assert [(leaf.path, leaf.margin) for leaf in leaves] == [
        ('worse', 9.0),
        ('far', 8.0),
        ('inside', 0.5),
        ('same', 0.0),
    ]


def test_structure_comes_before_values_and_every_leaf_is_reported() -> None:
    port = {'extra': np.zeros(2), 'same': np.zeros(2), 'worse': np.array([9.0, 0.0]), 'far': np.zeros(3)}
    leaves = compare_many(port)
    assert [leaf.margin for leaf in leaves] == [np.inf] * 3 + [9.0, 0.0]
    assert {leaf.path: leaf.kind for leaf in leaves} == {
        'far': 'shape',
        'inside': 'missing path',
        'extra': 'unexpected path',
        'worse': 'value',
        'same': None,
    }


@pytest.mark.parametrize(('reference', 'port'), [({}, {'a': np.zeros(1)}), ({'a': np.zeros(1)}, {})])
def test_one_side_without_leaves_is_a_mismatch(reference: dict, port: dict) -> None:
    (leaf,) = compare(reference, port, reference, dict.fromkeys(reference, EXACT))
    assert not leaf.matches


VALUES = st.sampled_from([0.0, -0.0, 1.0, 1e-300, 1e38, -2.5, NAN, INF, -INF])
ARRAYS = st.lists(VALUES, min_size=3, max_size=3).map(np.array)


def agrees(a: float, b: float, allowed: float) -> bool:
    """The definition, for one entry."""
    return (a == b or (a != a and b != b)) if not np.isfinite([a, b]).all() else abs(a - b) <= allowed


@given(ARRAYS, ARRAYS, st.sampled_from([0.0, 1e-300, 3.0]))
@settings(deadline=None, max_examples=200)
def test_a_leaf_matches_exactly_if_all_its_entries_agree(
    a: np.ndarray, b: np.ndarray, allowed: float
) -> None:
    leaf = one(a, b, allowed=allowed)
    assert leaf.matches == all(agrees(x, y, allowed) for x, y in zip(a.tolist(), b.tolist(), strict=True))
    assert leaf.matches == one(b, a, allowed=allowed).matches
    assert one(a, a, allowed=allowed).matches


def test_sums_of_infinities_need_only_be_non_finite_in_the_same_places() -> None:
    sides = [{'a': np.array(values)} for values in ([np.inf, 1.0], [np.nan, 1.0], [1.0, np.inf])]
    limits = {'a': Tolerance(0.0, 'exact')}
    reference, other_kind, other_place = sides
    (leaf,) = compare(reference, other_kind, reference, limits, places=True)
    assert leaf.matches
    (leaf,) = compare(reference, other_kind, reference, limits)
    assert leaf.kind == 'non-finite'
    (leaf,) = compare(reference, other_place, reference, limits, places=True)
    assert leaf.kind == 'non-finite'


# --- large leaves, compared in parts


@given(
    shape=st.lists(st.integers(1, 6), max_size=4).map(tuple),
    seed=st.integers(0, 2**32 - 1),
    chunk=st.integers(1, 40),
    odd=st.booleans(),
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_parts_change_nothing(shape: tuple[int, ...], seed: int, chunk: int, odd: bool) -> None:
    rng = np.random.default_rng(seed)
    reference, port, allowed = (rng.integers(0, 5, shape).astype(float) for _ in range(3))
    if odd:
        for array in (reference, port):
            array[rng.random(shape) < 0.1] = np.nan
    whole = one(reference, port, allowed=allowed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, 'CHUNK', chunk)
        parts = list(chunks.parts_of(shape))
        assert all(reference[part].size <= chunk for part in parts)
        assert sum(reference[part].size for part in parts) == reference.size
        assert one(reference, port, allowed=allowed) == whole
        assert chunks.differences({'': reference}, {'': port})[''] == np.abs(reference - port).max(
            where=~np.isnan(port - reference), initial=0
        )
        assert largest(reference) == np.abs(reference).max(where=~np.isnan(reference), initial=0)


def test_the_last_entry_of_a_large_leaf_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, 'CHUNK', 7)
    reference, port = np.zeros((5, 3, 4)), np.zeros((5, 3, 4))
    port[4, 2, 3] = 1
    assert (one(reference, port).kind, one(reference, port).where) == ('value', (4, 2, 3))
    port[4, 2, 3] = np.inf
    assert (one(reference, port).kind, one(reference, port).where) == ('non-finite', (4, 2, 3))


def test_the_memory_of_a_comparison_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 16 million entries, which take no memory themselves."""
    shape, chunk = (4096, 4096), 1 << 18
    arrays = [{'a': np.broadcast_to(np.float32(value), shape)} for value in (1, 1.5, 1)]
    peaks = []
    for entries in (chunk, 1 << 24):
        monkeypatch.setattr(chunks, 'CHUNK', entries)
        tracemalloc.start()
        (leaf,) = compare(*arrays, {'a': ONE})
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert (leaf.margin, leaf.error) == (0.5, 0.5)
    assert peaks[0] < 64 * chunk < 64 * shape[0] * shape[1] / 16 < peaks[1]


def test_texts_are_leaves() -> None:
    """As those of a configuration are: arrays without axes, whose entry is no array."""
    same, other = (np.array(text, dtype=object) for text in ('(1, 2)', '(1, 3)'))
    assert one(same, same).matches
    assert one(same, other).kind == 'value'
