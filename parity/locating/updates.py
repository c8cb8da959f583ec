"""Why parameters differ after a step whose gradients agree: alternatives recomputed from the recorded state.

Each step starts from the reference's state. What the port made of it is compared with what a step would have
made that has one mistake; the mistake that reproduces the port's numbers is named, and otherwise the nearest.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from parity.locating.alternatives import (
    Follows,
    Solved,
    adam_of,
    alternatives,
    follows,
    solved_constants,
    solved_weights,
)
from parity.locating.recorded import Step, moments_of, recorded_steps
from parity.locating.steps import Adam
from parity.runs import Runs

UNKNOWN = 'cause unknown'
_Row = tuple[float, str, str, str]  # (margin, description, step, path)


@dataclass(frozen=True)
class UpdateFinding:
    """Some parameters that differ after some steps, for one cause.

    cause:  its name, or 'cause unknown'; description: with numbers.
    steps:  `step3 finetune`; paths: of the parameters.
    margin: of what is left if the cause is what happened, (error / allowed), at most 1 where it is known.
    """

    cause: str
    description: str
    steps: tuple[str, ...]
    paths: tuple[str, ...]
    margin: float


def updates(runs: Runs) -> list[UpdateFinding]:
    """Why parameters differ after the steps of the update stage, in float64; nothing where none differs."""
    steps = list(recorded_steps(runs))
    followed = follows(steps)
    lr = runs.longest_step
    found: dict[tuple[str, str], list[_Row]] = {}
    for step in steps:
        differing = [
            path for path in step.port.params if step.margin(path, moments_of(step.reference, path)) > 1
        ]
        adams = {path: adam_of(step, path, lr) for path in differing}
        solved = Solved(solved_constants(step, adams), solved_weights(step, differing, followed))
        for path, adam in adams.items():
            cause, description, margin = explained(step, path, adam, followed, solved)
            key = cause, '' if cause == UNKNOWN else description
            found.setdefault(key, []).append((margin, description, step.name, path))
    return [_finding(cause, rows) for (cause, _), rows in found.items()]


def explained(
    step: Step, path: str, adam: Adam, followed: Mapping[str, Follows], solved: Solved
) -> tuple[str, str, float]:
    """(cause, description, remaining margin) of what the port did to one parameter in one step."""
    tried = [
        (step.margin(path, outcome), cause, description)
        for cause, description, outcome in alternatives(step, path, adam, followed, solved)
    ]
    known = [row for row in tried if row[0] <= 1]
    if known:
        margin, cause, description = known[0]
        return cause, description, margin
    if not tried:
        return UNKNOWN, 'no known mistake of an optimiser applies to it', np.inf
    margin, cause, description = min(tried)
    return UNKNOWN, f'nearest: {cause}, {description}', margin


def _finding(cause: str, rows: list[_Row]) -> UpdateFinding:
    """Of what is unknown, the nearest of all tells it."""
    _, description, *_ = min(rows)
    steps = tuple(dict.fromkeys(step for _, _, step, _ in rows))
    paths = tuple(dict.fromkeys(path for _, _, _, path in rows))
    return UpdateFinding(cause, description, steps, paths, max(margin for margin, *_ in rows))
