"""Structure first, then every value against its tolerance; every kind of mismatch can occur."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parity.comparison import Kind, Leaf, compare
from parity.errors import ParityError
from parity.tolerances import EXACT, Tolerance

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
    assert (one(1.0, None).reference, one(1.0, None).port) == ('f64[] 1.', 'absent')
    assert (one(None, 1.0).reference, one(None, 1.0).port) == ('absent', 'f64[] 1.')


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
        ([INF, 1.0], [1e308, 1.0], (0,)),
        ([INF], [-INF], (0,)),
        ([NAN, INF], [NAN, NAN], (1,)),
        ([[1.0, 1.0], [1.0, NAN]], [[1.0, 1.0], [NAN, 1.0]], (1, 0)),
        (NAN, 1.0, ()),
    ],
)
@pytest.mark.parametrize('dtype', ['float64', 'float32'])
def test_non_finite_on_one_side(reference: object, port: object, where: tuple, dtype: str) -> None:
    with np.errstate(over='ignore'):
        leaf = one(reference, port, allowed=INF, dtype=dtype) if dtype == 'float64' else None
    if leaf is None:
        leaf = one(reference, np.clip(np.array(port), -1e38, 1e38, where=np.isfinite(port), out=np.array(port))
                   .astype('float32'), allowed=INF, dtype=dtype)
    assert leaf.kind == 'non-finite'
    assert leaf.where == where
