"""Values: numpy array <-> torch tensor, bit for bit; and the one cast allowed, which keeps every value."""

import re
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[Any]


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


def cast_exactly(array: Array, dtype: np.dtype[Any]) -> tuple[Array, int]:
    """The array in another dtype of its kind, and how many values do not survive the way there and back.

    NaN survives as NaN; infinities, signed zeros and subnormal numbers must survive as themselves.
    """
    if array.dtype == dtype:
        return array, 0
    with np.errstate(all='ignore'):  # overflow is counted below
        cast = array.astype(dtype)
        back = cast.astype(array.dtype)
        survived = (back == array) | ((back != back) & (array != array))
    return cast, int(np.size(survived) - np.count_nonzero(survived))


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
