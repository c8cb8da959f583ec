"""The cause of a difference, by counterfactual: a known mistake is undone, the piece computed once more.

A cause is named only where the difference vanishes, to the engine's tolerances. Otherwise it is unknown, and
the change that left the smallest difference is told. What has been found stays applied while the search goes
on, because one mistake can hide another.
"""

import ast
import dataclasses
import functools
import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from parity.comparison import compare
from parity.locating.counterfactuals import Counterfactual, Source, applied, operation, setting
from parity.locating.layers import Layers, judged
from parity.locating.operations import OPERATIONS
from parity.locating.rewrites import REWRITES
from parity.locating.scopes import as_reference, scope_of
from parity.locating.structures import arrays_of
from parity.locating.syntax import rewritten
from parity.runs import Runs
from parity.sides import LossCall
from parity.tolerances import tolerance
from parity.trees import Arrays, subtree, with_prefix

UNKNOWN = 'cause unknown'
# How torch calls what Flax calls otherwise.
ALIASES = {'epsilon': ('eps', 'epsilon'), 'momentum': ('momentum',), 'negative_slope': ('negative_slope',)}


@dataclass(frozen=True)
class Cause:
    """Why a piece differs.

    name:        a known difference, or 'cause unknown'.
    description: the change that makes the difference vanish, or that leaves the smallest one.
    before:      the margin (error / allowed) of the piece as it is; after: with the change.
    tried:       how many changes were tried.
    """

    name: str
    description: str
    before: float
    after: float
    tried: int

    @property
    def known(self) -> bool:
        """Whether the difference vanished."""
        return self.name != UNKNOWN


@dataclass(frozen=True)
class Piece:
    """A part of the port that differs.

    margin:     computes it anew as the port now is, and returns the worst error / allowed.
    candidates: the changes that may undo its mistake, the likeliest first.
    """

    margin: Callable[[], float]
    candidates: Callable[[], Iterator[Counterfactual]]


def find_cause(piece: Piece, found: Sequence[Counterfactual] = ()) -> tuple[Cause, Counterfactual | None]:
    """The cause of a piece's difference, and its counterfactual, None where it is unknown.

    found: what is known already, and applied all the while.
    """
    with applied(found):
        before = _margin(piece)
        nearest, best, tried = None, np.inf, 0
        for candidate in piece.candidates():
            tried += 1
            after = _margin(piece, candidate)
            if after <= 1:
                return Cause(candidate.name, candidate.description, before, after, tried), candidate
            if after < best:
                nearest, best = candidate, after
    return _unknown(nearest, before, best, tried), None


def find_causes(pieces: Sequence[Piece]) -> list[Cause]:
    """The causes of several pieces in their order, each searched with those before it undone.

    A piece whose difference has vanished with them has no cause of its own, and none in the result.
    """
    causes: list[Cause] = []
    found: list[Counterfactual] = []
    for piece in pieces:
        with applied(found):
            remains = _margin(piece) > 1
        if remains:
            cause, counterfactual = find_cause(piece, found)
            causes.append(cause)
            found += [counterfactual] if counterfactual else []
    return causes


def _unknown(nearest: Counterfactual | None, before: float, after: float, tried: int) -> Cause:
    if nearest is None or not after < before:
        return Cause(UNKNOWN, 'no known difference brings it nearer', before, before, tried)
    return Cause(UNKNOWN, f'nearest: {nearest.name}, {nearest.description}', before, after, tried)


def _margin(piece: Piece, *changes: Counterfactual) -> float:
    """The piece's margin with some changes; inf where the port cannot be computed so."""
    try:
        with warnings.catch_warnings(action='ignore'), applied(changes):
            return piece.margin()
    except Exception:  # a candidate may make no sense in this place, in any way
        return np.inf


# --- pieces


def module_piece(layers: Layers, path: str, number: int = 0) -> Piece:
    """A call of a module, repeated on the reference's inputs."""
    calls = [call for call in layers.reference if call.path == path]
    module = layers.loss.modules[path]

    def margin() -> float:
        forced = layers.forced(calls[number], number)
        assert forced is not None  # a module that is never called has no call to repeat
        return judged(forced, layers.runs.inputs.reduction)[0].margin

    def candidates() -> Iterator[Counterfactual]:
        yield from _settings(module, calls[number].settings)
        yield from _operations()
        yield from source_changes(Source.of(type(module).forward))

    return Piece(margin, candidates)


def operation_piece(
    reference: np.ndarray, function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]
) -> Piece:
    """A torch function with its recorded arguments, and the value that the reference has for it."""

    def margin() -> float:
        found = {name: x.detach().cpu().numpy() for name, x in arrays_of(function(*args, **kwargs)).items()}
        expected = {'output': reference}
        reduction = max((int(np.prod(x.shape)) for x in arrays_of(args).values()), default=1)
        allowed = {'output': tolerance(reference, 0.0, 'float64', reduction)}
        return compare(expected, found, expected, allowed)[0].margin

    return Piece(margin, _operations)


def loss_piece(
    runs: Runs,
    call: LossCall,
    source: Source,
    line: int | None,
    leaves: Sequence[str] = (),
    reference: Source | None = None,
) -> Piece:
    """A line of the port, judged by what its loss makes of it.

    line:   in the function's file; None for all of the function.
    leaves: `loss`, `info/<name>` and `grads/<path>`, by default all; where only values are named no gradient
            is computed.
    reference: the function that it ports, for what is missing in the port.
    """
    values, grads = (subtree(runs.reference64.stage(stage), call.name) for stage in ('loss', 'grads'))
    expected = {**values, **with_prefix('grads', grads)}
    tolerances = {
        **_tolerances(runs, 'loss', call),
        **with_prefix('grads', _tolerances(runs, 'grads', call)),
    }
    gradients = not leaves or any(name.startswith('grads/') for name in leaves)
    chosen = {name: expected[name] for name in leaves or tolerances if name in expected}

    def margin() -> float:
        found = _loss_leaves(runs.port64, call, gradients)
        found = {name: leaf for name, leaf in found.items() if name in chosen}
        return compare(chosen, found, chosen, tolerances, places=True)[0].margin

    return Piece(margin, lambda: source_changes(source, line, reference))


def _loss_leaves(runner: Any, call: LossCall, gradients: bool) -> Arrays:
    runner.side.restore(runner.start)
    if not gradients:  # without parameters to differentiate the values are the same
        call = dataclasses.replace(call, frozen=True)
    values, grads = runner.side.losses((call,), runner.batch, runner.inputs.key)
    return {**subtree(values, call.name), **with_prefix('grads', subtree(grads, call.name))}


def _tolerances(runs: Runs, stage: str, call: LossCall) -> dict[str, Any]:
    return subtree(runs.tolerances(stage, 'float64', runs.reference64.stage(stage)), call.name)


# --- candidates


def _settings(module: Any, reference: dict[str, Any]) -> Iterator[Counterfactual]:
    """The module with what the reference's was made with, and with its switches the other way."""
    for name, value in reference.items():
        for own in ALIASES.get(name, (name,)):
            if isinstance(getattr(module, own, None), int | float) and getattr(module, own) != value:
                row = 'normalisation epsilon' if own.startswith('eps') else 'other setting'
                yield _set(row, module, own, value)
    for name, value in vars(module).items():
        if isinstance(value, bool) and not name.startswith('_'):
            yield _set('training mode' if name == 'training' else 'other setting', module, name, not value)
        if name in ('eps', 'epsilon'):
            for eps in (1e-6, 1e-5, 1e-3, 1e-8, 1e-12):
                yield _set('normalisation epsilon', module, name, eps)


def _set(row: str, module: Any, name: str, value: Any) -> Counterfactual:
    description = f'{type(module).__name__}.{name} = {value!r} instead of {getattr(module, name)!r}'
    return Counterfactual(row, description, functools.partial(setting, module, name, value))


def _operations() -> Iterator[Counterfactual]:
    for row in OPERATIONS:
        apply = functools.partial(operation, row.functions, row.result)
        yield Counterfactual(row.name, row.description, apply)


def source_changes(
    source: Source, line: int | None = None, reference: Source | None = None
) -> Iterator[Counterfactual]:
    """Every known rewrite of every expression of a line, or of the whole function.

    reference: the function that it ports; its lines come last, in the place of the port's.
    """
    nodes = source.expressions(line)
    last = source.tree.end_lineno or 0 if line is None else line
    scope = scope_of(source.tree, last, reference.tree if reference else None)
    for row in REWRITES:
        for node in nodes:
            for text in row.options(node, scope):
                yield _rewrite(source, row.name, node, text)
    yield from _orders(source, line)
    for node, text in as_reference(source.tree, reference.tree) if reference else ():
        if node in nodes:
            yield _rewrite(source, "unlike the reference's line", node, text)


def _orders(source: Source, line: int | None) -> Iterator[Counterfactual]:
    """Two statements that follow each other, the other way round: norm before activation."""
    for block in source.blocks():
        for first, second in itertools.pairwise(block):
            if line is None or first.lineno <= line <= (second.end_lineno or 0):
                description = f'line {second.lineno} before line {first.lineno}'
                apply = functools.partial(source.swapped, first, second)
                yield Counterfactual('order of statements', description, apply)


def _rewrite(source: Source, name: str, node: ast.expr, text: str) -> Counterfactual:
    description = f'line {node.lineno}: `{text}` instead of `{ast.unparse(node)}`'
    return Counterfactual(name, description, lambda: source.replaced(node, rewritten(text)))
