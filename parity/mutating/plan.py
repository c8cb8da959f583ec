"""Which mutants are tried, and on which cases of which pairs."""

from collections.abc import Collection, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from parity.errors import unknown
from parity.mutating.mutants import Mutant, mutants_of
from parity.mutating.sources import Source, sources_of
from parity.mutating.trial import Task
from parity.pair import find

# {pair: for each of its cases, {module: the lines that ran}}
Reached = Mapping[str, Sequence[Mapping[str, set[int]]]]


@dataclass(frozen=True)
class Plan:
    """sources: by module, each once. pairs: {module: the pairs that are made of it}, those named first."""

    sources: dict[str, Source]
    pairs: dict[str, list[str]]
    mutants: list[Mutant]


def plan(names: Sequence[str], files: Collection[str] = (), operators: Collection[str] = ()) -> Plan:
    """All mutants of these pairs' ports; a file that several of them share has each mutant once.

    files: names of files, `iql.py` or `torch_agents/iql.py`, if not all. Raises ParityError for unknown ones.
    """
    sources: dict[str, Source] = {}
    pairs: dict[str, list[str]] = {}
    for name in names:
        for source in sources_of(find(name)):
            sources.setdefault(source.module, source)
            pairs.setdefault(source.module, []).append(name)
    known = [source.file for source in sources.values()]
    for file in files:
        if not any(_is(each, file) for each in known):
            raise unknown('file', file, known, where='--files', next_step='name one of those')
    chosen = [s for s in sources.values() if not files or any(_is(s.file, file) for file in files)]
    mutants = [mutant for source in chosen for mutant in mutants_of(source, operators)]
    return Plan({source.module: source for source in chosen}, pairs, mutants)


def sample(
    mutants: Sequence[Mutant], count: int, seed: int, equivalent: Container[tuple[str, ...]] = ()
) -> list[Mutant]:
    """`count` mutants, as evenly as can be from all operators, and from all files among those of one.

    equivalent: keys of mutants that are left out, see `Mutant.key`: nothing kills them, so that each of them
    would run all cases of all pairs.
    """
    rng = np.random.default_rng(seed)
    left = [mutant for mutant in mutants if mutant.key not in equivalent]
    drawn = [left[i] for i in rng.permutation(len(left))]
    of_operator: dict[str, list[Mutant]] = {}
    for mutant in drawn:
        of_operator.setdefault(mutant.operator, []).append(mutant)
    for operator, group in of_operator.items():
        of_operator[operator] = _in_turn(group)
    turns = max(map(len, of_operator.values()), default=0)
    order = [group[i] for i in range(turns) for group in of_operator.values() if i < len(group)]
    return order[:count]


def task(
    mutant: Mutant,
    pairs: Sequence[str],
    answers: Mapping[str, Sequence[Path]],
    reached: Reached,
    folder: Path,
) -> Task:
    """The mutant's trial: in the cases in which its lines run at all. folder: see Task."""
    span = set(range(mutant.runs[0], mutant.runs[1] + 1))
    chosen = {
        pair: tuple(
            path
            for path, lines in zip(answers[pair], reached[pair], strict=True)
            if span & lines.get(mutant.module, set())
        )
        for pair in pairs
    }
    ran = {pair: paths for pair, paths in chosen.items() if paths}
    return Task({mutant.module: mutant.text}, ran, folder)


def _is(file: str, asked: str) -> bool:
    return file == asked or file.endswith(f'/{asked}')


def _in_turn(group: list[Mutant]) -> list[Mutant]:
    """One of each file, then a second one of each, and so on."""
    seen: dict[str, int] = {}
    ranked = []
    for mutant in group:
        seen[mutant.file] = seen.get(mutant.file, 0) + 1
        ranked.append((seen[mutant.file], mutant))
    return [mutant for _, mutant in sorted(ranked, key=lambda pair: pair[0])]
