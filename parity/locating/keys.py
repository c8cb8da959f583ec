"""The line of an update that leaves another key than the reference's."""

import itertools
from collections.abc import Iterator

import numpy as np

from parity.comparison import Leaf
from parity.locating.candidates import exchanged, reference_changes, source_changes
from parity.locating.causes import Piece, find_cause
from parity.locating.counterfactuals import Counterfactual, Source
from parity.locating.divergence import Finding, Place
from parity.locating.initial import drawing_lines, drawing_sources
from parity.locating.pieces import Budget
from parity.runs import Runs
from parity.stages import step_name

SECONDS = 20.0


def other_key(runs: Runs, leaf: Leaf) -> Finding | None:
    """The line that, changed, leaves the reference's key after a step; leaf: that key, `<step>/key`."""
    step = leaf.path.split('/')[0]
    i, call = next((i, call) for i, call in runs.port64.script() if step_name(i, call) == step)
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
            yield from reference_changes(source, None, Source.of(theirs)) if theirs else ()
            yield from exchanged(source)
        yield from itertools.chain.from_iterable(map(source_changes, sources[::-1]))

    if runs.pair.draws is None:
        return None
    budget = Budget(SECONDS)
    in_time = lambda: itertools.takewhile(lambda _: not budget.is_spent, candidates())  # noqa: E731
    cause, found = find_cause(Piece(margin, in_time))
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
