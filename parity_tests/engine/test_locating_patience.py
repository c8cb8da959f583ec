"""A change that makes a computation endless costs a search a few seconds, and no more."""

import contextlib
import itertools
import signal
import threading
import time

import pytest

from parity.locating import causes
from parity.locating.causes import Piece, find_cause
from parity.locating.counterfactuals import Counterfactual
from parity.locating.patience import TookTooLong, at_most


def endless() -> None:
    for _ in itertools.count():
        with contextlib.suppress(Exception):  # as code under check may
            time.process_time()


def test_what_is_endless_is_ended() -> None:
    started = time.process_time()
    with pytest.raises(TookTooLong), at_most(0.1):
        endless()
    assert time.process_time() - started < 5


def test_twin_what_ends_by_itself_is_left_alone() -> None:
    before = signal.getsignal(signal.SIGPROF)
    with at_most(0.1):
        pass
    endings = time.process_time() + 0.3
    while time.process_time() < endings:  # nothing goes off later
        pass
    assert signal.getsignal(signal.SIGPROF) is before
    assert signal.getitimer(signal.ITIMER_PROF) == (0, 0)


def test_in_another_thread_it_does_nothing() -> None:
    done = []

    def work() -> None:
        with at_most(0.1):
            endings = time.process_time() + 0.3
            while time.process_time() < endings:
                pass
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]


def test_a_search_goes_on_after_a_change_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(causes, 'AT_LEAST', 0.1)
    port = {'value': 'wrong'}

    @contextlib.contextmanager
    def changed(value):  # type: ignore[no-untyped-def]
        port['value'] = value
        try:
            yield
        finally:
            port['value'] = 'wrong'

    def margin() -> float:
        if port['value'] == 'endless':
            endless()
        return float(port['value'] == 'wrong') * 2

    changes = [Counterfactual(name, name, lambda name=name: changed(name)) for name in ('endless', 'right')]
    cause, found = find_cause(Piece(margin, lambda: iter(changes)))
    assert (cause.name, cause.tried) == ('right', 2)
    assert found is changes[1]
    assert port == {'value': 'wrong'}
