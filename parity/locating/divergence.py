"""Where and why a port differs, as data: frozen, complete, and without any rendering."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from parity.locating.causes import Cause
from parity.locating.draws import DrawFinding
from parity.locating.layers import LayerRow
from parity.locating.reach import ReachCell
from parity.locating.sources import Line
from parity.locating.updates import UpdateFinding
from parity.verdict import Outcome, StageResult, plain

FORMAT = 1
Kind = Literal['module', 'value', 'cotangent', 'draw', 'update', 'error', 'config']


@dataclass(frozen=True)
class Place:
    """A line of source: its file's whole path, its number from 1, the function that it is in, its text."""

    file: str
    line: int
    function: str
    text: str

    @classmethod
    def of(cls, line: Line | None) -> 'Place | None':
        """The place of a line; None where no file has it."""
        return cls(*line, line.text) if line is not None and line.file else None


@dataclass(frozen=True)
class Finding:
    """One place of the port that may be to blame, and what speaks for it.

    rank:        1 is the likeliest.
    kind:        what first differs there: the values of a line, those of a module that is wrong by itself,
                 only cotangents, a random draw, what an update makes of right gradients, or the
                 configuration; `error` where the port raises.
    stage, loss: where it shows; the loss is '' where the stage has none.
    port, reference: the lines, None where none is known.
    why:         in a few words.
    port_value, reference_value: the first values that differ, in words; None where a side has none.
    difference, allowed: between these: of values in shares of the larger one, of modules in numbers.
    agreed:      the last values that agreed, what the first ones that differ were computed from.
    reaches:     the outputs that differ and were computed from it: 'info/critic/critic_loss'.
    parameters:  the parameters whose gradients, or updates, are affected.
    modules:     the paths of the wrong modules that are about this place.
    cause:       None where none was searched for.
    """

    rank: int
    kind: Kind
    stage: str
    loss: str
    port: Place | None
    reference: Place | None
    why: str
    port_value: str | None = None
    reference_value: str | None = None
    difference: float | None = None
    allowed: float | None = None
    agreed: tuple[str, ...] = ()
    reaches: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    cause: Cause | None = None

    @property
    def is_explained(self) -> bool:
        """Whether undoing its cause makes the difference vanish."""
        return self.cause is not None and self.cause.known


@dataclass(frozen=True)
class Divergence:
    """What was found out about one case.

    pair, case, command: as in a verdict; the command locates this case again.
    stages:    those that differ, with the leaves that do; what comes after them was not looked at.
    findings:  the places, the likeliest first.
    modules:   for each loss that was looked into, every call of a module.
    reach:     the table loss term x network, where only gradients differ.
    draws:     the random draws that differ; updates: what was made of right gradients.
    explained: whether the port agrees once the causes that were found are undone; None where none was found.
    notes:     what could not be looked into, and why.
    """

    pair: str
    case: str
    command: str
    stages: tuple[StageResult, ...] = ()
    findings: tuple[Finding, ...] = ()
    modules: Mapping[str, tuple[LayerRow, ...]] = field(default_factory=dict)
    reach: tuple[ReachCell, ...] = ()
    draws: tuple[DrawFinding, ...] = ()
    updates: tuple[UpdateFinding, ...] = ()
    explained: bool | None = None
    notes: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def outcome(self) -> Outcome:
        """`match` where nothing differs, `mismatch` where a place is known, `error` where none was found."""
        if not self.stages:
            return 'match'
        return 'mismatch' if self.findings else 'error'

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, the outcome included."""
        return {'format': FORMAT, 'outcome': self.outcome, **plain(self)}
