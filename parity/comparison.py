"""Two sets of leaves against their tolerances: structure first, then every value, worst first."""

import operator
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from parity.chunks import Chunk, Piece, chunks
from parity.errors import ParityError
from parity.summaries import summaries, summary
from parity.tolerances import Tolerance
from parity.trees import Arrays

Kind = Literal['missing path', 'unexpected path', 'shape', 'dtype', 'non-finite', 'value']

# The error, allowed error and margin where structure differs.
UNEQUAL, EXACTLY = (np.inf, 0.0, np.inf), 'structure is compared exactly'


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
    kinds = {path: _structure(reference.get(path), port.get(path)) for path in paths}
    other = {path: kind for path, kind in kinds.items() if kind}
    alike = {path: reference[path] for path in paths if path not in other}
    leaves = [_structural(path, kind, reference.get(path), port.get(path)) for path, kind in other.items()]
    leaves += _values(alike, port, truth, tolerances, places)
    return worst_first(leaves)


def worst_first(leaves: Iterable[Leaf]) -> list[Leaf]:
    """The leaves, the largest margin first."""
    return sorted(leaves, key=lambda leaf: -leaf.margin)


def _structure(reference: np.ndarray | None, port: np.ndarray | None) -> Kind | None:
    if port is None:
        return 'missing path'
    if reference is None:
        return 'unexpected path'
    if reference.shape != port.shape:
        return 'shape'
    return 'dtype' if reference.dtype != port.dtype else None


def _structural(path: str, kind: Kind, reference: np.ndarray | None, port: np.ndarray | None) -> Leaf:
    expected, found = ('absent' if side is None else summary(side) for side in (reference, port))
    return Leaf(path, kind, expected, found, *UNEQUAL, (), EXACTLY)


def _values(
    reference: Arrays, port: Arrays, truth: Arrays, tolerances: Mapping[str, Tolerance], places: bool
) -> list[Leaf]:
    """The reference's leaves, which the port has in the same shapes and dtypes."""
    layout, worst = list(chunks(reference)), dict.fromkeys(reference, _Worst())
    for chunk in layout:
        limits = _limits(chunk, reference, tolerances)
        entries = chunk.of(reference), chunk.of(port), chunk.of(truth)
        for path, found in zip(chunk.paths, _worst_in(chunk, *entries, limits, places), strict=True):
            if worst[path].piece is None or found[:2] > worst[path][:2]:
                worst[path] = found
    expected = summaries(reference, layout)
    shown = summaries({path: port[path] for path in reference}, layout)
    return [
        _leaf(path, leaf, (expected[path], shown[path]), worst[path], tolerances[path].why)
        for path, leaf in reference.items()
    ]


class _Worst(NamedTuple):
    """The entry of a leaf with the largest margin; the first that only one side has finite, if there is one.

    odd: whether it is such a one; number: which entry of the piece it is.
    """

    odd: bool = False
    margin: float = 0.0
    error: float = 0.0
    allowed: float = 0.0
    number: int = 0
    piece: Piece | None = None


def _leaf(path: str, reference: np.ndarray, texts: tuple[str, str], worst: _Worst, why: str) -> Leaf:
    where = _index(reference, worst.piece, worst.number) if worst.piece else ()
    if worst.odd:
        return Leaf(path, 'non-finite', *texts, *UNEQUAL, where, EXACTLY)
    kind: Kind | None = 'value' if worst.margin > 1 else None
    return Leaf(path, kind, *texts, worst.error, worst.allowed, worst.margin, where, why)


def _index(leaf: np.ndarray, piece: Piece, number: int) -> tuple[int, ...]:
    """The index in the whole leaf of an entry of a piece."""
    shape, inside = leaf[piece.part].shape, []
    for size in reversed(shape):
        number, i = divmod(number, size)
        inside.append(i)
    starts = [cut.start for cut in piece.part if isinstance(cut, slice)]
    starts += [0] * (len(shape) - len(starts))
    return tuple(map(operator.add, starts, reversed(inside)))


def _limits(chunk: Chunk, reference: Arrays, tolerances: Mapping[str, Tolerance]) -> np.ndarray:
    """What each entry of a chunk is allowed."""
    allowed = [tolerances[path].allowed for path in chunk.paths]
    limits = chunk.spread(np.array([0.0 if isinstance(one, np.ndarray) else one for one in allowed]))
    for piece, start, one in zip(chunk.pieces, chunk.starts, allowed, strict=True):
        if isinstance(one, np.ndarray):
            shape = reference[piece.path].shape
            entries = one if one.shape == shape else np.broadcast_to(one, shape)
            limits[start : start + piece.size] = entries[piece.part].ravel()
    return limits


def _worst_in(
    chunk: Chunk,
    reference: np.ndarray,
    port: np.ndarray,
    truth: np.ndarray,
    allowed: np.ndarray,
    places: bool,
) -> Iterator[_Worst]:
    """The worst entry of each piece of a chunk, from the entries of all."""
    errors = _errors(reference, port, truth)
    margins = _margins(errors, allowed)
    odd = _odd(reference, port, places)
    margins[odd] = np.inf  # all alike, so that the first of a leaf counts
    worst = margins == chunk.spread(chunk.reduced(np.maximum, margins))
    if odd.any():
        worst = np.where(chunk.spread(chunk.reduced(np.logical_or, odd)), odd, worst)
    numbers = chunk.first(worst)
    columns = *(entries[chunk.starts + numbers] for entries in (odd, margins, errors, allowed)), numbers
    return map(_Worst, *(column.tolist() for column in columns), chunk.pieces)


def _odd(reference: np.ndarray, port: np.ndarray, places: bool) -> np.ndarray:
    """Where the sides are not finite in the same places, or not in the same way; places: only the former."""
    if reference.dtype.kind != 'f':
        return np.zeros(reference.shape, bool)
    one, other = np.isfinite(reference), np.isfinite(port)
    odd: np.ndarray = one != other
    if not places and not one.all():
        odd = ~(one & other) & (reference != port) & ~(np.isnan(reference) & np.isnan(port))
    return odd


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


def _margins(errors: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    with np.errstate(over='ignore', divide='ignore', invalid='ignore'):
        margins = np.asarray(errors / allowed)
    margins[np.isnan(margins)] = np.inf  # inf / inf
    margins[errors == 0] = 0.0  # also where nothing is allowed
    return margins
