"""What became of each mutant: a line of JSON each, so that a run that was ended goes on where it stopped."""

import dataclasses
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from parity.errors import ParityError
from parity.mutating.mutants import Mutant
from parity.mutating.sources import Source
from parity.mutating.trial import Found
from parity.report import files

Fate = Literal['killed', 'survived', 'equivalent', 'unreached']
EQUIVALENT = 'equivalent_mutants.toml'


@dataclass(frozen=True)
class Result:
    """A mutant and its fate.

    fate:    unreached where no case of the chosen pairs runs the line: such a mutant was not tried.
    found:   what killed it.
    reason:  of a mutant that is declared equivalent: why nothing that can be observed differs, or why it does
             not matter.
    pairs:   those that it was tried with, or would have been; none after a brief run.
    located: the rank that `parity locate` gave the mutated line, 0 where it did not name it; None: not asked.
    cause:   the one that it gave for that line.
    """

    id: str
    file: str
    operator: str
    lines: tuple[int, int]
    before: str
    after: str
    diff: str
    fate: Fate
    found: Found | None
    seconds: float
    reason: str = ''
    located: int | None = None
    cause: str = ''
    pairs: tuple[str, ...] = ()

    def is_settled(self, pairs: Iterable[str]) -> bool:
        """Whether trying it with these pairs could tell nothing new."""
        return self.fate == 'killed' or set(pairs) <= set(self.pairs)

    def with_reason(self, reasons: Mapping[tuple[str, ...], str]) -> 'Result':
        """A survivor that is declared equivalent by now as such, and one that no longer is as a survivor."""
        reason = reasons.get((self.file, self.operator, self.before, self.after), '')
        left: Fate = 'equivalent' if reason else 'survived'
        fate = left if self.fate in ('survived', 'equivalent') else self.fate
        return dataclasses.replace(self, fate=fate, reason=reason)

    @property
    def is_misdeclared(self) -> bool:
        """Whether it is declared equivalent, and was killed."""
        return self.fate == 'killed' and bool(self.reason)

    def line(self) -> str:
        """As a line of JSON."""
        return json.dumps(dataclasses.asdict(self))


def result(
    mutant: Mutant,
    found: Found | None,
    seconds: float,
    reasons: Mapping[tuple[str, ...], str],
    reached: bool = True,
    pairs: Iterable[str] = (),
) -> Result:
    """The result of a mutant, without what locates it; reached: whether it was tried."""
    reason = reasons.get(mutant.key, '')
    left: Fate = 'survived' if reached else 'unreached'
    fate: Fate = 'killed' if found is not None else 'equivalent' if reason else left
    taken = {field.name for field in dataclasses.fields(Result)} & {*vars(mutant)}
    given = {name: value for name, value in vars(mutant).items() if name in taken}
    return Result(
        **given,
        fate=fate,
        found=found,
        seconds=round(seconds, 2),
        reason=reason,
        pairs=tuple(pairs),
    )


def read(path: Path) -> dict[str, Result]:
    """The results of an earlier run by the mutants' ids; a last line that was cut off is left out."""
    return {one.id: one for one in map(parse, files.json_lines(path))}


def parse(entry: dict[str, Any]) -> Result:
    """A result from what its line of JSON holds."""
    found = entry['found']
    plain = {'lines': tuple(entry['lines']), 'pairs': tuple(entry.get('pairs', ()))}
    return Result(**{**entry, **plain, 'found': found and Found(**found)})


def reasons_for(sources: Iterable[Source]) -> dict[tuple[str, ...], str]:
    """The mutants that are declared equivalent, (file, operator, before, after) -> the reason.

    They are declared in a file beside the sources, EQUIVALENT, and matched by their text: lines move.
    """
    reasons: dict[tuple[str, ...], str] = {}
    for source in sources:
        path = source.path.parent / EQUIVALENT
        for entry in _entries(path) if path.exists() else ():
            if entry['file'] == source.path.name:
                for operator in entry['operators']:
                    reasons[source.file, operator, entry['before'], entry['after']] = entry['reason']
    return reasons


def _entries(path: Path) -> list[dict[str, Any]]:
    """The entries of a file. Raises ParityError where one is not complete, or has no reason."""
    entries: list[dict[str, Any]] = tomllib.loads(path.read_text()).get('equivalent', [])
    needed = {'file', 'operators', 'before', 'after', 'reason'}
    for entry in entries:
        missing = sorted(name for name in needed if not entry.get(name) and name != 'after')
        if missing or set(entry) != needed:
            raise ParityError(
                f'{path.name}: an entry is not complete',
                values=f'expected {", ".join(sorted(needed))}; found {", ".join(sorted(entry))}',
                error=f'{len(missing)} without a value: {", ".join(missing)}',
                where=str(path),
                next_step='say for each why no observable can differ',
            )
    return entries
