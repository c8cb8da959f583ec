"""Deciding between mappings by running both sides: one question at a time, so that no search is exponential.

All that is undecided gets equal values wherever the sizes are equal, so the outputs do not depend on it. Then
one scope of the reference gets values of its own, and every scope of the port that it could be gets them in
turn: only the right one makes the outputs agree. What n scopes are takes n (n + 1) / 2 runs, not n!. Where
several agree, as for two branches that are added, the search goes on with each and keeps those that agree to
the end; if there is more than one, the outputs do not tell them apart.
"""

import copy
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import isqrt, prod
from typing import Any

import numpy as np
import torch
from torch import nn

from weight_bridge.arrays import Array, Stored, as_array, number_kind, to_array
from weight_bridge.copying import copy_into
from weight_bridge.errors import BridgeError, Problem
from weight_bridge.evidence import Evidence, Found, Group
from weight_bridge.layouts import Shape
from weight_bridge.pieces import Leaf
from weight_bridge.scopes import Link, Node, options

Reference = Callable[[Any], Any]
Port = Callable[[nn.Module], Any]


@dataclass
class Sides:
    """Both sides with values that the search chooses; the module is a copy, the tree is made anew.

    `leaves` are those of the reference by path, and `rebuild` makes the reference's tree of others; `tensors`
    are the port's parameters and running statistics, and `possible` all links that there could be.
    """

    reference: Reference
    port: Port
    leaves: Mapping[str, Array | Stored]
    rebuild: Callable[[Mapping[str, Array]], Any]
    module: nn.Module
    tensors: tuple[Leaf, ...]
    possible: tuple[Link, ...]
    most_runs: int
    runs: int = 0

    def __post_init__(self) -> None:
        self.module = copy.deepcopy(self.module)
        self._state = dict(self.module.named_parameters()) | dict(self.module.named_buffers())
        self._expected: dict[frozenset[str], list[Array]] = {}
        self._any_link = {link.target.path: link for link in self.possible}
        pieces = [piece for leaf in self.tensors for piece in leaf.pieces]
        self._vectors = {prod(piece.extent) for piece in pieces if len(piece.extent) < 2}
        layouts = {(link.flax, link.target.path, link.layout.name): link for link in self.possible}
        counts = Counter((flax, path) for flax, path, _ in layouts)
        self._undirected = {
            prod(link.shape): len(link.shape)
            for link in self.possible
            if counts[link.flax, link.target.path] > 1
        }

    def error(self, decided: Mapping[str, Link]) -> tuple[float, float]:
        """The largest difference of the outputs relative to the largest, and what rounding may make of it."""
        if self.runs >= self.most_runs:
            problem = Problem('ambiguous', 'the search', f'{self.most_runs} runs or fewer', 'more needed')
            raise BridgeError('match: not decided by running', [problem], ['allow more: most_runs=...'])
        self.runs += 1
        paths = frozenset(decided)
        if paths not in self._expected:
            values = {path: self._value(path, leaf, path in paths) for path, leaf in self.leaves.items()}
            self._expected[paths] = list(_arrays(self.reference(self.rebuild(values))))
        self._fill({link.target.path: link for link in decided.values()})
        with torch.no_grad():
            found = list(_arrays(self.port(self.module)))
        expected = self._expected[paths]
        return _largest_difference(expected, found), max(map(_rounding, expected + found), default=0.0)

    def agree(self, decided: Mapping[str, Link]) -> bool:
        """Whether the outputs are equal but for rounding, which is far below what another mapping changes."""
        error, allowed = self.error(decided)
        return error <= allowed

    def _fill(self, decided: Mapping[str, Link]) -> None:
        for leaf in self.tensors:
            tensor = self._state[leaf.name].detach()
            for piece in leaf.pieces:
                if piece.path is None:
                    tensor[piece.region].zero_()
                    continue
                link = decided.get(piece.path) or self._any_link[piece.path]
                own = piece.path in decided
                whole = self._own(link.flax, link.shape) if own else self._common(link.shape)
                copy_into(tensor[piece.region], link.layout.to_torch(piece.member(whole), piece.extent))

    def _value(self, path: str, leaf: Array | Stored, decided: bool) -> Array:
        if number_kind(leaf.dtype) != 'float':
            return np.asarray(leaf)
        values = self._own(path, leaf.shape) if decided else self._common(leaf.shape)
        exact: Array = values.astype(leaf.dtype)
        return exact

    def _own(self, path: str, shape: Shape) -> Array:
        return self._random(shape, zlib.crc32(path.encode()))

    def _common(self, shape: Shape) -> Array:
        """By size alone; where a layout is open the values do not depend on it."""
        size, side = prod(shape), isqrt(prod(shape))
        values: Array = self._random((size,), size)
        if self._undirected.get(size, 2) > 2:
            return np.full(shape, values.mean())
        if size in self._undirected and side * side == size:
            values = values.reshape(side, side) + values.reshape(side, side).T
        return values.reshape(shape)

    def _random(self, shape: Shape, seed: int) -> Array:
        """Vectors are positive, as variances are; matrices neither blow up nor vanish."""
        rng = np.random.default_rng(seed)
        if prod(shape) in self._vectors:
            return rng.uniform(0.5, 1.5, shape)
        return np.asarray(rng.normal(size=shape) / max(1.0, prod(shape)) ** 0.25)


@dataclass(frozen=True)
class State:
    """What is decided and what is open; `ties` are the states that agreed as well when one was chosen."""

    decided: Mapping[str, Link]
    groups: tuple[Group, ...]
    ties: tuple['State', ...] = ()

    @classmethod
    def of(cls, found: Found) -> 'State':
        return cls({link.flax: link for link in found.links}, found.groups)

    def choices(self, evidence: Evidence) -> Iterator['State']:
        """The states in which the first scope of the smallest group is one of the port's."""
        group = min(self.groups, key=lambda group: len(group.references))
        others = tuple(other for other in self.groups if other is not group)
        reference, *rest = group.references
        for port in group.ports:
            left = tuple(node for node in group.ports if node is not port)
            remaining = (Group(tuple(rest), left),) if rest else ()
            for found in _pairings(reference, port, evidence):
                decided = {link.flax: replace(link, why=('running',)) for link in found.links}
                yield State({**self.decided, **decided}, (*others, *remaining, *found.groups), self.ties)


def _pairings(reference: Node, port: Node, evidence: Evidence) -> list[Found]:
    if reference.leaf is not None and port.leaf is not None:
        return [Found(links=(link,)) for link in options(reference, port)]
    found = evidence.pair(reference, port)
    return [found] if found.fits else []


def solve(state: State, sides: Sides, evidence: Evidence) -> Iterator[State]:
    """The complete states in which both sides agree, and did at every step."""
    if not state.groups:
        yield state
        return
    agreeing = [choice for choice in state.choices(evidence) if sides.agree(choice.decided)]
    for position, choice in enumerate(agreeing):
        others = tuple(agreeing[:position] + agreeing[position + 1 :])
        yield from solve(replace(choice, ties=choice.ties + others), sides, evidence)


def _arrays(outputs: Any) -> Iterator[Array]:
    """The arrays in any nesting of mappings and sequences."""
    if isinstance(outputs, Mapping):
        for key in sorted(outputs):
            yield from _arrays(outputs[key])
    elif isinstance(outputs, tuple | list):
        for output in outputs:
            yield from _arrays(output)
    elif isinstance(outputs, torch.Tensor):
        yield np.array(to_array(outputs))
    else:
        array = as_array(outputs)
        yield np.asarray(outputs) if array is None else array


def _largest_difference(expected: list[Array], found: list[Array]) -> float:
    if [array.shape for array in expected] != [array.shape for array in found]:
        return float('inf')
    errors = [_difference(ours, theirs) for ours, theirs in zip(expected, found, strict=True)]
    return max(errors, default=float('inf'))


def _difference(expected: Array, found: Array) -> float:
    ours, theirs = expected.astype(np.float64), found.astype(np.float64)
    with np.errstate(invalid='ignore', over='ignore'):
        scale = max(np.abs(ours).max(initial=0.0), np.finfo(np.float64).tiny)
        error = np.abs(ours - theirs).max(initial=0.0) / scale
    return float('inf') if np.isnan(error) else float(error)


def _rounding(array: Array) -> float:
    """The square root of the resolution: half of the digits may be lost, and another mapping loses all."""
    if number_kind(array.dtype) != 'float':
        return 0.0
    return float(np.sqrt(float(np.spacing(np.ones((), array.dtype)))))
