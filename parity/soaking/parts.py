"""The parts of a soak: so many examples of a pair, checked together, and what became of them."""

import dataclasses
import hashlib
import importlib.util
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parity import backends
from parity.checking import check
from parity.generated import part_of
from parity.pair import Pair, find
from parity.report import files
from parity.report.series import number
from parity.stages import stages_of
from parity.verdict import CaseResult, Outcome, Verdict, describe

# What both sides are computed with and compared by, whatever the pair.
COMMON = ('parity', 'weight_bridge')
# No part of a check: one looks at what differs, once something does, and one makes ports that differ.
APART = ('parity.locating', 'parity.mutating')


@dataclass(frozen=True)
class Part:
    """A part of a soak.

    pair:     a registered name or module:ATTR; code: the `digest` of what it is made of.
    number:   which of the pair's parts, see `generated.part_of`; examples: so many of its cases.
    stages:   those that are asked for, of which a pair has some.
    """

    pair: str
    code: str
    seed: int
    number: int
    examples: int
    stages: tuple[str, ...]


@dataclass(frozen=True)
class Result:
    """What became of a part.

    outcome:  the worst of all examples; margin: the largest of any leaf that matches or not.
    failures: for each example that does not match, what is wrong and the command that checks it again.
    """

    part: Part
    outcome: Outcome
    leaves: int
    margin: float
    failures: tuple[str, ...]
    seconds: float

    def line(self) -> str:
        """As a line of JSON."""
        return json.dumps(dataclasses.asdict(self))


def parts_of(names: Sequence[str], examples: int, seed: int, stages: Sequence[str], size: int) -> list[Part]:
    """The parts of `examples` examples of each pair; size: the examples of a part.

    The first part of every pair comes first, then the second of every one.
    """
    codes = {name: digest(find(name)) for name in names}
    return [
        Part(name, codes[name], seed, i, min(size, examples - i * size), tuple(stages))
        for i in range(math.ceil(examples / size))
        for name in names
    ]


def check_part(part: Part, progress: Callable[[str], None]) -> Result:
    """Check the examples of a part, both sides, in both precisions. Raises what check raises."""
    pair = find(part.pair)
    cases = part_of(pair, part.seed, part.number)[: part.examples]
    stages = [stage for stage in stages_of(pair) if stage in part.stages]
    verdict = check(part.pair, cases=cases, stages=stages, progress=progress, keep=0)
    backends.release()  # no other part has these structures
    return result_of(part, verdict)


def result_of(part: Part, verdict: Verdict) -> Result:
    """The result of a part from the verdict on its cases."""
    margins = (number(stage.worst.margin) for _, stage in verdict.stages() if stage.worst)
    failures = (_failure(verdict.pair, case) for case in verdict.cases if case.outcome != 'match')
    return Result(
        part,
        verdict.outcome,
        verdict.compared,
        max(margins, default=0.0),
        tuple(failures),
        round(verdict.seconds, 1),
    )


def read(path: Path) -> list[Result]:
    """The results of an earlier run; a last line that was cut off is left out."""
    return [_parsed(entry) for entry in files.json_lines(path)]


def _parsed(entry: dict[str, Any]) -> Result:
    part = Part(**{**entry['part'], 'stages': tuple(entry['part']['stages'])})
    return Result(**{**entry, 'part': part, 'failures': tuple(entry['failures'])})


def _failure(pair: str, case: CaseResult) -> str:
    """The first stage that does not match."""
    return describe(pair, case, next(stage for stage in case.stages if stage.outcome != 'match'))


def digest(pair: Pair) -> str:
    """Sixteen hexadecimal digits that change with the code of either side's package, or of what checks it."""
    packages = sorted({*COMMON, *(pair.module_of(side).partition('.')[0] for side in ('reference', 'port'))})
    apart = {path for package in APART for path in _files(package)}
    found = hashlib.sha256()
    for path in (path for package in packages for path in _files(package) if path not in apart):
        found.update(path.name.encode() + b'\0' + path.read_bytes())
    return found.hexdigest()[:16]


def _files(package: str) -> list[Path]:
    """The Python files of a package, or the one of a module."""
    spec: Any = importlib.util.find_spec(package)
    if spec.submodule_search_locations is None:
        return [Path(spec.origin)]
    return sorted(path for root in spec.submodule_search_locations for path in Path(root).rglob('*.py'))
