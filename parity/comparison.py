"""Two sets of leaves against their tolerances: structure first, then every value, worst first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from parity.errors import ParityError
from parity.tolerances import Tolerance
from parity.trees import Arrays, Part, parts_of, summary

Kind = Literal['missing path', 'unexpected path', 'shape', 'dtype', 'non-finite', 'value']


@dataclass(frozen=True)
class Leaf:
    """The result for one path.

    kind:      the kind of mismatch, None where the leaf matches.
    error:     the largest difference (at the entry with the largest margin); allowed: the tolerance there.
    margin:    error / allowed; above 1 is a mismatch. inf where the structure differs or nothing is allowed.
    where:     the index of that entry.
    """

    path: str
    kind: Kind | None
    reference: str
    port: str
    error: float
    allowed: float
    margin: float
    where: tuple[int, ...]
    why: str

    @property
    def matches(self) -> bool:
        """Whether the port has the reference's value."""
        return self.kind is None


def compare(
    reference: Arrays,
    port: Arrays,
    truth: Arrays,
    tolerances: Mapping[str, Tolerance],
    *,
    places: bool = False,
) -> list[Leaf]:
    """Every leaf of either side, worst first.

    reference: decides structure, dtype and finiteness; truth: the values that the port is measured against
    (the reference itself, or its float64 value). places: values need only be non-finite in the same places,
    for sums, where infinities give inf or NaN by the order of summation. Raises ParityError if there is
    nothing to compare.
    """
    if not reference and not port:
        raise ParityError(
            'nothing to compare',
            values='expected at least one leaf; found none on either side',
            error='0 leaves; allowed: at least 1',
            where='comparison',
            next_step='check that the stage applies to this pair: parity list',
        )
    paths = list(dict.fromkeys([*reference, *port]))
    leaves = [_compare_leaf(path, reference, port, truth, tolerances, places) for path in paths]
    return sorted(leaves, key=lambda leaf: -leaf.margin)


def _compare_leaf(
    path: str,
    reference: Arrays,
    port: Arrays,
    truth: Arrays,
    tolerances: Mapping[str, Tolerance],
    places: bool,
) -> Leaf:
    kind = _structure(reference.get(path), port.get(path), places)
    if kind is not None:
        return _structural(path, kind, reference.get(path), port.get(path))
    return _values(path, reference[path], port[path], truth[path], tolerances[path])


def _structure(reference: np.ndarray | None, port: np.ndarray | None, places: bool) -> Kind | None:
    if port is None:
        return 'missing path'
    if reference is None:
        return 'unexpected path'
    if reference.shape != port.shape:
        return 'shape'
    if reference.dtype != port.dtype:
        return 'dtype'
    return None if _same_non_finite(reference, port, places) else 'non-finite'


def _same_non_finite(reference: np.ndarray, port: np.ndarray, places: bool) -> bool:
    if reference.dtype.kind != 'f':
        return True
    return all(_same_in(reference[part], port[part], places) for part in parts_of(reference.shape))


def _same_in(reference: np.ndarray, port: np.ndarray, places: bool) -> bool:
    one, other = np.isfinite(reference), np.isfinite(port)
    if places or one.all():
        return bool((one == other).all())
    odd = ~(one & other)
    return np.array_equal(reference[odd], port[odd], equal_nan=True)


def _structural(path: str, kind: Kind, reference: np.ndarray | None, port: np.ndarray | None) -> Leaf:
    expected, found = ('absent' if side is None else summary(side) for side in (reference, port))
    where = _first_non_finite(reference, port) if kind == 'non-finite' else ()
    return Leaf(path, kind, expected, found, np.inf, 0.0, np.inf, where, 'structure is compared exactly')


def _first_non_finite(reference: np.ndarray | None, port: np.ndarray | None) -> tuple[int, ...]:
    assert reference is not None
    assert port is not None
    for part in parts_of(reference.shape):
        a, b = reference[part], port[part]
        odd = ~(np.isfinite(a) & np.isfinite(b)) & ~((a == b) | (np.isnan(a) & np.isnan(b)))
        if odd.any():
            return _index_in(part, np.argwhere(odd)[0])
    raise AssertionError('nothing differs')


def _index_in(part: Part, index: Sequence[int] | np.ndarray) -> tuple[int, ...]:
    """The index in the whole of an index in a part of it."""
    starts = [cut.start for cut in part if isinstance(cut, slice)]
    starts += [0] * (len(index) - len(starts))
    return tuple(int(start + i) for start, i in zip(starts, index, strict=True))


def _values(
    path: str, reference: np.ndarray, port: np.ndarray, truth: np.ndarray, tolerance: Tolerance
) -> Leaf:
    allowed, worst = tolerance.allowed, _Worst()
    each = np.broadcast_to(allowed, reference.shape) if isinstance(allowed, np.ndarray) else None
    for part in parts_of(reference.shape) if reference.size else ():
        limits = allowed if each is None else each[part]
        found = _worst_in(reference[part], port[part], truth[part], limits)
        if found.margin > worst.margin or not worst.where:
            worst = found._replace(where=_index_in(part, found.where))
    error, limit, margin, where = worst
    kind: Kind | None = 'value' if margin > 1 else None
    return Leaf(path, kind, summary(reference), summary(port), error, limit, margin, where, tolerance.why)


class _Worst(NamedTuple):
    """The entry with the largest margin, and its index."""

    error: float = 0.0
    allowed: float = 0.0
    margin: float = 0.0
    where: tuple[int, ...] = ()


def _worst_in(
    reference: np.ndarray, port: np.ndarray, truth: np.ndarray, allowed: float | np.ndarray
) -> _Worst:
    errors = _errors(reference, port, truth)
    margins = _margins(errors, allowed)
    where = tuple(int(i) for i in np.unravel_index(int(margins.argmax()), margins.shape))
    limit = allowed[where] if isinstance(allowed, np.ndarray) else allowed
    return _Worst(float(errors[where]), float(limit), float(margins[where]), where)


def _errors(reference: np.ndarray, port: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """|port - truth| in float64, zero where both sides agree on not being finite."""
    if port.dtype.kind != 'f':
        return np.asarray(port != truth, np.float64)
    with np.errstate(invalid='ignore', over='ignore'):
        errors = np.asarray(np.abs(np.subtract(port, truth, dtype=np.float64)))
    if np.isfinite(errors).all():
        return errors
    # float32 can overflow where the float64 truth is finite: reference and port agreed on it already
    # and a truth that is not finite where they are measures nothing
    errors[np.isnan(errors)] = np.inf
    return np.where(np.isfinite(reference), errors, 0.0)


def _margins(errors: np.ndarray, allowed: float | np.ndarray) -> np.ndarray:
    with np.errstate(over='ignore', divide='ignore', invalid='ignore'):
        margins = np.asarray(errors / allowed)
    margins[np.isnan(margins)] = np.inf  # inf / inf
    margins[errors == 0] = 0.0  # also where nothing is allowed
    return margins
