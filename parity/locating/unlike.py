"""Where the port says something else than the reference, in the functions that a computation calls.

A port is its original line for line, mostly: what a line says otherwise is likelier to be wrong than what it
says alike. Each such difference is undone by itself, where the reference's words mean something in the port.
"""

import ast
import copy
import dataclasses
import functools
import inspect
import itertools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from parity.locating.calls import called
from parity.locating.candidates import source_changes
from parity.locating.causes import Cause, Piece, find_cause
from parity.locating.counterfactuals import Counterfactual, Source, functions_in
from parity.locating.differences import UNLIKE, in_order, told
from parity.locating.divergence import Place
from parity.locating.pieces import Budget
from parity.locating.signatures import defaults_of
from parity.locating.sources import Line, is_user
from parity.pair import Pair

# What the same method is called in Flax and in torch.
METHODS = {'forward': '__call__', '__init__': 'setup'}

# For all differences together, and for what the one that explains all is called.
SECONDS, NAMING = 8.0, 2.0

Twins = list[tuple[Source, Source]]


class Unlike:
    """What the port says otherwise in one computation.

    run: does the computation; margin: its worst error / allowed, computed anew as the port now is.
    """

    def __init__(self, pair: Pair, run: Callable[[], object], margin: Callable[[], float]) -> None:
        self.margin = margin
        self.twins = twins(pair, run)

    @functools.cached_property
    def changes(self) -> list[Counterfactual]:
        """Each difference undone, the likeliest mistakes first: other defaults, then other words."""
        defaults = itertools.chain.from_iterable(
            defaults_of(port.function, reference.function) for port, reference in self.twins
        )
        texts = itertools.chain.from_iterable(itertools.starmap(told, self.twins))
        return [*(default.undone() for default in defaults), *in_order(texts)]

    def has(self, place: Place | None) -> bool:
        """Whether the line is one that says something else than the reference's."""
        lines = (change.line for change in self.changes)
        return place is not None and any(line and line[:2] == (place.file, place.line) for line in lines)

    def cause(
        self, found: Sequence[Counterfactual] = (), shown: Place | None = None
    ) -> tuple[Cause, Counterfactual] | None:
        """The difference that, undone, makes all agree, by the name of a known mistake if it is one.

        found: what is undone already; shown: where a cause is known: none is searched for if it is unlike.
        """
        if self.has(shown):
            return None
        cause, change = find_cause(
            Piece(self.margin, lambda: Budget(SECONDS).spend(iter(self.changes))), found
        )
        if change is None or change.line is None:
            return None
        if change.name != UNLIKE:
            return cause, change
        at_line = functools.partial(self._at, change.line)
        named, as_known = find_cause(Piece(self.margin, lambda: Budget(NAMING).spend(at_line())), found)
        if as_known is None:
            return cause, change
        return named, dataclasses.replace(as_known, reference=change.reference)

    def _at(self, line: Line) -> Iterator[Counterfactual]:
        """What would undo the known mistakes of a line."""
        for source, reference in self.twins:
            if source.is_of(line):
                yield from source_changes(source, line.line, reference)


def twins(pair: Pair, run: Callable[[], object]) -> Twins:
    """The functions of the port that run() calls, each with the reference's function of its name."""
    port, reference = (inspect.unwrap(pair.load(side)) for side in ('port', 'reference'))
    theirs: dict[str, list[Any]] = {}
    for function in _functions_beside(reference):
        theirs.setdefault(function.__qualname__, []).append(function)
    found = []
    for function in called(run, [port]):
        names = _names(function, port, reference)
        others = [other for name in names for other in theirs.get(name, ()) if other is not function]
        if function is port:
            others = [reference]
        twin = max(others, key=lambda other: _file(other) == _file(function), default=None)
        source, its = Source.if_any(function), Source.if_any(twin)
        if source and its:
            found.append((source, _given(its, source) if its.tree.name == 'setup' else its))
    return found


def _given(setup: Source, init: Source) -> Source:
    """A `setup` that has from the arguments of `__init__` what it reads of its module."""
    given = {argument.arg for argument in (*init.tree.args.args, *init.tree.args.kwonlyargs)}

    class Given(ast.NodeTransformer):
        def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
            is_read = isinstance(node.ctx, ast.Load) and ast.unparse(node.value) == 'self'
            if is_read and node.attr in given:
                return ast.copy_location(ast.Name(node.attr, ast.Load()), node)
            return self.generic_visit(node)

    return dataclasses.replace(setup, tree=Given().visit(copy.deepcopy(setup.tree)))


def _functions_beside(reference: Any) -> Iterator[Any]:
    """The functions of the files in the folders in which the reference's classes are."""
    named = reference if hasattr(reference, '__qualname__') else type(reference)
    owners = named.__mro__ if inspect.isclass(named) else [named]
    files = [getattr(sys.modules.get(owner.__module__), '__file__', None) or '' for owner in owners]
    folders = {os.path.dirname(file) for file in files if is_user(file)}
    modules = [getattr(module, '__file__', None) or '' for module in list(sys.modules.values())]
    yield from functions_in({file for file in modules if os.path.dirname(file) in folders})


def _names(function: Any, port: Any, reference: Any) -> list[str]:
    """What its twin may be called."""
    owner, _, name = function.__qualname__.rpartition('.')
    owners = [owner]
    if inspect.isclass(port) and inspect.isclass(reference) and owner == port.__qualname__:
        owners.append(reference.__qualname__)
    return [f'{one}.{own}'.lstrip('.') for one in owners for own in (name, METHODS.get(name, name))]


def _file(function: Any) -> str:
    return str(os.path.basename(function.__code__.co_filename))
