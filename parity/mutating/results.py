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

Fate = Literal['killed', 'survived', 'equivalent']
EQUIVALENT = 'equivalent_mutants.toml'
UNREACHED = 'no case runs the line'


@dataclass(frozen=True)
class Result:
    """A mutant and its fate.

    found:   what killed it; what is left of it where nothing did: why not.
    reason:  of an equivalent mutant: why nothing that can be observed differs, or why it does not matter.
    located: the rank that `parity locate` gave the mutated line, 0 where it did not name it; None: not asked.
    """

    id: str
    file: str
    operator: str
    lines: tuple[int, int]
    before: str
    after: str
    diff: str
    fate: Fate
    found: Found
    seconds: float
    reason: str = ''
    located: int | None = None

    def line(self) -> str:
        """As a line of JSON."""
        return json.dumps(dataclasses.asdict(self))


def result(
    mutant: Mutant,
    found: Found | None,
    seconds: float,
    reasons: Mapping[tuple[str, ...], str],
    left: str = '',
) -> Result:
    """The result of a mutant; left: why it was not tried, if it was not."""
    reason = reasons.get((mutant.file, mutant.operator, mutant.before, mutant.after), '')
    fate: Fate = 'killed' if found is not None else 'equivalent' if reason else 'survived'
    taken = {field.name for field in dataclasses.fields(Result)} & {*vars(mutant)}
    given = {name: value for name, value in vars(mutant).items() if name in taken}
    shown = found or Found('error', what=left)
    return Result(**given, fate=fate, found=shown, seconds=round(seconds, 2), reason=reason)


def read(path: Path) -> dict[str, Result]:
    """The results of an earlier run by the mutants' ids; a last line that was cut off is left out."""
    if not path.exists():
        return {}
    found = {}
    for line in path.read_text().splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        entry |= {'found': Found(**entry['found']), 'lines': tuple(entry['lines'])}
        found[entry['id']] = Result(**entry)
    return found


def reasons_for(sources: Iterable[Source]) -> dict[tuple[str, ...], str]:
    """The mutants that are declared equivalent, (file, operator, before, after) -> the reason.

    They are declared in a file beside the sources, EQUIVALENT, and matched by their text: lines move.
    """
    reasons: dict[tuple[str, ...], str] = {}
    for path in dict.fromkeys(source.path.parent / EQUIVALENT for source in sources):
        for entry in _entries(path) if path.exists() else ():
            for operator in entry['operators']:
                key = f'{path.parent.name}/{entry["file"]}', operator, entry['before'], entry['after']
                reasons[key] = entry['reason']
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
