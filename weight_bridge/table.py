"""The table of a mapping: rows as TOML that a person can edit.

    rows = [
      {flax = "encoder/Dense_0/kernel", torch = "enc.fc1.weight", layout = "matrix", by = "shape"},
    ]

A row may also hold `rows = [start, stop]`, the part of the parameter where several leaves share one (along
the layout's cut axis: the outputs); `index = [2]`, the place of a member in a stacked leaf; and `shape`, that
of the leaf (or of the member) where the layout alone does not give it. A row without `flax` is a part that
Flax lacks and that is zero. `by` says what decided the row and is not used. Layouts: see
`weight_bridge.layouts.LAYOUTS`.
"""

import json
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from weight_bridge.errors import BridgeError, Problem, next_steps
from weight_bridge.layouts import LAYOUTS, Shape

_HEADER = """\
# Which Flax leaf is which torch parameter, in which layout; `by` says what decided the row and is not used.
# Where torch or layout is a list, nothing decided: keep one candidate.
"""


@dataclass(frozen=True)
class Row:
    """One piece; several candidates for `torch` or `layout` make it undecided, and the mapping unusable."""

    flax: str | None
    torch: str | tuple[str, ...]
    layout: str | tuple[str, ...] = 'same'
    rows: Shape | None = None
    index: Shape = ()
    shape: Shape | None = None
    by: str = ''

    @property
    def is_decided(self) -> bool:
        return isinstance(self.torch, str) and isinstance(self.layout, str)

    def __str__(self) -> str:
        return self.flax or f'zeros in {self.torch}'


def write(rows: Iterable[Row]) -> str:
    """A line for each row, its entries in columns."""
    cells = [_cells(row) for row in rows]
    keys = list(dict.fromkeys(key for row in cells for key in row))
    widths = {key: max(len(row.get(key, '')) for row in cells) for key in _KEYS if key in keys}
    return '\n'.join([_HEADER + 'rows = [', *(_line(row, widths) for row in cells), ']', ''])


def read(text: str) -> tuple[Row, ...]:
    """The inverse.

    Raises:
        BridgeError: it is no TOML, or lists every row with another key or another kind of value.
    """
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise _unreadable([Problem('mapping', 'the text', 'TOML', str(error))]) from None
    rows = table.get('rows')
    if set(table) != {'rows'} or not isinstance(rows, list) or not rows:
        found = ', '.join(sorted(table)) or 'nothing'
        raise _unreadable([Problem('mapping', 'the table', 'one key, rows, with a list of rows', found)])
    problems = [problem for position, row in enumerate(rows, 1) for problem in _problems(position, row)]
    if problems:
        raise _unreadable(problems)
    return tuple(_row(row) for row in rows)


def _cells(row: Row) -> dict[str, str]:
    """The entries as TOML."""
    values = {key: getattr(row, key) for key in _KEYS}
    shown = {
        key: value for key, value in values.items() if value not in (None, '') and (key != 'index' or value)
    }
    return {key: f'{key} = {_toml(value)}' for key, value in shown.items()}


def _toml(value: str | Iterable[Any]) -> str:
    """JSON's strings and lists are TOML's, but for one character."""
    return json.dumps(value, ensure_ascii=False).replace('\x7f', '\\u007f')


def _line(cells: dict[str, str], widths: dict[str, int]) -> str:
    padded = [f'{cells[key]},'.ljust(width + 1) for key, width in widths.items() if key in cells]
    return f'  {{{" ".join(padded).rstrip().rstrip(",")}}},'


def _row(entries: dict[str, Any]) -> Row:
    return Row(**{'flax': None} | {key: _frozen(value) for key, value in entries.items()})


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _problems(position: int, row: object) -> list[Problem]:
    if not isinstance(row, dict):
        return [Problem('mapping', f'row {position}', 'a table', type(row).__name__)]
    wrong = [f'{key} = {row[key]!r}' for key in row if key not in _KEYS or not _KEYS[key](row[key])]
    if 'torch' not in row:
        wrong.append('no torch')
    expected = f'names, a layout ({", ".join(LAYOUTS)}) and lists of sizes'
    return [Problem('mapping', f'row {position}', expected, ', '.join(wrong))] if wrong else []


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value != ''


def _is_names(value: Any) -> bool:
    return _is_name(value) or (isinstance(value, list) and value != [] and all(map(_is_name, value)))


def _is_layout(value: Any) -> bool:
    return _is_names(value) and all(name in LAYOUTS for name in ([value] if _is_name(value) else value))


def _is_range(value: Any) -> bool:
    return _is_shape(value) and len(value) == 2 and value[0] < value[1]


def _is_shape(value: object) -> bool:
    return isinstance(value, list) and all(type(size) is int and size >= 0 for size in value)


_KEYS: dict[str, Callable[[Any], bool]] = {
    'flax': _is_name,
    'torch': _is_names,
    'layout': _is_layout,
    'rows': _is_range,
    'index': _is_shape,
    'shape': _is_shape,
    'by': lambda value: isinstance(value, str),
}


def _unreadable(problems: list[Problem]) -> BridgeError:
    return BridgeError('this is no table of a mapping', problems, next_steps(problems))
