"""The result of a check as data: frozen, complete, and without any rendering."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from parity.comparison import Leaf
from parity.errors import MismatchError, ParityError

if TYPE_CHECKING:
    from parity.locating.divergence import Divergence

Outcome = Literal['match', 'mismatch', 'error', 'not_run']

# From best to worst: a whole has the worst outcome of its parts.
_ORDER: tuple[Outcome, ...] = ('match', 'not_run', 'mismatch', 'error')


def worst(outcomes: Iterator[Outcome]) -> Outcome:
    """The outcome of a whole from those of its parts; a whole without parts was not run."""
    return max(outcomes, key=_ORDER.index, default='not_run')


@dataclass(frozen=True)
class StageResult:
    """One stage in one precision: all leaves, worst first, or the reason why there are none.

    hidden: how many further leaves were compared and are not kept, see `brief`.
    """

    stage: str
    dtype: str
    outcome: Outcome
    leaves: tuple[Leaf, ...] = ()
    reason: str = ''
    seconds: float = 0.0
    hidden: int = 0

    @property
    def worst(self) -> Leaf | None:
        """The leaf with the largest margin."""
        return self.leaves[0] if self.leaves else None

    @property
    def total(self) -> int:
        """How many leaves were compared."""
        return len(self.leaves) + self.hidden

    def brief(self) -> 'StageResult':
        """Only the worst leaf, if all of them match: thousands of cases must fit into memory."""
        if self.outcome != 'match':
            return self
        return replace(self, leaves=self.leaves[:1], hidden=self.total - len(self.leaves[:1]))


@dataclass(frozen=True)
class CaseResult:
    """All stages of one case (a configuration with its batch); `command` checks this case again."""

    name: str
    description: str
    command: str
    stages: tuple[StageResult, ...]

    @property
    def outcome(self) -> Outcome:
        """The worst outcome of the stages."""
        return worst(stage.outcome for stage in self.stages)

    def brief(self) -> 'CaseResult':
        """Only the worst leaf of each stage that matches."""
        return replace(self, stages=tuple(stage.brief() for stage in self.stages))


@dataclass(frozen=True)
class Growth:
    """How far the parameters drift in a long run, in learning rates.

    drifts: (step, the port from the truth, the reference itself from the truth) after each update.
    own:    whether the port's drift is the reference's own, that is within its tolerance at every step.
    """

    pair: str
    source: str
    dtype: str
    drifts: tuple[tuple[int, float, float], ...]
    own: bool

    @property
    def says(self) -> str:
        """One sentence."""
        step, port, reference = self.drifts[-1]
        against = 'its own float64 run' if self.dtype == 'float32' else 'its runs that start a rounding away'
        return (
            f'{self.pair} {self.dtype}, {self.source}: the growth is {"" if self.own else "NOT "}that of the '
            f'reference: after step {step} the port is {port:.2g} learning rates off, the reference '
            f'{reference:.2g} against {against}'
        )


@dataclass(frozen=True)
class Verdict:
    """What was found for a pair; growth: of long runs only; located: where its first mismatch begins."""

    pair: str
    cases: tuple[CaseResult, ...]
    versions: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    growth: tuple[Growth, ...] = ()
    located: 'Divergence | None' = None

    @property
    def outcome(self) -> Outcome:
        """The worst outcome of the cases."""
        return worst(case.outcome for case in self.cases)

    @property
    def generated(self) -> int:
        """How many of the cases were generated; the others are recorded or the user's."""
        return sum(case.name == 'generated' for case in self.cases)

    @property
    def compared(self) -> int:
        """How many leaves were compared, in all cases."""
        return sum(stage.total for _, stage in self.stages())

    def stages(self) -> Iterator[tuple[CaseResult, StageResult]]:
        """Every stage of every case."""
        return ((case, stage) for case in self.cases for stage in case.stages)

    def raise_if_mismatch(self) -> None:
        """Raise MismatchError if any leaf differs, ParityError if anything could not be checked."""
        for case, stage in self.stages():
            if stage.outcome == 'mismatch':
                raise MismatchError(describe(self.pair, case, stage))
        for case, stage in self.stages():
            if stage.outcome in ('error', 'not_run'):
                raise could_not_check(self.pair, case, stage)
        if self.outcome == 'not_run':
            raise could_not_check(self.pair, None, None)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, outcomes included; what JSON has no number for, infinity, is text.

        What was located is not in it, see `Divergence.as_dict`.
        """
        cases = [{**plain(case), 'outcome': case.outcome} for case in self.cases]
        whole = plain(replace(self, cases=(), located=None))
        del whole['located']
        return {**whole, 'outcome': self.outcome, 'cases': cases}


def plain(value: Any) -> Any:
    """Data classes, tuples and numbers as JSON has them; infinity and NaN, for which it has none, as text.

    Not `dataclasses.asdict`, which copies deeply: ten times slower on a verdict's 100,000 leaves.
    """
    if isinstance(value, str | int | None):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    fields = value if isinstance(value, dict) else vars(value)
    return {name: plain(item) for name, item in fields.items()}


def merged(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """One verdict for each pair, with the cases of all of its verdicts in order."""
    together: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        together.setdefault(verdict.pair, []).append(verdict)
    return [
        Verdict(
            pair,
            tuple(case for verdict in found for case in verdict.cases),
            found[0].versions,
            sum(verdict.seconds for verdict in found),
        )
        for pair, found in together.items()
    ]


def describe(pair: str, case: CaseResult, stage: StageResult) -> str:
    """The five parts of a mismatch: subject, both values, error against allowed, where, what to run next.

    Of a stage that could not be compared, the reason is in the place of the values.
    """
    if stage.outcome != 'mismatch':
        what = f'{pair}: {stage.stage} {stage.dtype}: {stage.outcome}: {stage.reason}'
        return f'{what}\n  at: {case.description}\n  next: {case.command}'
    leaf = stage.leaves[0]
    differing, total = sum(not leaf.matches for leaf in stage.leaves), stage.total
    return '\n'.join(
        (
            f'{pair}: {stage.stage} differs in {stage.dtype}: {leaf.kind} of {leaf.path}',
            f'  reference {leaf.reference}',
            f'  port      {leaf.port}',
            f'  error: {leaf.error:.3e}; allowed: {leaf.allowed:.3e} ({leaf.why})',
            f'  at: index {list(leaf.where)}; {case.description}; {differing} of {total} leaves differ',
            f'  next: {case.command}',
        )
    )


def could_not_check(pair: str, case: CaseResult | None, stage: StageResult | None) -> ParityError:
    """The error for a stage that raised, or for a check without stages."""
    return ParityError(
        f'{pair}: could not check {stage.stage if stage else "anything"}',
        values=f'expected results of both sides; found {stage.reason if stage else "no stage"}',
        error='not compared',
        where=case.description if case else 'check',
        next_step=case.command if case else 'parity list',
    )
