"""The cause of a difference, by counterfactual: a known mistake is undone, the piece computed once more.

A cause is named only where the difference vanishes, to the engine's tolerances. Otherwise it is unknown, and
the change that left the smallest difference is told. What has been found stays applied while the search goes
on, because one mistake can hide another.
"""

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from parity.locating.counterfactuals import Counterfactual, applied
from parity.locating.patience import TookTooLong, at_most

UNKNOWN = 'cause unknown'
# A change is given so many times the CPU time of the piece as it is, or at least so many seconds.
TIMES, AT_LEAST = 10, 2.0


@dataclass(frozen=True)
class Cause:
    """Why a piece differs.

    name:        a known difference, or 'cause unknown'.
    description: the change that makes the difference vanish, or that leaves the smallest one.
    before:      the margin (error / allowed) of the piece as it is; after: with the change.
    tried:       how many changes were tried.
    """

    name: str
    description: str
    before: float
    after: float
    tried: int

    @property
    def known(self) -> bool:
        """Whether the difference vanished."""
        return self.name != UNKNOWN


@dataclass(frozen=True)
class Piece:
    """A part of the port that differs.

    margin:     computes it anew as the port now is, and returns the worst error / allowed.
    candidates: the changes that may undo its mistake, the likeliest first.
    """

    margin: Callable[[], float]
    candidates: Callable[[], Iterator[Counterfactual]]


def find_cause(piece: Piece, found: Sequence[Counterfactual] = ()) -> tuple[Cause, Counterfactual | None]:
    """The cause of a piece's difference, and its counterfactual, None where it is unknown.

    found: what is known already, and applied all the while.
    """
    with applied(found):
        started = time.process_time()
        before = _margin(piece)
        limit = max(AT_LEAST, TIMES * (time.process_time() - started))
        nearest, best, tried = None, np.inf, 0
        for candidate in piece.candidates():
            tried += 1
            after = _margin(piece, candidate, limit=limit)
            if after <= 1:
                return Cause(candidate.name, candidate.description, before, after, tried), candidate
            if after < best:
                nearest, best = candidate, after
    return _unknown(nearest, before, best, tried), None


def find_causes(pieces: Sequence[Piece]) -> list[Cause]:
    """The causes of several pieces in their order, each searched with those before it undone.

    A piece whose difference has vanished with them has no cause of its own, and none in the result.
    """
    return [cause for cause, _ in searched(pieces) if cause is not None]


def searched(
    pieces: Sequence[Piece], found: Sequence[Counterfactual] = ()
) -> list[tuple[Cause | None, Counterfactual | None]]:
    """`find_cause` of each piece, None for what has vanished; found: what is known already."""
    results: list[tuple[Cause | None, Counterfactual | None]] = []
    known = list(found)
    for piece in pieces:
        with applied(known):
            remains = _margin(piece) > 1
        cause, counterfactual = find_cause(piece, known) if remains else (None, None)
        results.append((cause, counterfactual))
        known += [counterfactual] if counterfactual else []
    return results


def _unknown(nearest: Counterfactual | None, before: float, after: float, tried: int) -> Cause:
    if nearest is None or not after < before:
        return Cause(UNKNOWN, 'no known difference brings it nearer', before, before, tried)
    return Cause(UNKNOWN, f'nearest: {nearest.name}, {nearest.description}', before, after, tried)


def _margin(piece: Piece, *changes: Counterfactual, limit: float | None = None) -> float:
    """The piece's margin with some changes; inf where it cannot be computed so, or not within the limit."""
    patience = contextlib.nullcontext() if limit is None else at_most(limit)
    try:
        with warnings.catch_warnings(action='ignore'), applied(changes), patience:
            return piece.margin()
    except (Exception, TookTooLong):  # a candidate may make no sense in this place, in any way
        return np.inf
