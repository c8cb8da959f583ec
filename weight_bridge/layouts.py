"""Layouts: how the axes of an array move from torch to Flax, and back."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import Self

import numpy as np

from weight_bridge.arrays import Array

Axes = tuple[int, ...]
Shape = tuple[int, ...]


def _no_axes(rank: int) -> Axes:
    return ()


class Misfit(LookupError):
    """A shape that a layout cannot have."""

    def __init__(self, expected: str, found: Shape) -> None:
        self.expected, self.found = expected, f'shape {found}'
        super().__init__(expected, found)


@dataclass(frozen=True)
class Layout:
    """Flax array = torch array, its axes moved, some of them mirrored, and the last ones folded.

    Attributes:
        name: what a mapping's table calls it.
        axes: for a rank the torch axis of every Flax axis; axes in front of those it moves are stack axes.
        least_rank: the fewest axes that it can move.
        cut: the torch axis (from the end if negative) that several leaves in one parameter lie along: that of
            the outputs.
        mirrored: for a rank the Flax axes that run the other way in torch.
        fold: what the last `folded` Flax axes become, e.g. (8, 6) becomes (8, 2, 3); None for what they are.
    """

    name: str
    axes: Callable[[int], Axes]
    least_rank: int = 0
    cut: int = -1
    mirrored: Callable[[int], Axes] = _no_axes
    fold: Shape | None = None
    folded: int = 0

    def into(self, fold: Shape, folded: int) -> Self:
        """The same layout with its last `folded` Flax axes folded into the shape `fold`."""
        return replace(self, fold=fold, folded=folded)

    def shape(self, torch_shape: Shape) -> Shape:
        """The Flax shape of a torch shape.

        Raises:
            Misfit: too few axes, or the last ones do not hold as many values as `fold`.
        """
        if len(torch_shape) < self.least_rank:
            raise Misfit(f'{self.least_rank} axes or more', torch_shape)
        moved = self._moved(torch_shape)
        if self.fold is None:
            return moved
        kept, last = moved[: len(moved) - self.folded], moved[len(moved) - self.folded :]
        if len(last) != self.folded or prod(last) != prod(self.fold):
            raise Misfit(f'a shape that is {self.fold} in Flax', torch_shape)
        return (*kept, *self.fold)

    def to_flax(self, array: Array) -> Array:
        """The array in Flax layout: a view where folding allows one."""
        rank = array.ndim
        moved = np.flip(array.transpose(self.axes(rank)), self.mirrored(rank))
        return moved.reshape(self.shape(array.shape))

    def to_torch(self, array: Array, torch_shape: Shape) -> Array:
        """The inverse, for the shape on the torch side."""
        rank = len(torch_shape)
        moved = np.flip(array.reshape(self._moved(torch_shape)), self.mirrored(rank))
        return moved.transpose(np.argsort(self.axes(rank)))

    def _moved(self, torch_shape: Shape) -> Shape:
        return tuple(torch_shape[axis] for axis in self.axes(len(torch_shape)))


def _same(rank: int) -> Axes:
    return tuple(range(rank))


def _swap_last_two(rank: int) -> Axes:
    return (*range(rank - 2), rank - 1, rank - 2)


def _spatial_first(rank: int) -> Axes:
    return (*range(2, rank), 1, 0)


def _spatial_first_inputs_last_but_one(rank: int) -> Axes:
    return (*range(2, rank), 0, 1)


def _spatial(rank: int) -> Axes:
    return tuple(range(rank - 2))


def _stacked_filter(spatial: int) -> Callable[[int], Axes]:
    def axes(rank: int) -> Axes:
        stack = rank - spatial - 2
        return (*range(stack), *range(stack + 2, rank), stack + 1, stack)

    return axes


SAME = Layout('same', _same)
MATRIX = Layout('matrix', _swap_last_two, least_rank=2, cut=-2)  # (*E, out, in) <-> (*E, in, out)
FILTER = Layout('filter', _spatial_first, least_rank=3, cut=0)  # (out, in, *spatial) <-> (*spatial, in, out)
# (in, out, *spatial) <-> (*spatial, in, out), the spatial axes mirrored
UPWARD = Layout('upward', _spatial_first_inputs_last_but_one, least_rank=3, cut=1, mirrored=_spatial)
FILTERS = {  # of 1, 2 and 3 spatial axes: (*E, out, in, *spatial) <-> (*E, *spatial, in, out)
    count: Layout(f'filter{count}d', _stacked_filter(count), least_rank=count + 2, cut=-count - 2)
    for count in (1, 2, 3)
}
LAYOUTS = {layout.name: layout for layout in (SAME, MATRIX, FILTER, UPWARD, *FILTERS.values())}
