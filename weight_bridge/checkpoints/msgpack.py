"""Flax's msgpack, as `flax.serialization.to_bytes` writes it: there are its extension types and chunks."""

import mmap
from typing import Any

import numpy as np

from weight_bridge.checkpoints.problems import DTYPES, array_of

_ARRAY, _COMPLEX, _SCALAR = 1, 2, 3
_CHUNKED = '__msgpack_chunked_array__'  # how flax stores arrays above 1 GiB


def read(data: bytes | mmap.mmap) -> Any:
    """The containers and arrays of a msgpack file. Raises an exception of any kind if it is damaged."""
    import msgpack  # type: ignore[import-untyped]

    tree = msgpack.unpackb(data, ext_hook=_extension, raw=False, strict_map_key=True)
    return _joined(tree)


def _extension(code: int, data: bytes) -> Any:
    import msgpack

    if code == _COMPLEX:
        real, imaginary = msgpack.unpackb(data)
        return complex(real, imaginary)
    if code not in (_ARRAY, _SCALAR):
        raise ValueError(f'an extension type {code}')
    shape, name, raw = msgpack.unpackb(data, raw=True)
    return array_of(raw, DTYPES[name.decode()], shape)


def _joined(node: Any) -> Any:
    """The tree with chunked arrays in one piece."""
    if isinstance(node, list):
        return [_joined(part) for part in node]
    if not isinstance(node, dict):
        return node
    if _CHUNKED not in node:
        return {key: _joined(part) for key, part in node.items()}
    shape, chunks = (_in_order(node[key]) for key in ('shape', 'chunks'))
    flat = np.concatenate(chunks)
    return array_of(flat.view(np.uint8).data, flat.dtype, shape)


def _in_order(parts: dict[str, Any]) -> list[Any]:
    return [parts[str(index)] for index in range(len(parts))]
