"""Modules of the port that are wrong by themselves, and the lines of their class."""

import functools
import inspect
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from parity.locating.causes import Piece
from parity.locating.counterfactuals import Counterfactual
from parity.locating.divergence import Place
from parity.locating.layers import LayerRow, Layers
from parity.locating.pieces import Budget, module_changes, modules_piece
from parity.locating.sources import Line, is_user

# So many calls of the modules of one class are repeated to judge a change of all of them.
CALLS = 6


@dataclass(eq=False)
class Culprits:
    """Modules of one class that are wrong by themselves, in the order of execution."""

    layers: Layers
    rows: list[LayerRow] = field(default_factory=list)

    @property
    def paths(self) -> tuple[str, ...]:
        """Of the modules, each once."""
        return tuple(dict.fromkeys(row.path for row in self.rows))

    @functools.cached_property
    def classes(self) -> list[type]:
        """The modules' class; one of a library stands in the lines of the modules that hold it."""
        modules = self.layers.loss.modules
        own = type(modules[self.rows[0].path])
        if is_user(inspect.getsourcefile(own) or ''):
            return [own]
        wrong = {id(modules[path]) for path in self.paths}
        return [
            type(holder)
            for holder in modules.values()
            if type(holder) is not own and any(id(module) in wrong for module in holder.modules())
        ]

    def has(self, line: Line) -> bool:
        """Whether the line is one of the class."""
        return any(_is_in(line, base) for cls in self.classes for base in cls.__mro__)

    def piece(self, budget: Budget, suspected: Sequence[Line]) -> Piece:
        """What is judged by repeating their calls; suspected: lines to begin with."""
        calls = [(row.path, row.number) for row in self.rows][:CALLS]
        margin = modules_piece(self.layers, calls).margin
        return Piece(margin, lambda: budget.limit(self.changes(suspected)))

    def changes(self, suspected: Sequence[Line] = ()) -> Iterator[Counterfactual]:
        """What may undo their mistake."""
        paths = set(self.paths)
        first = {call.path: call for call in self.layers.reference if call.path in paths}
        return module_changes(self.layers, list(first.values()), suspected)


def place_of(function: Any) -> Place | None:
    """The line of a function's `def`, or of a class; None where it has no source."""
    plain = inspect.unwrap(getattr(function, '__func__', function))
    try:
        lines, first = inspect.getsourcelines(plain)
        decorators = itertools.takewhile(lambda text: not text.lstrip().startswith(('def ', 'class ')), lines)
        line = first + len(list(decorators)) % len(lines)  # none of them in a lambda
        return Place.of(Line(inspect.getsourcefile(plain) or '', line, plain.__qualname__))
    except (OSError, TypeError):
        return None


@functools.cache
def _lines_of(cls: type) -> tuple[str, int, int]:
    """(file, first line, last line); nothing for what has no source."""
    try:
        lines, start = inspect.getsourcelines(cls)
        return inspect.getsourcefile(cls) or '', start, start + len(lines)
    except (OSError, TypeError):
        return '', 0, 0


def _is_in(line: Line, cls: type) -> bool:
    file, start, stop = _lines_of(cls)
    return line.file == file and start <= line.line < stop
