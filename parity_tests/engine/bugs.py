"""Bugs to plant, one change each, of the kinds that ports have: `parity locate` is tried on them."""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from parity.cases import Case
from parity_tests.engine.planting import Substitution

Kind = Literal['forward', 'backward', 'update', 'draw']


@dataclass(frozen=True)
class Bug:
    """In `file` of the port, `old` becomes `new`, `times` times.

    name:   what was done.
    agent:  the pair that shows it; loss: the loss that does, of a case with this seed and config.
    kind:   what first differs: a value, a gradient, an update, or what is drawn, initial parameters among it.
    lines:  texts of lines that are as right an answer as the changed ones.
    unseen: written after the method was finished. What it showed has been used since.
    cause:  what `parity.locate` must name, `cause unknown` where no known difference can; None: not asked.
    rank:   the line must be among so many first places of `parity.locate`.
    """

    name: str
    agent: str
    loss: str
    kind: Kind
    file: str
    old: str
    new: str
    times: int = 1
    lines: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)
    seed: int = 1
    unseen: bool = False
    cause: str | None = None
    rank: int = 1

    @property
    def substitution(self) -> Substitution:
        """The change."""
        return Substitution(self.file, self.old, self.new, self.times)

    @property
    def case(self) -> Case:
        """The case that shows it."""
        return Case(self.seed, config=self.config)

    def __str__(self) -> str:
        return self.name


def _read() -> tuple[Bug, ...]:
    table = tomllib.loads(Path(__file__).with_suffix('.toml').read_text())
    return tuple(Bug(**{**bug, 'lines': tuple(bug.get('lines', ()))}) for bug in table['bug'])


BUGS = _read()
