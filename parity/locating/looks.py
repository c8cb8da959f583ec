"""One computation that differs, looked into: its frontiers, its wrong modules, and the causes of both."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from parity.locating.candidates import exchanged, source_changes
from parity.locating.causes import Cause, Piece, find_cause, searched
from parity.locating.counterfactuals import Counterfactual, Source, applied
from parity.locating.culprits import Culprits, place_of
from parity.locating.divergence import Finding, Kind, Place
from parity.locating.frontier import PORT
from parity.locating.layers import LayerRow, Layers
from parity.locating.line_pieces import line_piece, own_leaves, source_of
from parity.locating.others import MANY, avoided, other_lines
from parity.locating.pieces import Budget, Judge
from parity.locating.sources import Line, is_called
from parity.locating.values import Frontier, Values

# For the causes of all losses together, or of what networks return.
SECONDS = 20.0
# Causes are searched for the first so many lines.
LINES = 4


@dataclass(eq=False)
class Spot:
    """A place that may be to blame: a frontier, wrong modules, or both of them.

    change: undoes the cause, maybe at another line than where values part: that may have passed on the wrong
    one of several arguments, say.
    """

    frontier: Frontier | None
    culprits: Culprits | None
    cause: Cause | None = None
    change: Counterfactual | None = None

    def module_piece(self, budget: Budget) -> Piece:
        """Of its wrong modules, beginning with the lines at which values part."""
        assert self.culprits is not None
        return self.culprits.piece(budget, self.frontier.calls if self.frontier else ())

    @property
    def is_explained(self) -> bool:
        """Whether its cause is known."""
        return self.cause is not None and self.cause.known


class Look:
    """What differs in one computation.

    stage, loss: what it is called in the divergence; wrong: the leaves that differ, as `Judge` calls them.
    found: what undoes the causes that are known already; those found here are added.
    """

    def __init__(
        self,
        stage: str,
        loss: str,
        values: Values,
        judge: Judge,
        layers: Layers | None,
        wrong: Sequence[str],
        found: list[Counterfactual],
    ) -> None:
        self.stage, self.loss, self.values, self.judge = stage, loss, values, judge
        self.layers, self.wrong = layers, wrong
        self.notes: list[str] = []
        self.found, self.known = found, len(found)
        self.agrees = False  # with all causes undone
        self._others: dict[Spot, tuple[bool, list[tuple[Cause, Counterfactual]]]] = {}

    @functools.cached_property
    def rows(self) -> tuple[LayerRow, ...]:
        """Every call of a module; none where they cannot be looked into."""
        if self.layers is None or self.fails:
            return ()
        try:
            return tuple(self.layers.rows())
        except Exception as cause:  # whatever a model does that its modules do not do alone
            self.notes.append(f'{self.loss}: no module was looked into: {type(cause).__name__}: {cause}')
            return ()

    @property
    def fails(self) -> bool:
        """Whether the port raises."""
        return self.values.traces[PORT].failure is not None

    @functools.cached_property
    def frontiers(self) -> list[Frontier]:
        """Of the values, or where they agree of the gradients."""
        return self.values.forward or self.values.backward

    @functools.cached_property
    def culprits(self) -> list[Culprits]:
        """The wrong modules, class by class."""
        found: dict[type, Culprits] = {}
        for row in self.rows:
            if row.is_culprit and self.layers is not None:
                cls = type(self.layers.loss.modules[row.path])
                found.setdefault(cls, Culprits(self.layers)).rows.append(row)
        return list(found.values())

    @functools.cached_property
    def spots(self) -> list[Spot]:
        """Frontiers with the modules that they lie in, in their order; then modules without a line."""
        spots = [Spot(frontier, self._culprits_at(frontier)) for frontier in self.frontiers]
        lined = {id(spot.culprits) for spot in spots}
        return spots + [Spot(None, culprits) for culprits in self.culprits if id(culprits) not in lined]

    def _culprits_at(self, frontier: Frontier) -> Culprits | None:
        """Of the innermost call that is a wrong module's."""
        pairs = ((line, culprits) for line in frontier.calls for culprits in self.culprits)
        return next((culprits for line, culprits in pairs if culprits.has(line)), None)

    def explain(self, seconds: float) -> bool | None:
        """Search for causes; whether all agrees with them undone, None where none was found."""
        budget = Budget(seconds / 2)
        firsts = {id(spot.culprits): spot for spot in reversed(self.spots) if spot.culprits}
        modules = [spot for spot in self.spots if firsts.get(id(spot.culprits)) is spot]
        self._search(modules, [spot.module_piece(budget) for spot in modules])
        budget = Budget(seconds / 2)
        lines = [spot for spot in self.spots if spot.frontier and not self._is_known(spot)][:LINES]
        self._search(lines, [self._line_piece(spot, budget) for spot in lines])
        if len(self.found) == self.known:
            return None
        with applied(self.found):
            margin = self.judge.margin_if_any()
        if margin is None:  # what undoes one part breaks another: none of it may hide what else there is
            del self.found[self.known :]
        self.agrees = margin is not None and margin <= 1
        return self.agrees

    def in_one(self, known: int) -> tuple[Finding, Counterfactual] | None:
        """One change in the place of several: two keys that are taken for each other may be named so.

        known: how many of what was found is left as it is.
        """
        changes = self.found[known:]
        functions = {change.line and (change.line.file, change.line.function) for change in changes}
        source = self._source(changes[0].line) if len(changes) > 1 and len(functions) == 1 else None
        if source is None:
            return None
        return self._instead(lambda: exchanged(source), known, 'one change explains what several do')

    def in_common(self, known: int) -> tuple[Finding, Counterfactual] | None:
        """One change in a function through which all is computed that parts.

        What reads a network frozen may no more detach it: then gradients part wherever it is read.
        known: as in `in_one`.
        """
        trace = self.values.traces[PORT]
        stacks = {f.value: trace[f.value].stack for f in self.frontiers if f.value is not None}
        if len(stacks) < 2:
            return None
        first, *others = stacks.values()
        shared = [line for line in first if all(is_called(line, stack) for stack in others)]
        sources, budget = filter(None, map(self._source, shared)), Budget(SECONDS / 2)
        changes = itertools.chain.from_iterable(budget.limit(source_changes(source)) for source in sources)
        return self._instead(lambda: changes, known, 'all that differs is computed through it')

    def _instead(
        self, candidates: Callable[[], Iterator[Counterfactual]], known: int, why: str
    ) -> tuple[Finding, Counterfactual] | None:
        """The change that explains all in the place of what was found after the first `known`."""
        cause, change = find_cause(Piece(self.judge.margin_of_all, candidates), self.found[:known])
        if change is None:
            return None
        place = Place.of(change.line)
        return dataclasses.replace(self.findings()[0], port=place, cause=cause, why=why), change

    def _is_known(self, spot: Spot) -> bool:
        """Whether the modules that it lies in have a cause."""
        return any(other.is_explained for other in self.spots if other.culprits is spot.culprits is not None)

    def _search(self, spots: Sequence[Spot], pieces: Sequence[Piece]) -> None:
        for spot, (cause, counterfactual) in zip(spots, searched(pieces, self.found), strict=True):
            if cause is not None and cause.tried:  # without time left nothing was searched for
                spot.cause = cause
            if counterfactual:
                spot.change = counterfactual
                self.found.append(counterfactual)

    def _line_piece(self, spot: Spot, budget: Budget) -> Piece:
        assert spot.frontier is not None
        own = own_leaves(self.judge, spot.frontier, self.frontiers, self.wrong)
        wrong = set(self.wrong)
        others = (name for name in self.judge.values() if name not in wrong)  # must go on to agree
        return line_piece(self.judge, spot.frontier, spot.culprits, (*own, *others), budget)

    def _source(self, line: Line | None) -> Source | None:
        return source_of(line, self.judge.runs.pair)

    def again(self) -> 'Look':
        """The same with the causes undone that are known."""
        runs, call = self.judge.runs, self.judge.call
        with applied(self.found):
            wrong = [leaf.path for leaf in self.judge.leaves() if not leaf.matches]
        layers = Layers(runs, call) if self.layers and call else None
        values = Values(runs, given=self.values.programs)
        return Look(self.stage, self.loss, values, self.judge, layers, wrong, self.found)

    def causes(self) -> list[Finding]:
        """The first findings, as long as their cause is known."""
        return list(itertools.takewhile(lambda finding: finding.is_explained, self.findings()))

    def others(self) -> list[Finding]:
        """The findings after these."""
        return self.findings()[len(self.causes()) :]

    def findings(self) -> list[Finding]:
        """The places, those with a known cause first if all agrees without: a cause can be a chance hit."""
        spots = sorted(self.spots, key=lambda spot: not (self.agrees and spot.is_explained))
        return [finding for spot in spots for finding in self._with_others(spot)]

    def _with_others(self, spot: Spot) -> list[Finding]:
        """The finding of a place, and other lines of which a change explains as much.

        They come first where they are in a function that the change avoids, else after it.
        """
        own, change = self._finding(spot), spot.change if self._changed(spot) else None
        source = self._source(change.line) if change else None
        if change is None or source is None or spot.cause is None:
            return [own]
        if spot not in self._others:
            around = avoided(source, change)
            is_sought = around or spot.cause.tried >= MANY
            arguments = self.judge.margin_of_all, source, change, around, self.found
            self._others[spot] = bool(around), other_lines(*arguments) if is_sought else []
        is_around, found = self._others[spot]
        why = f'explains as much as line {change.line.line if change.line else 0}'
        others = [
            dataclasses.replace(own, port=Place.of(other.line), cause=cause, why=why)
            for cause, other in found
        ]
        return [*others, own] if is_around else [own, *others]

    def _finding(self, spot: Spot) -> Finding:
        paths = spot.culprits.paths if spot.culprits else ()
        if spot.frontier is None:
            return self._of_modules(spot, paths)
        frontier = spot.frontier
        backward: Kind = 'value' if frontier.direction == 'forward' else 'cotangent'
        return Finding(
            rank=0,
            kind='error' if self.fails else 'module' if paths else backward,
            stage='grads' if frontier.direction == 'backward' else self.stage,
            loss=self.loss,
            port=Place.of(self._changed(spot) or frontier.port),
            reference=Place.of(frontier.reference),
            modules=paths,
            cause=spot.cause,
            **{name: getattr(frontier, name) for name in _SHARED},
        )

    def _changed(self, spot: Spot) -> Line | None:
        """The line that makes all agree, if it does: a cause that explains a part can be a chance hit."""
        return spot.change.line if self.agrees and spot.is_explained and spot.change else None

    def _of_modules(self, spot: Spot, paths: tuple[str, ...]) -> Finding:
        assert spot.culprits is not None
        row = spot.culprits.rows[0]
        forward = row.forward == 'culprit'
        return Finding(
            rank=0,
            kind='module',
            stage=self.stage if forward else 'grads',
            loss=self.loss,
            port=Place.of(self._changed(spot))
            or place_of(type(spot.culprits.layers.loss.modules[row.path]).forward),
            reference=None,
            why=row.problem or f'wrong by itself: {row.leaf}',
            port_value=row.port or None,
            reference_value=row.reference or None,
            difference=row.error,
            allowed=row.allowed,
            modules=paths,
            cause=spot.cause,
        )


_SHARED = tuple(
    {field.name for field in dataclasses.fields(Frontier)}
    & {field.name for field in dataclasses.fields(Finding)} - {'rank', 'port', 'reference'}
)
