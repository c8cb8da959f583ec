"""Fingerprints of arrays: they survive reshape, transpose, broadcasting and rounding, and are small.

A statistic is used only if it moves by at most twice as much as the entry that moves most: then one absolute
tolerance per array bounds all of its statistics.
"""

import functools
from dataclasses import dataclass

import numpy as np

# Thresholds at which the part of the values above them is summed, as shares of their range.
SHARES = (0.2, 0.45, 0.7)
# What repeats along an axis up to this share of the largest value was broadcast.
REPEATED = 1e-13
# Entries larger by this factor than a typical one, at this quantile, stand for infinity: masks of -1e9.
SENTINEL, TYPICAL = 1e6, 0.2


@dataclass(frozen=True)
class Fingerprint:
    """What is kept of an array.

    size:    entries, after axes along which the array repeats are dropped.
    sketch:  statistics that do not depend on the order of the entries.
    flat:    a projection in the order of the entries: survives reshape.
    layout:  a projection by the indices along every axis: survives transpose.
    largest: the largest magnitude among finite entries that are no sentinels.
    strange: how many entries are NaN, inf, -inf, and sentinels.
    plain:   nothing but -1, 0 and 1, or one simple number: equality of such arrays says little.
    shape:   of the array itself.
    dtype:   its kind and width, `f64`.
    """

    size: int
    sketch: np.ndarray
    flat: float
    layout: float
    largest: float
    strange: tuple[int, int, int, int]
    plain: bool
    shape: tuple[int, ...]
    dtype: str

    def __str__(self) -> str:
        if self.size == 1 and not any(self.strange):
            return f'{self.dtype}{_brackets(self.shape)} {self.sketch[0]:.6g}'
        low, high = self.sketch[3], self.sketch[4]
        return f'{self.dtype}{_brackets(self.shape)} mean {self.sketch[0]:.6g} in [{low:.6g}, {high:.6g}]'


def fingerprint(array: np.ndarray) -> Fingerprint:
    """The fingerprint of a bool, integer or floating array; integers are taken as float64."""
    values = np.asarray(array, np.float64)
    with np.errstate(all='ignore'):
        reduced = unrepeated(values)
        regular, strange = _regular(reduced)
        largest = float(np.abs(regular).max(initial=0.0))
        return Fingerprint(
            size=reduced.size,
            sketch=_sketch(regular),
            flat=_project(regular.reshape(-1)),
            layout=_project(regular),
            largest=largest,
            strange=strange,
            plain=array.dtype.kind != 'f' or _is_plain(regular, largest),
            shape=tuple(array.shape),
            dtype=f'{array.dtype.kind}{8 * array.dtype.itemsize}',
        )


def distance(a: Fingerprint, b: Fingerprint) -> float:
    """The largest difference between their statistics; infinite where they cannot be the same array."""
    if a.size != b.size or a.strange != b.strange:
        return np.inf
    return float(np.abs(a.sketch - b.sketch).max())


def rearranged(a: Fingerprint, b: Fingerprint, tolerance: float) -> bool:
    """Whether neither a reshape nor a transpose makes one of the other, if their sketches agree."""
    return abs(a.flat - b.flat) > tolerance and abs(a.layout - b.layout) > tolerance


def transposed(a: Fingerprint, b: Fingerprint, tolerance: float) -> bool:
    """Whether they have one shape and the same entries in another order."""
    return a.shape == b.shape and abs(a.flat - b.flat) > tolerance


def unrepeated(values: np.ndarray) -> np.ndarray:
    """One entry of every axis along which the array repeats, and the other axes as they are."""
    allowed = REPEATED * np.abs(values[np.isfinite(values)]).max(initial=0.0)
    axis = 0
    while axis < values.ndim and values.size:
        first = values.take([0], axis)
        if values.shape[axis] == 1 or _repeats(values, first, allowed):
            values = np.squeeze(first, axis)
        else:
            axis += 1
    return values


def _repeats(values: np.ndarray, first: np.ndarray, allowed: float) -> bool:
    # compared row by row first: most arrays differ there, and a whole comparison of a large one is slow
    probe, start = values[..., -1:], first[..., -1:]
    equal = (np.abs(probe - start) <= allowed) | (probe == start) | np.isnan(probe) & np.isnan(start)
    if not equal.all():
        return False
    same = (np.abs(values - first) <= allowed) | (values == first) | np.isnan(values) & np.isnan(first)
    return bool(same.all())


def _regular(values: np.ndarray) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """The values with zeros for those that are not finite or sentinels, and how many those are."""
    finite = np.isfinite(values)
    if finite.all() and (values.size < 3 or np.abs(values).max(initial=0.0) < SENTINEL):
        return values, (0, 0, 0, 0)
    sizes = np.abs(values[finite])
    typical = float(np.quantile(sizes[sizes > 0], TYPICAL)) if (sizes > 0).any() else 0.0
    sentinels = finite & (np.abs(values) > SENTINEL * typical)
    counts = np.isnan(values).sum(), np.isposinf(values).sum(), np.isneginf(values).sum(), sentinels.sum()
    nan, positive, negative, sentinel = map(int, counts)
    return np.where(finite & ~sentinels, values, 0.0), (nan, positive, negative, sentinel)


def _sketch(values: np.ndarray) -> np.ndarray:
    if not values.size:
        return np.zeros(5 + len(SHARES))
    low, high = float(values.min()), float(values.max())
    above = [np.maximum(values - (low + share * (high - low)), 0.0).mean() for share in SHARES]
    root = float(np.sqrt(np.square(values).mean()))
    return np.array([values.mean(), np.abs(values).mean(), root, low, high, *above])


def _project(values: np.ndarray) -> float:
    """The weighted mean with weights that depend on the index along each axis, the same for every axis."""
    size = max(values.size, 1)
    while values.ndim:
        values = values @ _weights(values.shape[-1])
    return float(values) / size


@functools.lru_cache(maxsize=256)
def _weights(size: int) -> np.ndarray:
    index = np.arange(1.0, size + 1)
    weights: np.ndarray = np.cos(np.sqrt(2.0) * index * index + index)
    return weights


def _is_plain(values: np.ndarray, largest: float) -> bool:
    if values.size == 1:
        return _is_simple(float(values.reshape(())))
    return largest in (0.0, 1.0) and bool(np.isin(values, (-1.0, 0.0, 1.0)).all())


def _is_simple(value: float) -> bool:
    """A whole number or a fraction with a small denominator, as programs contain them."""
    return abs(value) < 1e4 and any(
        abs(value * q - round(value * q)) < 1e-12 * max(1.0, abs(value)) for q in (*range(1, 13), 16, 20, 100)
    )


def _brackets(shape: tuple[int, ...]) -> str:
    return f'[{",".join(map(str, shape))}]'
