"""Which line of the port corresponds to a line of the reference: those whose values are the same."""

import collections
import functools
from collections.abc import Iterable

from parity.locating.matching import Matching
from parity.locating.sources import Line

Place = tuple[str, int]


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
        reference, port = matching.traces
        for a, b in matching.partner[0].items():
            places = self._places(0, reference[a].stack), self._places(1, port[b].stack)
            self.together.update((x, y) for x in places[0] for y in places[1])

    def _places(self, side: int, stack: Iterable[Line]) -> list[Place]:
        found = {(line.file, line.line): line for line in stack}
        self.lines[side].update(found)
        self.counts[side].update(found.keys())
        return list(found)

    @functools.cached_property
    def _mapped(self) -> tuple[dict[Place, tuple[float, Place]], dict[Place, tuple[float, Place]]]:
        best: tuple[dict[Place, tuple[float, Place]], dict[Place, tuple[float, Place]]] = ({}, {})
        for (a, b), count in self.together.items():
            share = count / (self.counts[0][a] + self.counts[1][b] - count)
            best[0][a] = max(best[0].get(a, (0.0, b)), (share, b))
            best[1][b] = max(best[1].get(b, (0.0, a)), (share, a))
        return best

    def other(self, side: int, line: Line) -> Line | None:
        """The line of the other side that corresponds to one of `side`.

        One without common values lies as far behind its neighbour as on the side that has it.
        """
        mapped = self._mapped[side]
        place = line.file, line.line
        if place in mapped:
            return self.lines[1 - side][mapped[place][1]]
        near = [
            known
            for known, found in self.lines[side].items()
            if known in mapped and found.file == line.file and found.function == line.function
        ]
        if not near:
            return None
        closest = min(near, key=lambda known: (abs(known[1] - line.line), known[1] > line.line))
        anchor = self.lines[1 - side][mapped[closest][1]]
        return anchor._replace(line=anchor.line + line.line - closest[1])

    def correspond(self, reference: Line, port: Line) -> bool:
        """Whether each is the other's best, or one of them is the other's."""
        there, back = self.other(0, reference), self.other(1, port)
        return there is not None and there[:2] == port[:2] or back is not None and back[:2] == reference[:2]
