"""Both sides as trees of scopes, and how one leaf fits another: by size, by layer, by layout."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from math import prod
from operator import mul
from typing import Any

from weight_bridge.layouts import FILTER, LAYOUTS, MATRIX, SAME, Layout, Shape
from weight_bridge.pieces import Piece, Target
from weight_bridge.table import Row

# What Flax's own layers call their leaves: a kernel is no bias, whatever the shapes say.
_LEAVES = {'kernel', 'bias', 'scale', 'embedding', 'mean', 'var', 'negative_slope'}


@dataclass(frozen=True, eq=False)
class Node:
    """A scope with its children, or a leaf: on the reference's side its shape, on the port's its target."""

    path: tuple[str, ...]
    children: tuple['Node', ...] = ()
    leaf: Any = None

    @cached_property
    def leaves(self) -> tuple['Node', ...]:
        inner = tuple(leaf for child in self.children for leaf in child.leaves)
        return inner if self.leaf is None else (self,)

    @cached_property
    def sizes(self) -> Shape:
        """How many values each leaf has, sorted: the same on both sides whatever the layouts."""
        return tuple(sorted(prod(getattr(node.leaf, 'shape', node.leaf)) for node in self.leaves))

    @property
    def name(self) -> str:
        return '/'.join(self.path)


def tree(leaves: Mapping[str, Any]) -> Node:
    """The tree of leaves by their path, in their order."""
    return _node((), {tuple(path.split('/')): leaf for path, leaf in leaves.items()})


def _node(path: tuple[str, ...], leaves: Mapping[tuple[str, ...], Any]) -> Node:
    if path in leaves:
        return Node(path, leaf=leaves[path])
    groups: dict[tuple[str, ...], dict[tuple[str, ...], Any]] = {}
    for inner, leaf in leaves.items():
        groups.setdefault(inner[: len(path) + 1], {})[inner] = leaf
    return Node(path, tuple(_node(child, inner) for child, inner in groups.items()))


@dataclass(frozen=True)
class Link:
    """A leaf of the reference, the target on the port's side that it is, in which layout, and why."""

    flax: str
    shape: Shape
    target: Target
    layout: Layout
    why: tuple[str, ...] = ()

    def rows(self) -> list[Row]:
        """One row for each piece."""
        by = ' + '.join(dict.fromkeys(self.why)) or 'shape'
        return [self._row(leaf.name, piece, by) for leaf, piece in self.target.parts]

    def _row(self, name: str, piece: Piece, by: str) -> Row:
        whole = all(part == slice(None) for part in piece.region)
        cut = None if whole else piece.region[piece.layout.cut]
        rows = None if cut is None else (cut.start, cut.stop)
        shape = self.shape[len(piece.index) :]
        plain = LAYOUTS[self.layout.name].shape(piece.extent) == shape
        return Row(self.flax, name, self.layout.name, rows, piece.index, None if plain else shape, by)


def options(reference: Node, port: Node) -> list[Link]:
    """The layouts in which a leaf of the port is one of the reference; several for a bare square matrix."""
    target: Target = port.leaf
    _, piece = target.parts[0]
    stack, shape = reference.leaf[: len(piece.sizes)], reference.leaf[len(piece.sizes) :]
    if stack != piece.sizes or _are_other_kinds(reference.path[-1], port.path[-1]):
        return []
    bare = piece.layout == SAME and target.parts[0][0].name.split('.')[-1] == port.path[-1]
    layouts = _bare_layouts(piece.extent) if bare else [piece.layout]
    fitting = [found for layout in layouts if (found := _fitted(layout, piece.extent, shape)) is not None]
    return [Link(reference.name, reference.leaf, target, layout) for layout in fitting]


def _are_other_kinds(name: str, other: str) -> bool:
    return {name, other} <= _LEAVES and name != other


def _bare_layouts(extent: Shape) -> list[Layout]:
    """No layer says how a bare parameter is used: as it is, as Linear uses its weight, or as ConvNd."""
    if sum(size != 1 for size in extent) < 2:
        return [SAME]
    return [layout for layout in (SAME, MATRIX, FILTER) if len(extent) >= layout.least_rank]


def _fitted(layout: Layout, extent: Shape, shape: Shape) -> Layout | None:
    """The layout that gives the shape, folded if need be (heads); None if it cannot."""
    found = layout.shape(extent)
    if found == shape:
        return layout
    ends = [0, *accumulate(shape, mul)]
    folds = len(shape) > len(found) and len(found) <= 2 and layout.name in ('same', 'matrix')
    if folds and prod(found) == prod(shape) and (len(found) == 1 or found[0] in ends[1:-1]):
        return layout.into(shape, len(found))
    return None
