"""A case that differs made small: hypothesis shrinks its fields, then rows of its batch are left out."""

import dataclasses
import random
import time
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from hypothesis import HealthCheck, Phase, find, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from parity.batches import Field, sizes_of
from parity.cases import Case, batch_of
from parity.errors import ParityError
from parity.execution import Execution
from parity.locating.calls import uncompiled
from parity.locating.differing import Tell, still_differs
from parity.pair import Pair
from parity.runs import Runs
from parity.strategies import SIZES
from parity.trees import Arrays
from parity.verdict import StageResult

EXAMPLES = 200
# A field as it is in the case is so many times as likely as a smaller one. Each new structure compiles the
# reference, so that few can be tried: the smallest, which comes first, and then one near the case, to shrink.
WEIGHT = 40

Value = TypeVar('Value')


def shrunk(
    pair: Pair,
    case: Case,
    stage: StageResult,
    *,
    loss: str | None = None,
    device: str = 'cpu',
    seconds: float = 30.0,
    progress: Tell | None = None,
) -> Case:
    """The smallest case found that differs in the same stage and precision as `case` does; or else `case`.

    stage, loss: what is known to differ in the case, see `Divergence.stages`.
    seconds:     the search begins nothing new after so long; what it has begun it finishes.
    progress:    called with a line of text before each case that is tried.
    The sizes of a batch that was not generated stay, but for its rows.
    """
    search = _Search(pair, stage, loss, device, time.monotonic() + seconds, progress or (lambda _: None))
    with uncompiled():
        return search.fewer_rows(search.simplest(case))


@dataclasses.dataclass
class _Search:
    """known: whether a case differs, by its description, while its batch follows from that."""

    pair: Pair
    stage: StageResult
    loss: str | None
    device: str
    end: float
    tell: Tell
    known: dict[str, bool] = dataclasses.field(default_factory=dict)

    def simplest(self, case: Case) -> Case:
        """With smaller sizes, seed, style of values and fewer settings."""
        whole = self._whole(case)
        self.known[whole.describe()] = True
        options = settings(
            database=None,
            max_examples=EXAMPLES,
            deadline=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )
        try:
            return find(_smaller(self.pair, whole), self._differs, settings=options, random=random.Random(0))
        except NoSuchExample:
            return case

    def fewer_rows(self, case: Case) -> Case:
        """With the fewest rows that follow each other: one, two, four; each number is a compilation."""
        batch = batch_of(self.pair, case)
        rows, count = sizes_of(self.pair.batch, batch).get('B', 1), self.pair.smallest.get('B', 1)
        while count < rows:
            for start in range(0, rows, count):
                part = _with_rows(self.pair, case, batch, min(start, rows - count), count)
                if self._runs_differ(part):
                    return part
            count *= 2
        return case

    def _whole(self, case: Case) -> Case:
        """The same case, with every size in its fields; or with its batch, if that is not generated."""
        batch = batch_of(self.pair, case)
        sizes = {**case.sizes, **sizes_of(self.pair.batch, batch)}
        given = None if case.source == 'generated' and case.batch is None else batch
        return dataclasses.replace(case, sizes=dict(sorted(sizes.items())), source='generated', batch=given)

    def _differs(self, case: Case) -> bool:
        # hypothesis asks again for what it has found, which must differ then, too
        name = case.describe()
        if name not in self.known:
            self.known[name] = self._runs_differ(case)
        return self.known[name]

    def _runs_differ(self, case: Case) -> bool:
        if time.monotonic() > self.end:
            return False
        self.tell(f'smaller: {case.describe()}')
        try:
            return still_differs(Runs(self.pair, case, Execution(self.device)), self.stage, self.loss)
        except ParityError:  # the reference raises on such a case
            return False


def _smaller(pair: Pair, case: Case) -> st.SearchStrategy[Case]:
    """The case with some of its fields as they are and others smaller, to which hypothesis shrinks."""
    sizes = case.sizes if case.batch is None else {}

    def build(seed: int, values: Any, sizes: dict[str, int], kept: dict[str, bool]) -> Case:
        config = {key: value for key, value in case.config.items() if kept[key]}
        return dataclasses.replace(
            case, seed=seed, values=values, sizes={**case.sizes, **sizes}, config=config
        )

    return st.builds(
        build,
        _towards(case.seed, range(3)),
        _towards(case.values, ['plain']),
        st.fixed_dictionaries(
            {k: _towards(n, _sizes_below(n, pair.smallest.get(k, 1))) for k, n in sizes.items()}
        ),
        st.fixed_dictionaries({key: _towards(True, [False]) for key in case.config}),
    )


def _towards(own: Value, smaller: Sequence[Value]) -> st.SearchStrategy[Value]:
    return st.sampled_from([*smaller, *[own] * WEIGHT])


def _sizes_below(size: int, smallest: int) -> list[int]:
    return [smaller for smaller in SIZES if smallest <= smaller < size]


def _with_rows(pair: Pair, case: Case, batch: Arrays, start: int, count: int) -> Case:
    rows = np.arange(start, start + count)
    part = {}
    for name, array in batch.items():
        letters = Field.parse(pair.batch[name]).letters
        part[name] = array.take(rows, letters.index('B')) if 'B' in letters else array
    return dataclasses.replace(case, batch=part, source='generated', sizes={**case.sizes, 'B': count})
