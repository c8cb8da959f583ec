"""Lines of source code: where a value was computed, from the innermost call outwards."""

import ast
import functools
import linecache
import os
import sysconfig
from pathlib import Path
from typing import NamedTuple

_ENGINE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_STANDARD = tuple(sysconfig.get_paths()[name] + os.sep for name in ('stdlib', 'platstdlib'))
# What lies between an operation and the code that called it, and is no part of any model.
_MACHINERY = ('torch/_compile.py', 'torch/_dynamo/', 'torch/_ops.py', 'torch/utils/_python_dispatch.py')
_INSTALLED = ('site-packages' + os.sep, 'dist-packages' + os.sep)


class Line(NamedTuple):
    """A line that ran: its file's whole path, its number from 1, and the function that it is in."""

    file: str
    line: int
    function: str

    @property
    def text(self) -> str:
        """The source text, without its indentation; empty where there is no file."""
        return linecache.getline(self.file, self.line).strip()

    def __str__(self) -> str:
        if not self.file:
            return self.function
        return f'{os.path.basename(self.file)}:{self.line} in {self.function}: {self.text}'


# Innermost first. The frames of one call, or of the call in which a value was made.
Stack = tuple[Line, ...]


def is_called(line: Line, stack: Stack) -> bool:
    """Whether a call of the line's function is among the calls."""
    return any((call.file, call.function) == (line.file, line.function) for call in stack)


@functools.lru_cache(maxsize=32)
def nodes_of(file: str) -> tuple[ast.AST, ...]:
    """The nodes of a file's syntax tree, to be read only; none of what is no file of Python."""
    try:
        return tuple(ast.walk(ast.parse(Path(file).read_text())))
    except (OSError, SyntaxError):
        return ()


@functools.cache
def is_engine(file: str) -> bool:
    """Whether it is a file of this package, whose frames are nobody's code under check."""
    return os.path.abspath(file).startswith(_ENGINE)


@functools.cache
def is_user(file: str) -> bool:
    """Whether it is code under check: no installed library, no standard library, not this package."""
    installed = any(part in file for part in _INSTALLED) or file.startswith(_STANDARD)
    return not (installed or file.startswith('<') or is_engine(file))


def user_stack(frames: list[Line]) -> Stack:
    """The frames of code under check, up to the first of this package; all of those if none is the user's.

    A library function that is itself under check has no line of the user's.
    """
    outermost = next((i for i, frame in enumerate(frames) if is_engine(frame.file)), len(frames))
    inner = [frame for frame in frames[:outermost] if not any(part in frame.file for part in _MACHINERY)]
    return tuple(frame for frame in inner if is_user(frame.file)) or tuple(inner)
