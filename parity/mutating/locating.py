"""Whether the line that a mutant changed is named, by locating what the stage loss or grads found."""

import os
from collections.abc import Callable

from parity.mutating import loading
from parity.mutating.answers import read
from parity.mutating.changes import changed_lines
from parity.mutating.trial import Found, Outcome, Task, quiet
from parity.pair import find
from parity.runs import Runs

STAGES = ('loss', 'grads')
Place = tuple[str, int]  # the file's name without its folder, the line from 1


def can_locate(found: Found) -> bool:
    """Whether there is anything to locate: values or gradients of a loss that differ."""
    return found.kind == 'mismatch' and found.stage in STAGES and found.dtype == 'float64'


def locate(
    found: Found, originals: dict[str, str], task: Task, send: Callable[[Outcome | None], None]
) -> None:
    """Find the rank of a mutated line, to be called in a process of its own: Outcome.located, 0 if not named.

    originals: {module: text} before the change.
    """
    quiet()
    answers = [read(path) for path in task.answers[found.pair]]
    case = next(each.case for each in answers if each.case.describe() == found.case)
    with loading.replaced(task.texts):
        places = places_named(Runs(find(found.pair), case), found)
    changed = {
        (f'{module.rpartition(".")[2]}.py', line)
        for module, text in task.texts.items()
        for line in changed_lines(originals[module], text)
    }
    ranks = [rank for rank, place in enumerate(places, 1) if place in changed]
    send(Outcome(found, located=min(ranks, default=0)))


def places_named(runs: Runs, found: Found) -> list[Place]:
    """The port's lines that are named, the likeliest first."""
    from parity.locating.values import backward_frontiers, forward_frontiers

    loss = found.path.removeprefix('reach/').split('/')[0]
    frontiers = forward_frontiers(runs, loss) or backward_frontiers(runs, loss)
    return [(os.path.basename(frontier.port.file), frontier.port.line) for frontier in frontiers]
