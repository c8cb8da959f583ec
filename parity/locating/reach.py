"""Which loss term sends a gradient to which network, reference against port."""

from collections.abc import Collection
from dataclasses import dataclass

from parity.runs import Runs


@dataclass(frozen=True)
class ReachCell:
    """One cell of the table: whether the gradient of a loss term arrives at a network, on each side."""

    loss: str
    term: str
    network: str
    reference: bool
    port: bool

    @property
    def differs(self) -> bool:
        """Whether the gradient arrives on one side only."""
        return self.reference != self.port

    def describe(self) -> str:
        """The cell in words; for one that differs, what that means in the port."""
        which = f'{self.loss}: {self.term} -> {self.network}'
        if self.differs:
            return f'{which}: the gradient arrives in the {"reference" if self.reference else "port"} only'
        return f'{which}: {"a" if self.reference else "no"} gradient arrives in both'


def reach_table(runs: Runs, losses: Collection[str] | None = None) -> list[ReachCell]:
    """Every cell of the table loss term x network, in float64.

    losses: the names of those to look at, all by default.
    A term or a network that only one side has reaches nothing on the other.
    """
    reference, port = (runner.reach(losses) for runner in (runs.reference64, runs.port64))
    return [
        _cell(path, bool(reference.get(path, False)), bool(port.get(path, False)))
        for path in dict.fromkeys([*reference, *port])
    ]


def _cell(path: str, reference: bool, port: bool) -> ReachCell:
    """From `reach/<loss>/<term>/<network>`, where a term can have several parts: `actor/q_loss`."""
    _, loss, *term, network = path.split('/')
    return ReachCell(loss, '/'.join(term), network, reference, port)
