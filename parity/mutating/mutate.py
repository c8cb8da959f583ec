"""The run: the reference's answers, the unmutated port, then every mutant."""

import dataclasses
import functools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from parity.errors import ParityError
from parity.mutating import locating, results, running, trial
from parity.mutating import plan as planning
from parity.mutating.answers import questions_of, structures, write_answers
from parity.mutating.mutants import Mutant
from parity.mutating.plan import Plan, Reached
from parity.mutating.results import Result
from parity.pair import find
from parity.parallel import in_processes, longest_first

Tell = Callable[[str], None]
LIMIT = 60.0  # seconds for one case, of which a healthy one takes less than one


def mutate(
    plan: Plan,
    mutants: Sequence[Mutant],
    jobs: int,
    tell: Tell,
    limit: float = LIMIT,
    locate: bool = False,
    brief: bool = False,
) -> Iterator[Result]:
    """Try these mutants of the plan, and tell of each as soon as its fate is known.

    limit:  in seconds, what a mutant may take for one case.
    locate: also tell whether the mutated line is named, of those that differ in float64.
    brief:  ask less of each pair, see `questions_of`; what is left then is not settled.
    Raises ParityError where the unmutated port does not match: then every mutant would seem to be killed.
    """
    modules = dict.fromkeys(mutant.module for mutant in mutants)
    pairs = list(dict.fromkeys(pair for module in modules for pair in plan.pairs[module]))
    settled_by = {module: () if brief else tuple(plan.pairs[module]) for module in modules}
    reasons = results.reasons_for(plan.sources.values())
    with tempfile.TemporaryDirectory(prefix='parity_mutate_') as name:
        folder = Path(name)
        answers, reached = _prepared(plan, pairs, folder, jobs, limit, tell, brief)
        tasks = [
            planning.task(mutant, plan.pairs[mutant.module], answers, reached, folder) for mutant in mutants
        ]
        for mutant, task in zip(mutants, tasks, strict=True):
            if not task.answers:
                yield results.result(
                    mutant,
                    None,
                    0.0,
                    reasons,
                    reached=False,
                    pairs=settled_by[mutant.module],
                )
        tried = [(mutant, task) for mutant, task in zip(mutants, tasks, strict=True) if task.answers]
        # nothing kills what is declared equivalent, so that each runs all cases of all pairs: last
        tried.sort(key=lambda each: each[0].key in reasons)
        for ended in running.run(trial.attempt, [task for _, task in tried], jobs, limit, _references(pairs)):
            mutant, task = tried[ended.task]
            found = ended.outcome.found
            at = _located(plan, task, found, limit) if locate and found is not None else trial.Outcome()
            yield dataclasses.replace(
                results.result(mutant, found, ended.seconds, reasons, pairs=settled_by[mutant.module]),
                located=at.located,
                cause=at.cause,
            )


def _located(plan: Plan, task: trial.Task, found: trial.Found, limit: float) -> trial.Outcome:
    """The rank of the mutated line, 0 if it was not named, and its cause; nothing where it was not asked."""
    if not locating.can_locate(found):
        return trial.Outcome()
    originals = {module: plan.sources[module].text for module in task.texts}
    attempt = functools.partial(locating.locate, found, originals)
    (ended,) = running.run(attempt, [task], 1, 10 * limit)
    return dataclasses.replace(ended.outcome, located=ended.outcome.located or 0)


def _prepared(
    plan: Plan,
    pairs: Sequence[str],
    folder: Path,
    jobs: int,
    limit: float,
    tell: Tell,
    brief: bool = False,
) -> tuple[dict[str, list[Path]], Reached]:
    """The references' answers, and which lines run in which case, of ports that match."""
    answers = _answers(pairs, folder / 'answers', False, brief, jobs, tell)
    reached, differing = _unmutated(plan, answers, folder, jobs, limit, tell)
    if differing:
        # a check would take more samples of the noise, but answers that are kept have what they have
        again = _answers(list(differing), folder / 'careful', True, brief, jobs, tell)
        more, differing = _unmutated(plan, again, folder, jobs, limit, tell)
        answers, reached = {**answers, **again}, {**reached, **more}
    if differing:
        raise _differ(list(differing.values()))
    return answers, reached


def _answers(
    pairs: Sequence[str], folder: Path, careful: bool, brief: bool, jobs: int, tell: Tell
) -> dict[str, list[Path]]:
    """The files of answers of each pair, in its questions' order; each structure is a task of its own."""
    tasks = [
        (pair, indices, folder / str(pairs.index(pair)), careful, brief)
        for pair in sorted(pairs, key=longest_first)
        for indices in structures(questions_of(find(pair), brief=brief))
    ]
    paths: dict[str, dict[int, Path]] = {pair: {} for pair in pairs}
    for (pair, indices, *_), written in zip(
        tasks, in_processes(write_answers, tasks, jobs, tell), strict=True
    ):
        paths[pair].update(zip(indices, written, strict=True))
    return {pair: [path for _, path in sorted(found.items())] for pair, found in paths.items()}


def _unmutated(
    plan: Plan, answers: dict[str, list[Path]], folder: Path, jobs: int, limit: float, tell: Tell
) -> tuple[dict[str, list[dict[str, set[int]]]], dict[str, trial.Found]]:
    """Which lines run in which case, of ports that match; and what differs, of others."""
    tasks = []
    for pair, paths in answers.items():
        texts = {module: source.text for module, source in plan.sources.items() if pair in plan.pairs[module]}
        tasks.append(trial.Task(texts, {pair: tuple(paths)}, folder))
    reached: dict[str, list[dict[str, set[int]]]] = {}
    differing: dict[str, trial.Found] = {}
    for ended in running.run(trial.trace, tasks, jobs, 10 * limit, _references(list(answers))):
        (pair,) = tasks[ended.task].answers
        if ended.outcome.found is not None:
            differing[pair] = ended.outcome.found
        else:
            reached |= ended.outcome.reached
        tell(f'{pair}: the unmutated port {"differs" if pair in differing else "matches"}')
    return reached, differing


def _references(pairs: Sequence[str]) -> list[str]:
    """The modules of the pairs' references, where they are named."""
    targets = (find(pair).reference for pair in pairs)
    return sorted({target.partition(':')[0] for target in targets if isinstance(target, str)})


def _differ(found: Sequence[trial.Found]) -> ParityError:
    whats = (f'{one.pair}: {one.kind} in {one.stage} {one.dtype}: {one.what}' for one in found)
    return ParityError(
        f'{", ".join(one.pair for one in found)}: the unmutated port does not match',
        values=f'expected a match; found {"; ".join(whats)}',
        error='every mutant would seem to be killed',
        where='; '.join(one.case for one in found),
        next_step=f'parity run {" ".join(one.pair for one in found)}',
    )
