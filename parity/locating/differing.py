"""What differs at all, stage by stage: what comes later follows from it, or is not looked at."""

import dataclasses
from collections.abc import Callable, Sequence

from parity.checking import check_stage
from parity.errors import ParityError
from parity.runs import Runs
from parity.stages import stages_of
from parity.verdict import StageResult

# Cheap ones before updates, whose programs take longest to compile.
ORDER = ('loss', 'grads', 'forward', 'actions', 'config', 'params', 'update', 'rollout')
# Where to look for what a stage shows that is none of these: contractions are on the way to the losses.
SHOWN_IN = {'contractions': 'loss'}
# How parameters differ that cannot be copied.
STRUCTURE = ('missing path', 'unexpected path', 'shape')
Tell = Callable[[str], None]


def in_order(runs: Runs) -> list[str]:
    """The stages of the pair, in the order in which they are looked at."""
    from parity.functions import STAGES, FunctionRuns

    if isinstance(runs, FunctionRuns):
        return [stage for stage in STAGES if stage == 'forward' or runs.grads]
    available = stages_of(runs.pair)
    return [stage for stage in ORDER if stage in available]


def first_differing(
    runs: Runs, stages: Sequence[str], loss: str | None, dtype: str, tell: Tell
) -> list[StageResult]:
    """The first stage that differs, with the leaves that do; for a loss, its gradients as well.

    A port whose parameters cannot be the reference's differs in params, whatever was asked for.
    loss: only its leaves count. Raises ParityError where the reference raises.
    """
    for stage in stages:
        tell(f'{stage} {dtype}')
        result = _differing(_compared(runs, stage, dtype), loss)
        if result.outcome == 'error' and (misfit := _misfit(runs, dtype)):
            return [misfit]
        if result.outcome != 'match':
            results = [result]
            if stage == 'loss' and result.outcome == 'mismatch':  # computed already
                results.append(_differing(check_stage(runs, 'grads', dtype, reach=False), loss))
            return [result for result in results if result.outcome != 'match']
    return []


def _misfit(runs: Runs, dtype: str) -> StageResult | None:
    """The stage params, if the port has other parameters: with the reference's it computes nothing at all."""
    if 'params' not in in_order(runs):
        return None
    result = _differing(_compared(runs, 'params', dtype), None)
    return result if any(leaf.kind in STRUCTURE for leaf in result.leaves) else None


def still_differs(runs: Runs, stage: StageResult, loss: str | None) -> bool:
    """Whether another case has the outcome of this stage, which is not 'match', in the same precision."""
    return _differing(_compared(runs, stage.stage, stage.dtype), loss).outcome == stage.outcome


def _compared(runs: Runs, stage: str, dtype: str) -> StageResult:
    """A stage; gradients first without the table of what reaches what, which takes a program of its own."""
    result = check_stage(runs, stage, dtype, reach=False)
    if result.outcome == 'error':
        _require_reference(runs, stage, dtype)
    if result.outcome == 'match' and (stage, dtype) == ('grads', 'float64'):
        result = check_stage(runs, stage, dtype)
    return result


def _require_reference(runs: Runs, stage: str, dtype: str) -> None:
    """Raise ParityError if it is the reference that raises: there is nothing to compare a port with."""
    try:
        if stage != 'config':
            (runs.reference64 if dtype == 'float64' else runs.reference32).stage(stage)
    except Exception as cause:  # a user's reference can fail in any way
        raise ParityError(
            f'{runs.pair.name}: the reference raises in {stage}',
            values=f'expected its leaves; found {type(cause).__name__}: {cause}',
            error='nothing to compare the port with',
            where=runs.case.describe(),
            next_step='call the reference alone on such a batch',
        ) from cause


def _differing(result: StageResult, loss: str | None) -> StageResult:
    """Only the leaves that differ, of one loss if it is named; no others belong to what is located."""
    if result.outcome == 'error':
        return result
    leaves = tuple(leaf for leaf in result.leaves if not leaf.matches and _is_of(leaf.path, loss))
    hidden = result.total - len(leaves)
    outcome = result.outcome if leaves else 'match'
    return dataclasses.replace(result, outcome=outcome, leaves=leaves, hidden=hidden)


def _is_of(path: str, loss: str | None) -> bool:
    return loss is None or in_loss(path)[0] == loss


def in_loss(path: str) -> tuple[str, str]:
    """The loss that a leaf of `loss` or `grads` belongs to, reach included, and what it is called in it."""
    name, _, rest = path.removeprefix('reach/').partition('/')
    return name, rest
