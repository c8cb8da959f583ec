"""Functions of the port that return what they are given: what they should make of it is left out."""

import ast

from parity.locating.counterfactuals import Source, helpers
from parity.locating.sources import Line
from parity.locating.syntax import call_name


def hollow(line: Line) -> list[Line]:
    """Where the functions that a line calls by name return an argument as it is."""
    source = Source.at(line)
    if source is None:
        return []
    called = {call_name(node) for node in source.expressions(line.line)}
    inner = (one for one in helpers(source) if one.tree.name in called)
    return [one.line_of(one.tree.body[-1]) for one in inner if _returns_argument(one)]


def _returns_argument(source: Source) -> bool:
    """Whether that is all that it does."""
    *before, last = source.tree.body
    value = last.value if isinstance(last, ast.Return) else None
    is_argument = isinstance(value, ast.Name) and value.id in {one.arg for one in source.tree.args.args}
    return is_argument and all(isinstance(one, ast.Expr) for one in before)  # a docstring
