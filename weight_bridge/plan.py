"""The plan of a module: which parameter is which Flax leaf. Made from the torch side alone, for both ways.

Only parameters are planned. Buffers (running statistics, caches) are no part of a Flax `params` collection. A
parameter under two names (tied weights) is one leaf under its first name, as a Flax submodule used twice has
one set of parameters.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch import nn
from torch.nn.parameter import is_lazy

from weight_bridge.arrays import Array, numpy_dtype, summary
from weight_bridge.errors import BridgeError, Problem, next_steps
from weight_bridge.paths import flax_path, torch_name
from weight_bridge.rules import SAME, Layout, rule_of


@dataclass(frozen=True)
class Leaf:
    """One parameter and its place in the Flax tree."""

    path: str
    name: str
    parameter: nn.Parameter
    layout: Layout

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape in Flax layout."""
        return tuple(self.parameter.shape[axis] for axis in self.layout.to_flax(self.parameter.ndim))

    @property
    def summary(self) -> str:
        return summary(numpy_dtype(self.parameter.dtype), self.shape)

    def to_flax(self, array: Array) -> Array:
        """A copy in Flax layout of an array in the parameter's layout."""
        return np.array(array.transpose(self.layout.to_flax(array.ndim)), order='C', copy=True)

    def to_torch(self, array: Array) -> Array:
        """A view in the parameter's layout of an array in Flax layout."""
        return array.transpose(self.layout.to_torch(array.ndim))


@dataclass(frozen=True)
class Plan:
    """The leaves of a module in its own order; `tied` maps other paths of a shared parameter to its leaf."""

    leaves: tuple[Leaf, ...]
    tied: dict[str, str]


def plan(module: nn.Module) -> Plan:
    """The plan for all parameters of `module`.

    Raises:
        BridgeError: no parameters; a layer has no rule or its weight too few axes; two parameters have the
            same path or the same memory; a parameter has no memory yet (lazy or on the meta device). All of
            these are listed.
    """
    leaves: dict[int, Leaf] = {}
    tied: dict[str, str] = {}
    problems: list[Problem] = []
    for found in _leaves(module):
        if isinstance(found, Problem):
            problems.append(found)
        elif (first := leaves.setdefault(id(found.parameter), found)) is not found:
            tied[found.path] = first.path
    problems += _clashes(list(leaves.values()))
    if not leaves and not problems:
        problems.append(Problem('missing path', 'the module', 'at least one parameter', 'none'))
    if problems:
        subject = f'{type(module).__name__} cannot be bridged: {len(problems)} problems; nothing was copied'
        raise BridgeError(subject, problems, next_steps(problems))
    return Plan(tuple(leaves.values()), tied)


def _leaves(module: nn.Module) -> Iterator[Leaf | Problem]:
    for prefix, owner in module.named_modules(remove_duplicate=False):
        for name, parameter in owner.named_parameters(recurse=False, remove_duplicate=False):
            yield _leaf(owner, prefix, name, parameter)


def _leaf(owner: nn.Module, prefix: str, name: str, parameter: nn.Parameter) -> Leaf | Problem:
    full_name = torch_name(prefix, name)
    try:
        leaf_name, layout = rule_of(owner).leaves.get(name, (name, SAME))
    except LookupError as error:
        return Problem('rule', full_name, 'a layer with a row in weight_bridge/rules.py', str(error))
    if is_lazy(parameter) or parameter.is_meta:
        return Problem('memory', full_name, 'a parameter with values', 'a lazy one or one on the meta device')
    if '/' in full_name:
        return Problem('rule', full_name, "a name without '/'", 'one with it')
    if parameter.ndim < layout.least_rank:
        return Problem(
            'rule', full_name, f'{layout.least_rank} axes or more', f'shape {tuple(parameter.shape)}'
        )
    return Leaf(flax_path(prefix, leaf_name), full_name, parameter, layout)


def _clashes(leaves: list[Leaf]) -> Iterator[Problem]:
    """Two parameters for one leaf, or in one memory (after `target.weight.data = online.weight.data`)."""
    paths = Counter(leaf.path for leaf in leaves)
    for path in [path for path, count in paths.items() if count > 1]:
        names = ', '.join(leaf.name for leaf in leaves if leaf.path == path)
        yield Problem('rule', path, 'one parameter', names)
    owners: dict[tuple[object, int], str] = {}
    for leaf in leaves:
        memory = (leaf.parameter.device, leaf.parameter.data_ptr())
        owner = owners.setdefault(memory, leaf.name)
        if owner != leaf.name and leaf.parameter.numel():
            yield Problem('memory', leaf.name, 'memory of its own', f'that of {owner}')
