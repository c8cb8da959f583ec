"""The orchestrator: run both sides of a pair on cases, stage by stage and in both precisions, and judge."""

import platform
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version

from parity.cases import Case
from parity.errors import ParityError, unknown
from parity.pair import Pair, find
from parity.runs import Runs
from parity.stages import STAGES, stages_of
from parity.verdict import CaseResult, Outcome, StageResult, Verdict

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
    progress: Progress | None = None,
) -> Verdict:
    """Compare the port of `pair` (a Pair, a registered name or `module:ATTR`) with its reference.

    cases:    what to run both on; stages: names from STAGES, all by default; dtypes: 'float64', 'float32'.
    device:   the torch device of the port.
    progress: called with a line of text before each stage.
    Raises ParityError for bad arguments or a bad batch, FixtureError for a bad recording. What a side raises
    becomes the outcome 'error'.
    """
    started = time.perf_counter()
    target = pair if isinstance(pair, str) else pair.name
    pair = find(pair) if isinstance(pair, str) else pair
    stages = _known('stage', stages_of(pair) if stages is None else stages, list(STAGES))
    dtypes = _known('dtype', dtypes, list(DTYPES))
    tell = progress or (lambda _: None)
    results = tuple(_check_case(pair, target, case, stages, dtypes, device, tell) for case in cases)
    return Verdict(pair.name, results, versions(), time.perf_counter() - started)


def versions() -> dict[str, str]:
    """The versions of everything that computes."""
    found = {'python': platform.python_version(), 'machine': platform.machine()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = 'not installed'
    return found


def _known(kind: str, names: Sequence[str], known: list[str]) -> list[str]:
    for name in names:
        if name not in known:
            raise unknown(
                kind, name, known, where='parity.check', next_step=f'name one of: {", ".join(known)}'
            )
    return list(names)


def _check_case(
    pair: Pair, target: str, case: Case, stages: list[str], dtypes: list[str], device: str, tell: Progress
) -> CaseResult:
    runs = Runs(pair, case, device)
    _ = runs.config  # a bad batch or configuration is refused before anything runs
    results = []
    for stage in stages:
        for dtype in dtypes if stage != 'config' else dtypes[:1]:
            tell(f'{pair.name}: {case.describe()}: {stage} {dtype}')
            results.append(_check_stage(runs, stage, dtype))
    return CaseResult(case.source, case.describe(), case.command(target), tuple(results))


def _check_stage(runs: 'Runs', stage: str, dtype: str) -> StageResult:
    started = time.perf_counter()
    try:
        leaves = tuple(runs.compare(stage, dtype))
        outcome: Outcome = 'match' if all(leaf.matches for leaf in leaves) else 'mismatch'
        return StageResult(stage, dtype, outcome, leaves, seconds=time.perf_counter() - started)
    except ParityError:
        raise
    except Exception as cause:  # whatever a side raises is a result of the check, not a crash of it
        reason = f'{type(cause).__name__}: {cause}'
        return StageResult(stage, dtype, 'error', (), reason, time.perf_counter() - started)
