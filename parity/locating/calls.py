"""Python's calls around an operation: their lines, and where what it takes entered them."""

import contextlib
import inspect
import os
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from parity.locating.counterfactuals import functions_in
from parity.locating.sources import Line, Stack, is_engine, is_user, user_stack

if TYPE_CHECKING:
    import torch

CHANGING = ('counterfactuals.py', 'operations.py')


def uncompiled() -> contextlib.AbstractContextManager[Any]:
    """Let `torch.compile`d pieces run as they are written, for they hide what they compute."""
    import torch

    # loading the compiler takes seconds: without it nothing can have been compiled
    is_loaded = 'torch._dynamo' in sys.modules
    return torch.compiler.set_stance('force_eager') if is_loaded else contextlib.nullcontext()


def frames_at(frame: types.FrameType | None) -> list[types.FrameType]:
    """The frames of code under check and of libraries, innermost first, up to the engine's own.

    An operation in whose place another may be passes through the engine on its way: that is passed over.
    """
    found = []
    while frame is not None and (is_changing(frame) or not is_engine(frame.f_code.co_filename)):
        found += [] if is_changing(frame) else [frame]
        frame = frame.f_back
    return found


def is_changing(frame: types.FrameType) -> bool:
    """Whether it is one of the engine that may put one operation in another's place."""
    return os.path.basename(frame.f_code.co_filename) in CHANGING and is_engine(frame.f_code.co_filename)


def stack_of(frames: list[types.FrameType]) -> Stack:
    """Their lines, those of code under check."""
    return user_stack([line_at(frame) for frame in frames])


def line_at(frame: types.FrameType) -> Line:
    """The line that a frame is at."""
    return Line(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_qualname)


def passed(error: BaseException) -> Iterator[Line]:
    """The lines that an exception passed, outermost first, without the engine's."""
    traceback = error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if not is_engine(code.co_filename):
            yield Line(code.co_filename, traceback.tb_lineno, code.co_qualname)
        traceback = traceback.tb_next


def called(run: Callable[[], object], local: Iterable[Any] = ()) -> list[Any]:
    """The functions of code under check that run() calls, each once, in their order. It may raise.

    local: functions that may be local to others, and are not found in files.
    """
    codes: dict[types.CodeType, None] = {}
    _watched(run, lambda frame: codes.setdefault(frame.f_code))
    files = {code.co_filename for code in codes if is_user(code.co_filename)}
    functions = [*functions_in(files), *filter(inspect.isfunction, local)]
    known = {function.__code__: function for function in functions}
    return [known[code] for code in codes if code in known]


def callers(run: Callable[[], object], function: Line) -> list[Line]:
    """The lines of code under check that call the function of a line, in their order. run() may raise."""
    lines: dict[Line, None] = {}

    def see(frame: types.FrameType) -> None:
        is_it = (frame.f_code.co_filename, frame.f_code.co_qualname) == (function.file, function.function)
        if is_it and frame.f_back is not None and is_user(frame.f_back.f_code.co_filename):
            lines.setdefault(line_at(frame.f_back))

    _watched(run, see)
    return list(lines)


def receivers(run: Callable[[], object], is_it: Callable[[Any], bool]) -> list[Line]:
    """Where functions of code under check return that were given a certain value, in their order."""
    lines: dict[Line, None] = {}

    def see(frame: types.FrameType) -> None:
        if is_user(frame.f_code.co_filename) and any(map(is_it, _arguments(frame))):
            lines.setdefault(line_at(frame))

    _watched(run, see, 'return')
    return list(lines)


def _watched(run: Callable[[], object], see: Callable[[types.FrameType], object], what: str = 'call') -> None:
    """Run, and see the frame of every function when it is called, or when it returns."""

    def watch(frame: types.FrameType, event: str, _: object) -> None:
        if event == what:
            see(frame)

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        run()
    except Exception:  # what fails has called functions until then
        pass
    finally:
        sys.setprofile(before)


def entry(given: 'torch.Tensor | float', frames: list[types.FrameType]) -> Line | None:
    """The line at which a tensor or a number entered the calls around an operation that takes it.

    The innermost frame of which it is no argument, a tensor neither itself nor as another view of the whole.
    """
    place = _start(given)
    for frame in frames:
        if is_user(frame.f_code.co_filename) and not _is_argument(place, frame):
            return line_at(frame)
    return None


def _start(given: Any) -> Any:
    """Where a tensor begins: views of the whole of it begin there, too. A number is itself."""
    if hasattr(given, 'untyped_storage'):
        return given.untyped_storage()._cdata, int(given.storage_offset())
    return given if isinstance(given, int | float) and not isinstance(given, bool) else None


def _is_argument(place: Any, frame: types.FrameType) -> bool:
    return any(_start(x) == place for x in _arguments(frame))


def _arguments(frame: types.FrameType) -> list[Any]:
    """What a function was given, and what is in lists of it."""
    code, values = frame.f_code, frame.f_locals
    variadic, keywords = (
        bool(code.co_flags & inspect.CO_VARARGS),
        bool(code.co_flags & inspect.CO_VARKEYWORDS),
    )
    count = code.co_argcount + code.co_kwonlyargcount
    arguments = [values.get(name) for name in code.co_varnames[:count]]
    if variadic:
        arguments += values.get(code.co_varnames[count], ())
    if keywords:
        arguments += values.get(code.co_varnames[count + variadic], {}).values()
    return [x for a in arguments for x in (a if isinstance(a, tuple | list) else [a])]
