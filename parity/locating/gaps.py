"""Lines that the reference has and the port lacks: no value of the port tells where one is missing.

Found by comparing the text of methods of the same name, and told by a word that the line must have.
"""

import difflib
import inspect
import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any, NamedTuple

from parity.comparison import Leaf
from parity.locating.differing import in_loss
from parity.locating.divergence import Finding, Place
from parity.locating.scopes import MODULES
from parity.locating.sources import Line, is_user
from parity.pair import Pair

# How alike methods must be for a line to be missing, and not all of them another way.
ALIKE = 0.5


class Gap(NamedTuple):
    """The port's line before which a line of the reference is missing, and that line."""

    port: Line
    reference: Line


def missing_values(pair: Pair, leaves: Iterable[Leaf]) -> list[Finding]:
    """Where what the port does not report would have been: info values that only the reference has."""
    findings: dict[Gap, Finding] = {}
    for leaf in leaves:
        loss, path = in_loss(leaf.path)
        names = path.split('/')[1:]
        if leaf.kind != 'missing path' or not path.startswith('info/'):
            continue
        found = next((gap for name in names for gap in gaps(pair, [name])), None)
        if found is not None and found not in findings:
            places = Place.of(found.port), Place.of(found.reference)
            findings[found] = Finding(0, 'value', 'loss', loss, *places, f'the port lacks {path}')
    return list(findings.values())


def gaps(pair: Pair, words: Collection[str], methods: Collection[str] = ()) -> Iterator[Gap]:
    """Lines that methods of the port lack, and that have all of these words, each in quotes.

    methods: names, if not all that both sides' classes have.
    """
    theirs, ours = (_methods(pair.load(side)) for side in ('reference', 'port'))
    patterns = [re.compile(rf'[\'"}}]{re.escape(word)}[\'"]') for word in words]
    for name in theirs:
        if name in ours and (not methods or name in methods):
            yield from _gaps(theirs[name], ours[name], patterns)


def _methods(cls: Any) -> dict[str, Any]:
    """All functions of a class whose source is a user's."""
    found = {}
    for name, member in inspect.getmembers_static(cls if inspect.isclass(cls) else type(cls)):
        function = inspect.unwrap(getattr(member, '__func__', member))
        if inspect.isfunction(function) and is_user(function.__code__.co_filename):
            found[name] = function
    return found


def _gaps(reference: Any, port: Any, patterns: Collection[re.Pattern[str]]) -> Iterator[Gap]:
    try:
        (theirs, their_first), (ours, our_first) = map(inspect.getsourcelines, (reference, port))
    except OSError:  # compiled code, or a file that is gone
        return
    before, after = ([MODULES.sub('', line.strip()) for line in lines] for lines in (theirs, ours))
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    if matcher.ratio() < ALIKE:
        return
    for tag, start, stop, at, end in matcher.get_opcodes():
        instead = ''.join(after[at:end])
        for i in range(start, stop) if tag in ('delete', 'replace') else ():
            if all(pattern.search(theirs[i]) and not pattern.search(instead) for pattern in patterns):
                above = max(0, min(at + i - start, end) - 1)
                yield Gap(_line(port, our_first + above), _line(reference, their_first + i))


def _line(function: Any, number: int) -> Line:
    return Line(function.__code__.co_filename, number, function.__qualname__)
