"""Two reports against each other: which margins or outcomes got worse, what appeared or vanished."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.table import Table
from rich.text import Text

from parity.errors import ParityError
from parity.report.json import FORMAT

Kind = Literal['worse', 'better', 'vanished', 'appeared', 'same']
# pair, stage and precision: 'iql', 'grads float64'
Key = tuple[str, str]

OUTCOMES = ('match', 'not_run', 'mismatch', 'error')
STYLES: dict[Kind, str] = {
    'worse': 'bold red',
    'vanished': 'bold red',
    'better': 'green',
    'appeared': '',
    'same': '',
}
FACTOR, FLOOR = 2.0, 0.01


@dataclass(frozen=True)
class Entry:
    """The worst of one stage of a pair in one precision, over all cases."""

    outcome: str
    margin: float
    path: str


@dataclass(frozen=True)
class Change:
    """What happened to one entry. `fails`: whether CI should stop because of it."""

    key: Key
    kind: Kind
    old: Entry | None
    new: Entry | None
    fails: bool


def diff(old: Path, new: Path, *, factor: float = FACTOR, floor: float = FLOOR) -> list[Change]:
    """Compare two report folders, index files or reports of a pair.

    factor: how many times larger a margin must be to be worse; floor: margins below it count as it.
    Raises ParityError if a report cannot be read or has another format, or if both are empty.
    """
    if not factor >= 1 or not floor > 0:
        raise ParityError(
            'cannot compare reports with these options',
            values=f'expected --factor of at least 1 and --floor above 0; found {factor:g} and {floor:g}',
            error='1 option out of range; allowed: 0',
            where='parity diff-reports',
            next_step='parity diff-reports OLD NEW --factor 2 --floor 0.01',
        )
    before, after = load(old), load(new)
    keys = dict.fromkeys([*before, *after])
    if not keys:
        raise _unreadable(old, f'no stage, and none in {new}')
    return [_change(key, before.get(key), after.get(key), factor, floor) for key in keys]


def load(path: Path) -> dict[Key, Entry]:
    """The entries of a report folder, of its index or of the report of one pair."""
    file = path / 'index.json' if path.is_dir() else path
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError) as cause:
        raise _unreadable(file, f'{type(cause).__name__}: {cause}') from cause
    version = content.get('format') if isinstance(content, dict) else None
    if version != FORMAT:
        raise _unreadable(file, f'format {version!r}')
    try:
        return dict(_of_index(content) if 'pairs' in content else _of_pair(content))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as cause:
        raise _unreadable(file, f'{type(cause).__name__}: {cause}') from cause


def table(changes: list[Change], *, everything: bool = False) -> Table:
    """One row per change, what fails first; with `everything` also what is the same."""
    rows = Table('', 'pair', 'stage', title='reports: old against new (worst margins)')
    for title in ('old', 'new', 'ratio'):
        rows.add_column(title, justify='right', no_wrap=True)
    rows.add_column('leaf', overflow='fold')
    shown = [change for change in changes if everything or change.kind != 'same']
    for change in sorted(shown, key=lambda change: not change.fails):
        rows.add_row(*(Text(cell, STYLES[change.kind]) for cell in _cells(change)))
    return rows


def summary(changes: list[Change]) -> str:
    """`2 worse, 1 vanished, 29 same`."""
    kinds = [change.kind for change in changes]
    return ', '.join(f'{kinds.count(kind)} {kind}' for kind in STYLES if kind in kinds)


def _change(key: Key, old: Entry | None, new: Entry | None, factor: float, floor: float) -> Change:
    if new is None:
        return Change(key, 'vanished', old, new, fails=True)
    if old is None:
        return Change(key, 'appeared', old, new, fails=new.outcome in ('mismatch', 'error'))
    ranks = OUTCOMES.index(old.outcome), OUTCOMES.index(new.outcome)
    # an outcome decides before any margin; equal ones, infinite ones too, are the same
    before, after = ranks if ranks[0] != ranks[1] else (max(old.margin, floor), max(new.margin, floor))
    limit = factor if ranks[0] == ranks[1] else 1.0
    if before < after and after > limit * before:
        return Change(key, 'worse', old, new, fails=True)
    better = after < before and before > limit * after
    return Change(key, 'better' if better else 'same', old, new, fails=False)


def _of_index(content: Mapping[str, Any]) -> Iterator[tuple[Key, Entry]]:
    for pair in content['pairs']:
        for stage, entry in pair['stages'].items():
            yield (str(pair['pair']), stage), _entry(entry['outcome'], entry['margin'], entry['path'])


def _of_pair(content: Mapping[str, Any]) -> Iterator[tuple[Key, Entry]]:
    worst: dict[Key, Entry] = {}
    for case in content['cases']:
        for stage in case['stages']:
            leaf: dict[str, Any] = stage['leaves'][0] if stage['leaves'] else {'margin': 0.0, 'path': ''}
            entry = _entry(stage['outcome'], leaf['margin'], leaf['path'])
            key = (str(content['pair']), f'{stage["stage"]} {stage["dtype"]}')
            worst[key] = max(worst.get(key, entry), entry, key=_badness)
    yield from worst.items()


def _entry(outcome: str, margin: float | str, path: str) -> Entry:
    if outcome not in OUTCOMES:
        raise ValueError(f'unknown outcome {outcome!r}')
    value = float(margin)  # an infinite one is written as text
    return Entry(outcome, math.inf if math.isnan(value) else value, str(path))


def _badness(entry: Entry) -> tuple[int, float]:
    return OUTCOMES.index(entry.outcome), entry.margin


def _cells(change: Change) -> tuple[str, ...]:
    old, new = change.old, change.new
    ratio = f'{new.margin / old.margin:.3g}' if old and new and 0 < old.margin < math.inf else ''
    path = (new.path if new else '') or (old.path if old else '')
    pair, stage = change.key
    return change.kind, pair, stage, _shown(old), _shown(new), ratio, path


def _shown(entry: Entry | None) -> str:
    if entry is None:
        return 'absent'
    return f'{entry.margin:.3g}' if entry.outcome == 'match' else f'{entry.outcome} {entry.margin:.3g}'


def _unreadable(file: Path, found: str) -> ParityError:
    return ParityError(
        f'cannot compare the report {file}',
        values=f'expected a JSON report of format {FORMAT}; found {found}',
        error='unreadable',
        where=str(file),
        next_step='write it again with this version: parity run --reports FOLDER',
    )
