"""Which random numbers each side drew in a loss, from which keys and on which lines; what differs first."""

import contextlib
import functools
import importlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from parity.draws import KINDS, replaced
from parity.locating.interception import Log, compiled, seen_by_host
from parity.locating.losses import port_loss, reference_loss
from parity.locating.sources import Line, is_user
from parity.runs import Runs
from parity.sides import LossCall

Difference = Literal[
    'distribution', 'shape', 'dtype', 'key', 'missing draw', 'unexpected draw', 're-used key'
]
# What consumes a key without drawing: a draw from the same key repeats what is derived from it.
DERIVING = ('split',)


@dataclass(frozen=True)
class Draw:
    """One draw, or one split of a key.

    kind: `normal`, ..., `split`; key: its words, empty where the program does not need the draw; line: of
    the code that asked for it, `iql.py:31`; text: that line; file: its whole path; function: that it is in.
    """

    kind: str
    shape: tuple[int, ...]
    dtype: str
    key: tuple[int, ...]
    line: str
    text: str
    file: str = ''
    function: str = ''

    @property
    def place(self) -> Line | None:
        """The line that drew."""
        return Line(self.file, int(self.line.rpartition(':')[2]), self.function) if self.file else None

    def describe(self) -> str:
        """`normal f64[5,2] from key (1, 2), iql.py:31`."""
        return f'{self.kind} {self.dtype}{list(self.shape)} from key {self.key}, {self.line}'


@dataclass(frozen=True)
class DrawFinding:
    """What differs in the draws, and where: index counts the draws of the loss.

    reference, port: the draws, None where a side has none; description: in words.
    """

    difference: Difference
    index: int
    reference: Draw | None
    port: Draw | None
    description: str


@dataclass
class _Entry:
    kind: str
    result: Any
    line: Line
    keys: Log = field(default_factory=dict)


def draws(runs: Runs, call: LossCall) -> tuple[list[Draw], list[Draw]]:
    """All draws and splits of (reference, port) in a loss in float64, in order."""
    import jax

    loss = reference_loss(runs, call)
    with _logged(jax.random, _seen_key) as entries:
        compiled(loss.function, loss)
    reference = [draw for entry in entries for draw in _draws_of(entry)]
    if runs.pair.draws is None:
        return reference, []
    port = port_loss(runs, call)  # created before anything is logged
    with (
        _logged(importlib.import_module(runs.pair.draws), _kept_key) as entries,
        contextlib.suppress(Exception),
    ):
        port.compute()  # a port that raises has drawn something before, perhaps what makes it raise
    return reference, [draw for entry in entries for draw in _draws_of(entry)]


def draw_findings(reference: list[Draw], port: list[Draw]) -> list[DrawFinding]:
    """The first draw that differs, if any, and each key that the port uses more often than the reference."""
    first = _first_difference(*([draw for draw in log if draw.kind in KINDS] for log in (reference, port)))
    return [*([first] if first else []), *_reused(reference, port)]


def _first_difference(reference: list[Draw], port: list[Draw]) -> DrawFinding | None:
    for i, (one, other) in enumerate(zip(reference, port, strict=False)):
        if difference := _difference(one, other):
            words = f'draw {i}: reference {one.describe()}; port {other.describe()}'
            return DrawFinding(difference, i, one, other, words + _origin(other, reference, difference))
    i = min(len(reference), len(port))
    if len(reference) > i:
        return DrawFinding('missing draw', i, reference[i], None, f'the port lacks {reference[i].describe()}')
    if len(port) > i:
        return DrawFinding('unexpected draw', i, None, port[i], f'only the port has {port[i].describe()}')
    return None


def _difference(one: Draw, other: Draw) -> Difference | None:
    if one.kind != other.kind:
        return 'distribution'
    if one.shape != other.shape:
        return 'shape'
    if one.dtype != other.dtype:
        return 'dtype'
    return 'key' if one.key and one.key != other.key else None


def _origin(draw: Draw, reference: list[Draw], difference: Difference) -> str:
    """For a wrong key: which draw of the reference has it."""
    if difference != 'key':
        return ''
    homes = [f'draw {i}, {other.line}' for i, other in enumerate(reference) if other.key == draw.key]
    return f'; the reference has this key at {homes[0]}' if homes else '; the reference draws nothing from it'


def _reused(reference: list[Draw], port: list[Draw]) -> list[DrawFinding]:
    """Keys from which the port draws or splits more often than the reference ever does from one key."""
    usual = max(Counter(draw.key for draw in reference if draw.key).values(), default=1)
    found = []
    for key, count in Counter(draw.key for draw in port if draw.key).items():
        uses = [(i, draw) for i, draw in enumerate(port) if draw.key == key]
        if count > usual:
            lines = ', '.join(f'{draw.kind} at {draw.line}' for _, draw in uses)
            found.append(
                DrawFinding('re-used key', uses[1][0], None, uses[1][1], f'key {key} is used by {lines}')
            )
    return found


@contextlib.contextmanager
def _logged(module: Any, keep: Callable[[_Entry, Any], Any]) -> Iterator[list[_Entry]]:
    """Log the draws and splits made through a module; one that another one makes is a part of it."""
    entries: list[_Entry] = []
    inside: list[str] = []

    def logging(kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def logged(key: Any, *args: Any, **kwargs: Any) -> Any:
            if inside:
                return function(key, *args, **kwargs)
            entry = _Entry(kind, None, _caller(module))
            entries.append(entry)
            inside.append(kind)
            try:
                entry.result = function(keep(entry, key), *args, **kwargs)
            finally:
                inside.pop()
            return entry.result

        return logged

    with replaced(module, (*KINDS, *DERIVING), logging):
        yield entries


def _seen_key(entry: _Entry, key: Any) -> Any:
    """The key of a traced draw, known when the program runs."""
    import jax

    if jax.numpy.issubdtype(key.dtype, jax.dtypes.prng_key):
        data = seen_by_host(entry.keys, 'key', jax.random.key_data(key))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(key))
    return seen_by_host(entry.keys, 'key', jax.numpy.asarray(key))


def _kept_key(entry: _Entry, key: Any) -> Any:
    entry.keys['key'] = [np.asarray(key.cpu() if hasattr(key, 'cpu') else key)]
    return key


def _draws_of(entry: _Entry) -> list[Draw]:
    """One for each time that the line ran; one without a key, where nothing needs what it draws."""
    dtype = str(entry.result.dtype).removeprefix('torch.')
    shape, line = tuple(entry.result.shape), entry.line
    name = f'{Path(line.file).name}:{line.line}'
    words = [tuple(int(word) for word in key.ravel()) for key in entry.keys.get('key', [np.zeros(0)])]
    return [Draw(entry.kind, shape, dtype, key, name, line.text, line.file, line.function) for key in words]


def _caller(module: Any) -> Line:
    """The line of the innermost code that is neither a library's nor the drawing module's."""
    frame = sys._getframe(1)
    while frame.f_back and not (is_user(path := frame.f_code.co_filename) and path != module.__file__):
        frame = frame.f_back
    return Line(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_qualname)
