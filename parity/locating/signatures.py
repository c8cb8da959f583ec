"""Defaults of methods and modules that both sides are called with: no line that computes has a wrong one."""

import ast
import contextlib
import inspect
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from unittest import mock

from parity.locating.causes import Cause
from parity.locating.counterfactuals import Counterfactual, Source
from parity.locating.divergence import Finding, Place
from parity.locating.interception import PLAIN, ModuleCall
from parity.locating.sources import Line
from parity.pair import Pair
from parity.sides import LossCall, UpdateCall

COMPARED = (*PLAIN, type(None))


@dataclass(frozen=True)
class OtherDefault:
    """An argument that the port's function has another default for than the reference's: mine for theirs."""

    port: Any
    reference: Any
    name: str
    mine: Any
    theirs: Any

    def undone(self) -> Counterfactual:
        """The port's function with the reference's default."""
        description = f'{self.name}={self.theirs!r} instead of {self.mine!r} by default'
        lines = (line_of_argument(function, self.name) for function in (self.port, self.reference))
        return Counterfactual('other default', description, self._changed, *lines)

    @contextlib.contextmanager
    def _changed(self) -> Iterator[None]:
        parameters = inspect.signature(self.port).parameters.values()
        given = [p for p in parameters if p.default is not p.empty and p.kind is not p.KEYWORD_ONLY]
        positional = tuple(self.theirs if p.name == self.name else p.default for p in given)
        by_name = {**(self.port.__kwdefaults__ or {})}
        by_name |= {self.name: self.theirs} if self.name in by_name else {}
        with (
            mock.patch.object(self.port, '__defaults__', positional or None),
            mock.patch.object(self.port, '__kwdefaults__', by_name or None),
        ):
            yield

    def finding(self, stage: str, loss: str, cause: Cause | None = None) -> Finding:
        """As a place of a divergence."""
        port, reference = (
            Place.of(line_of_argument(function, self.name)) for function in (self.port, self.reference)
        )
        why = f'the default of {self.name} is {self.mine}, in the reference {self.theirs}'
        return Finding(0, 'value', stage, loss, port, reference, why, cause=cause)


def defaults_of_call(pair: Pair, call: LossCall | UpdateCall) -> list[OtherDefault]:
    """Of an agent's method, but for the arguments that it is called with."""
    if pair.losses:  # it has functions of its own in the place of methods
        return []
    port, reference = (_function(pair.load(side), call.method) for side in ('port', 'reference'))
    return defaults_of(port, reference, dict(call.options))


def defaults_of_modules(calls: Iterable[ModuleCall], modules: Mapping[str, Any]) -> list[OtherDefault]:
    """Of the calls of modules, each class once."""
    classes = {type(modules[call.path]): call.cls for call in calls if call.path in modules}
    return [
        found
        for ours, theirs in classes.items()
        for found in defaults_of(_function(ours, 'forward'), _function(theirs, '__call__'))
    ]


def defaults_of(port: Any, reference: Any, given: Collection[str] = ()) -> list[OtherDefault]:
    """Of two functions, but for the arguments that are given; none if one of them is None."""
    if port is None or reference is None:
        return []
    mine, theirs = _defaults(port), _defaults(reference)
    return [
        OtherDefault(port, reference, name, mine[name], theirs[name])
        for name in mine
        if name in theirs and name not in given and mine[name] != theirs[name]
    ]


def other_numbers(functions: Iterable[Any]) -> Iterator[Counterfactual]:
    """Each whole number that is a default of functions: one more or less, half or double."""
    for function in functions:
        for name, value in _defaults(function).items():
            numbers = (value - 1, value + 1, value // 2, 2 * value) if type(value) is int else ()
            for number in dict.fromkeys(numbers):
                if number != value:
                    yield OtherDefault(function, function, name, value, number).undone()


def _function(cls: Any, method: str) -> Any:
    """The plain function; None where there is none of Python's."""
    found = getattr(cls, method, None)
    plain = None if found is None else inspect.unwrap(getattr(found, '__func__', found))
    return plain if inspect.isfunction(plain) else None


def _defaults(function: Any) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.items()
    return {name: found.default for name, found in parameters if isinstance(found.default, COMPARED)}


def line_of_argument(function: Any, name: str) -> Line | None:
    """Where a default stands in the head of a function; None where it has no source."""
    source = Source.if_any(function)
    if source is None:
        return None
    head = [node for node in ast.walk(source.tree.args) if isinstance(node, ast.arg) and node.arg == name]
    return source.line_of(head[0] if head else source.tree)
