"""What was found, as places of a divergence: draws, updates, and each place once."""

from collections.abc import Mapping
from typing import Any

from parity.locating.causes import Cause
from parity.locating.counterfactuals import Counterfactual
from parity.locating.divergence import Finding, Place
from parity.locating.draws import DrawFinding
from parity.locating.update_lines import line_of
from parity.locating.updates import UpdateFinding
from parity.runs import Runs


def of_draw(loss: str, finding: DrawFinding) -> Finding:
    """A draw that differs as a place."""
    places = (draw.place if draw else None for draw in (finding.port, finding.reference))
    mine, theirs = (draw.describe() if draw else None for draw in (finding.port, finding.reference))
    port, reference = map(Place.of, places)
    return Finding(0, 'draw', 'loss', loss, port, reference, finding.description, mine, theirs)


def of_update(runs: Runs, finding: UpdateFinding, margins: Mapping[str, float]) -> Finding:
    """What an update makes of right gradients as a place; margins: of the leaves that differ."""
    before = max(margins.get(f'{finding.steps[0]}/params/{path}', 0.0) for path in finding.paths)
    return Finding(
        rank=0,
        kind='update',
        stage='update',
        loss='',
        port=Place.of(line_of(runs, finding)),
        reference=None,
        why=f'in {", ".join(finding.steps)}',
        parameters=finding.paths,
        cause=Cause(finding.cause, finding.description, before, finding.margin, 1),
    )


def of_text(stage: str, loss: str, cause: Cause, change: Counterfactual) -> Finding:
    """A line that says something else than the reference's as a place."""
    why = 'says something else than the reference, and all agrees if it does not'
    places = Place.of(change.line), Place.of(change.reference)
    return Finding(0, 'value', stage, loss, *places, why, cause=cause)


def merged(causes: list[Finding], rest: list[Finding], drawn: list[Finding]) -> list[Finding]:
    """Each place once: a draw explains what follows, but a wrong key was made before it is used."""
    by_key = [finding for finding in drawn if ' key' in finding.why and finding.port_value]
    first = [finding for finding in drawn if finding not in by_key]
    found: dict[Any, Finding] = {}
    for finding in (*causes, *first, *rest[:1], *by_key, *rest[1:]):
        place = finding.port and (finding.port.file, finding.port.line)
        found.setdefault(place or (finding.kind, finding.modules), finding)
    return list(found.values())
