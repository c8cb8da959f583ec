"""Lines at which values part, as pieces in which causes are searched: what each of them must make agree."""

import inspect
import itertools
from collections.abc import Collection, Iterator

from parity.locating.candidates import conditions, other_operations, source_changes
from parity.locating.causes import Piece
from parity.locating.counterfactuals import Counterfactual, Source, helpers
from parity.locating.culprits import Culprits
from parity.locating.differences import differences
from parity.locating.pieces import Budget, Judge
from parity.locating.sources import Line
from parity.locating.values import Frontier
from parity.pair import Pair

# So many differences of a line's function from the reference's are tried after what is known of the line.
FEW = 60


def line_piece(
    judge: Judge, frontier: Frontier, culprits: Culprits | None, names: Collection[str], budget: Budget
) -> Piece:
    """Of a frontier's line; culprits: the wrong modules that it lies in; names: of what must agree."""
    source, reference = (source_of(line, judge.runs.pair) for line in (frontier.port, frontier.reference))
    line = frontier.port.line

    def known() -> Iterator[Counterfactual]:
        yield from other_operations()
        yield from source_changes(source, line, reference) if source else ()
        yield from culprits.changes() if culprits else ()

    def candidates() -> Iterator[Counterfactual]:
        yield from budget.limit(known())
        if source:  # few, and likely: tried whatever the time
            yield from _of_function(source, line, reference)
            yield from budget.limit(_of_helpers(source))

    return Piece(lambda: judge.margin(names), candidates)


def own_leaves(
    judge: Judge, frontier: Frontier, frontiers: Collection[Frontier], wrong: Collection[str]
) -> tuple[str, ...]:
    """What a frontier alone reaches, of what differs; one place can hide another in what both reach."""
    if frontier.direction == 'backward':
        return judge.gradients(frontier.parameters) or tuple(wrong)
    if judge.stage == 'actions':  # one of several calls was looked into, all must agree
        return tuple(wrong)
    reached = [name for name in frontier.reaches if name != 'loss'] or [*frontier.reaches]
    others = {name for other in frontiers if other.value != frontier.value for name in other.reaches}
    return tuple(name for name in reached if name not in others) or tuple(reached)


def source_of(line: Line | None, pair: Pair) -> Source | None:
    """The function that a line is in, if its code can be changed."""
    if line is None:
        return None
    for side in ('port', 'reference'):  # a bare function can be local to another one
        own = pair.load(side)
        if inspect.isfunction(own) and own.__code__.co_filename == line.file:
            first = own.__code__.co_firstlineno
            if first <= line.line < first + len(inspect.getsourcelines(own)[0]):
                return Source.if_any(own)
    return Source.at(line)


def _of_function(source: Source, line: int, reference: Source | None) -> Iterator[Counterfactual]:
    """What is unlike the reference, at a line and elsewhere: values part where they are used, not made."""
    changes = differences(source, reference) if reference else []
    yield from sorted(changes, key=lambda change: change.line is None or change.line.line != line)[:FEW]
    yield from conditions(source)


def _of_helpers(source: Source) -> Iterator[Counterfactual]:
    """What is known of the functions that one calls by name: sizes that they return are no values."""
    return itertools.chain.from_iterable(map(source_changes, helpers(source)))
