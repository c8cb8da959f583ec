"""Several pairs at once, or parts of one, in processes: compiling the references is what takes the time."""

import dataclasses
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, TypeVar

import fixtures
from parity import backends
from parity.cases import Case
from parity.checking import check, known
from parity.growth import check_growth
from parity.locating.divergence import Divergence
from parity.locating.first import with_located
from parity.locating.locate import locate
from parity.pair import Pair, find
from parity.stages import STAGES, UPDATES, stages_of
from parity.verdict import CaseResult, StageResult, Verdict

Progress = Callable[[str], None]
Result = TypeVar('Result')


def check_pairs(
    cases: Mapping[str, Sequence[Case]],
    choice: dict[str, Any],
    jobs: int,
    progress: Progress,
    done: Callable[[Verdict], None] = lambda verdict: None,
) -> list[Verdict]:
    """The verdict of each pair on its cases.

    jobs: the number of processes, each with a pair; where there are more of them than pairs, with a share of
          a pair's stages. With one, or one share, everything runs in this process.
    done: called in this process with each verdict, as soon as it is there.
    Raises what check raises; then the other pairs are given up.
    """
    if 1 < jobs > len(cases) and not choice.get('steps'):
        return _in_shares(cases, choice, jobs, progress, done)
    names = sorted(cases, key=longest_first)
    if min(jobs, len(names)) < 2:
        found = {}
        for name in names:
            found[name] = check_pair(name, cases[name], choice, progress)
            done(found[name])
    else:
        tasks = [(name, cases[name], choice) for name in names]
        found = dict(zip(names, in_processes(check_pair, tasks, jobs, progress, done), strict=True))
    return [found[name] for name in cases]


def _in_shares(
    cases: Mapping[str, Sequence[Case]],
    choice: dict[str, Any],
    jobs: int,
    progress: Progress,
    done: Callable[[Verdict], None],
) -> list[Verdict]:
    """The same, with the stages of a pair that share no programs in processes of their own."""
    tasks = [
        (name, cases[name], {**choice, 'stages': stages, 'locate': False})
        for name in cases
        for stages in _shares(stages_asked(find(name), choice))
    ]
    if len(tasks) < 2:
        found = [check_pair(*task, progress) for task in tasks]
    else:
        found = in_processes(check_pair, tasks, jobs, progress)
    verdicts = []
    for name in cases:
        verdict = _joined([part for task, part in zip(tasks, found, strict=True) if task[0] == name])
        if choice.get('locate'):
            verdict = with_located(verdict, locating(name, cases[name], choice, progress))
        done(verdict)
        verdicts.append(verdict)
    return verdicts


def _shares(stages: Sequence[str]) -> list[list[str]]:
    """Stages by the programs that they run; each share takes about half of the time."""
    shares = [s for s in stages if s not in UPDATES], [s for s in stages if s in UPDATES]
    return [share for share in shares if share]


def _joined(verdicts: Sequence[Verdict]) -> Verdict:
    """One verdict of several on the same cases, in other stages."""
    rows = zip(*(verdict.cases for verdict in verdicts), strict=True)
    cases = (dataclasses.replace(row[0], stages=_in_order(row)) for row in rows)
    seconds = max(verdict.seconds for verdict in verdicts)
    return dataclasses.replace(verdicts[0], cases=tuple(cases), seconds=seconds)


def _in_order(cases: Iterable[CaseResult]) -> tuple[StageResult, ...]:
    stages = (stage for case in cases for stage in case.stages)
    return tuple(sorted(stages, key=lambda stage: list(STAGES).index(stage.stage)))


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
    jobs = max(1, min(jobs, len(tasks)))
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


def check_pair(name: str, cases: Sequence[Case], choice: dict[str, Any], progress: Progress) -> Verdict:
    """The verdict of one pair, in those of the chosen stages that it has; or of a long run.

    Its first mismatch is located, if that is chosen, while its programs are still there.
    """
    pair = find(name)
    common = {key: value for key, value in choice.items() if key not in ('stages', 'steps', 'seed', 'locate')}
    common['progress'] = progress
    try:
        if steps := choice.get('steps'):
            return check_growth(pair, steps, sources=fixtures.names(), seed=choice['seed'], **common)
        verdict = check(name, cases=cases, stages=stages_asked(pair, choice), **common)
        if choice.get('locate'):
            verdict = with_located(verdict, locating(name, cases, choice, progress))
        return verdict
    finally:
        backends.release()  # no other pair uses its programs


def stages_asked(pair: Pair, choice: Mapping[str, Any]) -> list[str]:
    """Those of the chosen stages that a pair has. Raises ParityError for one that there is not."""
    asked = known('stage', choice['stages'] or list(STAGES), list(STAGES))
    return [stage for stage in stages_of(pair) if stage in asked]


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


def longest_first(name: str) -> int:
    """More networks take longer to compile, and what takes longest must not start last."""
    return -len(find(name).forward)


def processes(jobs: int) -> int:
    """So many processes; for 0 one for each core."""
    return jobs or os.cpu_count() or 1


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
