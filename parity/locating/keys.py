"""The line of an update that leaves another key than the reference's."""

import itertools
from collections.abc import Iterable, Iterator

import numpy as np

from parity.comparison import Leaf
from parity.locating.candidates import exchanged, source_changes
from parity.locating.causes import Piece, find_cause
from parity.locating.counterfactuals import Counterfactual, Source
from parity.locating.differences import differences
from parity.locating.divergence import Finding, Place
from parity.locating.initial import drawing_lines, drawing_sources
from parity.locating.pieces import Budget
from parity.runs import Runs
from parity.stages import step_name

SECONDS = 20.0


def other_key(runs: Runs, leaves: Iterable[Leaf]) -> Finding | None:
    """The line that, changed, leaves the reference's key after the first step that leaves another one.

    leaves: those of the stage update that differ. None if keys do not, or no such line is found.
    """
    wrong = {leaf.path: leaf for leaf in leaves}
    steps = ((i, call, step_name(i, call)) for i, call in runs.port64.script())
    first = next(((i, call, step) for i, call, step in steps if f'{step}/key' in wrong), None)
    if first is None or runs.pair.draws is None:
        return None
    i, call, step = first
    leaf = wrong[f'{step}/key']
    expected = runs.reference64.stage('update')[leaf.path]

    def update() -> None:
        runs.port64.side.restore(runs.reference64.states[i])
        runs.port64.side.update(call, runs.port64.batch)

    def margin() -> float:
        update()
        return 0.0 if np.array_equal(runs.port64.side.state().key, expected) else np.inf

    def candidates() -> Iterator[Counterfactual]:
        sources = drawing_sources(drawing_lines(runs.pair.draws or '', update))
        for source in sources[::-1]:
            name = source.function.__name__
            theirs = getattr(runs.pair.load('reference'), name, None)
            yield from differences(source, Source.of(theirs)) if theirs else ()
            yield from exchanged(source)
        yield from itertools.chain.from_iterable(map(source_changes, sources[::-1]))

    budget = Budget(SECONDS)
    cause, found = find_cause(Piece(margin, lambda: budget.spend(candidates())))
    if found is None or found.line is None:
        return None
    values = leaf.port, leaf.reference, leaf.error, leaf.allowed
    return Finding(
        0,
        'update',
        'update',
        '',
        Place.of(found.line),
        None,
        f'another key after {step}',
        *values,
        cause=cause,
    )
