"""Plant bugs in a copy of the port's package: what `parity locate` and the mutants are tried on."""

import ast
import contextlib
import difflib
import importlib
import itertools
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from parity.pair import Pair

PACKAGE = 'torch_agents'
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Substitution:
    """In a file of the port's package, `old` becomes `new`; `times`: how often the text occurs."""

    file: str
    old: str
    new: str
    times: int = 1


@dataclass(frozen=True)
class Planted:
    """The pair whose port has the bugs, and the changed lines: (file name, number from 1).

    Where lines were only taken away, the lines around the gap.
    """

    pair: Pair
    lines: frozenset[tuple[str, int]]


@contextlib.contextmanager
def planted(name: str, *substitutions: Substitution) -> Iterator[Planted]:
    """The pair that `torch_agents/pairs.py` calls `name`, with its port in a package of its own for a while.

    Raises ValueError unless each text occurs as often as said.
    """
    package = f'planted_{next(_numbers)}_agents'
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / package
        shutil.copytree(Path(importlib.import_module(PACKAGE).__file__ or '').parent, root)
        shutil.rmtree(root / '__pycache__', ignore_errors=True)
        lines = [place for change in substitutions for place in _substitute(root, change)]
        for path in root.rglob('*.py'):
            path.write_text(re.sub(rf'\b{PACKAGE}\b', package, path.read_text()))
        sys.path.insert(0, folder)
        importlib.invalidate_caches()
        try:
            yield Planted(
                getattr(importlib.import_module(f'{package}.pairs'), name.upper()), frozenset(lines)
            )
        finally:
            sys.path.remove(folder)
            for module in [module for module in sys.modules if module.split('.')[0] == package]:
                del sys.modules[module]


def _substitute(root: Path, change: Substitution) -> list[tuple[str, int]]:
    path = root / change.file
    text = path.read_text()
    found = text.count(change.old)
    if found != change.times:
        raise ValueError(f'{change.file} has {found} times, not {change.times}: {change.old!r}')
    path.write_text(text.replace(change.old, change.new))
    return [(change.file, line) for line in changed_lines(text, path.read_text())]


def changed_lines(before: str, after: str) -> list[int]:
    """The lines of `after`, from 1, that `before` lacks; of lines that were taken away, those around."""
    lines: list[int] = []
    matcher = difflib.SequenceMatcher(None, before.splitlines(), after.splitlines(), autojunk=False)
    for kind, _, _, start, stop in matcher.get_opcodes():
        if kind != 'equal':
            lines += range(start + 1, stop + 1) if stop > start else (start, start + 1)
    return lines + [first for line in lines for first in _call_around(ast.parse(after), line)]


def _call_around(tree: ast.AST, line: int) -> list[int]:
    """The first line of the innermost call that has the line among its own: there it is said to run."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    around = [node.lineno for node in calls if node.lineno < line <= (node.end_lineno or node.lineno)]
    return [max(around)] if around else []
