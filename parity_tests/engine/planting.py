"""Plant bugs in a copy of the port's package: what `parity locate` and the mutants are tried on."""

import contextlib
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch_agents
from parity.mutating.changes import changed_lines
from parity.mutating.loading import replaced
from parity.pair import Pair

PACKAGE = 'torch_agents'
FOLDER = Path(torch_agents.__file__).parent


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
    """The pair that `torch_agents/pairs.py` calls `name`, with its port in a changed package for a while.

    Raises ValueError unless each text occurs as often as said.
    """
    texts: dict[str, str] = {}
    lines: list[tuple[str, int]] = []
    for change in substitutions:
        module = f'{PACKAGE}.{change.file.removesuffix(".py")}'
        before = texts.get(module) or FOLDER.joinpath(change.file).read_text()
        texts[module] = _substituted(before, change)
        lines += [(change.file, line) for line in changed_lines(before, texts[module])]
    with replaced(texts):
        pairs = importlib.import_module(f'{PACKAGE}.pairs')
        yield Planted(getattr(pairs, name.upper()), frozenset(lines))


def _substituted(text: str, change: Substitution) -> str:
    found = text.count(change.old)
    if found != change.times:
        raise ValueError(f'{change.file} has {found} times, not {change.times}: {change.old!r}')
    return text.replace(change.old, change.new)
