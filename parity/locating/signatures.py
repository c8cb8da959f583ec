"""Defaults of methods that both sides are called with: a wrong one is on no line that computes anything."""

import ast
import inspect
import textwrap
from collections.abc import Collection
from typing import Any

from parity.locating.divergence import Finding, Place
from parity.locating.sources import Line
from parity.pair import Pair

PLAIN = (bool, int, float, str, type(None))


def other_defaults(
    pair: Pair, method: str, given: Collection[str], stage: str, loss: str = ''
) -> list[Finding]:
    """The arguments of an agent's method that are left to their defaults, where the port has another one.

    given: the names of those that the stage passes itself.
    """
    port, reference = (_function(pair.load(side), method) for side in ('port', 'reference'))
    if port is None or reference is None:
        return []
    mine, theirs = _defaults(port), _defaults(reference)
    differing = [name for name in mine if name in theirs and name not in given and mine[name] != theirs[name]]
    return [
        Finding(
            0,
            'value',
            stage,
            loss,
            Place.of(_line_of(port, name)),
            Place.of(_line_of(reference, name)),
            f'the default of {name} is {mine[name]}, in the reference {theirs[name]}',
        )
        for name in differing
    ]


def _function(cls: Any, method: str) -> Any:
    found = getattr(cls, method, None)
    return None if found is None else inspect.unwrap(found)


def _defaults(function: Any) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.items()
    return {name: found.default for name, found in parameters if isinstance(found.default, PLAIN)}


def _line_of(function: Any, name: str) -> Line | None:
    """Where a default stands in the head of a function; None where it has no source."""
    try:
        lines, first = inspect.getsourcelines(function)
    except (OSError, TypeError):
        return None
    (tree,) = ast.parse(textwrap.dedent(''.join(lines))).body
    found = (node for node in ast.walk(tree) if isinstance(node, ast.arg) and node.arg == name)
    number = first + min((node.lineno for node in found), default=1) - 1
    return Line(inspect.getsourcefile(function) or '', number, function.__qualname__)
