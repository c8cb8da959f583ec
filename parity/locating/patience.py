"""An end for what may never end: a change of a line can make a loop run over billions of numbers."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class TookTooLong(BaseException):
    """Raised in the middle of a computation. No Exception, for code under check may catch any of these."""


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise TookTooLong, once, after so many CPU seconds of the process in what is inside.

    CPU time, so that nothing depends on how busy the machine is. Only Python's main thread can be
    interrupted, and only where the system has such a timer: elsewhere what is inside takes what it takes.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or not hasattr(signal, 'setitimer'):
        yield
        return
    ended = False

    def end(signum: int, frame: FrameType | None) -> None:
        nonlocal ended
        if not ended:
            ended = True
            raise TookTooLong(f'more than {seconds:g} s')

    before = signal.signal(signal.SIGPROF, end)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        ended = True
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
