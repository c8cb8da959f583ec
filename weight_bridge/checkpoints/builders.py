"""What a pickle may build: names that stand for functions of this file, which check their arguments."""

from collections.abc import Callable
from typing import Any

import numpy as np

from weight_bridge.checkpoints.problems import DTYPES, array_of

_CODES = {dtype.str[1:]: dtype for dtype in DTYPES.values() if dtype.isbuiltin == 1}  # {'f4': float32, ...}


class Name(str):
    """A class or function that the pickle names, `numpy.ndarray`: never imported, only looked up here."""


class Refused:
    """What stands for anything that came of a refused name."""


class DType:
    """A dtype that is being built."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype

    def build(self, state: Any) -> None:
        _, order, *described = state
        if order not in ('<', '>', '|', '=') or any(part is not None for part in described[:3]):
            raise ValueError(f'a dtype with the state {state!r}')
        self.dtype = self.dtype.newbyteorder(order)


class Array:
    """An array that is being built."""

    def __init__(self) -> None:
        self.array: np.ndarray[Any, Any] | None = None

    def build(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        self.array = array_of(_bytes(raw), _dtype(dtype), shape, 'F' if fortran else 'C')


def _bytes(raw: Any) -> bytes | bytearray:
    if not isinstance(raw, bytes | bytearray):
        raise ValueError(f'{type(raw).__name__} in the place of bytes')
    return raw


def _dtype(dtype: Any) -> np.dtype[Any]:
    if not isinstance(dtype, DType):
        raise ValueError(f'{type(dtype).__name__} in the place of a dtype')
    return dtype.dtype


def _new_dtype(code: Any, align: Any = False, copy: Any = True) -> DType | str:
    if isinstance(code, Name):
        return DType(DTYPES[code.removeprefix('ml_dtypes.')])
    return DType(_CODES[code]) if code in _CODES else f'numpy.dtype({code!r})'


def _new_array(subtype: Any, shape: Any, code: Any) -> Array:
    if subtype != 'numpy.ndarray' or not isinstance(subtype, Name):
        raise ValueError(f'an array of the class {subtype!r}')
    return Array()


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any) -> Array:
    made = Array()
    made.build((1, shape, dtype, order == 'F', raw))
    return made


def _scalar(dtype: Any, raw: Any) -> Array:
    made = Array()
    made.build((1, (), dtype, False, raw))
    return made


def _jax_array(function: Any, arguments: Any, state: Any, aval: Any) -> Array:
    if not isinstance(function, Name) or not function.endswith('.multiarray._reconstruct'):
        raise ValueError(f'a jax array made by {function!r}')
    made = _new_array(*arguments)
    made.build(state)
    return made


def _dict(items: Any = ()) -> dict[Any, Any]:
    return dict(items) if isinstance(items, dict) else {key: value for key, value in items}


def _encoded(text: Any, encoding: Any) -> bytes:
    if encoding != 'latin1':
        raise ValueError(f'bytes as {encoding!r}')
    return str(text).encode('latin1')


def _no_bytes() -> bytes:
    return b''


BUILDERS: dict[str, Callable[..., Any] | None] = {
    'numpy.ndarray': None,
    'numpy.dtype': _new_dtype,
    'collections.OrderedDict': _dict,
    'flax.core.frozen_dict.FrozenDict': _dict,
    'jax._src.array._reconstruct_array': _jax_array,
    '_codecs.encode': _encoded,  # bytes in protocol 2
    'builtins.bytes': _no_bytes,
    '__builtin__.bytes': _no_bytes,
    **{f'ml_dtypes.{name}': None for name, dtype in DTYPES.items() if dtype.isbuiltin != 1},
    **{f'numpy.{core}.multiarray._reconstruct': _new_array for core in ('core', '_core')},
    **{f'numpy.{core}.multiarray.scalar': _scalar for core in ('core', '_core')},
    **{f'numpy.{core}.numeric._frombuffer': _from_buffer for core in ('core', '_core')},
}
