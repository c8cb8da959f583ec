"""Nested containers as flat {path: leaf} mappings, and short summaries of arrays."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from types import EllipsisType
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
Part = tuple[slice | EllipsisType, ...]
# A leaf is compared so many entries at once: what is computed on the way takes no more memory than that.
CHUNK = 1 << 22

_SHORT = {'float': 'f', 'bfloat': 'bf', 'uint': 'u', 'int': 'i', 'complex': 'c', 'bool': 'bool'}


def flatten(tree: Any, prefix: str = '') -> Iterator[tuple[str, Any]]:
    """The leaves of mappings, sequences, namedtuples and dataclasses, by path: `critic/Dense_0/kernel`."""
    children = list(_children(tree))
    if not children and not _is_container(tree):
        yield prefix, tree
    for name, child in children:
        yield from flatten(child, f'{prefix}/{name}' if prefix else name)


def flat(tree: Any, to_numpy: Callable[[Any], np.ndarray], prefix: str = '') -> Arrays:
    """`flatten`, with every leaf converted."""
    leaves: Arrays = {}
    for path, leaf in flatten(tree, prefix):
        if path in leaves:
            raise ValueError(f'two leaves under one path: {path}')
        leaves[path] = to_numpy(leaf)
    return leaves


def real_leaves(tree: Any) -> dict[str, Any]:
    """The leaves of a result in either framework: None is none, a complex one is two."""
    leaves: dict[str, Any] = {}
    for path, leaf in flatten(tree):
        path = path or 'output'  # a bare array
        parts = {path: leaf}
        if 'complex' in str(getattr(leaf, 'dtype', '')):
            parts = {f'{path}/real': leaf.real, f'{path}/imag': leaf.imag}
        if repeated := parts.keys() & leaves.keys():
            raise ValueError(f'two leaves under one path: {min(repeated)}')
        leaves |= {} if leaf is None else parts
    return leaves


def unflatten(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dicts from paths."""
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *parents, name = path.split('/')
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = leaf
    return tree


def astype(leaves: Arrays, dtype: str) -> Arrays:
    """Floating leaves in another precision; others as they are."""
    return {path: leaf.astype(dtype) if leaf.dtype.kind == 'f' else leaf for path, leaf in leaves.items()}


def with_prefix(prefix: str, leaves: Mapping[str, Any]) -> dict[str, Any]:
    """The same leaves, one level further down."""
    return {f'{prefix}/{path}': leaf for path, leaf in leaves.items()}


def subtree(leaves: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The leaves below `prefix/`, without it."""
    return {path[len(prefix) + 1 :]: leaf for path, leaf in leaves.items() if path.startswith(f'{prefix}/')}


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


def dotted(path: str) -> str:
    """A path as one part of a longer one: `layers.0.weight`."""
    return path.replace('/', '.')


def summary(array: np.ndarray) -> str:
    """`f64[256] mean 0.1 in [-2, 3]`; small arrays in full."""
    text = f'{short_dtype(array.dtype)}[{",".join(map(str, array.shape))}]'
    if array.dtype.kind in 'OU' and array.ndim == 0:
        return str(array)
    if array.size == 0 or array.dtype.kind not in 'fiub':
        return text
    if array.size <= 4:
        return f'{text} {_shown(array)}'
    count, total, low, high = 0, 0.0, np.inf, -np.inf
    for part in parts_of(array.shape):
        finite = array[part].astype(np.float64, copy=False)
        with np.errstate(over='ignore', invalid='ignore'):
            added = float(finite.sum())
            if not math.isfinite(added):
                finite = finite[np.isfinite(finite)]
                added = float(finite.sum())
        total, count = total + added, count + finite.size
        low, high = float(finite.min(initial=low)), float(finite.max(initial=high))
    spread = f' mean {total / count:.6g} in [{low:.6g}, {high:.6g}]' if count else ''
    return f'{text}{spread}' + (f', {array.size - count} not finite' if count < array.size else '')


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


def _is_container(tree: Any) -> bool:
    return isinstance(tree, Mapping | list | tuple) or _is_record(tree)


def _is_record(tree: Any) -> bool:
    return dataclasses.is_dataclass(tree) and not isinstance(tree, type)


def _children(tree: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(tree, Mapping):
        yield from ((str(name), child) for name, child in tree.items())
    elif isinstance(tree, tuple) and hasattr(tree, '_fields'):
        yield from zip(tree._fields, tree, strict=True)
    elif isinstance(tree, list | tuple):
        yield from ((str(i), child) for i, child in enumerate(tree))
    elif _is_record(tree):
        yield from ((field.name, getattr(tree, field.name)) for field in dataclasses.fields(tree))
