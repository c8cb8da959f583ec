"""The first mismatch of a verdict, located: one case and one stage of a pair, whatever else differs."""

import dataclasses
from collections.abc import Callable

from parity.locating.differing import SHOWN_IN
from parity.locating.divergence import Divergence
from parity.verdict import StageResult, Verdict


def with_located(verdict: Verdict, locate: Callable[[int, str], Divergence]) -> Verdict:
    """The verdict with its first mismatch located, if it has any; locate: of a case's number and a stage.

    What cannot be located says so in its notes: it must not hide what a check has found.
    """
    first = _first_mismatch(verdict)
    if first is None:
        return verdict
    number, stage = first
    name = SHOWN_IN.get(stage.stage, stage.stage)
    try:
        found = locate(number, name)
    except Exception as error:  # whatever it is, the mismatch is what matters
        case = verdict.cases[number]
        note = f'not located: {type(error).__name__}: {error}'.splitlines()[0]
        found = Divergence(verdict.pair, case.description, case.command, (stage,), notes=(note,))
    return dataclasses.replace(verdict, located=found)


def _first_mismatch(verdict: Verdict) -> tuple[int, StageResult] | None:
    mismatches = (
        (number, stage)
        for number, case in enumerate(verdict.cases)
        for stage in case.stages
        if stage.outcome == 'mismatch'
    )
    return next(mismatches, None)
