"""What else explains as much as a change that makes all agree: that may only happen to repair the mistake."""

from collections.abc import Callable, Iterator, Sequence

from parity.locating.candidates import source_changes
from parity.locating.causes import Cause, Piece, find_cause
from parity.locating.counterfactuals import Counterfactual, Source, helpers
from parity.locating.pieces import Budget

# A cause that was found after so many tries may be there by chance.
MANY = 50
# So many other lines are named, if they are found in so many seconds.
OTHERS, SECONDS = 2, 8.0


def avoided(source: Source, change: Counterfactual) -> list[Source]:
    """The functions under check that a changed one does not call any more: the mistake may be in these."""
    before = set(source.function.__code__.co_names)
    with change.apply():
        after = set(source.function.__code__.co_names)
    return [helper for helper in helpers(source) if helper.tree.name in before - after]


def other_lines(
    margin: Callable[[], float],
    source: Source,
    change: Counterfactual,
    around: Sequence[Source],
    found: Sequence[Counterfactual],
) -> list[tuple[Cause, Counterfactual]]:
    """Changes of other lines, in the place of one of a function, that make all agree as well.

    margin: the worst error / allowed of all; around: the functions that it avoids; found: what is undone
    already, with or without the change.
    """
    rest, budget = [one for one in found if one is not change], Budget(SECONDS)
    others: list[tuple[Cause, Counterfactual]] = []
    for function, line in _lines(source, change, around):
        changes = budget.limit(source_changes(function, line))
        cause, other = find_cause(Piece(margin, lambda changes=changes: changes), rest)  # type: ignore[misc]
        others += [(cause, other)] if other else []
        if len(others) == OTHERS or budget.is_spent:
            break
    return others


def _lines(source: Source, change: Counterfactual, around: Sequence[Source]) -> Iterator[tuple[Source, int]]:
    """Those of the functions that it avoids; then the others of its own function, the nearest first."""
    for helper in around:
        yield from ((helper, line) for line in _all(helper))
    if change.line is not None:
        own = change.line.line
        near = sorted(_all(source), key=lambda line: (abs(line - own), line))
        yield from ((source, line) for line in near if line != own)


def _all(source: Source) -> list[int]:
    """The first lines of the statements of a function, backwards."""
    return source.lines_up_to(source.tree.end_lineno or 0)
