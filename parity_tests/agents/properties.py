"""How the property tests use the checks."""

import os
from collections.abc import Callable

from hypothesis import given, settings

import parity
from parity import Case, Pair
from parity.strategies import any_cases, cases

# A soak draws any sizes and switches; the suite keeps to structures that are compiled once.
DRAWN = any_cases if os.environ.get('PARITY_PROFILE') == 'soak' else cases


def assert_parity(pair: Pair, case: Case, *stages: str, dtypes: tuple[str, ...] = ('float64',)) -> None:
    """Raise, with the command that checks this case again, unless the stages match."""
    parity.check(pair, cases=[case], stages=stages, dtypes=dtypes).raise_if_mismatch()


def differing(pair: Pair, case: Case, stage: str, dtype: str = 'float64') -> set[str]:
    """The paths that differ in a stage."""
    verdict = parity.check(pair, cases=[case], stages=[stage], dtypes=[dtype])
    return {leaf.path for _, result in verdict.stages() for leaf in result.leaves if not leaf.matches}


def for_all_cases(pair: Pair, check: Callable[[Case], None], share: float = 1.0) -> None:
    """Run `check` on generated cases: the profile's number of examples, or a share of it."""
    examples = max(1, round(settings().max_examples * share))

    @settings(max_examples=examples)
    @given(case=DRAWN(pair))
    def run(case: Case) -> None:
        check(case)

    run()
