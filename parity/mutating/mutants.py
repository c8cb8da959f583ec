"""The mutants of a source file: one change each, by the operators of the table."""

import ast
import difflib
import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from parity.errors import ParityError, unknown
from parity.mutating.sources import Source
from parity.mutating.walking import Change, changes

if TYPE_CHECKING:
    from parity.mutating.operators.table import Operator


@dataclass(frozen=True)
class Mutant:
    """A file with one change.

    id:     of file, operator and place: the same as long as the file's lines are.
    module: the module that it replaces; file: its path inside its package.
    lines:  the first and the last line, from 1, of the statement that is changed.
    runs:   the same of what must run for it to matter: the body, where it is the head of a function.
    before, after: the lines that differ, without indentation.
    text:   the whole file after the change; diff: unified.
    """

    id: str
    module: str
    file: str
    operator: str
    lines: tuple[int, int]
    runs: tuple[int, int]
    before: str
    after: str
    text: str
    diff: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        """By what it is declared equivalent: lines move, their text does not."""
        return self.file, self.operator, self.before, self.after


def mutants_of(source: Source, operators: Collection[str] = ()) -> list[Mutant]:
    """All mutants of a file, by the operators of these names or by all of them, in the order of its lines.

    A change that two operators make counts once, and one that leaves the syntax tree as it was not at all.
    Raises ParityError for unknown operators, and where LibCST is not installed.
    """
    table = operators_of(operators)
    try:
        same = ast.dump(ast.parse(source.text))
    except SyntaxError as cause:
        raise _unreadable(source, cause) from cause
    found: dict[str, Mutant] = {}
    for change in changes(source.text, table):
        try:
            differs = ast.dump(ast.parse(change.text)) != same
        except SyntaxError:  # an operator's blunder; no port could be like that
            continue
        if differs and change.text not in found:
            found[change.text] = _mutant(source, change)
    return sorted(found.values(), key=lambda mutant: mutant.lines)


def operators_of(names: Collection[str] = ()) -> list['Operator']:
    """The operators of these names; all if there are none."""
    try:
        from parity.mutating.operators import OPERATORS
    except ModuleNotFoundError as cause:
        raise ParityError(
            'mutants need LibCST',
            values='expected the package libcst; found none',
            error='not installed',
            where='parity mutate',
            next_step="pip install 'parity[mutate]'",
        ) from cause
    for name in names:
        if name not in OPERATORS:
            raise unknown(
                'operator', name, sorted(OPERATORS), where='--operators', next_step='parity mutate --list'
            )
    return [OPERATORS[name] for name in names] or list(OPERATORS.values())


def _mutant(source: Source, change: Change) -> Mutant:
    old, new = source.text.splitlines(), change.text.splitlines()
    before, after, first, last = _differing(old, new)
    lines = change.lines or (first, last)
    name = f'{source.file} {change.operator} {lines} {first} {before} {after}'
    diff = difflib.unified_diff(old, new, source.file, source.file, lineterm='', n=2)
    return Mutant(
        hashlib.sha256(name.encode()).hexdigest()[:12],
        source.module,
        source.file,
        change.operator,
        lines,
        change.runs or lines,
        before,
        after,
        change.text,
        '\n'.join(diff),
    )


def _differing(old: list[str], new: list[str]) -> tuple[str, str, int, int]:
    """The lines that differ, of both, and the numbers of the first and the last of the old ones."""
    start = next(
        (i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new))
    )
    end = 0
    while end < min(len(old), len(new)) - start and old[-1 - end] == new[-1 - end]:
        end += 1
    before, after = old[start : len(old) - end], new[start : len(new) - end]
    texts = ('\n'.join(line.strip() for line in lines) for lines in (before, after))
    return *texts, start + 1, start + max(1, len(before))  # type: ignore[return-value]


def _unreadable(source: Source, cause: SyntaxError) -> ParityError:
    return ParityError(
        f'cannot read {source.file}',
        values=f'expected Python; found {cause.msg}',
        error='not parsed',
        where=f'{source.path}:{cause.lineno}',
        next_step='python -m py_compile ' + str(source.path),
    )
