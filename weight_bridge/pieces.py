"""Pieces: what ties a region of a torch tensor to a place in a Flax leaf.

Mostly one tensor is one leaf. Where several leaves lie in one tensor (attention projections, gates), each has
a region of it; where several tensors make up one leaf (members of a stack), each has an index in it.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import Any, Self

import numpy as np
import torch

from weight_bridge.arrays import Array, numpy_dtype, summary, to_array
from weight_bridge.copying import copy_array, copy_into
from weight_bridge.errors import Problem
from weight_bridge.layouts import Layout, Shape

PARAMS, STATISTICS = 'params', 'batch_stats'  # Flax's names of the collections


@dataclass(frozen=True)
class Piece:
    """One region of a tensor and its place in the Flax tree.

    Attributes:
        path: the Flax leaf; None for a region that Flax lacks and that is zero.
        layout: how the region's axes move.
        region: of the tensor, in torch's axes; `extent` is its shape.
        index: of the region in the leaf's stack axes, whose sizes are `sizes`; () where nothing is stacked.
    """

    path: str | None
    layout: Layout
    region: tuple[slice, ...]
    extent: Shape
    index: Shape = ()
    sizes: Shape = ()

    @property
    def shape(self) -> Shape:
        """The shape of the Flax leaf that it is in."""
        return (*self.sizes, *self.layout.shape(self.extent))

    def member(self, array: Array) -> Array:
        """Its part of a Flax leaf, all of it where nothing is stacked: a view."""
        index: tuple[Any, ...] = (*self.index, ...)  # with the dots, a single value is an array too
        member: Array = array[index]
        return member


def cut(tensor: torch.Tensor, axis: int, start: int, stop: int) -> tuple[tuple[slice, ...], Shape]:
    """The region from `start` to `stop` of an axis (counted from the end), and its shape."""
    region = [slice(None)] * tensor.ndim
    extent = list(tensor.shape)
    region[axis], extent[axis] = slice(start, stop), stop - start
    return tuple(region), tuple(extent)


@dataclass(frozen=True)
class Leaf:
    """One parameter or running statistic and its place in the Flax tree, or its several places.

    `name` is its first in torch. `path` is what problems call it: its Flax path, if it is one leaf.
    """

    path: str
    name: str
    parameter: torch.Tensor
    pieces: tuple[Piece, ...]
    collection: str = PARAMS

    @property
    def paths(self) -> tuple[str, ...]:
        """The Flax leaves that it holds, or a part of; none for a bias that Flax lacks."""
        return tuple(piece.path for piece in self.pieces if piece.path is not None)

    @property
    def zeros(self) -> tuple[Piece, ...]:
        """What of it Flax lacks."""
        return tuple(piece for piece in self.pieces if piece.path is None)

    def beneath(self, collection: str) -> Self:
        """The same leaf with its Flax paths beneath another key."""
        pieces = (replace(piece, path=piece.path and f'{collection}/{piece.path}') for piece in self.pieces)
        return replace(self, path=f'{collection}/{self.path}', pieces=tuple(pieces))


@dataclass(frozen=True)
class Target:
    """One leaf of the Flax tree and all that makes it up."""

    path: str
    parts: tuple[tuple[Leaf, Piece], ...]

    @property
    def shape(self) -> Shape:
        return self.parts[0][1].shape

    @property
    def dtype(self) -> torch.dtype:
        return self.parts[0][0].parameter.dtype

    @property
    def summary(self) -> str:
        return summary(numpy_dtype(self.dtype), self.shape)

    @property
    def where(self) -> str:
        names = list(dict.fromkeys(leaf.name for leaf, _ in self.parts))
        return 'torch: ' + (names[0] if len(names) == 1 else f'{names[0]}, ... {names[-1]}')

    def to_torch(self, array: Array, tensors: Mapping[str, torch.Tensor]) -> None:
        """Copies an array in Flax layout into tensors laid out as the parameters, by `Leaf.name`."""
        for leaf, piece in self.parts:
            region = tensors[leaf.name].detach()[piece.region]
            copy_into(region, piece.layout.to_torch(piece.member(array), piece.extent))

    def to_flax(self, tensors: Mapping[str, torch.Tensor]) -> Array:
        """The inverse: a new array."""
        array = np.empty(self.shape, numpy_dtype(self.dtype))
        for leaf, piece in self.parts:
            values = to_array(tensors[leaf.name].detach()[piece.region])
            copy_array(piece.member(array), piece.layout.to_flax(values))
        return array

    def problems(self) -> Iterator[Problem]:
        """Pieces that do not make up one array: other shapes or dtypes, a place that is empty or taken."""
        sizes, indices = self.parts[0][1].sizes, sorted(piece.index for _, piece in self.parts)
        if prod(sizes) != len(indices) or indices != list(product(*map(range, sizes))):
            names = ', '.join(leaf.name for leaf, _ in self.parts)
            expected = 'one parameter' if sizes == () else f'one parameter for each of {prod(sizes)} members'
            yield Problem('rule', self.path, expected, names)
            return
        if len({(leaf.parameter.dtype, piece.shape) for leaf, piece in self.parts}) > 1:
            found = [
                f'{leaf.name} {summary(numpy_dtype(leaf.parameter.dtype), piece.shape)}'
                for leaf, piece in self.parts
            ]
            yield Problem('rule', self.path, 'members of one shape and dtype', ', '.join(found))


def targets(leaves: Iterable[Leaf]) -> dict[str, Target]:
    """The leaves of the Flax tree by their path."""
    parts: dict[str, list[tuple[Leaf, Piece]]] = {}
    for leaf in leaves:
        for piece in leaf.pieces:
            if piece.path is not None:
                parts.setdefault(piece.path, []).append((leaf, piece))
    return {path: Target(path, tuple(found)) for path, found in parts.items()}
