"""Which line of the port corresponds to a line of the reference: those whose values are the same."""

import collections
import difflib
import functools
import linecache
import os
import re
from collections.abc import Callable, Iterable
from typing import Any

from parity.locating.matching import Matching
from parity.locating.sources import Line, Stack

Place = tuple[str, int]
# How similar texts of corresponding lines are at least, and how much a line of distance takes from it.
ENOUGH, FARTHER = 0.5, 0.02
SURE = 0.7  # similar enough to stand against the line that calls


class LineMap:
    """Learnt from the values that both sides have.

    Two lines correspond the better, the more often values that one of them computed are values of the other.
    """

    def __init__(self, matching: Matching) -> None:
        self.lines: tuple[dict[Place, Line], dict[Place, Line]] = ({}, {})
        self.together: collections.Counter[tuple[Place, Place]] = collections.Counter()
        self.counts: tuple[collections.Counter[Place], collections.Counter[Place]] = (
            collections.Counter(),
            collections.Counter(),
        )
        self.other: Callable[[int, Line], Line | None] = functools.cache(self._other)
        self.correspond: Callable[[Line, Line], bool] = functools.cache(self._correspond)
        reference, port = matching.traces
        for a, b in matching.partner[0].items():
            if reference[a].plain:
                continue
            places = self._places(0, reference[a].stack), self._places(1, port[b].stack)
            self.together.update((x, y) for x in places[0] for y in places[1])

    def _places(self, side: int, stack: Iterable[Line]) -> list[Place]:
        found = {(line.file, line.line): line for line in stack}
        self.lines[side].update(found)
        self.counts[side].update(found.keys())
        return list(found)

    @functools.cached_property
    def _mapped(
        self,
    ) -> tuple[dict[Place, tuple[float, float, Place]], dict[Place, tuple[float, float, Place]]]:
        best: tuple[dict[Place, tuple[float, float, Place]], dict[Place, tuple[float, float, Place]]] = (
            {},
            {},
        )
        for (a, b), count in self.together.items():
            share = count / (self.counts[0][a] + self.counts[1][b] - count)
            same = likeness(self.lines[0][a].text, self.lines[1][b].text)
            best[0][a] = max(best[0].get(a, (0.0, 0.0, b)), (share, same, b))
            best[1][b] = max(best[1].get(b, (0.0, 0.0, a)), (share, same, a))
        return best

    def _other(self, side: int, line: Line) -> Line | None:
        """The line of the other side that corresponds to one of `side`.

        One without common values is the one with the most similar text where it can be expected, or else just
        where it can be expected.
        """
        mapped = self._mapped[side]
        place = line.file, line.line
        if place in mapped:
            return self.lines[1 - side][mapped[place][2]]
        return self._by_text(side, line)

    def _expected(self, side: int, line: Line) -> Line | None:
        """The line as far behind the nearest one with common values as on the side that has it."""
        mapped = self._mapped[side]
        near = [
            known
            for known, found in self.lines[side].items()
            if known in mapped and found.file == line.file and found.function == line.function
        ]
        if not near:
            return None
        closest = min(near, key=lambda known: (abs(known[1] - line.line), known[1] > line.line))
        anchor = self.lines[1 - side][mapped[closest][2]]
        return anchor._replace(line=anchor.line + line.line - closest[1])

    def _by_text(self, side: int, line: Line) -> Line | None:
        expected = self._expected(side, line)
        file = expected.file if expected else self._files[side].get(line.file)
        texts = linecache.getlines(file) if file else []
        middle = expected.line if expected else line.line
        weight = FARTHER if expected else 0.0
        scores = [
            (likeness(line.text, text.strip()) - weight * abs(i - middle), -abs(i - middle), i)
            for i, text in enumerate(texts, 1)
        ]
        best = max(scores, default=(0.0, 0, 0))
        if file and best[0] >= ENOUGH:
            return Line(file, best[2], line.function)
        return expected

    @functools.cached_property
    def _files(self) -> tuple[dict[str, str], dict[str, str]]:
        """The file of the other side that has most values of a file; else the one of its name beside."""
        counts: collections.Counter[tuple[str, str]] = collections.Counter()
        for ((a, _), (b, _)), count in self.together.items():
            counts[a, b] += count * (1 + (os.path.basename(a) == os.path.basename(b)))
        found: tuple[dict[str, str], dict[str, str]] = ({}, {})
        for (a, b), _ in counts.most_common():
            found[0].setdefault(a, b)
            found[1].setdefault(b, a)
        return Beside(found[0]), Beside(found[1])

    def within(self, reference: Line, stack: Stack) -> Line | None:
        """The port's line that corresponds to the reference's; the call in its function, if unsure."""
        there = self.other(0, reference)
        if there is None or (reference.file, reference.line) in self._mapped[0]:
            return there
        if likeness(reference.text, there.text) >= SURE:
            return there
        return next((line for line in stack if line.function == there.function), there)

    def _correspond(self, reference: Line, port: Line) -> bool:
        """Whether each is the other's best, or one of them is the other's."""
        there, back = self.other(0, reference), self.other(1, port)
        return (there is not None and there[:2] == port[:2]) or (
            back is not None and back[:2] == reference[:2]
        )


class Beside(dict[str, str]):
    """Corresponding files; one that has none corresponds to the file of its name beside another one's."""

    def get(self, file: str, default: Any = None) -> Any:
        """The corresponding file, or the default."""
        if file in self:
            return self[file]
        name = os.path.basename(file)
        beside = (
            os.path.join(os.path.dirname(other), name) for known, other in self.items() if _near(known, file)
        )
        return next((other for other in beside if os.path.exists(other)), default)


def _near(a: str, b: str) -> bool:
    return os.path.dirname(a) == os.path.dirname(b)


@functools.lru_cache(maxsize=100_000)
def likeness(a: str, b: str) -> float:
    """How much two lines have in common, from 0 to 1; the frameworks' names count as one."""
    if not a or not b:
        return 0.0
    a, b = (re.sub(r'\b(jnp|jax|torch|np)\.', '', text) for text in (a, b))
    return difflib.SequenceMatcher(None, a, b, autojunk=False).ratio()
