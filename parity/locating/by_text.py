"""The line whose text alone is to blame, in what was looked into, in an update and in how a port is made."""

import functools
from collections.abc import Sequence

from parity.locating import initial
from parity.locating.causes import Cause
from parity.locating.counterfactuals import Counterfactual, applied
from parity.locating.differences import UNLIKE
from parity.locating.divergence import Finding
from parity.locating.looks import Look
from parity.locating.pieces import Judge
from parity.locating.places import of_text
from parity.locating.unlike import Unlike
from parity.runs import Runs


def in_look(
    runs: Runs, look: Look, known: Sequence[Counterfactual] = ()
) -> tuple[Finding, Counterfactual] | None:
    """The line and what undoes it; none if such a line is what the look has found.

    A cause at a line that says what the reference says can be a chance hit: another key in its place.
    known: what was undone before the look.
    """
    judge = look.judge
    with applied(known):
        if judge.agrees():
            return None
        unlike = Unlike(runs.pair, judge.leaves, judge.margin_of_all)
    causes = look.causes() if look.agrees else []
    named = [place for place in causes[:1] if place.cause and place.cause.name != UNLIKE]
    found = unlike.cause(known, shown=named[0].port if named else None)
    return (of_text(look.stage, look.loss, *found), found[1]) if found else None


def in_update(runs: Runs, explained: Finding | None) -> Finding | None:
    """The line of an update; none if it is that of what is explained.

    explained: what has a cause already, at the line that shows it, if it all has: the cause stays.
    """
    judge = Judge(runs, stage='update')
    unlike = Unlike(runs.pair, judge.leaves, judge.margin)
    return _keeping('update', unlike.cause(shown=explained.port if explained else None), explained)


def in_params(runs: Runs, explained: Finding | None) -> Finding | None:
    """The line on the way to initial values; explained: as in an update, its cause stays."""
    run, margin = functools.partial(initial.made_anew, runs), functools.partial(initial.margin, runs)
    return _keeping('params', Unlike(runs.pair, run, margin).cause(), explained)


def _keeping(
    stage: str, found: tuple[Cause, Counterfactual] | None, explained: Finding | None
) -> Finding | None:
    """What was found as a place, with the cause that is known already if there is one."""
    if found is None:
        return None
    cause, change = found
    return of_text(stage, '', explained.cause if explained and explained.cause else cause, change)
