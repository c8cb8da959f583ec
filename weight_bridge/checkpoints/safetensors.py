"""safetensors: a header of names, dtypes and places, then the bytes. Read leaf by leaf, written whole or not.

Source of the layout: https://huggingface.co/docs/safetensors, "Format". The library of that name reads and
writes the same files; this one keeps at most one leaf of a large tree in memory. Names are the leaves' paths.
"""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from weight_bridge.checkpoints.problems import DTYPES
from weight_bridge.errors import BridgeError, Problem
from weight_bridge.paths import Tree, flatten, unflatten

_CODES = {
    **{'BOOL': 'bool', 'F16': 'float16', 'F32': 'float32', 'F64': 'float64', 'BF16': 'bfloat16'},
    **{f'I{bits}': f'int{bits}' for bits in (8, 16, 32, 64)},
    **{f'U{bits}': f'uint{bits}' for bits in (8, 16, 32, 64)},
    **{'F8_E4M3': 'float8_e4m3fn', 'F8_E5M2': 'float8_e5m2', 'C64': 'complex64'},
}
_NAMES = {name: code for code, name in _CODES.items()}
_LONGEST_HEADER = 100_000_000  # bytes, as the library has it
_METADATA = '__metadata__'


@dataclass(frozen=True)
class StoredArray:
    """A leaf in a file, read from there whenever numpy asks for its values."""

    path: Path
    start: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    in_file: bool = True

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        count = math.prod(self.shape)
        with self.path.open('rb') as file:
            file.seek(self.start)
            array = np.fromfile(file, np.dtype(f'V{self.dtype.itemsize}'), count)
        if len(array) != count:
            raise ValueError(f'{self.path} has become shorter')
        values = array.view(self.dtype).reshape(self.shape)
        return values if dtype is None else values.astype(dtype)


def read(path: Path) -> tuple[Tree, Mapping[str, str]]:
    """The leaves of a file by path, and its metadata. Raises an exception of any kind if it is damaged."""
    size = path.stat().st_size
    with path.open('rb') as file:
        length = int.from_bytes(file.read(8), 'little')
        if length > min(_LONGEST_HEADER, size - 8):
            raise ValueError(f'a header of {length} bytes in a file of {size}')
        header = json.loads(file.read(length), object_pairs_hook=_once)
    metadata = header.pop(_METADATA, {})
    if not all(isinstance(text, str) for text in metadata.values()):
        raise ValueError('metadata that is no text')
    places = sorted((*entry['data_offsets'], name) for name, entry in header.items())
    _check_places(places, size - 8 - length)
    flat = {name: _leaf(path, 8 + length, entry) for name, entry in header.items()}
    return unflatten(flat), metadata


def write(path: str | Path, tree: object, metadata: Mapping[str, str]) -> Path:
    """Writes a tree, one leaf after the other, to a file beside `path` that then takes its place.

    Args:
        tree: nested dicts of arrays and numbers; numbers become scalars of 64 bits.
        metadata: texts.

    Raises:
        BridgeError: lists the leaves that are no arrays or whose dtype the format has not; nothing is
            written.
    """
    path, flat = Path(path), flatten(tree)
    problems = [problem for name, leaf in flat.items() if (problem := _unwritable(name, leaf))]
    if problems:
        raise BridgeError(f'{path} was not written', problems, ['leave them out, or cast them'])
    temporary = path.with_name(f'{path.name}.{os.getpid()}.tmp')
    try:
        with temporary.open('wb') as file:
            file.write(_header(flat, metadata))
            for leaf in flat.values():
                file.write(_bytes(leaf))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError('a name that occurs twice')
    return entries


def _check_places(places: list[tuple[int, int, str]], size: int) -> None:
    """The leaves must lie one after the other and fill the file."""
    end = 0
    for start, stop, name in places:
        if not (type(start) is int and type(stop) is int and start == end <= stop):
            raise ValueError(f'{name} at {start} to {stop}, after {end}')
        end = stop
    if end != size:
        raise ValueError(f'{size} bytes of values where the header says {end}')


def _leaf(path: Path, origin: int, entry: Mapping[str, Any]) -> StoredArray:
    dtype, shape = DTYPES[_CODES[entry['dtype']]], tuple(entry['shape'])
    start, stop = entry['data_offsets']
    if not all(type(axis) is int and axis >= 0 for axis in shape):
        raise ValueError(f'an array of shape {shape}')
    if math.prod(shape) * dtype.itemsize != stop - start:
        raise ValueError(f'{stop - start} bytes for {dtype.name}{list(shape)}')
    return StoredArray(path, origin + start, dtype, shape)


def _header(flat: Mapping[str, Any], metadata: Mapping[str, str]) -> bytes:
    entries: dict[str, Any] = {_METADATA: dict(metadata)} if metadata else {}
    end = 0
    for name, leaf in flat.items():
        dtype, shape = _described(leaf)
        start, end = end, end + math.prod(shape) * dtype.itemsize
        entries[name] = {'dtype': _NAMES[dtype.name], 'shape': list(shape), 'data_offsets': [start, end]}
    text = json.dumps(entries, separators=(',', ':')).encode()
    text += b' ' * (-len(text) % 8)  # values start at a multiple of 8
    return len(text).to_bytes(8, 'little') + text


def _described(leaf: Any) -> tuple[np.dtype[Any], tuple[int, ...]]:
    leaf = leaf if hasattr(leaf, 'dtype') else np.asarray(leaf)
    return leaf.dtype, tuple(leaf.shape)


def _unwritable(name: str, leaf: Any) -> Problem | None:
    if not (hasattr(leaf, '__array__') or isinstance(leaf, bool | int | float)):
        return Problem('dtype', name, 'an array or a number', type(leaf).__name__)
    dtype, _ = _described(leaf)
    if getattr(dtype, 'name', None) not in _NAMES:
        return Problem('dtype', name, ', '.join(_NAMES), str(dtype))
    return None


def _bytes(leaf: Any) -> memoryview:
    array = np.asarray(leaf)
    array = np.ascontiguousarray(array.astype(array.dtype.newbyteorder('<'), copy=False))
    return array.reshape(-1).view(np.uint8).data
