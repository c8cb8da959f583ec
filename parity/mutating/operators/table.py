"""The table of porting-bug operators: what each changes, and the real-world mistake that it stands for."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import libcst as cst

    from parity.mutating.operators.site import Site

Changes = Callable[[Any, 'Site'], Iterator['cst.CSTNode']]
Change = TypeVar('Change', bound=Changes)


@dataclass(frozen=True)
class Operator:
    """A kind of porting bug.

    mistake: what somebody who makes it in a real port had in mind, or did not know.
    nodes:   the names of the LibCST node classes that it looks at.
    changes: (node, site) -> the nodes that may stand in its place, each a mutant.
    """

    name: str
    mistake: str
    nodes: tuple[str, ...]
    changes: Changes


OPERATORS: dict[str, Operator] = {}


def operator(*nodes: str) -> Callable[[Change], Change]:
    """Put a function into the table, under its name and with its docstring as the mistake."""

    def register(changes: Change) -> Change:
        name = changes.__name__
        if name in OPERATORS:
            raise ValueError(f'two operators are called {name}')
        OPERATORS[name] = Operator(name, inspect.cleandoc(changes.__doc__ or ''), nodes, changes)
        return changes

    return register
