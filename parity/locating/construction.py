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
from types import FrameType
from typing import Any
from unittest import mock

from parity.locating.calls import line_at
from parity.locating.candidates import ALIASES, EPSILON, OTHER_SETTING, with_setting
from parity.locating.causes import Cause
from parity.locating.counterfactuals import Counterfactual
from parity.locating.divergence import Finding, Place
from parity.locating.interception import PLAIN, ModuleCall
from parity.locating.signatures import line_of_argument
from parity.locating.sources import Line, is_engine, is_user, nodes_of

OF_FLAX = {'name', 'parent'}
NOT_GIVEN = object()
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
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
        if is_engine(frame.f_code.co_filename):  # which creates the port: whoever calls it makes no module
            break
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
        row = EPSILON if self.name in ALIASES['epsilon'] else OTHER_SETTING
        return with_setting(row, [modules[path] for path in self.paths], self.name, self.expected)

    def finding(self, stage: str, loss: str = '', cause: Cause | None = None) -> Finding:
        """As a place of a divergence."""
        why = f'made with {self.name} {self.given}, in the reference with {self.expected}'
        return Finding(
            0, 'module', stage, loss, Place.of(self.line), None, why, modules=self.paths, cause=cause
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
        for name, expected, line in _differences(settings[path], type(modules[path]), made):
            differing.append(path)
            found.setdefault((line, name, made[0].arguments[name], expected), []).append(path)
    for (_, name, given, _), paths in found.items():
        cls = type(modules[paths[0]])  # copies of them are not made, but have the same setting
        copies = (path for path in settings if type(modules.get(path)) is cls and modules[path] not in makes)
        paths += [path for path in copies if getattr(modules[path], name, NOT_GIVEN) == given]
    return [Otherwise(*what, tuple(paths)) for what, paths in found.items()]


def _differences(settings: Mapping[str, Any], cls: type, made: Made) -> Iterator[tuple[str, Any, Line]]:
    """The settings that differ, of those that both sides have: the port's name, and what the reference has.

    With the line that chose each for the port. A library's classes call some settings otherwise: of those the
    line at which values part tells more.
    """
    given = made[0].arguments if made else {}
    aliases = ALIASES if is_user(inspect.getsourcefile(cls) or '') else {}
    for name, value in settings.items():
        for own in aliases.get(name, (name,)):
            if name not in OF_FLAX and own in given and given[own] != value:
                line = _default_of(cls, own, made) or _chosen(own, made)
                yield from [(own, value, line)] if line else []


def _default_of(cls: type, name: str, made: Made) -> Line | None:
    """The head of the `__init__` that has the argument, if the call that made the module has not given it."""
    line, initialise = made[0].line, _initialise_with(cls, name)
    head = line_of_argument(initialise, name)
    parameter = inspect.signature(initialise).parameters.get(name)
    is_default = parameter is not None and parameter.default == made[0].arguments[name]
    if not is_default or line is None or head is None or not is_user(head.file):
        return None
    return None if _gives(line, name, made[1:]) else head


def _initialise_with(cls: type, name: str) -> Any:
    """The class's own `__init__`, or that of the first class before it that has an argument of this name."""
    inherited = (vars(base).get('__init__') for base in cls.__mro__)
    own, *rest = (one for one in inherited if one)
    return next((one for one in (own, *rest) if name in inspect.signature(one).parameters), own)


def _gives(line: Line, name: str, outer: Made) -> bool:
    """Whether the call at a line has the argument, by its name or within `**`.

    outer: the calls around it. What its function was given itself, and passes on as `**kwargs`, is known.
    """
    keywords = _keywords(line)
    if any(keyword.arg == name for keyword in keywords):
        return True
    within = [keyword.value for keyword in keywords if keyword.arg is None]
    if not within:
        return False
    rests = _rests_at(line)
    if outer and all(isinstance(value, ast.Name) and value.id in rests for value in within):
        return name in outer[0].arguments
    return True


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
    lines = (keyword.value.lineno for keyword in _keywords(line) if keyword.arg == name)
    return min(lines, default=line.line)


def _keywords(line: Line) -> list[ast.keyword]:
    """Those of the calls that begin at a line."""
    nodes = nodes_of(line.file)
    calls = (node for node in nodes if isinstance(node, ast.Call) and node.lineno == line.line)
    return [keyword for call in calls for keyword in call.keywords]


def _rests_at(line: Line) -> set[str]:
    """The names of `**kwargs` in the heads of the functions around a line."""
    functions = (node for node in nodes_of(line.file) if isinstance(node, FUNCTIONS))
    around = (node for node in functions if node.lineno <= line.line <= (node.end_lineno or 0))
    return {node.args.kwarg.arg for node in around if node.args.kwarg}
