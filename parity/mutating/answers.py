"""What the reference answers in a few cases, computed once: a mutant costs its torch side only."""

import functools
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parity.backends import JaxSide, release
from parity.batches import STYLES, Style
from parity.cases import Case, Inputs
from parity.computations import MORE_SAMPLES
from parity.expected import Expected
from parity.pair import Pair, find
from parity.runs import Runs
from parity.sides import State
from parity.stages import UPDATES, Runner, stages_of
from parity.strategies import letters_of
from parity.trees import Arrays

# The sizes of the first structure, of those that follow and of the last. Images are never square.
LARGE = {'B': 16, 'O': 17, 'A': 6, 'H': 10, 'W': 7}
SMALL = {'B': 5, 'O': 4, 'A': 3, 'H': 12, 'W': 9}
ONE = {'B': 1, 'O': 3, 'A': 1, 'H': 9, 'W': 12}

TELLING: tuple[Style, ...] = ('plain', 'huge', 'bounds', 'tied', 'zero')
# What tells one switch from another.
APART = {'params', 'loss'}


@dataclass(frozen=True)
class Question:
    """A case, and the stages that are asked of it in float64 and in float32."""

    case: Case
    doubles: tuple[str, ...]
    singles: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answers:
    """All that judging a port in one case needs.

    expected: by stage and precision; the stage config is in float64 alone, having no precision.
    states:   by precision, those before each step of the updates.
    """

    case: Case
    inputs: Inputs
    expected: dict[tuple[str, str], Expected]
    states: dict[str, list[State]]


@dataclass(frozen=True)
class Kept:
    """The leader of a port's updates, of which only the states are left."""

    states: list[State]

    def stage(self, name: str) -> Arrays:
        """Nothing needs to be computed again, or compared."""
        return {}


class Recorded(Runs):
    """Runs of a port against kept answers: nothing of the reference is computed."""

    def __init__(self, pair: Pair, answers: Answers) -> None:
        super().__init__(pair, answers.case)
        self.answers = answers

    @functools.cached_property
    def inputs(self) -> Inputs:
        """What both sides are given."""
        return self.answers.inputs

    @functools.cached_property
    def batch(self) -> Arrays:
        """The batch."""
        return self.answers.inputs.batch

    @functools.cached_property
    def config(self) -> dict[str, object]:
        """The whole configuration."""
        return self.answers.inputs.config

    @functools.cached_property
    def created(self) -> JaxSide:
        """The reference, created only where the port's side reads its structure."""
        return super().created if self.pair.port_reads_reference else self.pair.reference_side()

    @functools.cached_property
    def port64(self) -> Runner:
        """The port in float64."""
        return self.new_port('float64', Kept(self.answers.states['float64']))

    @functools.cached_property
    def port32(self) -> Runner:
        """The port in float32."""
        return self.new_port('float32', Kept(self.answers.states.get('float32', [])))

    def counts(self, dtype: str) -> tuple[int, ...]:
        """Judged once: of kept answers no more samples can be had."""
        return (MORE_SAMPLES,)

    def expected(self, stage: str, dtype: str, samples: int | None = None, *, reach: bool = True) -> Expected:
        """As kept, with the table of reach."""
        assert reach
        return self.answers.expected[stage, dtype]


def structures_of(pair: Pair) -> list[dict[str, Any]]:
    """Sizes and switches: each switch's values in turn, every row at sizes that differ; then a batch of one.

    The last row mixes the values, so that not all switches are on their first value or all on their second.
    """
    rows = max([2, *map(len, pair.switches.values())])
    turns = [[i] * len(pair.switches) for i in range(rows)] + [list(range(len(pair.switches)))]
    sizes = [LARGE, *[SMALL] * (rows - 1), ONE]
    return [_structure(pair, size, turn) for size, turn in zip(sizes, turns, strict=True)]


def separating(pair: Pair) -> list[dict[str, Any]]:
    """Structures with which, and with the one that mixes, any two switches of two values differ somewhere.

    The bits of a switch's number say which of its values it has; the mix has the lowest.
    """
    count = len(pair.switches)
    bits = range(1, max(0, count - 1).bit_length())
    return [_structure(pair, SMALL, [number >> bit for number in range(count)]) for bit in bits]


def _structure(pair: Pair, size: dict[str, int], turns: Sequence[int]) -> dict[str, Any]:
    switches = zip(turns, pair.switches.items(), strict=True)
    return {
        'sizes': {k: max(n, pair.smallest.get(k, 1)) for k, n in size.items() if k in letters_of(pair)},
        'config': {key: values[i % len(values)] for i, (key, values) in switches},
    }


def questions_of(pair: Pair, *, brief: bool = False) -> list[Question]:
    """The first structure in all styles of values, the others in TELLING ones; the likeliest killers first.

    A structure costs a compilation of the reference, a style next to nothing; but a survivor runs them all.
    float64 decides semantics, and mutants are bugs of semantics: float32 is asked in the first case, and of
    the networks of each structure, which may compute in half of it.
    brief: only what kills nearly all of them. Of 2,267 killed mutants one was killed by updates
    of a structure that is not the first, seven by a batch of one, none by float32 of more than networks.
    """
    stages = tuple(stages_of(pair))
    rows = structures_of(pair)
    asked = []
    for seed, style in enumerate(STYLES):
        for i, row in enumerate(rows):
            if i == 0 or style in TELLING:
                doubles = _briefly(stages, i, i == len(rows) - 1) if brief else stages
                singles = _singles(stages, i, seed, brief)
                asked.append(Question(Case(seed=seed, values=style, **row), doubles, singles))
    return asked + [Question(Case(**row), tuple({*stages} & APART)) for row in separating(pair)]


def _briefly(stages: Sequence[str], structure: int, is_last: bool) -> tuple[str, ...]:
    """What is asked of a structure in brief: all but free runs or updates, and of the last the losses."""
    if is_last:
        return tuple(stage for stage in stages if stage in {*APART, 'forward'})
    left_out = ('rollout',) if structure == 0 else UPDATES
    return tuple(stage for stage in stages if stage not in left_out)


def _singles(stages: tuple[str, ...], structure: int, style: int, brief: bool) -> tuple[str, ...]:
    if style > 0 or (brief and structure > 0):
        return ()
    if brief or structure > 0:
        return tuple(stage for stage in stages if stage == 'forward')
    return tuple(stage for stage in stages if stage != 'config')


def answer(pair: Pair, question: Question, *, careful: bool = False) -> Answers:
    """Run the reference on a case, for the stages that are asked for.

    careful: with as many samples of its noise as `Runs.compare` takes where fewer may be small by luck.
    """
    runs = Runs(pair, question.case)
    samples = MORE_SAMPLES if careful else None
    asked = [(stage, 'float64') for stage in question.doubles]
    asked += [(stage, 'float32') for stage in question.singles]
    expected = {(stage, dtype): runs.expected(stage, dtype, samples) for stage, dtype in asked}
    states = {'float64': runs.reference64.states}
    states |= {'float32': runs.reference32.states} if 'update' in question.singles else {}
    return Answers(question.case, runs.inputs, expected, states)


def structures(questions: Sequence[Question]) -> list[list[int]]:
    """The indices of the questions of each structure: they share the reference's programs."""
    found: dict[str, list[int]] = {}
    for i, question in enumerate(questions):
        found.setdefault(repr((question.case.sizes, question.case.config)), []).append(i)
    return list(found.values())


def write_answers(
    name: str,
    indices: Sequence[int],
    folder: Path,
    careful: bool,
    brief: bool,
    tell: Callable[[str], None],
) -> list[Path]:
    """Write the answers of a pair's reference to some of its questions, a file for each; their paths.

    careful: see `answer`; brief: see `questions_of`.
    """
    pair, paths = find(name), []
    questions = questions_of(pair, brief=brief)
    folder.mkdir(parents=True, exist_ok=True)
    for i in indices:
        tell(f'{name}: the reference of {questions[i].case.describe()}')
        paths.append(folder / f'{i}.pickle')
        paths[-1].write_bytes(pickle.dumps(answer(pair, questions[i], careful=careful)))
    release()  # no other structure uses its programs
    return paths


def read(path: Path) -> Answers:
    """Answers that `answer_all` wrote, in this run: never a file of somebody else."""
    answers: Answers = pickle.loads(path.read_bytes())
    return answers
