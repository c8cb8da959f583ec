"""Suspected lines, and what the calls of two values have in common."""

import itertools
from collections.abc import Iterable
from typing import NamedTuple

from parity.locating.sources import Line, Stack

Reason = tuple[Line, str]  # a line, and what speaks against it


class Suspect(NamedTuple):
    """A line of the port, the value that made it suspect, and what the reference has in its place."""

    line: Line
    why: str
    value: int | None
    partner: int | None


def once(suspects: Iterable[Suspect]) -> list[Suspect]:
    """The suspects with each line once, where it comes first."""
    found: dict[tuple[str, int], Suspect] = {}
    for suspect in suspects:
        found.setdefault((suspect.line.file, suspect.line.line), suspect)
    return list(found.values())


def named(reasons: Iterable[Reason], value: int, partner: int | None) -> list[Suspect]:
    """The suspects of one value."""
    return once(Suspect(line, why, value, partner) for line, why in reasons)


def ranked(found: Iterable[list[Suspect]]) -> list[Suspect]:
    """The suspects of several values: the likeliest of each first, in the order of execution."""
    lists = sorted(filter(None, found), key=lambda suspects: suspects[0].value or 0)
    return once(suspect for row in itertools.zip_longest(*lists) for suspect in row if suspect)


def meeting(user: Stack, maker: Stack) -> Line:
    """The line, in the innermost call that both have in common, at which a value was made."""
    line = maker[-1]
    for mine, theirs in zip(reversed(user), reversed(maker), strict=False):
        if (mine.file, mine.function) != (theirs.file, theirs.function):
            break
        line = theirs
        if mine.line != theirs.line:
            break
    return line


def common(stacks: list[Stack]) -> Line | None:
    """The innermost line that all calls have in common."""
    outermost_first = zip(*(stack[::-1] for stack in stacks), strict=False)
    shared = [lines[0] for lines in outermost_first if len(set(lines)) == 1]
    return shared[-1] if shared else None
