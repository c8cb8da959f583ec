"""Twins: how much source a port shares with its reference, and whether both define the same."""

import ast
import difflib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from parity.errors import ParityError
from parity.pair import Pair

MARK = '# parity:'
CONTEXT = 2
SIMILAR = 0.5
# The frameworks' own names for the same two things: how a module is made, and how it is called.
CONSTRUCTORS = ('setup', '__init__')
CALLS = {'__call__': 'forward'}

Sign = Literal[' ', '|', '<', '>', '~']


@dataclass(frozen=True)
class Row:
    """A line of each side, with its number; sign: equal, different, only there, only here, or left out."""

    sign: Sign
    reference: tuple[int, str] | None
    port: tuple[int, str] | None


@dataclass(frozen=True)
class Twins:
    """The source files of a pair."""

    reference: Path
    port: Path
    texts: tuple[str, str]

    @property
    def share(self) -> float:
        """The identical lines, of those of the longer file."""
        return share(*self.texts)

    def differences(self) -> list[str]:
        """What is defined, or used as a key, on one side only or in another order."""
        reference, port = self.texts
        found = [
            f'definition {line}'
            for line in changes(neutral(definitions(reference)), neutral(definitions(port)))
        ]
        return found + [f'key {line}' for line in changes(info_keys(reference), info_keys(port))]


def twins(pair: Pair) -> Twins:
    """The files that define a pair's reference and its port. Raises ParityError where there is no source."""
    files = _source(pair, 'reference'), _source(pair, 'port')
    return Twins(*files, (files[0].read_text(), files[1].read_text()))


def definitions(source: str) -> list[str]:
    """Classes, methods and functions in order, with the names they are nested in: `IQLAgent.create`."""
    return list(_definitions(ast.parse(source), ''))


def neutral(names: list[str]) -> list[str]:
    """Definitions without what the frameworks name differently: no constructors, and `forward` for a call."""
    parts = [name.rpartition('.') for name in names]
    return [f'{owner}{dot}{CALLS.get(name, name)}' for owner, dot, name in parts if name not in CONSTRUCTORS]


def info_keys(source: str) -> list[str]:
    """Text used as a key, in order: `{'a': 1}`, `dict(a=1)`, `info['a']`, or first in a call."""
    return list(_keys(ast.parse(source)))


def changes(reference: list[str], port: list[str]) -> list[str]:
    """`- name` for what only the reference has at that place, `+ name` for what only the port has there."""
    lines = difflib.ndiff(reference, port)
    return [line for line in lines if line.startswith(('- ', '+ '))]


def share(reference: str, port: str) -> float:
    """Identical lines in the same order, of the lines of the longer text; blanks count as they are."""
    lines = reference.splitlines(), port.splitlines()
    blocks = _matcher(*lines).get_matching_blocks()
    return sum(block.size for block in blocks) / max(map(len, lines)) if any(lines) else 1.0


def rows(reference: str, port: str, *, everything: bool = False) -> Iterator[Row]:
    """Both texts side by side: the differing lines with some context, or all lines."""
    left, right = reference.splitlines(), port.splitlines()
    context = len(left) + len(right) if everything else CONTEXT
    end = (0, 0)
    for group in _matcher(left, right).get_grouped_opcodes(context):
        if (group[0][1], group[0][3]) != end:
            yield Row('~', None, None)
        for tag, i, i_end, j, j_end in group:
            yield from _block(tag, left, range(i, i_end), right, range(j, j_end))
        end = group[-1][2], group[-1][4]
    if end != (len(left), len(right)):
        yield Row('~', None, None)


def side_by_side(found: Twins, *, everything: bool = False) -> RenderableType:
    """The twins for the terminal, then what they do not share."""
    table = Table(box=None, pad_edge=False, title=f'{found.share:.0%} identical lines')
    for side, path in (('reference', found.reference), ('port', found.port)):
        table.add_column('', justify='right', style='dim', no_wrap=True)
        table.add_column(Text(f'{side} {path.parent.name}/{path.name}'), ratio=1, overflow='fold')
        if side == 'reference':
            table.add_column('', no_wrap=True)
    for row in rows(*found.texts, everything=everything):
        table.add_row(*_line(row.reference, row.sign), Text(row.sign), *_line(row.port, row.sign))
    return Group(table, *(Text(line, 'bold red') for line in found.differences()), Text(_count(found)))


def _count(found: Twins) -> str:
    marked = sum(MARK in line for line in found.texts[1].splitlines())
    kept = 'the same' if not found.differences() else 'not the same'
    return (
        f'{found.share:.0%} identical lines; {marked} marked {MARK!r}; {kept} definitions and keys in order'
    )


def _source(pair: Pair, side: str) -> Path:
    target = pair.load(side)
    try:
        file = inspect.getsourcefile(target)
        if file is not None and Path(file).is_file():
            return Path(file)
        cause: Exception | None = None
    except TypeError as error:
        cause = error
    raise ParityError(
        f'{pair.name}: the {side} has no source file',
        values=f'expected a class or function from a .py file; found {target!r}',
        error='no source',
        where=f'pair {pair.name}, {side}',
        next_step='define it in a module',
    ) from cause


def _matcher(left: list[str], right: list[str]) -> difflib.SequenceMatcher[str]:
    return difflib.SequenceMatcher(None, left, right, autojunk=False)


def _definitions(node: ast.AST, owner: str) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield f'{owner}{child.name}'
            yield from _definitions(child, f'{owner}{child.name}.')
        else:
            yield from _definitions(child, owner)


def _keys(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            yield from [*_text(key), *_keys(key)] if key is not None else []
            yield from _keys(value)
        return
    if isinstance(node, ast.Call):
        yield from (key for argument in node.args[:1] for key in _text(argument))
        if isinstance(node.func, ast.Name) and node.func.id == 'dict':
            yield from (keyword.arg for keyword in node.keywords if keyword.arg is not None)
    if isinstance(node, ast.Subscript):
        yield from _text(node.slice)
    for child in ast.iter_child_nodes(node):
        yield from _keys(child)


def _text(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.JoinedStr):
        return [ast.unparse(node)]
    return []


def _block(tag: str, left: list[str], i: range, right: list[str], j: range) -> Iterator[Row]:
    """The lines of one opcode; in a replaced block, similar lines beside each other."""
    if tag != 'equal' and i and j:
        yield from _replaced(left, i, right, j)
        return
    for k in range(max(len(i), len(j))):
        reference = (i[k] + 1, left[i[k]]) if i else None
        port = (j[k] + 1, right[j[k]]) if j else None
        yield Row(' ' if tag == 'equal' else '<' if reference else '>', reference, port)


def _replaced(left: list[str], i: range, right: list[str], j: range) -> Iterator[Row]:
    """The most similar two lines beside each other, and so on above and below them."""
    ratio, a, b = max((_similarity(left[a], right[b]), -a, -b) for a in i for b in j)
    if ratio < SIMILAR:
        yield from _block('delete', left, i, right, range(0))
        yield from _block('insert', left, range(0), right, j)
        return
    a, b = -a, -b
    yield from _block('replace', left, range(i.start, a), right, range(j.start, b))
    yield Row('|', (a + 1, left[a]), (b + 1, right[b]))
    yield from _block('replace', left, range(a + 1, i.stop), right, range(b + 1, j.stop))


def _similarity(reference: str, port: str) -> float:
    return difflib.SequenceMatcher(None, reference, port, autojunk=False).ratio()


def _line(line: tuple[int, str] | None, sign: Sign) -> tuple[Text, Text]:
    if line is None:
        return Text(''), Text('...' if sign == '~' else '', 'dim')
    number, content = line
    text = Text(content.expandtabs(4), {' ': 'dim', '|': 'yellow', '<': 'red', '>': 'green', '~': ''}[sign])
    at = text.plain.find(MARK)
    if at >= 0:
        text.stylize('bold cyan', at)
    return Text(str(number)), text
