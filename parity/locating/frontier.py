"""The first values without a partner: where two traces that began alike part."""

from dataclasses import dataclass

from parity.locating import kinds
from parity.locating.matching import Matching, equal
from parity.locating.trace import Trace, Value

REFERENCE, PORT = 0, 1


@dataclass(frozen=True)
class Region:
    """What is wrong on one side.

    values:   the values without a partner from which a wrong output was computed through none that has one.
    frontier: those of them that were computed from values with partners alone, in the order of execution.
    """

    values: frozenset[int]
    frontier: tuple[int, ...]


def wrong_outputs(matching: Matching) -> dict[str, tuple[int | None, int | None]]:
    """The outputs that differ, or that one side alone has: name -> its root on both sides."""
    reference, port = matching.traces
    wrong: dict[str, tuple[int | None, int | None]] = {}
    for name in {**reference.outputs, **port.outputs}:
        a, b = (
            trace[trace.outputs[name]].root if name in trace.outputs else None for trace in (reference, port)
        )
        if a is None or b is None or not equal(reference[a], port[b]):
            wrong[name] = a, b
    return wrong


def region(matching: Matching, side: int, wrong: set[int | None]) -> Region:
    """What is wrong on a side, walking back from its wrong outputs.

    The walk ends at values that both sides have: what was computed before them differs by decomposition only.
    """
    trace = matching.traces[side]

    def stop(value: Value) -> bool:
        return value.index not in wrong and is_confirmed(matching, side, value)

    values = trace.ancestors((index for index in wrong if index is not None), stop)
    margins = {i for i in values - wrong if trace[i].operation in kinds.PADDING}
    # what only pads a value that both sides have is as right or wrong as what it is padded for
    parted = values - {i for i in margins if not any(x.index in values for x in trace.operands(i))}
    first = [
        i for i in sorted(parted) if not any(x.index in parted for x in trace.operands(i) if x.index != i)
    ]
    return Region(frozenset(values), tuple(i for i in first if trace[i].leaf is None))


def is_confirmed(matching: Matching, side: int, value: Value) -> bool:
    """Whether both sides have the value, or nothing can be said: a number of the program."""
    return matching.has(side, value.index) or (value.constant and value.print.size == 1)


def reached(trace: Trace, index: int) -> set[int]:
    """The values that were computed from the one at `index`, itself included."""
    found = {index}
    for value in trace.values[index + 1 :]:
        if any(i in found for i in value.operands):
            found.add(value.index)
    return found


def sources(trace: Trace, index: int) -> list[int]:
    """The roots of the values to which the one at `index` sends a gradient, itself included, in order."""
    seen: set[int] = set()
    waiting = [index]
    while waiting:
        value = trace[waiting.pop()]
        if value.index not in seen and value.active:
            seen.add(value.index)
            waiting += value.operands
    return sorted({trace[i].root for i in seen})
