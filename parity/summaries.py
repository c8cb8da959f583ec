"""Arrays in a few words."""

import functools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from parity.chunks import Chunk, chunks
from parity.trees import Arrays

_SHORT = {'float': 'f', 'bfloat': 'bf', 'uint': 'u', 'int': 'i', 'complex': 'c', 'bool': 'bool'}
# Arrays of no more entries are shown in full.
FEW = 4
NUMBERS = 'fiub'


class Spread(NamedTuple):
    """How many finite entries an array has, their sum, and the least and the greatest of them."""

    entries: int
    total: float
    low: float
    high: float

    def with_more(self, other: 'Spread') -> 'Spread':
        """That of both together."""
        low, high = min(self.low, other.low), max(self.high, other.high)
        return Spread(self.entries + other.entries, self.total + other.total, low, high)


def summary(array: np.ndarray) -> str:
    """`f64[256] mean 0.1 in [-2, 3]`; small arrays in full."""
    return summaries({'': array})['']


def summaries(leaves: Arrays, layout: Iterable[Chunk] | None = None) -> dict[str, str]:
    """The summary of each leaf; layout: chunks of leaves of these shapes and dtypes, if they are there."""
    spreads: dict[str, Spread] = {}
    for chunk in chunks(leaves) if layout is None else layout:
        entries = chunk.of(leaves)
        if entries.dtype.kind not in NUMBERS:
            continue
        for path, spread in zip(chunk.paths, _spreads(chunk, entries), strict=True):
            spreads[path] = spreads[path].with_more(spread) if path in spreads else spread
    return {path: _text(leaf, spreads.get(path)) for path, leaf in leaves.items()}


def _spreads(chunk: Chunk, entries: np.ndarray) -> Iterator[Spread]:
    """Of each piece of a chunk."""
    entries = entries.astype(np.float64, copy=False)
    finite = np.isfinite(entries)
    counts, low, high = chunk.sizes, entries, entries
    if not finite.all():
        counts = chunk.reduced(np.add, finite.astype(int))
        low, high, entries = (np.where(finite, entries, other) for other in (np.inf, -np.inf, 0.0))
    with np.errstate(over='ignore'):
        totals = chunk.reduced(np.add, entries)
    bounds = chunk.reduced(np.minimum, low), chunk.reduced(np.maximum, high)
    columns = (column.tolist() for column in (counts, totals, *bounds))
    return map(Spread, *columns)


def _text(array: np.ndarray, spread: Spread | None) -> str:
    if array.dtype.kind in 'OU' and array.ndim == 0:
        return str(array)
    text = f'{short_dtype(array.dtype)}[{",".join(map(str, array.shape))}]'
    if spread is None:
        return text
    if array.size <= FEW:
        return f'{text} {_shown(array)}'
    count, total, low, high = spread
    words = f' mean {total / count:.6g} in [{low:.6g}, {high:.6g}]' if count else ''
    return f'{text}{words}' + (f', {array.size - count} not finite' if count < array.size else '')


def _shown(array: np.ndarray) -> str:
    """All values, each with the digits that tell it from its neighbours."""
    if array.ndim == 0:
        return str(array[()])
    return f'[{", ".join(map(_shown, array))}]'


@functools.cache  # numpy makes the name anew each time
def short_dtype(dtype: np.dtype[Any]) -> str:
    """`f64`, `u32`, `bool`."""
    name = dtype.name.rstrip('0123456789')
    return _SHORT.get(name, name) + dtype.name[len(name) :]
