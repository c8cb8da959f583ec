"""One mutant, tried in a process of its own: which stage of which case notices it first."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from parity.checking import DTYPES, check_stage
from parity.mutating import loading
from parity.mutating.answers import Answers, Recorded, read
from parity.pair import find

Kind = Literal['mismatch', 'error', 'timeout', 'crash', 'memory']


@dataclass(frozen=True)
class Task:
    """texts: {module: text} of what is changed; answers: {pair: files of its reference's answers}.

    folder:    where the texts are written, below it: a trial may be ended before it has cleaned up.
    gigabytes: how much memory the trial may take beyond what Python and torch take.
    """

    texts: Mapping[str, str]
    answers: Mapping[str, tuple[Path, ...]]
    folder: Path | None = None
    gigabytes: float = 4.0


@dataclass(frozen=True)
class Found:
    """What noticed a mutant, and how: kind 'mismatch', or 'error' where the port raised.

    what: in words; path: of the worst leaf.
    """

    kind: Kind
    pair: str = ''
    case: str = ''
    stage: str = ''
    dtype: str = ''
    what: str = ''
    path: str = ''


@dataclass(frozen=True)
class Outcome:
    """found: None where nothing noticed; reached: {pair: for each case, the lines that ran}, if traced.

    located: the rank of the mutated line among those named, 0 if it is not; None: not asked.
    cause:   the one that is given for that line.
    """

    found: Found | None = None
    located: int | None = None
    cause: str = ''
    reached: dict[str, list[dict[str, set[int]]]] = field(default_factory=dict)


def attempt(task: Task, send: Callable[[Outcome | None], None]) -> None:
    """Try a mutant, to be called in a process of its own. Sends None at each step, then an Outcome."""
    quiet()
    _limit_memory(task.gigabytes)
    with loading.replaced(task.texts, task.folder):
        send(Outcome(_first_found(task, lambda: send(None))))


def trace(task: Task, send: Callable[[Outcome | None], None]) -> None:
    """Like `attempt` of unchanged texts, but tells which of their lines ran in which case, too."""
    quiet()
    reached: dict[str, list[dict[str, set[int]]]] = {}
    for pair, paths in task.answers.items():
        for path in paths:
            with loading.replaced(task.texts, task.folder), _traced(set(task.texts)) as lines:
                found = _first_found(Task(task.texts, {pair: (path,)}, task.folder), lambda: send(None))
            if found is not None:
                send(Outcome(found))
                return
            reached.setdefault(pair, []).append(lines)
    send(Outcome(reached=reached))


def _first_found(task: Task, step: Callable[[], None]) -> Found | None:
    """What notices first: all cases in float64, then those that have answers in float32."""
    for name, paths in task.answers.items():
        for dtype in DTYPES:
            for path in paths:
                step()
                found = _in_case(name, read(path), dtype)
                if found is not None:
                    return found
    return None


def _in_case(name: str, answers: Answers, dtype: str) -> Found | None:
    """What notices the mutant in one case."""
    case = answers.case.describe()
    try:
        runs = Recorded(find(name), answers)
        for stage in (stage for stage, precision in answers.expected if precision == dtype):
            result = check_stage(runs, stage, dtype)
            if result.outcome == 'mismatch':
                leaf = result.leaves[0]
                return Found('mismatch', name, case, stage, dtype, f'{leaf.kind} of {leaf.path}', leaf.path)
            if result.outcome != 'match':
                return Found(_kind(result.reason), name, case, stage, dtype, result.reason)
    except Exception as cause:  # whatever the mutant raises where it is imported
        return Found(_kind(repr(cause)), name, case, 'import', dtype, f'{type(cause).__name__}: {cause}')
    return None


def _kind(reason: str) -> Kind:
    """Whether it was memory that the port ran out of; torch says so in a RuntimeError."""
    exhausted = 'MemoryError' in reason or 'DefaultCPUAllocator' in reason
    return 'memory' if exhausted else 'error'


def quiet() -> None:
    """One thread; and what a mutant prints is nobody's."""
    import torch

    torch.set_num_threads(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)


def _limit_memory(gigabytes: float) -> None:
    import resource

    pages = int(Path('/proc/self/statm').read_text().split()[0])
    limit = pages * resource.getpagesize() + int(gigabytes * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


@contextlib.contextmanager
def _traced(modules: set[str]) -> Iterator[dict[str, set[int]]]:
    """Which lines of these modules run, {module: line numbers}."""
    lines: dict[str, set[int]] = {module: set() for module in modules}

    def local(frame: FrameType, event: str, arg: Any) -> Any:
        lines[frame.f_globals['__name__']].add(frame.f_lineno)
        return local

    def entered(frame: FrameType, event: str, arg: Any) -> Any:
        return local(frame, event, arg) if frame.f_globals.get('__name__') in modules else None

    sys.settrace(entered)
    try:
        yield lines
    finally:
        sys.settrace(None)
