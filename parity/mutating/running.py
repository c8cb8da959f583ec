"""Trials in processes that may hang, crash or take all memory: each has a limit, and ends only itself."""

import contextlib
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from typing import Any

import psutil  # type: ignore[import-untyped]

from parity.mutating.trial import Found, Outcome, Task

# What every trial needs: a server imports it once, and forks itself for each trial. It is the only thing
# that runs there, so that no thread of XLA is forked. The first optimiser imports torch._dynamo, for seconds.
PRELOAD = (
    'torch',
    'torch._dynamo',
    'optax',
    'flax.linen',
    'weight_bridge',
    'parity.cli',
    'parity.mutating.trial',
)
# A trial whose process computes for less than a twentieth of the time waits for something; others may be kept
# from computing by what else the machine does, up to so many times the limit.
BUSY, PATIENCE = 0.05, 10.0

Trial = Callable[[Task, Callable[[Outcome | None], None]], None]


@dataclass(frozen=True)
class Ended:
    """How a task ended, and the seconds that it took."""

    task: int
    outcome: Outcome
    seconds: float


@dataclass
class _Running:
    task: int
    process: ForkServerProcess
    receiver: Connection
    started: float
    deadline: float
    last: float  # when it last sent something, and the seconds that it had computed by then
    computed: float = 0.0

    def tell(self, now: float, limit: float) -> None:
        """It has sent something: from now on it has its time again."""
        self.last, self.deadline, self.computed = now, now + limit, self._seconds()

    def is_starved(self, now: float, limit: float) -> bool:
        """Whether it has not had the time of its limit, although it would have used it; it gets it then."""
        used = self._seconds() - self.computed
        if not BUSY * limit < used < limit or now > self.last + PATIENCE * limit:
            return False
        self.deadline = now + limit - used
        return True

    def _seconds(self) -> float:
        """What the process has computed; 0 if it has ended."""
        with contextlib.suppress(psutil.Error):
            times = psutil.Process(self.process.pid).cpu_times()
            return float(times.user + times.system)
        return 0.0


def run(
    trial: Trial, tasks: Sequence[Task], jobs: int, limit: float, imports: Sequence[str] = ()
) -> Iterator[Ended]:
    """Run `trial(task, send)` for each task, `jobs` at once, each in a process of its own; as they end.

    limit:   how many seconds a trial may take from one thing that it sends to the next; where others keep the
             cores busy, how many it may compute.
    imports: further modules that every trial needs, and that no task changes.
    A trial that hangs is ended, and found by 'timeout'; one whose process ends before it is done, by 'crash'.
    """
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload([*PRELOAD, *imports])
    waiting, running = list(enumerate(tasks))[::-1], list[_Running]()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(_start(context, trial, *waiting.pop(), limit))
            soonest = min(one.deadline for one in running) - time.monotonic()
            ready = wait([one.receiver for one in running], max(0.0, soonest))
            for one in list(running):
                outcome = _look_at(one, one.receiver in ready, limit)
                if outcome is not None:
                    running.remove(one)
                    yield Ended(one.task, outcome, time.monotonic() - one.started)
    finally:
        for one in running:
            _end(one)


def _start(context: Any, trial: Trial, number: int, task: Task, limit: float) -> _Running:
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_in_process, args=(trial, task, sender), daemon=True)
    process.start()
    sender.close()
    now = time.monotonic()
    return _Running(number, process, receiver, now, now + limit, now)


def _in_process(trial: Trial, task: Task, sender: Connection) -> None:
    trial(task, sender.send)


def _look_at(one: _Running, ready: bool, limit: float) -> Outcome | None:
    """The outcome, if the trial has one or is over."""
    if not ready:
        now = time.monotonic()
        if now < one.deadline or one.is_starved(now, limit):
            return None
        _end(one)
        return Outcome(Found('timeout', what=f'nothing for {limit:g} s'))
    try:
        sent: Outcome | None = one.receiver.recv()
    except EOFError:
        one.process.join(limit)
        _end(one)
        return Outcome(Found('crash', what=f'the process ended with {one.process.exitcode}'))
    one.tell(time.monotonic(), limit)
    if sent is not None:
        _end(one)
    return sent


def _end(one: _Running) -> None:
    """End the process, whatever it does, and let go of it."""
    one.process.kill()
    one.process.join()
    one.receiver.close()
