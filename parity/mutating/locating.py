"""Whether `parity locate` names the line that a mutant changed, and which cause it gives."""

import os
from collections.abc import Callable

import parity
from parity.locating.differing import SHOWN_IN
from parity.locating.divergence import Place
from parity.mutating import loading
from parity.mutating.answers import read
from parity.mutating.changes import changed_lines
from parity.mutating.trial import Found, Outcome, Task, quiet
from parity.pair import find

STAGES = ('config', 'params', 'forward', 'contractions', 'loss', 'grads', 'update', 'actions')


def can_locate(found: Found) -> bool:
    """Whether there is anything to locate: values that differ in float64."""
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
    # networks are looked into in a loss, if it differs as well: there each module is repeated by itself
    stage = None if found.stage == 'forward' else SHOWN_IN.get(found.stage, found.stage)
    with loading.replaced(task.texts, task.folder):
        findings = parity.locate(find(found.pair), case=case, stage=stage).findings
    changed = {
        (f'{module.rpartition(".")[2]}.py', line)
        for module, text in task.texts.items()
        for line in changed_lines(originals[module], text)
    }
    named = [each for each in findings if each.port and _place(each.port) in changed]
    first = named[0] if named else None
    cause = first.cause.name if first and first.cause else ''
    send(Outcome(found, located=first.rank if first else 0, cause=cause))


def _place(place: Place) -> tuple[str, int]:
    return os.path.basename(place.file), place.line
