"""Several pairs at once, each in a process of its own: compiling the references is what takes the time."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from parity import backends
from parity.check import check
from parity.generated import all_cases
from parity.pair import find
from parity.verdict import Verdict

Progress = Callable[[str], None]


def check_pairs(
    names: Sequence[str], examples: int, seed: int, choice: dict[str, Any], jobs: int, progress: Progress
) -> list[Verdict]:
    """The verdicts of the pairs `names` on recorded and generated cases, in that order.

    jobs: the number of processes; with one, or one pair, everything runs in this process.
    Raises what check raises; then the other pairs are given up.
    """
    if min(jobs, len(names)) < 2:
        return [check_pair(name, examples, seed, choice, progress) for name in names]
    context = multiprocessing.get_context('spawn')  # a fork of a process that runs XLA can hang
    with context.Manager() as manager:
        lines = manager.Queue()
        listener = threading.Thread(target=_relay, args=(lines, progress), daemon=True)
        listener.start()
        pool = ProcessPoolExecutor(jobs, context, _start_worker, (lines, _threads(jobs)))
        try:
            futures = {
                name: pool.submit(_check_in_worker, name, examples, seed, choice)
                for name in sorted(names, key=_longest_first)
            }
            return [futures[name].result() for name in names]
        finally:
            pool.shutdown(cancel_futures=True)
            lines.put(None)
            listener.join()


def check_pair(name: str, examples: int, seed: int, choice: dict[str, Any], progress: Progress) -> Verdict:
    """The verdict of one pair."""
    try:
        return check(name, cases=all_cases(find(name), examples, seed), progress=progress, **choice)
    finally:
        backends.release()  # no other pair uses its programs


def _longest_first(name: str) -> int:
    """More networks take longer to compile, and what takes longest must not start last."""
    return -len(find(name).forward)


def _threads(jobs: int) -> int:
    return max(1, (os.cpu_count() or 1) // jobs)


def _relay(lines: Any, progress: Progress) -> None:
    while (line := lines.get()) is not None:
        progress(line)


_progress: Progress = print


def _start_worker(lines: Any, threads: int) -> None:
    import torch

    global _progress
    _progress = lines.put
    torch.set_num_threads(threads)


def _check_in_worker(name: str, examples: int, seed: int, choice: dict[str, Any]) -> Verdict:
    return check_pair(name, examples, seed, choice, _progress)
