"""The plan of a module: which parameter is which Flax leaf. Made from the torch side alone, for both ways.

The rules make it, or a mapping where the names differ. Buffers that no rule names (caches, masks) are no part
of it. A parameter under two names (tied weights) is one leaf under its first name, as a Flax submodule used
twice has one set of parameters.
"""

from collections.abc import Iterable, Iterator
from collections.abc import Mapping as AnyMapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from torch import nn

from weight_bridge.errors import BridgeError, Problem, next_steps
from weight_bridge.mapping import Mapping
from weight_bridge.pieces import PARAMS, STATISTICS, Leaf, Target, targets
from weight_bridge.walk import walk

Form = Literal['params', 'variables', 'state']


@dataclass(frozen=True)
class Plan:
    """What is copied, in the module's own order.

    Attributes:
        leaves: one for each parameter (in other forms than `params` also one for each running statistic).
        tied: other paths of a shared parameter, and the leaf that holds it.
        statistics: the running statistics, apart.
    """

    leaves: tuple[Leaf, ...]
    tied: dict[str, str]
    statistics: tuple[Leaf, ...] = ()

    @cached_property
    def targets(self) -> dict[str, Target]:
        """The leaves of the Flax tree by path."""
        return targets(self.leaves)

    def in_form(self, form: Form) -> 'Plan':
        """The plan for the parameters alone, for all collections, or for a state that has all in one tree.

        `params` is `variables['params']`; `variables` has the parameters beneath `params` and the running
        statistics beneath `batch_stats`; in `state` (NNX) the statistics lie beside the parameters.
        """
        if form == 'params':
            return self
        leaves = (*self.leaves, *self.statistics)
        if form == 'state':
            return Plan(leaves, self.tied)
        tied = {f'{PARAMS}/{path}': f'{PARAMS}/{first}' for path, first in self.tied.items()}
        return Plan(tuple(leaf.beneath(leaf.collection) for leaf in leaves), tied)


def form_of(flat: Iterable[str], own: Iterable[str]) -> Form:
    """`variables`, if the tree has a collection's key that is none of the own names, else `state`.

    `module.init` of linen returns all collections, with the parameters one level deeper.
    """
    collections = {path.split('/')[0] for path in flat} & {PARAMS, STATISTICS}
    return 'variables' if collections - {path.split('/')[0] for path in own} else 'state'


def without_collections(flat: AnyMapping[str, Any], form: Form) -> dict[str, Any]:
    """The leaves by their paths within the collections, in which they are unique."""
    if form != 'variables':
        return dict(flat)
    return {path.partition('/')[2] or path: leaf for path, leaf in flat.items()}


def plan(module: nn.Module, mapping: Mapping | None = None) -> Plan:
    """The plan for all parameters of `module`, by a mapping or else by the rules.

    Raises:
        BridgeError: no parameters; a layer has no rule or its weight too few axes; two parameters have the
            same path or the same memory; members of a stack differ; a parameter has no memory yet (lazy or on
            the meta device); a row of the mapping does not fit. All of these are listed.
    """
    return planned(module, walk(module) if mapping is None else mapping.leaves(module))


def planned(module: nn.Module, found: Iterable[Leaf | Problem]) -> Plan:
    """The plan of the leaves found, checked; parameters found again are tied."""
    leaves: dict[int, Leaf] = {}
    tied: dict[str, str] = {}
    problems: list[Problem] = []
    for leaf in found:
        if isinstance(leaf, Problem):
            problems.append(leaf)
        elif (first := leaves.setdefault(id(leaf.parameter), leaf)) is not leaf:
            tied |= {piece.path: first.path for piece in leaf.pieces if piece.path is not None}
    problems += _clashes(list(leaves.values()))
    if not leaves and not problems:
        problems.append(Problem('missing path', 'the module', 'at least one parameter', 'none'))
    if problems:
        subject = f'{type(module).__name__} cannot be bridged: {len(problems)} problems; nothing was copied'
        raise BridgeError(subject, problems, next_steps(problems))
    kinds = {kind: tuple(f for f in leaves.values() if f.collection == kind) for kind in (PARAMS, STATISTICS)}
    return Plan(kinds[PARAMS], tied, kinds[STATISTICS])


def _clashes(leaves: list[Leaf]) -> Iterator[Problem]:
    """Pieces that make up no array; two tensors in one memory (`target.weight.data = online.weight.data`)."""
    for target in targets(leaves).values():
        yield from target.problems()
    owners: dict[tuple[object, int], str] = {}
    for leaf in leaves:
        memory = (leaf.parameter.device, leaf.parameter.data_ptr())
        owner = owners.setdefault(memory, leaf.name)
        if owner != leaf.name and leaf.parameter.numel():
            yield Problem('memory', leaf.name, 'memory of its own', f'that of {owner}')
