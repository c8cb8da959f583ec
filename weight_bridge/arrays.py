"""Values: numpy array <-> torch tensor, bit for bit; and the one cast allowed, which keeps every value."""

import re
from collections.abc import Iterator
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[Any]


class Stored(Protocol):
    """A leaf that lies in a file: its shape and dtype are known, its values are read by `__array__`."""

    in_file: bool
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array: ...


def described(leaf: object, abstract: bool = False) -> Array | Stored | None:
    """What shape and dtype are asked of: as `as_array`, but a leaf in a file is not read.

    With `abstract`, also a leaf that has no values, `jax.ShapeDtypeStruct`.
    """
    if getattr(leaf, 'in_file', False) is True:
        return cast(Stored, leaf)
    if abstract and not hasattr(leaf, '__array__') and isinstance(getattr(leaf, 'dtype', None), np.dtype):
        return cast(Stored, leaf)
    return as_array(leaf)


def as_array(leaf: object) -> Array | None:
    """A leaf (numpy or jax array) as numpy array; None for all else: lists, numbers, tensors, tracers."""
    if isinstance(leaf, torch.Tensor) or not hasattr(leaf, '__array__'):
        return None
    try:
        return np.asarray(leaf)
    except TypeError:  # a traced array, a typed key: they have no values to copy
        return None


def numpy_dtype(dtype: torch.dtype) -> np.dtype[Any]:
    """The numpy dtype of a torch dtype; bfloat16 and the float8 kinds are those of ml_dtypes, as in jax."""
    name = str(dtype).removeprefix('torch.')
    if hasattr(np, name):
        return np.dtype(name)
    import ml_dtypes

    dtype_of_name: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
    return dtype_of_name


def number_kind(dtype: np.dtype[Any]) -> str:
    """`float` for float64, bfloat16, ...; else `int`, `uint`, `bool`, `complex`, `object`, `str`, ..."""
    return 'float' if 'float' in dtype.name else re.sub(r'\d.*', '', dtype.name)


def summary(dtype: np.dtype[Any], shape: tuple[int, ...]) -> str:
    """`f32[4,8]`; `bf16[]` for a scalar."""
    short = re.sub(r'^(bf|f|c|u|i)[a-z]*(?=\d)', r'\1', dtype.name)
    return f'{short}[{",".join(map(str, shape))}]'


def summary_of(leaf: object) -> str:
    """The summary of a leaf; the name of its type, if it is no array."""
    found = described(leaf)
    return type(leaf).__name__ if found is None else summary(found.dtype, tuple(found.shape))


def lost_values(array: Array, dtype: np.dtype[Any]) -> int:
    """How many values do not survive the way into another dtype of their kind and back.

    NaN survives as NaN; infinities, signed zeros and subnormal numbers must survive as themselves. The values
    are looked at in pieces, so that no copy of the array is made.
    """
    if array.dtype == dtype or np.can_cast(array.dtype, dtype):
        return 0
    with np.errstate(all='ignore'):  # overflow is counted
        return sum(_lost(piece, dtype) for piece in _pieces(array))


def _lost(piece: Array, dtype: np.dtype[Any]) -> int:
    back = piece.astype(dtype).astype(piece.dtype)
    survived = (back == piece) | ((back != back) & (piece != piece))
    return int(np.size(survived) - np.count_nonzero(survived))


def _pieces(array: Array) -> Iterator[Array]:
    """All values in any order, at most 65,536 at a time."""
    pieces: Any = np.nditer(
        array, flags=['external_loop', 'buffered', 'zerosize_ok'], order='K', buffersize=2**16
    )
    with pieces:
        yield from pieces


def to_tensor(array: Array, dtype: torch.dtype) -> torch.Tensor:
    """A CPU tensor of its own memory with the bits of the array, whose dtype is `numpy_dtype(dtype)`."""
    owned = np.array(array, order='C', copy=True)  # torch takes neither read-only nor reversed arrays
    if owned.dtype.isbuiltin != 1:  # from ml_dtypes: torch reads its bits, not its name
        owned = owned.view(f'i{owned.itemsize}')
    return torch.from_numpy(owned).view(dtype)


def to_array(tensor: torch.Tensor) -> Array:
    """The tensor's values, bit for bit. The array may share the tensor's memory; copy it."""
    values, dtype = tensor.detach().cpu(), numpy_dtype(tensor.dtype)
    if dtype.isbuiltin != 1:
        bits = {1: torch.int8, 2: torch.int16}[values.element_size()]
        return values.contiguous().view(bits).numpy().view(dtype)
    return values.numpy()
