"""What a reader raises, and the dtypes that it builds arrays of."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from weight_bridge.errors import BridgeError, Problem

_NUMPY = ('bool', 'int8', 'int16', 'int32', 'int64', 'uint8', 'uint16', 'uint32', 'uint64')
_FLOATS = ('float16', 'float32', 'float64', 'complex64', 'complex128')
_EXTRA = ('bfloat16', 'float8_e4m3fn', 'float8_e5m2')
DTYPES: dict[str, np.dtype[Any]] = {
    **{name: np.dtype(name) for name in (*_NUMPY, *_FLOATS)},
    **{name: np.dtype(getattr(ml_dtypes, name)) for name in _EXTRA},
}


class CodeRefused(Exception):
    """A pickle would run something: the names, and how they are used."""

    def __init__(self, names: Mapping[str, str]) -> None:
        super().__init__(names)
        self.problems = [
            Problem('refused', name, 'plain containers and arrays', found) for name, found in names.items()
        ]


def refused(path: Path | str, why: str, problems: Iterable[Problem]) -> BridgeError:
    """The error for a checkpoint that is not read, with everything that stands against it."""
    subject = f'{path} cannot be read: {why}; nothing of it was run or loaded'
    step = 'save plain containers of arrays, e.g. flax.serialization.to_bytes(state)'
    return BridgeError(subject, problems, [step])


def damaged(path: Path | str, kind: str, found: str) -> BridgeError:
    """The error for a file that ends too early, or says things about itself that are not so."""
    problem = Problem('damaged', str(path), f'a whole {kind} checkpoint', found)
    return BridgeError(
        f'{path} cannot be read: damaged or truncated', [problem], ['copy it again from where it was saved']
    )


def array_of(raw: Any, dtype: np.dtype[Any], shape: Iterable[Any], order: str = 'C') -> np.ndarray[Any, Any]:
    """An array over exactly as many bytes as the shape says, or ValueError: nothing is allocated."""
    sizes = tuple(shape)
    if not all(type(size) is int and 0 <= size < 2**48 for size in sizes) or len(sizes) > 32:
        raise ValueError(f'an array of shape {sizes}')
    total = dtype.itemsize
    for size in sizes:
        total *= size
    if total != len(raw):
        raise ValueError(f'{len(raw)} bytes for {dtype.name}{list(sizes)}, which takes {total}')
    if not total:
        return np.empty(sizes, dtype)
    return np.frombuffer(raw, dtype).reshape(sizes, order='F' if order == 'F' else 'C')
