"""Arguments and results of calls: their arrays by name, and the same structure with other arrays."""

import dataclasses
import inspect
import itertools
import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def bound(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call by the names of the parameters; by position where it has no signature."""
    try:
        return dict(inspect.signature(function).bind(*args, **kwargs).arguments)
    except (TypeError, ValueError):
        return {**{str(i): arg for i, arg in enumerate(args)}, **kwargs}


def mapped(tree: Any, change: Callable[[str, Any], Any], path: str = '') -> Any:
    """The tree with change(path, leaf) in the place of every leaf, `0/loc`; containers as in `trees`."""

    def below(name: object, child: Any) -> Any:
        return mapped(child, change, f'{path}/{name}' if path else str(name))

    if isinstance(tree, Mapping):
        return {name: below(name, child) for name, child in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, '_fields'):
        return type(tree)(*map(below, tree._fields, tree))
    if isinstance(tree, list | tuple):
        return type(tree)(below(i, child) for i, child in enumerate(tree))
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        names = [field.name for field in dataclasses.fields(tree) if field.init]
        return dataclasses.replace(tree, **{name: below(name, getattr(tree, name)) for name in names})
    return change(path or 'output', tree)


def arrays_of(tree: Any) -> dict[str, Any]:
    """The arrays of either framework in a tree, by path."""
    found: dict[str, Any] = {}

    def keep(path: str, leaf: Any) -> Any:
        if is_array(leaf):
            found[path] = leaf
        return leaf

    mapped(tree, keep)
    return found


def is_array(leaf: Any) -> bool:
    """Whether it has a shape and values: a numpy array, a jax array or tracer, or a tensor."""
    return hasattr(leaf, 'shape') and hasattr(leaf, 'dtype') and not isinstance(leaf, np.generic)


def fit(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The reference's array in the shape that the port has for it: (..., C) as (B, C, ...), heads and their
    features as one axis, or repeated.

    Inside `nn.vmap` an input that all members share has no axis of its own, and the port's may have one. What
    does not fit stays as it is, so that its shape is what differs.
    """
    if array.shape == shape:
        return array
    if array.ndim > 2 and np.moveaxis(array, -1, 1).shape == shape:
        return np.moveaxis(array, -1, 1)
    if regrouped(array.shape, shape):
        return array.reshape(shape)
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        return array


def regrouped(shape: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether both are the same but for axes of 1, or for neighbours after the first that are one axis."""
    long, short = ([n for n in one if n != 1] for one in sorted((shape, other), key=len, reverse=True))
    ends, merged = (set(itertools.accumulate(one, operator.mul)) for one in (long, short))
    return long[:1] == short[:1] and max(ends, default=1) == max(merged, default=1) and merged <= ends


def spread(cotangent: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """`fit` for a cotangent: where the value was repeated, each copy gets its share."""
    fitted = fit(cotangent, shape)
    return fitted * (cotangent.size / fitted.size) if fitted.size else fitted
