"""Several pairs at once, each in a process of its own: compiling the references is what takes the time."""

import dataclasses
import multiprocessing
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, TypeVar

import fixtures
from parity import backends
from parity.cases import Case
from parity.check import check, known
from parity.generated import all_cases
from parity.growth import check_growth
from parity.locating.divergence import Divergence
from parity.locating.first import with_located
from parity.locating.locate import locate
from parity.pair import find
from parity.stages import STAGES, stages_of
from parity.verdict import Verdict

Progress = Callable[[str], None]
Result = TypeVar('Result')


def check_pairs(
    names: Sequence[str],
    examples: int,
    seed: int,
    choice: dict[str, Any],
    jobs: int,
    progress: Progress,
    done: Callable[[Verdict], None] = lambda verdict: None,
) -> list[Verdict]:
    """The verdicts of the pairs `names` on recorded and generated cases, in that order.

    jobs: the number of processes; with one, or one pair, everything runs in this process.
    done: called in this process with each verdict, as soon as it is there.
    Raises what check raises; then the other pairs are given up.
    """
    if min(jobs, len(names)) < 2:
        verdicts = []
        for name in names:
            verdicts.append(check_pair(name, examples, seed, choice, progress))
            done(verdicts[-1])
        return verdicts
    order = sorted(names, key=_longest_first)
    tasks = [(name, examples, seed, choice) for name in order]
    found = dict(zip(order, in_processes(check_pair, tasks, jobs, progress, done), strict=True))
    return [found[name] for name in names]


def in_processes(
    function: Callable[..., Result],
    tasks: Sequence[tuple[Any, ...]],
    jobs: int,
    progress: Progress,
    done: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """`function(*task, progress)` for each task, `jobs` at once, in processes that share nothing.

    done: called in this process with each result, as soon as it is there.
    Raises what a task raises; then the others are given up.
    """
    context = multiprocessing.get_context('spawn')  # a fork of a process that runs XLA can hang
    lines = context.Queue()
    listener = threading.Thread(target=_relay, args=(lines, progress), daemon=True)
    listener.start()
    pool = ProcessPoolExecutor(jobs, context, _start_worker, (lines, _threads(jobs)))
    try:
        futures = [pool.submit(_in_worker, function, task) for task in tasks]
        for future in as_completed(futures):
            done(future.result())
        return [future.result() for future in futures]
    finally:
        pool.shutdown(cancel_futures=True)
        lines.put(None)
        listener.join()


def check_pair(name: str, examples: int, seed: int, choice: dict[str, Any], progress: Progress) -> Verdict:
    """The verdict of one pair, in those of the chosen stages that it has; or of a long run.

    Its first mismatch is located, if that is chosen, while its programs are still there.
    """
    pair = find(name)
    common = {key: value for key, value in choice.items() if key not in ('stages', 'steps', 'locate')}
    common['progress'] = progress
    asked = known('stage', choice['stages'] or list(STAGES), list(STAGES))
    stages = [stage for stage in stages_of(pair) if stage in asked]
    try:
        if steps := choice.get('steps'):
            return check_growth(pair, steps, sources=fixtures.names(), seed=seed, **common)
        cases = all_cases(pair, examples, seed)
        verdict = check(name, cases=cases, stages=stages, **common)
        if choice.get('locate'):
            verdict = with_located(verdict, locating(name, cases, choice, progress))
        return verdict
    finally:
        backends.release()  # no other pair uses its programs


def locating(
    name: str, cases: Sequence[Case], choice: dict[str, Any], progress: Progress
) -> Callable[[int, str], Divergence]:
    """`locate` for one of these cases of a pair, and a stage."""

    def located(i: int, stage: str) -> Divergence:
        found = locate(name, case=cases[i], stage=stage, device=choice['device'], progress=progress)
        return of_execution(found, choice)

    return located


def of_execution(found: Divergence, choice: Mapping[str, Any]) -> Divergence:
    """Locating runs ports as written, references jitted on a CPU: a note where nothing differs there."""
    other = [f'--{name}' for name in ('variant', 'tf32') if choice.get(name)]
    other += ['--reference-device'] * (choice.get('reference_device', 'cpu') != 'cpu')
    if found.outcome != 'match' or not other:
        return found
    note = f'without {" and ".join(other)} nothing differs: it is not what is written, but how it is executed'
    return dataclasses.replace(found, notes=(note,))


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
    threading.Thread(target=_end_with_parent, daemon=True).start()
    backends.prepare()
    torch.set_num_threads(threads)


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for its next task for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _in_worker(function: Callable[..., Result], task: tuple[Any, ...]) -> Result:
    return function(*task, _progress)
