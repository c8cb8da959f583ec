"""The source lines at which the values, or the gradients, of a reference and its port first differ."""

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from parity.errors import unknown
from parity.locating.blame import Blame
from parity.locating.cotangents import Backward
from parity.locating.fingerprints import distance
from parity.locating.frontier import PORT, REFERENCE, Region, reached, region, sources, wrong_outputs
from parity.locating.lines import LineMap
from parity.locating.matching import Matching, match
from parity.locating.programs import Programs, programs
from parity.locating.shapes import Shapes
from parity.locating.sources import Line, Stack
from parity.locating.suspects import Suspect, once, ranked
from parity.locating.trace import Trace, Value, tolerance
from parity.runs import Runs
from parity.sides import LossCall
from parity.stages import LOSSES


@dataclass(frozen=True)
class Frontier:
    """A line of the port that may be to blame, and what speaks for it.

    rank:       1 is the likeliest.
    direction:  whether the values differ, or only the gradients.
    port:       the line; its file, number, function and text.
    reference:  the reference's line that has its place, if one is known.
    why:        in a few words.
    port_value, reference_value: the first values that differ, in words; None where a side has none.
    difference: between them, in shares of the larger; None where their shapes differ or a side has none.
    agreed:     the last values that agreed: what the first ones that differ were computed from.
    reaches:    the outputs that differ and were computed from it: 'loss', 'info/critic/critic_loss'.
    parameters: the parameters whose gradients flow through it.
    allowed:    as difference, up to which values are the same.
    calls:      the line and those that called it, innermost first.
    value:      the number of the first value that differs, in the port's trace; several lines can share one.
    """

    rank: int
    direction: Literal['forward', 'backward']
    port: Line
    reference: Line | None
    why: str
    port_value: str | None = None
    reference_value: str | None = None
    difference: float | None = None
    agreed: tuple[str, ...] = ()
    reaches: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    allowed: float | None = None
    calls: Stack = ()
    value: int | None = None


def forward_frontiers(runs: Runs, loss: str | None = None) -> list[Frontier]:
    """Where the values part, the likeliest line first; empty where all outputs agree.

    runs: of a pair of agents or of models, or `parity.functions.FunctionRuns` of two bare functions.
    loss: the name of a loss of the pair, 'pretraining'; its first by default. Of functions it is not used.
    """
    return Values(runs, loss).forward


def backward_frontiers(runs: Runs, loss: str | None = None) -> list[Frontier]:
    """Where the gradients part although all values agree; empty where they agree, or values do not."""
    values = Values(runs, loss)
    return [] if values.forward else values.backward


class Values:
    """Both sides of one loss, or of given programs, run once in float64, and compared.

    Arguments as in `forward_frontiers`.
    """

    def __init__(self, runs: Runs, loss: str | None = None, given: Programs | None = None) -> None:
        self.name = runs.pair.name
        self.programs = given or programs(runs, call_of(runs, loss))

    @functools.cached_property
    def traces(self) -> tuple[Trace, Trace]:
        """Everything that the reference and the port computed."""
        return traces_of(self.programs)

    @functools.cached_property
    def matching(self) -> Matching:
        """Which values both have."""
        return match(*self.traces)

    @functools.cached_property
    def lines(self) -> LineMap:
        """Which lines correspond."""
        return LineMap(self.matching)

    @functools.cached_property
    def forward(self) -> list[Frontier]:
        """See `forward_frontiers`. A port that raises has the line that did so."""
        failure = self.traces[PORT].failure
        if failure is not None:
            return [self._failed(*failure)]
        wrong = wrong_outputs(self.matching)
        if not wrong:
            return self._misshapen()
        regions = self._region(REFERENCE, wrong.values()), self._region(PORT, wrong.values())
        blame = Blame(self.matching, regions, self.lines)
        found = [blame.suspects(index) for index in regions[PORT].frontier]
        if not found:
            found = [blame.of_reference(index) for index in regions[REFERENCE].frontier]
        frontiers = self._frontiers([*blame.of_callers(found), *ranked(found)], 'forward', tuple(wrong))
        return frontiers or [self._without_line(name) for name in wrong][:1]

    @functools.cached_property
    def backward(self) -> list[Frontier]:
        """See `backward_frontiers`."""
        backward = Backward(self.matching, self.lines)
        wrong = backward.wrong_leaves()
        if not wrong or self.traces[PORT].failure is not None:
            return []
        return self._frontiers(
            ranked(backward.by_activity() or backward.by_value()), 'backward', tuple(wrong)
        )

    def _misshapen(self) -> list[Frontier]:
        """Where all outputs have the right values, but not all the right shape."""
        shapes = Shapes(self.matching, self.lines)
        wrong = shapes.wrong()
        return self._frontiers(
            ranked(shapes.suspects(*pair) for pair in wrong.values()), 'forward', tuple(wrong)
        )

    def _region(self, side: int, wrong: Iterable[tuple[int | None, int | None]]) -> Region:
        return region(self.matching, side, {pair[side] for pair in wrong} - {None})

    def _frontiers(
        self, suspects: list[Suspect], direction: Literal['forward', 'backward'], wrong: tuple[str, ...]
    ) -> list[Frontier]:
        return [self._frontier(i, suspect, direction, wrong) for i, suspect in enumerate(once(suspects), 1)]

    def _frontier(
        self, rank: int, suspect: Suspect, direction: Literal['forward', 'backward'], wrong: tuple[str, ...]
    ) -> Frontier:
        reference, port = self.traces
        value = None if suspect.value is None else port[suspect.value]
        other = None if suspect.partner is None else reference[suspect.partner]
        side, start = (port, value) if value is not None else (reference, other)
        assert start is not None
        later, parameters = reached(side, start.index), self._parameters(side, start)
        if direction == 'backward':
            parameters = tuple(name for name in map(_parameter, wrong) if name in parameters)
        return Frontier(
            rank,
            direction,
            suspect.line,
            self._reference_line(suspect, other),
            suspect.why,
            _shown(value, direction),
            _shown(other, direction),
            _difference(value, other, direction),
            tuple(_told(operand) for operand in side.operands(start.index) if not operand.constant),
            tuple(
                name
                for name, i in side.outputs.items()
                if not later.isdisjoint((i, side[i].root)) and name in (*wrong, 'loss')
            ),
            parameters,
            _allowed(value, other, direction),
            _calls(suspect.line, value),
            suspect.value,
        )

    def _reference_line(self, suspect: Suspect, other: Value | None) -> Line | None:
        """The line that corresponds to the suspect's, one of the value in its place if there is one."""
        stack = other.stack if other is not None else ()
        there = next((line for line in stack if self.lines.correspond(line, suspect.line)), None)
        return there or self.lines.other(PORT, suspect.line) or next(iter(stack), None)

    def _parameters(self, trace: Trace, value: Value) -> tuple[str, ...]:
        """The parameters from which a gradient flows to the value, as the reference calls them."""
        leaves = [trace[i] for i in sources(trace, value.index) if trace[i].leaf is not None]
        if trace is self.traces[PORT]:
            found = (self.matching.found[PORT].get(leaf.index, ()) for leaf in leaves)
            leaves = [self.traces[REFERENCE][i] for indices in found for i in indices]
        names = (leaf.leaf or '' for leaf in leaves if leaf.active)
        return tuple(dict.fromkeys(_parameter(name) for name in names if name.startswith('params/')))

    def _without_line(self, name: str) -> Frontier:
        """Of a port that has no line: a function of a library that is not written in Python."""
        values = (str(t[t.outputs[name]].print) if name in t.outputs else None for t in self.traces)
        reference, port = values
        line = Line('', 0, self.name)
        return Frontier(1, 'forward', line, None, 'no line of it is known', port, reference, reaches=(name,))

    def _failed(self, error: BaseException, stack: tuple[Line, ...]) -> Frontier:
        """The line that raised, and the last values that the reference has, too."""
        port, line = self.traces[PORT], stack[0]
        agreed = [value for value in port if self.matching.has(PORT, value.index) and value.leaf is None]
        why = f'raises {type(error).__name__}: {error}'
        there = self.lines.other(PORT, line)
        return Frontier(1, 'forward', line, there, why, agreed=tuple(map(_told, agreed[-3:])))


def traces_of(given: Programs) -> tuple[Trace, Trace]:
    """Run both sides, forward and backward."""
    from parity.locating import capture_jax, capture_torch, pullback_jax

    captured = capture_jax.capture(given.reference, given.trained, given.given)
    reference = captured.trace
    weights = given.weights({name: reference[i].print.shape for name, i in reference.outputs.items()})
    pullback_jax.pull_back(captured, weights)
    recorder = capture_torch.capture(given.port, given.leaves, given.draws)
    if recorder.trace.failure is None:
        recorder.pull_back(weights)
    return reference, recorder.trace


def call_of(runs: Runs, loss: str | None) -> LossCall:
    """The loss of that name of the pair. Raises ParityError for another name."""
    calls = {call.name: call for call in runs.pair.losses or LOSSES}
    name = loss or next(iter(calls))
    if name not in calls:
        where, after = f'pair {runs.pair.name}', 'name one of those'
        raise unknown('loss', name, list(calls), where=where, next_step=after)
    return calls[name]


def _parameter(name: str) -> str:
    return name.removeprefix('params/')


def _told(value: Value) -> str:
    place = value.leaf or (str(value.stack[0]) if value.stack else value.operation)
    return f'{value.print} of {place}'


def _shown(value: Value | None, direction: str) -> str | None:
    if value is None:
        return None
    if direction == 'forward':
        return str(value.print)
    return 'no gradient' if value.cotangent is None else f'gradient {value.cotangent}'


def _calls(line: Line, value: Value | None) -> Stack:
    """The calls around a value from the line outwards."""
    stack = value.stack if value is not None else ()
    return stack[stack.index(line) :] if line in stack else (line,)


def _allowed(value: Value | None, other: Value | None, direction: str) -> float | None:
    if value is None or other is None or direction == 'backward':
        return None
    size = max(value.print.largest, other.print.largest)
    return 2 * tolerance(value, other) / size if size else 0.0


def _difference(value: Value | None, other: Value | None, direction: str) -> float | None:
    if value is None or other is None:
        return None
    a, b = (x.print if direction == 'forward' else x.cotangent for x in (value, other))
    if a is None or b is None:
        return None if a is b else 1.0
    size = max(a.largest, b.largest)
    apart = distance(a, b)
    return None if apart == float('inf') else apart / size if size else 0.0
