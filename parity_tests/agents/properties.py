"""How the property tests use the checks."""

import contextlib
import os
from collections.abc import Callable, Iterator

import hypothesis
import pytest
from hypothesis import Phase, given, settings

import parity
from parity import Case, Pair, Verdict
from parity.pytest_plugin import Session
from parity.strategies import any_cases, cases

# A soak draws any sizes and switches; the suite keeps to structures that are compiled once.
SOAK = os.environ.get('PARITY_PROFILE') == 'soak'

# A case costs seconds, and the command that a failure prints checks it again: nothing is shrunk.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)

_session = Session()
_record: Callable[[Verdict], None] = lambda verdict: None  # noqa: E731


@contextlib.contextmanager
def following(session: Session, node: pytest.Item) -> Iterator[None]:
    """Follow the options of a session for a while, and record every verdict at a test."""
    global _session, _record
    before = _session, _record
    _session, _record = session, lambda verdict: session.record(node, verdict)
    try:
        yield
    finally:
        _session, _record = before


def assert_parity(pair: Pair, case: Case, *stages: str, dtypes: tuple[str, ...] = ('float64',)) -> None:
    """Raise, with the command that checks this case again, unless the stages match.

    Skips the test where the pair has none of the stages, or --parity-dtype none of the precisions.
    """
    applicable = [stage for stage in stages if pair.has(stage)]
    wanted = [dtype for dtype in dtypes if dtype in (_session.dtypes or dtypes)]
    if not applicable:
        pytest.skip(f'{pair.name} has no stage {", ".join(stages)}')
    if not wanted:
        pytest.skip(f'this property is one of {", ".join(dtypes)}: not in --parity-dtype')
    verdict = parity.check(_session.target(pair), cases=[case], stages=applicable, dtypes=wanted)
    _record(verdict)
    verdict.raise_if_mismatch()


def differing(pair: Pair, case: Case, stage: str, dtype: str = 'float64') -> set[str]:
    """The paths that differ in a stage."""
    verdict = parity.check(pair, cases=[case], stages=[stage], dtypes=[dtype])
    return {leaf.path for _, result in verdict.stages() for leaf in result.leaves if not leaf.matches}


def for_all_cases(
    pair: Pair,
    check: Callable[[Case], None],
    share: float = 1.0,
    few: bool = False,
    most: int | None = None,
) -> None:
    """Run `check` on generated cases: the number of --parity-examples or the profile's, or a share of it.

    few:  keep to the few structures also in a soak.
    most: keep to so many of the few structures, but not in a soak.
    """
    examples = max(1, round((_session.examples or settings().max_examples) * share))

    @given(case=any_cases(pair) if SOAK and not few else cases(pair, None if SOAK else most))
    def run(case: Case) -> None:
        check(case)

    if _session.seed is not None:
        run = hypothesis.seed(_session.seed)(run)
    derandomize = _session.seed is None and settings().derandomize
    settings(max_examples=examples, derandomize=derandomize, phases=PHASES)(run)()
