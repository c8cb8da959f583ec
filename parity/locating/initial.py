"""Causes of other initial values: lines on the way to them are changed in turn, and the port is made anew."""

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from parity.comparison import Leaf
from parity.draws import KINDS, replaced
from parity.locating.calls import frames_at, line_at
from parity.locating.candidates import exchanged, reference_changes, source_changes
from parity.locating.causes import Cause, Piece, find_cause
from parity.locating.counterfactuals import Counterfactual, Source, source_at
from parity.locating.divergence import Finding, Place
from parity.locating.pieces import Budget
from parity.locating.sources import Line, is_user
from parity.runs import Runs
from parity.stages import Runner

# What draws random numbers or makes keys.
DRAWING = (*KINDS, 'truncated_normal', 'split', 'fold_in')
SECONDS = 20.0
INNERMOST = 2


def drawn_otherwise(runs: Runs, leaves: Sequence[Leaf]) -> list[Finding]:
    """The line that, changed, gives the port all of the reference's initial values.

    If none does: the innermost lines through which they are drawn. Nothing for a port that draws none.
    """
    if runs.pair.draws is None:
        return []
    budget = Budget(SECONDS)
    cause, found = find_cause(Piece(functools.partial(_margin, runs), lambda: _candidates(runs, budget)))
    if found is not None and found.line is not None:
        return [_finding(found.line, leaves, cause)]
    return [_finding(line, leaves, None) for line in reversed(_drawing_lines(runs)[-INNERMOST:])]


def _finding(line: Line, leaves: Sequence[Leaf], cause: Cause | None) -> Finding:
    worst, paths = leaves[0], tuple(leaf.path for leaf in leaves)
    values = worst.port, worst.reference, worst.error, worst.allowed
    why = f'draws initial values, of which {len(leaves)} leaves differ'
    return Finding(
        0, 'value', 'params', '', Place.of(line), None, why, *values, parameters=paths, cause=cause
    )


def _margin(runs: Runs) -> float:
    """Of a port made anew: 0 if it begins as the reference does, else how many leaves do not, and one."""
    expected = runs.reference64.stage('params')
    state = _made_anew(runs).initial
    found = {**state.params, **state.key_leaf()}
    differing = sum(
        not (path in found and np.array_equal(found[path], leaf, equal_nan=leaf.dtype.kind == 'f'))
        for path, leaf in expected.items()
    )
    return float(differing and differing + 1)


def _made_anew(runs: Runs) -> Runner:
    return runs.new_port('float64', runs.reference64)


def _candidates(runs: Runs, budget: Budget) -> Iterator[Counterfactual]:
    """What the reference's `create` has otherwise; then the functions that draw, short ones first."""
    sources = drawing_sources(_drawing_lines(runs))
    create = getattr(runs.pair.load('reference'), 'create', None)
    if create is not None and sources:
        yield from budget.limit(reference_changes(sources[-1], None, Source.of(create)))
        yield from budget.limit(exchanged(sources[-1]))
    for source in sorted(sources, key=lambda source: len(source.expressions())):  # those that are soon done
        yield from budget.spend(source_changes(source))


def drawing_sources(lines: Sequence[Line]) -> list[Source]:
    """The functions of lines, those of the last first."""
    found: list[Source] = []
    for line in reversed(lines):
        with contextlib.suppress(LookupError, OSError, TypeError):  # what has no source cannot be changed
            source = source_at(line.file, line.line)
            found += [source] if all(source is not other for other in found) else []
    return found


def _drawing_lines(runs: Runs) -> list[Line]:
    return drawing_lines(runs.pair.draws or '', lambda: _made_anew(runs))


def drawing_lines(draws: str, run: Callable[[], object]) -> list[Line]:
    """The lines through which run() draws random numbers and makes keys, outermost first.

    draws: the name of the module through which it does.
    """
    module: Any = sys.modules[draws]
    own = inspect.getsourcefile(module)
    found: dict[Line, None] = {}

    def watching(_: str, draw: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(draw)
        def watched(*args: Any, **kwargs: Any) -> Any:
            lines = map(line_at, reversed(frames_at(sys._getframe(1))))
            found.update((line, None) for line in lines if is_user(line.file) and line.file != own)
            return draw(*args, **kwargs)

        return watched

    with replaced(module, DRAWING, watching):
        run()
    return list(found)
