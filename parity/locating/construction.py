"""Modules that are made with other settings than the reference's, and the lines that make them.

A module computes what it was asked for: where it differs because of a setting, the line to blame is the one
that made it. Settings are compared by name, a linen module's fields with the arguments of the port's class.
"""

import ast
import contextlib
import inspect
import sys
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

from parity.locating.calls import line_at
from parity.locating.candidates import OTHER_SETTING, with_setting
from parity.locating.causes import Cause
from parity.locating.counterfactuals import Counterfactual
from parity.locating.divergence import Finding, Place
from parity.locating.interception import PLAIN, ModuleCall
from parity.locating.sources import Line, is_user

OF_FLAX = {'name', 'parent'}
NOT_GIVEN = object()
DEPTH = 12  # calls that are kept of how a module was made


@dataclass(frozen=True)
class Call:
    """A function that was called: its arguments, and the line that called it, None for none of a user's."""

    arguments: Mapping[str, Any]
    line: Line | None


# How a module was made: by its class, which was called in a function, which was called in another one, ...
Made = Sequence[Call]
Makes = Mapping[Any, Made]


@contextlib.contextmanager
def watched() -> Iterator[Makes]:
    """Every torch module that is made within this context, and how; forgotten with the module."""
    from torch import nn

    makes: weakref.WeakKeyDictionary[Any, Made] = weakref.WeakKeyDictionary()
    initialise = nn.Module.__init__

    def watching(self: Any, *args: Any, **kwargs: Any) -> None:
        initialise(self, *args, **kwargs)
        makes[self] = _made(sys._getframe(1))

    with mock.patch.object(nn.Module, '__init__', watching):
        yield makes


def _made(frame: FrameType | None) -> Made:
    """From the frame of the class's own `__init__` outwards, through those of its subclasses."""
    calls: list[Call] = []
    arguments = _arguments(frame) if frame else {}
    while frame is not None and (frame := frame.f_back) is not None and len(calls) < DEPTH:
        if is_user(frame.f_code.co_filename):
            calls.append(Call(arguments, line_at(frame)))
            arguments = _arguments(frame)
    return calls or [Call(arguments, None)]


def _arguments(frame: FrameType) -> dict[str, Any]:
    """The plain arguments of a function that runs, those in its `**kwargs` among them."""
    code = frame.f_code
    count = code.co_argcount + code.co_kwonlyargcount
    found = {name: frame.f_locals.get(name) for name in code.co_varnames[:count]}
    if code.co_flags & inspect.CO_VARKEYWORDS:
        positional = bool(code.co_flags & inspect.CO_VARARGS)
        found |= frame.f_locals.get(code.co_varnames[count + positional], {})
    return {name: value for name, value in found.items() if isinstance(value, PLAIN)}


@dataclass(frozen=True)
class Otherwise:
    """A setting that modules of the port have otherwise than the reference's, and the line that chose it."""

    line: Line
    name: str
    given: Any
    expected: Any
    paths: tuple[str, ...]

    def undone(self, modules: Mapping[str, Any]) -> Counterfactual:
        """The modules with the reference's value, where they keep it under its name."""
        return with_setting(OTHER_SETTING, [modules[path] for path in self.paths], self.name, self.expected)

    def finding(self, loss: str, cause: Cause | None) -> Finding:
        """As a place of a divergence."""
        why = f'made with {self.name} {self.given}, in the reference with {self.expected}'
        return Finding(
            0, 'module', 'loss', loss, Place.of(self.line), None, why, modules=self.paths, cause=cause
        )


def made_otherwise(calls: Iterable[ModuleCall], modules: Mapping[str, Any], makes: Makes) -> list[Otherwise]:
    """What differs in how modules are made, of those that are called.

    A setting that is passed on to inner modules counts for the outermost one that has it.
    """
    settings = {call.path: call.settings for call in calls}
    found: dict[tuple[Line, str, Any, Any], list[str]] = {}
    differing: list[str] = []
    for path in sorted(settings.keys() & modules.keys(), key=lambda path: path.count('/')):
        if any(path.startswith(f'{outer}/') for outer in differing):
            continue
        made = makes.get(modules[path], ())
        for name, line in _differences(settings[path], made):
            differing.append(path)
            found.setdefault((line, name, made[0].arguments[name], settings[path][name]), []).append(path)
    return [Otherwise(*what, tuple(paths)) for what, paths in found.items()]


def _differences(settings: Mapping[str, Any], made: Made) -> Iterator[tuple[str, Line]]:
    """The settings that differ, of those that both sides have, and the line that chose each for the port."""
    for name, value in settings.items():
        given = made[0].arguments if made else {}
        line = _chosen(name, made)
        if name not in OF_FLAX and name in given and given[name] != value and line is not None:
            yield name, line


def _chosen(name: str, made: Made) -> Line | None:
    """The line of the outermost call that has passed an argument of this name on."""
    line = None
    for call in made:
        if call.arguments.get(name, NOT_GIVEN) != made[0].arguments.get(name):
            break
        line = call.line
    return line and Line(line.file, _line_of_keyword(line, name), line.function)


def _line_of_keyword(line: Line, name: str) -> int:
    """Where `name=` stands in a call of several lines that begins at a line."""
    try:
        tree = ast.parse(Path(line.file).read_text())
    except (OSError, SyntaxError):
        return line.line
    keywords = (
        keyword
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and node.lineno == line.line
        for keyword in node.keywords
        if keyword.arg == name
    )
    return min((keyword.value.lineno for keyword in keywords), default=line.line)
