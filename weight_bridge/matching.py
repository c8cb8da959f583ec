"""Proposing a mapping between a Flax tree and a torch module whose names differ, without a silent guess."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
from torch import nn

from weight_bridge.arrays import Array, Stored, described
from weight_bridge.errors import BridgeError, Problem, next_steps
from weight_bridge.evidence import Evidence, Found, possible
from weight_bridge.layouts import Shape
from weight_bridge.mapping import Mapping as Table
from weight_bridge.paths import flatten
from weight_bridge.pieces import Leaf, Target
from weight_bridge.plan import Form, Plan, form_of, plan, planned, without_collections
from weight_bridge.running import Port, Reference, Sides, State, solve
from weight_bridge.scopes import Link, Node, tree
from weight_bridge.table import Row
from weight_bridge.walk import walk


def match(
    params: object,
    module: nn.Module,
    *,
    reference: Reference | None = None,
    port: Port | None = None,
    form: Form | None = None,
    most_runs: int = 1000,
) -> Table:
    """Proposes which leaf of a Flax tree is which parameter of a module, where their names differ.

    Structure and shapes decide first, then the rules of the layers, then words that both sides use, then the
    order of definition; every row of the result says by what it was decided. With `reference` and `port` the
    proposal is confirmed by running both, and what is open is decided so. Otherwise, and where the outputs do
    not tell, a row keeps all its candidates: such a mapping is refused by `to_torch` until it is edited.

    Args:
        params: the tree, as for `to_torch`.
        module: is not changed.
        reference: computes outputs from a tree like `params`, on an input of its own; no randomness.
        port: computes the same from a copy of the module, on the same input. Both best in float64.
        form: as for `to_torch`.
        most_runs: of each side.

    Raises:
        BridgeError: leaves or parameters have no counterpart; the outputs differ whatever the mapping; more
            runs are needed. A leaf that is no array.
    """
    if (reference is None) is not (port is None):
        raise TypeError('match: give both reference and port, or neither')
    flat = flatten(params)
    arrays = _checked(without_collections(flat, form or form_of(flat, plan(module).targets)))
    wanted = _stacked(module, {path: array.shape for path, array in arrays.items()})
    roots = tree({path: array.shape for path, array in arrays.items()}), tree(wanted.targets)
    found = Evidence().pair(*roots)
    if not found.fits:
        raise _unmatched(found)
    if reference is None or port is None:
        rows = _rows(found, Evidence())
    else:
        names = dict(zip(arrays, flat, strict=True))

        def rebuild(values: Mapping[str, Array]) -> Any:
            return _replaced(params, (), {names[path]: value for path, value in values.items()})

        doubting = Evidence(trusting=False)
        links = tuple(possible(doubting.pair(*roots), doubting))
        sides = Sides(reference, port, arrays, rebuild, module, wanted.leaves, links, most_runs)
        rows = _by_running(sides, found, roots)
    zeros = [row for leaf in wanted.leaves for row in _zeros(leaf)]
    order = {path: place for place, path in enumerate(arrays)}
    return Table(tuple([*sorted(rows, key=lambda row: order[str(row.flax)]), *zeros]))


def _checked(flat: Mapping[str, Any]) -> dict[str, Array | Stored]:
    arrays = {path: described(leaf) for path, leaf in flat.items()}
    problems = [
        Problem('dtype', path, 'an array', type(flat[path]).__name__)
        for path, array in arrays.items()
        if array is None
    ]
    if problems:
        raise BridgeError('match: this is no tree of arrays', problems, next_steps(problems))
    return {path: array for path, array in arrays.items() if array is not None}


def _stacked(module: nn.Module, shapes: Mapping[str, Shape]) -> Plan:
    """The plan in which lists of equal members are stacks, where only that gives the leaves of the tree."""
    wanted = Counter(tree({path: shape}).sizes for path, shape in shapes.items())
    plain = plan(module).in_form('state')
    lists = _lists(module)
    for count in range(len(lists) + 1):
        for chosen in combinations(lists, count):
            stacks = frozenset(name for names in chosen for name in names)
            try:
                found = planned(module, walk(module, stacks=stacks)).in_form('state')
            except BridgeError:  # its members are not equal
                continue
            if Counter(tree({path: target}).sizes for path, target in found.targets.items()) == wanted:
                return found
    return plain


def _lists(module: nn.Module) -> list[list[str]]:
    """The names of lists of modules; lists that differ in numbers only (one in each block) go together."""
    found: dict[str, list[str]] = {}
    for name, child in module.named_modules():
        if isinstance(child, nn.ModuleList | nn.Sequential) and len(child) > 1:
            found.setdefault(re.sub(r'\d+', '#', name), []).append(name)
    return list(found.values())[:6]


def _by_running(sides: Sides, found: Found, roots: tuple[Node, Node]) -> list[Row]:
    """The rows that running confirms or finds: first with the evidence of names and order, then without."""
    evidence, start = Evidence(), State.of(found)
    first = next(solve(start, sides, evidence), None) if sides.agree(start.decided) else None
    if first is None:
        evidence = Evidence(trusting=False)
        start = State.of(evidence.pair(*roots))
        error, allowed = sides.error(start.decided)
        if not error <= allowed:
            raise _differ(error, allowed, 'whatever the mapping')
        first = next(solve(start, sides, evidence), None)
        if first is None:
            raise _differ(float('inf'), allowed, 'in every mapping')
    others = [next(solve(tie, sides, evidence), None) for tie in first.ties]
    links = [
        link if path not in start.decided else replace(link, why=(*(link.why or ('shape',)), 'running'))
        for path, link in first.decided.items()
    ]
    return _alternatives(links, [state for state in others if state is not None])


def _alternatives(links: list[Link], others: list[State]) -> list[Row]:
    """The rows, with more candidates where another mapping gives the same outputs."""
    candidates = ([link, *(state.decided[link.flax] for state in others)] for link in links)
    return [row for found in candidates for row in _merged(found, 'ambiguous: the outputs are equal')]


def _rows(found: Found, evidence: Evidence) -> list[Row]:
    candidates: dict[str, list[Link]] = {}
    for link in possible(found, evidence):
        candidates.setdefault(link.flax, []).append(link)
    return [row for links in candidates.values() for row in _merged(links, 'ambiguous: nothing decides')]


def _merged(candidates: list[Link], why: str) -> list[Row]:
    """One row for each piece, with the names and layouts of all candidates, if there are several."""
    found = list(dict.fromkeys((link.target.path, link.layout.name) for link in candidates))
    if len(found) == 1:
        return candidates[0].rows()
    rows = []
    for pieces in zip(*(link.rows() for link in candidates), strict=False):
        first = pieces[0]
        names = tuple(dict.fromkeys(str(row.torch) for row in pieces))
        layouts = tuple(dict.fromkeys(str(row.layout) for row in pieces))
        rows.append(
            Row(
                first.flax,
                names if len(names) > 1 or len(layouts) == 1 else names[0],
                layouts if len(layouts) > 1 else layouts[0],
                first.rows,
                first.index,
                first.shape,
                why,
            )
        )
    return rows


def _zeros(leaf: Leaf) -> Iterator[Row]:
    for piece in leaf.pieces:
        if piece.path is None:
            cut = piece.region[piece.layout.cut]
            yield Row(None, leaf.name, piece.layout.name, (cut.start, cut.stop), by='rules')


def _replaced(node: Any, path: tuple[str, ...], values: Mapping[str, Array]) -> Any:
    """The nested dict with other leaves; what has no path (random states) stays."""
    if isinstance(node, Mapping):
        return {key: _replaced(child, (*path, str(key)), values) for key, child in node.items()}
    return values.get('/'.join(path), node)


def _unmatched(found: Found) -> BridgeError:
    problems = [
        Problem('missing path', node.name, 'a parameter of this shape', _shape(node.leaf))
        for node in found.lost
    ]
    for node in found.strays:
        target: Target = node.leaf
        problems.append(Problem('unexpected path', target.where, 'a leaf of this shape', target.summary))
    subject = f'match: {len(found.lost)} leaves and {len(found.strays)} parameters have no counterpart'
    return BridgeError(subject, problems, next_steps(problems))


def _shape(shape: Shape) -> str:
    return f'[{",".join(map(str, shape))}]'


def _differ(error: float, allowed: float, when: str) -> BridgeError:
    found = f'{error:.3g} of the largest output' if np.isfinite(error) else 'more in each'
    problem = Problem('value', 'the outputs', f'a difference of {allowed:.3g} of the largest at most', found)
    steps = [
        'compare the two functions first: another constant, layer or input differs as well '
        '(parity.check_functions)'
    ]
    return BridgeError(f'match: reference and port compute different outputs {when}', [problem], steps)
