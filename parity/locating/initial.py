"""Causes of other initial values: lines on the way to them are changed in turn, and the port is made anew."""

import functools
import inspect
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from parity.comparison import Leaf
from parity.draws import KINDS, replaced
from parity.locating.calls import called, callers, frames_at, line_at
from parity.locating.candidates import exchanged, other_axes, source_changes
from parity.locating.causes import Cause, Piece, find_cause
from parity.locating.counterfactuals import Counterfactual, Source, sources_of
from parity.locating.distributions import DISTRIBUTIONS
from parity.locating.divergence import Finding, Place
from parity.locating.pieces import Budget
from parity.locating.signatures import other_numbers
from parity.locating.sources import Line, is_user
from parity.runs import Runs
from parity.stages import Runner

# What draws random numbers or makes keys.
DRAWING = (*KINDS, 'truncated_normal', 'split', 'fold_in')
SECONDS = 30.0
INNERMOST, LIKELIEST = 2, 3


def drawn_otherwise(runs: Runs, leaves: Sequence[Leaf], others: Sequence[Finding]) -> list[Finding]:
    """The line that, changed, gives the port all of the reference's initial values; a second, if two do.

    If none does: those that scale what is drawn right but for a factor; or, after the others, which are known
    already, the innermost lines through which it is drawn. The others alone for a port that draws none, and
    for values that are right but for their dtype.
    """
    if runs.pair.draws is None or all(leaf.kind == 'dtype' for leaf in leaves):
        return [*others]
    budget = Budget(SECONDS)
    cause, found = find_cause(Piece(functools.partial(margin, runs), lambda: _candidates(runs, budget)))
    if found is not None and found.line is not None:
        other, alike = _another(runs, cause.name, found.line)
        second = [_finding(alike, leaves, other)] if alike else []
        return [_finding(found.line, leaves, cause), *second, *others]
    if scaling := _scaling_lines(runs):
        return [*(_finding(line, leaves, None) for line in scaling), *others]
    return [*others, *(_finding(line, leaves, None) for line in reversed(_drawing_lines(runs)[-INNERMOST:]))]


def _scaling_lines(runs: Runs) -> list[Line]:
    """Where all is drawn right but for factors, the lines that make these, the likeliest first.

    If they are not the same for all leaves, that is what reads the leaves' shapes; else what multiplies.
    """
    differing = _differing(runs)
    factors = {factor and round(factor, 4) for factor in itertools.starmap(_factor, differing)}
    lines = _lines_of_draws(runs, [its for _, its in differing if its is not None])
    sources = drawing_sources(lines)
    if None in factors or not sources:
        return []
    into = sources[0].lines_into(lines[-1].line)
    return [lines[-1]._replace(line=line) for line in (into[::-1] if len(factors) > 1 else into)][:LIKELIEST]


def _another(runs: Runs, name: str, blamed: Line) -> tuple[Cause, Line | None]:
    """Another line that explains as much; None if there is none.

    One of the function for the same mistake: a weight that is turned where it is drawn is as right as one
    that is turned where it is copied. Or one that calls the function: what is drawn twice as wide may be
    scaled wrongly, or be asked for twice as wide.
    """

    def candidates() -> Iterator[Counterfactual]:
        budget = Budget(SECONDS)
        for source in drawing_sources([blamed]):
            same = (change for change in source_changes(source) if change.name == name)
            yield from budget.limit(change for change in same if change.line != blamed)
        for line in callers(lambda: made_anew(runs), blamed):
            for source in drawing_sources([line]):
                yield from budget.limit(source_changes(source, line.line))

    cause, found = find_cause(Piece(functools.partial(margin, runs), candidates))
    return cause, found.line if found else None


def _finding(line: Line, leaves: Sequence[Leaf], cause: Cause | None) -> Finding:
    worst, paths = leaves[0], tuple(leaf.path for leaf in leaves)
    values = worst.port, worst.reference, worst.error, worst.allowed
    why = f'on the way to initial values, of which {len(leaves)} leaves differ'
    return Finding(
        0, 'value', 'params', '', Place.of(line), None, why, *values, parameters=paths, cause=cause
    )


def margin(runs: Runs) -> float:
    """Of a port made anew: 0 if it begins as the reference does, else how many leaves do not, and one."""
    differing = len(_differing(runs))
    return float(differing and differing + 1)


def _differing(runs: Runs) -> list[tuple[np.ndarray | None, np.ndarray | None]]:
    """(its own, the reference's) of the leaves in which a port made anew does not begin as the reference."""
    mine, its = made_anew(runs).stage('params'), runs.reference64.stage('params')
    pairs = ((mine.get(path), its.get(path)) for path in {**its, **mine})
    return [pair for pair in pairs if not _is_equal(*pair)]


def _is_equal(mine: np.ndarray | None, its: np.ndarray | None) -> bool:
    if mine is None or its is None or mine.dtype != its.dtype:
        return False
    return np.array_equal(mine, its, equal_nan=its.dtype.kind == 'f')


def _factor(mine: np.ndarray | None, its: np.ndarray | None) -> float | None:
    """By which number a leaf is the reference's: drawn alike, but made something else of. None if by none."""
    if mine is None or its is None or mine.shape != its.shape or not np.any(its):
        return None
    if not np.isfinite(mine).all():  # of memory that nothing was written into
        return None
    factor = float(np.vdot(mine, its) / np.vdot(its, its))
    return factor if np.allclose(mine, factor * its, rtol=1e-4, atol=1e-6 * np.abs(mine).max()) else None


def made_anew(runs: Runs) -> Runner:
    """The port, as it now is, made again."""
    return runs.new_port('float64', runs.reference64)


def _candidates(runs: Runs, budget: Budget) -> Iterator[Counterfactual]:
    """Names exchanged in `create`; then the functions that draw, in turn, for some are long.

    Before these, if all is right but for its scale, the lines that draw and those above them, backwards, but
    not the draws themselves; and if shapes differ, other defaults and axes in another order, in all that
    makes the port: a layer of images has as many weights as what it is first given has rows and columns.
    """
    sources = drawing_sources(_drawing_lines(runs))
    if sources:
        yield from budget.limit(exchanged(sources[-1]))
    differing = _differing(runs)
    if any(mine is not None and its is not None and mine.shape != its.shape for mine, its in differing):
        making = called(lambda: made_anew(runs))
        yield from budget.limit(other_numbers(making))
        yield from budget.spend(other_axes(sources_of(making)))
    if None not in itertools.starmap(_factor, differing):
        for line in reversed(_lines_of_draws(runs, [its for _, its in differing if its is not None])):
            for source in drawing_sources([line]):
                for number in source.lines_up_to(line.line):
                    yield from budget.spend(source_changes(source, number, without=DISTRIBUTIONS))
    in_turn = itertools.chain.from_iterable(itertools.zip_longest(*map(source_changes, sources)))
    yield from budget.spend(change for change in in_turn if change)


def drawing_sources(lines: Sequence[Line]) -> list[Source]:
    """The functions of lines, those of the last first."""
    found: list[Source] = []
    for line in reversed(lines):
        source = Source.at(line)
        if source is not None and all(source is not other for other in found):
            found.append(source)
    return found


def _drawing_lines(runs: Runs, names: Sequence[str] = DRAWING) -> list[Line]:
    return drawing_lines(runs.pair.draws or '', lambda: made_anew(runs), names)


def _lines_of_draws(runs: Runs, leaves: Sequence[np.ndarray]) -> list[Line]:
    """The lines that draw some of these leaves, but for a factor; if none does, all lines that draw."""

    def is_theirs(drawn: Any) -> bool:
        return any(_factor(np.asarray(drawn), leaf) is not None for leaf in leaves)

    found = drawing_lines(runs.pair.draws or '', lambda: made_anew(runs), DISTRIBUTIONS, is_theirs)
    return found or _drawing_lines(runs, DISTRIBUTIONS)


def drawing_lines(
    draws: str,
    run: Callable[[], object],
    names: Sequence[str] = DRAWING,
    of: Callable[[Any], bool] = lambda drawn: True,
) -> list[Line]:
    """The lines through which run() draws random numbers and makes keys, outermost first.

    draws: the name of the module through which it does; names: of its functions; of: whether a result counts.
    """
    module: Any = sys.modules[draws]
    own = inspect.getsourcefile(module)
    found: dict[Line, None] = {}

    def watching(_: str, draw: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(draw)
        def watched(*args: Any, **kwargs: Any) -> Any:
            lines = map(line_at, reversed(frames_at(sys._getframe(1))))
            drawn = draw(*args, **kwargs)
            if of(drawn):
                found.update((line, None) for line in lines if is_user(line.file) and line.file != own)
            return drawn

        return watched

    with replaced(module, names, watching):
        run()
    return list(found)
