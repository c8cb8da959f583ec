"""The orchestrator: run both sides of a pair on cases, stage by stage and in both precisions, and judge."""

import functools
import platform
import time
from collections.abc import Callable, Iterable, Sequence

from parity import backends
from parity.cases import Case
from parity.errors import ParityError, unknown
from parity.execution import Execution
from parity.pair import Pair, find
from parity.runs import Runs
from parity.stages import STAGES, stages_of
from parity.verdict import CaseResult, Outcome, StageResult, Verdict

# Of so many cases a verdict keeps every leaf; of those after them that match, the worst of each stage.
KEEP = 50
# So often, in cases, the compiled programs are looked after.
HOUSEKEEPING = 25

DTYPES = ('float64', 'float32')
PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'torch', 'numpy')

Progress = Callable[[str], None]


def check(
    pair: Pair | str,
    *,
    cases: Iterable[Case] = (Case(),),
    stages: Sequence[str] | None = None,
    dtypes: Sequence[str] = DTYPES,
    device: str = 'cpu',
    reference_device: str = 'cpu',
    variant: str | None = None,
    tf32: bool = False,
    progress: Progress | None = None,
    keep: int = KEEP,
) -> Verdict:
    """Compare the port of `pair` (a Pair, a registered name or `module:ATTR`) with its reference.

    cases:    what to run both on; stages: names from STAGES, all by default; dtypes: 'float64', 'float32'.
    device, reference_device, variant, tf32: see `Execution`; where this machine cannot do it, nothing is run,
              and the outcome is 'not_run', with the reason.
    progress: called with a line of text before each stage.
    keep:     of later cases than so many, only the worst leaf of a stage that matches is kept.
    Raises ParityError for bad arguments or a bad batch, FixtureError for a bad recording. What a side raises
    becomes the outcome 'error'.
    """
    started = time.perf_counter()
    execution = Execution(device, reference_device, variant, tf32)
    target = pair if isinstance(pair, str) else pair.name
    pair = find(pair) if isinstance(pair, str) else pair
    stages = chosen_of(pair, stages)
    dtypes = known('dtype', dtypes, list(DTYPES))
    tell = progress or (lambda _: None)
    results: list[CaseResult] = []
    cases = list(cases)
    lacks = execution.lacks()
    for i, case in enumerate(cases, 1):
        tell_case = functools.partial(_tell_case, tell, f'{pair.name} {i}/{len(cases)}')
        if lacks:
            found = not_run(lacks, stages, dtypes)
        else:
            found = _check_case(Runs(pair, case, execution), stages, dtypes, tell_case)
        result = CaseResult(case.source, case.describe(), execution.command(case.command(target)), found)
        results.append(result if len(results) < keep else result.brief())
        if len(results) % HOUSEKEEPING == 0:
            backends.release_if_crowded()
    return Verdict(pair.name, tuple(results), environment(execution), time.perf_counter() - started)


def versions() -> dict[str, str]:
    """The versions of everything that computes."""
    found = {'python': platform.python_version(), 'machine': platform.machine()}
    return {**found, **{package: _version(package) for package in PACKAGES}}


def environment(execution: Execution) -> dict[str, str]:
    """What a verdict was found with: the versions, and how both sides were run."""
    return {**versions(), **execution.described()}


@functools.cache  # looking it up reads files
def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return 'not installed'


def _tell_case(tell: Progress, which: str, line: str) -> None:
    tell(f'{which}: {line}')


def known(kind: str, names: Sequence[str], options: list[str]) -> list[str]:
    """The names, if all are among the options. Raises ParityError for the first that is not."""
    for name in names:
        if name not in options:
            raise unknown(
                kind, name, options, where='parity.check', next_step=f'name one of: {", ".join(options)}'
            )
    return list(names)


def chosen_of(pair: Pair, stages: Sequence[str] | None) -> list[str]:
    """The stages, all of the pair if None. Raises ParityError for what is none, or none of the pair."""
    stages = known('stage', stages_of(pair) if stages is None else stages, list(STAGES))
    if lacking := [stage for stage in stages if not pair.has(stage)]:
        raise _without(pair, lacking)
    return stages


def _check_case(runs: Runs, stages: list[str], dtypes: list[str], tell: Progress) -> tuple[StageResult, ...]:
    _ = runs.config  # a bad batch or configuration is refused before anything runs
    results = []
    for stage in stages:
        for dtype in dtypes if stage != 'config' else dtypes[:1]:
            tell(f'{runs.case.describe()}: {stage} {dtype}')
            results.append(check_stage(runs, stage, dtype))
    return tuple(results)


def not_run(reason: str, stages: Iterable[str], dtypes: Iterable[str]) -> tuple[StageResult, ...]:
    """What stands for the stages where nothing could be run."""
    return tuple(StageResult(stage, dtype, 'not_run', (), reason) for stage in stages for dtype in dtypes)


def _without(pair: Pair, stages: list[str]) -> ParityError:
    return ParityError(
        f'{pair.name} has no stage {", ".join(stages)}',
        values=f'expected one of {", ".join(stages_of(pair))}; found {", ".join(stages)}',
        error=f'{len(stages)} without anything to compare; allowed: 0',
        where='parity.check',
        next_step='name other stages, or none for all of them',
    )


def check_stage(runs: Runs, stage: str, dtype: str, *, reach: bool = True) -> StageResult:
    """One stage in one precision; what a side raises becomes the outcome 'error'. reach: see Runs.compare."""
    started = time.perf_counter()
    try:
        with runs.settings():
            leaves = tuple(runs.compare(stage, dtype, reach=reach))
        outcome: Outcome = 'match' if all(leaf.matches for leaf in leaves) else 'mismatch'
        return StageResult(stage, dtype, outcome, leaves, seconds=time.perf_counter() - started)
    except ParityError:
        raise
    except Exception as cause:  # whatever a side raises is a result of the check, not a crash of it
        reason = f'{type(cause).__name__}: {cause}'
        return StageResult(stage, dtype, 'error', (), reason, time.perf_counter() - started)
