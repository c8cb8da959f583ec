"""A pytree as flat {path: array} and back: jax's own containers, and those of a user who registered some."""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from parity.trees import Arrays

PRIMITIVES = (bool, int, str, type(None))


@dataclass(frozen=True, eq=False)
class Skeleton:
    """A pytree without its arrays: hashable, so that what is compiled for it is found again.

    paths: of all leaves, `layers/0/weight`; rest: the leaves that are no arrays (functions, names, keys with
    a dtype of their own), by their paths.
    """

    treedef: Any
    paths: tuple[str, ...]
    rest: Mapping[str, Any]

    def fill(self, arrays: Mapping[str, Any]) -> Any:
        """The tree with these arrays, by their paths."""
        return self.treedef.unflatten(
            self.rest[path] if path in self.rest else arrays[path] for path in self.paths
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Skeleton) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def _identity(self) -> tuple[Any, ...]:
        rest = tuple(
            (path, type(leaf), leaf if isinstance(leaf, PRIMITIVES) else id(leaf))
            for path, leaf in self.rest.items()
        )
        return self.treedef, self.paths, rest


@dataclass(frozen=True)
class Call:
    """A function and the pytree that it is called with: of keyword arguments, or of positional ones."""

    function: Callable[..., Any]
    skeleton: Skeleton

    def __call__(self, arrays: Mapping[str, Any]) -> Any:
        """What the function returns for these arrays."""
        given = self.skeleton.fill(arrays)
        return self.function(**given) if isinstance(given, Mapping) else self.function(*given)


def split(tree: Any) -> tuple[Skeleton, Arrays]:
    """A tree as its skeleton and its arrays. Python floats are arrays; Python integers and bools are not."""
    import jax

    named = named_leaves(tree)
    arrays = {path: np.asarray(leaf) for path, leaf in named.items() if _is_array(leaf)}
    rest = {path: leaf for path, leaf in named.items() if path not in arrays}
    return Skeleton(jax.tree.structure(tree), tuple(named), rest), arrays


def named_leaves(tree: Any) -> dict[str, Any]:
    """The leaves by their paths. Raises ValueError where two have the same."""
    import jax

    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    named: dict[str, Any] = {}
    for keys, leaf in leaves:
        path = jax.tree_util.keystr(keys, simple=True, separator='/')
        if path in named:
            raise ValueError(f'two leaves under one path: {path}')
        named[path] = leaf
    return named


def cotangents(outputs: Arrays, seed: int) -> Arrays:
    """Random float32 numbers for every floating output, from the seed, the output's path and its shape."""
    return {
        path: np.random.default_rng([seed, zlib.crc32(path.encode())])
        .normal(size=leaf.shape)
        .astype(np.float32)
        for path, leaf in outputs.items()
        if leaf.dtype.kind == 'f'
    }


def _is_array(leaf: Any) -> bool:
    import jax

    if isinstance(leaf, jax.Array):
        return not jax.numpy.issubdtype(leaf.dtype, jax.dtypes.extended)
    return isinstance(leaf, np.ndarray | np.generic | float)
