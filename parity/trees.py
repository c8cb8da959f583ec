"""Nested containers as flat {path: leaf} mappings."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]


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
    start = f'{prefix}/'
    return {path.removeprefix(start): leaf for path, leaf in leaves.items() if path.startswith(start)}


def branches(leaves: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The subtree of each first part of a path."""
    found: dict[str, dict[str, Any]] = {}
    for path, leaf in leaves.items():
        first, _, rest = path.partition('/')
        found.setdefault(first, {})[rest] = leaf
    return found


def dotted(path: str) -> str:
    """A path as one part of a longer one: `layers.0.weight`."""
    return path.replace('/', '.')


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
