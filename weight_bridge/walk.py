"""The walk over a module: the place of every parameter and running statistic by the rules."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from weight_bridge.errors import Problem
from weight_bridge.layouts import SAME, Misfit
from weight_bridge.paths import below, torch_name
from weight_bridge.pieces import PARAMS, STATISTICS, Leaf, Piece, cut
from weight_bridge.rules import Part, Rule, rule_of


@dataclass(frozen=True)
class Place:
    """Where the walk is: the module's dotted name, its Flax path, and its index in the stacks around it."""

    name: str = ''
    path: str = ''
    index: tuple[int, ...] = ()
    sizes: tuple[int, ...] = ()

    def child(self, key: str) -> 'Place':
        return replace(self, name=torch_name(self.name, key), path=below(self.path, key))

    def member(self, key: str, position: int, size: int) -> 'Place':
        name = torch_name(self.name, key)
        return replace(self, name=name, index=(*self.index, position), sizes=(*self.sizes, size))


ROOT = Place()
HOLDS_NOTHING = Rule()


def walk(
    module: nn.Module, place: Place = ROOT, stacks: frozenset[str] = frozenset()
) -> Iterator[Leaf | Problem]:
    """All leaves in the module's own order; tied parameters come once for each of their names.

    `stacks` names further modules whose children are the members of a stack.
    """
    try:
        rule = _rule(module)
        parts = rule.leaves_of(module)
    except LookupError as error:
        yield from _without_rule(module, place, str(error))
        return
    whole = any('.' in name for name in parts)
    for name, parameter in _parameters(module, whole):
        yield _leaf(place, name, parameter, parts.get(name, (Part(name, SAME),)), PARAMS)
    for name, found in rule.statistics.items():
        if (buffer := getattr(module, name)) is not None:
            yield _leaf(place, name, buffer, found, STATISTICS)
    if not whole:
        yield from _children(module, place, rule.stack or place.name in stacks, stacks)


def _rule(module: nn.Module) -> Rule:
    """A module that holds nothing and declares nothing needs no row."""
    tensors = (*module._parameters.values(), *module._buffers.values())
    holds = any(tensor is not None for tensor in tensors)
    return rule_of(module) if holds or getattr(module, 'flax_rule', None) is not None else HOLDS_NOTHING


def _parameters(module: nn.Module, whole: bool) -> Iterable[tuple[str, nn.Parameter]]:
    """The parameters of a module alone, or with those of its submodules."""
    if whole:
        return module.named_parameters(remove_duplicate=False)
    # named_parameters() for one module is what a walk through a large one would spend its time on
    return [(name, found) for name, found in module._parameters.items() if found is not None]


def _without_rule(module: nn.Module, place: Place, found: str) -> Iterator[Problem]:
    names = [name for name, _ in module.named_parameters(remove_duplicate=False)]
    for name in names or [name for name, _ in module.named_buffers()] or ['flax_rule']:
        full_name = torch_name(place.name, name)
        yield Problem('rule', full_name, 'a layer with a row in weight_bridge/rules.py', found)


def _children(
    module: nn.Module, place: Place, stack: bool, stacks: frozenset[str]
) -> Iterator[Leaf | Problem]:
    children = list(module._modules.items())  # named_children() leaves out a module used twice
    for position, (key, child) in enumerate(children):
        if child is not None:
            within = place.member(key, position, len(children)) if stack else place.child(key)
            yield from walk(child, within, stacks)


def _leaf(
    place: Place, name: str, tensor: torch.Tensor, parts: tuple[Part, ...], collection: str
) -> Leaf | Problem:
    full_name = torch_name(place.name, name)
    if is_lazy(tensor) or tensor.is_meta:
        return Problem('memory', full_name, 'a parameter with values', 'a lazy one or one on the meta device')
    if '/' in full_name:
        return Problem('rule', full_name, "a name without '/'", 'one with it')
    try:
        pieces = tuple(_pieces(place, tensor, parts))
    except Misfit as error:
        return Problem('rule', full_name, error.expected, error.found)
    return Leaf(label(full_name, pieces), full_name, tensor, pieces, collection)


def _pieces(place: Place, tensor: torch.Tensor, parts: tuple[Part, ...]) -> Iterator[Piece]:
    """The parts, of equal size, one after the other along the axis that their layout is cut along."""
    if len(parts) == 1 and parts[0].leaf is not None:
        parts[0].layout.shape(tuple(tensor.shape))  # raises
        yield _piece(place, parts[0], (slice(None),) * tensor.ndim, tuple(tensor.shape))
        return
    axis = parts[0].layout.cut
    if tensor.ndim < -axis or tensor.shape[axis] % len(parts):
        raise Misfit(f'{len(parts)} equal parts along axis {axis}', tuple(tensor.shape))
    size = tensor.shape[axis] // len(parts)
    for position, part in enumerate(parts):
        region, extent = cut(tensor, axis, position * size, (position + 1) * size)
        part.layout.shape(extent)  # raises
        yield _piece(place, part, region, extent)


def _piece(place: Place, part: Part, region: tuple[slice, ...], extent: tuple[int, ...]) -> Piece:
    path = part.leaf and below(place.path, part.leaf)
    return Piece(path, part.layout, region, extent, place.index, place.sizes)


def label(name: str, pieces: tuple[Piece, ...]) -> str:
    """The Flax path of a parameter that is one leaf; else all that it holds, or its name in torch."""
    paths = [piece.path for piece in pieces if piece.path is not None]
    if not paths:
        return name.replace('.', '/')
    index = f'[{", ".join(map(str, pieces[0].index))}]' if pieces[0].index else ''
    return ' + '.join(paths) + index
