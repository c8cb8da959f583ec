"""The entries of many leaves side by side, and of a large leaf bit by bit.

A stage has thousands of small leaves. numpy takes microseconds for whatever it is asked, so that many of them
are asked at once; and of a large one a part at once, so that memory is bounded for any tree.
"""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import Any, NamedTuple

import numpy as np

from parity.trees import Arrays

Part = tuple[slice | EllipsisType, ...]
# The entries of a part of a large leaf, and of small leaves together: what the fastest cache holds.
CHUNK, TOGETHER = 1 << 18, 1 << 13
WHOLE: Part = (...,)


class Piece(NamedTuple):
    """A leaf or a part of one, with at least one entry."""

    path: str
    part: Part
    size: int


@dataclass(frozen=True)
class Chunk:
    """Pieces of leaves of one dtype, side by side."""

    pieces: Sequence[Piece]

    @functools.cached_property
    def paths(self) -> list[str]:
        """Of which leaf each piece is."""
        return [piece.path for piece in self.pieces]

    @functools.cached_property
    def sizes(self) -> np.ndarray:
        """The entries of each piece."""
        return np.array([piece.size for piece in self.pieces])

    @functools.cached_property
    def starts(self) -> np.ndarray:
        """Where each piece begins."""
        return np.array(np.cumsum(self.sizes) - self.sizes)

    def of(self, leaves: Mapping[str, np.ndarray]) -> np.ndarray:
        """The entries, one after the other."""
        parts = [leaves[piece.path][piece.part].ravel() for piece in self.pieces]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def spread(self, values: np.ndarray) -> np.ndarray:
        """A value of each piece, for each of its entries."""
        return np.repeat(values, self.sizes)

    def reduced(self, function: np.ufunc, entries: np.ndarray) -> np.ndarray:
        """For each piece its entries reduced by `np.maximum`, `np.add` or alike."""
        reduced: np.ndarray = function.reduceat(entries, self.starts)
        return reduced

    def first(self, entries: np.ndarray) -> np.ndarray:
        """For each piece the number, within it, of its first entry that is true; there is one in each."""
        true = np.flatnonzero(entries)
        found: np.ndarray = true[np.searchsorted(true, self.starts)] - self.starts
        return found


def chunks(leaves: Arrays) -> Iterator[Chunk]:
    """All entries of the leaves, those of each in their order."""
    same: dict[np.dtype[Any], list[Piece]] = {}
    for path, leaf in leaves.items():
        pieces = same.setdefault(leaf.dtype, [])
        if 0 < leaf.size <= CHUNK:
            pieces.append(Piece(path, WHOLE, leaf.size))
        elif leaf.size:
            pieces += (Piece(path, part, leaf[part].size) for part in parts_of(leaf.shape))
    for pieces in filter(None, same.values()):
        taken, filled = 0, 0
        for i, piece in enumerate(pieces):
            if filled + piece.size > TOGETHER and i > taken:
                yield Chunk(pieces[taken:i])
                taken, filled = i, 0
            filled += piece.size
        yield Chunk(pieces[taken:])


def parts_of(shape: tuple[int, ...]) -> Iterator[Part]:
    """The indices of parts of at most CHUNK entries of an array of this shape, in order; each is an array."""
    return ((*cuts, ...) for cuts in _cuts(shape))


def _cuts(shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    size = math.prod(shape)
    if size <= CHUNK:
        yield ()
        return
    row = size // shape[0]
    step = max(1, CHUNK // row)
    for start in range(0, shape[0], step):
        for rest in _cuts(shape[1:]) if row > CHUNK else [()]:
            yield slice(start, start + step), *rest


def largest(leaves: Arrays) -> dict[str, float]:
    """The largest finite magnitude in each leaf."""
    return _largest(leaves, lambda chunk: np.abs(chunk.of(leaves)))


def differences(rounded: Arrays, truth: Arrays) -> dict[str, float]:
    """The largest finite difference in each leaf of the truth, in float64."""

    def sizes(chunk: Chunk) -> np.ndarray:
        with np.errstate(over='ignore', invalid='ignore'):
            found: np.ndarray = np.abs(np.subtract(chunk.of(rounded), chunk.of(truth), dtype=np.float64))
        return found

    return _largest(truth, sizes)


def _largest(leaves: Arrays, sizes_in: Callable[[Chunk], np.ndarray]) -> dict[str, float]:
    found = dict.fromkeys(leaves, 0.0)
    for chunk in chunks(leaves):
        sizes = sizes_in(chunk)
        maxima = chunk.reduced(np.maximum, sizes)
        if not np.isfinite(maxima).all():
            maxima = chunk.reduced(np.maximum, np.where(np.isfinite(sizes), sizes, 0.0))
        for path, size in zip(chunk.paths, maxima.tolist(), strict=True):
            found[path] = max(found[path], float(size))
    return found
