"""A mapping: which Flax leaf is which torch parameter, row by row; used strictly in place of the rules."""

from collections.abc import Iterator
from collections.abc import Mapping as AnyMapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Self

import torch
from torch import nn

from weight_bridge.arrays import summary_of
from weight_bridge.errors import Problem
from weight_bridge.layouts import LAYOUTS, Layout, Misfit, Shape
from weight_bridge.pieces import PARAMS, STATISTICS, Leaf, Piece, cut
from weight_bridge.table import Row, read, write
from weight_bridge.walk import label, walk


@dataclass(frozen=True)
class Mapping:
    """The rows, in the order of the Flax tree."""

    rows: tuple[Row, ...]

    @property
    def ambiguous(self) -> tuple[Row, ...]:
        """The rows with several candidates."""
        return tuple(row for row in self.rows if not row.is_decided)

    @property
    def paths(self) -> list[str]:
        return [row.flax for row in self.rows if row.flax is not None]

    def __str__(self) -> str:
        return self.to_toml()

    def to_toml(self) -> str:
        """The table as text, a line for each row; `from_toml` reads it."""
        return write(self.rows)

    @classmethod
    def from_toml(cls, text: str) -> Self:
        """The mapping that a table describes.

        Raises:
            BridgeError: it is no TOML, or lists every row with another key or another kind of value.
        """
        return cls(read(text))

    def leaves(self, module: nn.Module) -> Iterator[Leaf | Problem]:
        """The leaves of a module by the rows, and every row that does not fit it; what has no row, too."""
        tensors, statistics = _tensors(module)
        for row in self.ambiguous:
            found = f'{" or ".join(_listed(row.torch))}, layout {" or ".join(_listed(row.layout))}'
            yield Problem('ambiguous', str(row), 'one candidate', found)
        decided = sorted((row for row in self.rows if row.is_decided), key=lambda row: str(row.torch))
        groups = {str(name): list(rows) for name, rows in groupby(decided, key=lambda row: row.torch)}
        candidates = {name for row in self.ambiguous for name in _listed(row.torch)}
        for name in [name for name in groups if name not in tensors]:
            yield Problem('mapping', ', '.join(map(str, groups[name])), 'a parameter of the module', name)
        for name, tensor in tensors.items():
            if name in groups:
                yield self._leaf(name, tensor, groups[name], STATISTICS if name in statistics else PARAMS)
            elif name not in candidates:
                yield Problem('mapping', name, 'a row', 'none')

    def strays(self, flat: AnyMapping[str, Any]) -> Iterator[Problem]:
        """Rows for leaves that a tree lacks, and leaves without a row; paths without collections."""
        for row in [row for row in self.rows if row.flax is not None and row.flax not in flat]:
            yield Problem(
                'missing path', str(row.flax), 'a leaf of the tree', 'nothing', f'torch: {row.torch}'
            )
        for path in [path for path in flat if path not in set(self.paths)]:
            yield Problem('unexpected path', path, 'a row', summary_of(flat[path]))

    def _leaf(self, name: str, tensor: torch.Tensor, rows: list[Row], collection: str) -> Leaf | Problem:
        try:
            pieces = tuple(_pieces(tensor, sorted(rows, key=lambda row: row.rows or ()), self._sizes()))
        except Misfit as error:
            return Problem('mapping', name, error.expected, error.found)
        return Leaf(label(name, pieces), name, tensor, pieces, collection)

    def _sizes(self) -> dict[str | None, Shape]:
        """The stack axes of every leaf: one more than its rows' largest indices."""
        indices: dict[str | None, list[Shape]] = {}
        for row in self.rows:
            indices.setdefault(row.flax, []).append(row.index)
        return {
            path: tuple(max(axis) + 1 for axis in zip(*found, strict=False))
            for path, found in indices.items()
        }


def _tensors(module: nn.Module) -> tuple[dict[str, torch.Tensor], set[str]]:
    """All that needs a row by its name, and which of it is a running statistic."""
    statistics = {
        leaf.name: leaf.parameter
        for leaf in walk(module)
        if isinstance(leaf, Leaf) and leaf.collection == STATISTICS
    }
    return {**dict(module.named_parameters()), **statistics}, set(statistics)


def _pieces(tensor: torch.Tensor, rows: list[Row], sizes: AnyMapping[str | None, Shape]) -> Iterator[Piece]:
    layouts = [_layout(row, tensor.ndim) for row in rows]
    axis, shape = layouts[0].cut, tuple(tensor.shape)
    regions = [row.rows for row in rows]
    if len(rows) == 1 and regions == [None]:
        layouts[0].shape(shape)  # raises
        yield Piece(
            rows[0].flax, layouts[0], (slice(None),) * tensor.ndim, shape, rows[0].index, sizes[rows[0].flax]
        )
        return
    bounds = [bound for region in regions for bound in region or ()]
    if tensor.ndim < max(-axis, axis + 1) or bounds[::2] != [0, *bounds[1:-1:2]] or bounds[-1] != shape[axis]:
        text = ', '.join(f'{row} {list(row.rows) if row.rows else "all of it"}' for row in rows)
        raise Misfit(f'rows that cut axis {axis} without gap or overlap, not {text}', shape)
    for row, layout in zip(rows, layouts, strict=True):
        start, stop = row.rows or (0, 0)
        region, extent = cut(tensor, axis, start, stop)
        layout.shape(extent)  # raises
        yield Piece(row.flax, layout, region, extent, row.index, sizes[row.flax])


def _layout(row: Row, rank: int) -> Layout:
    layout = LAYOUTS[str(row.layout)]
    return layout if row.shape is None else layout.into(row.shape, rank)


def _listed(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value
