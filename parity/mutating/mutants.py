"""The mutants of a source file: one change each, by the operators of the table."""

import ast
import difflib
import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from parity.errors import ParityError, unknown
from parity.mutating.operators.table import Operator
from parity.mutating.sources import Source

if TYPE_CHECKING:
    import libcst as cst

# what an operator must not touch: not the port's computation, but what is said about it
SKIPPED = ('Import', 'ImportFrom', 'Raise', 'Assert', 'Annotation', 'Decorator', 'Global')

# operator, lines if they are known before the change is made, the file's text after it
Change = tuple[str, tuple[int, int] | None, str]


@dataclass(frozen=True)
class Mutant:
    """A file with one change.

    id:     of file, operator and place: the same as long as the file's lines are.
    module: the module that it replaces; file: its path inside its package.
    lines:  the first and the last line, from 1, of the statement that is changed.
    before, after: the lines that differ, without indentation.
    text:   the whole file after the change; diff: unified.
    """

    id: str
    module: str
    file: str
    operator: str
    lines: tuple[int, int]
    before: str
    after: str
    text: str
    diff: str


def mutants_of(source: Source, operators: Collection[str] = ()) -> list[Mutant]:
    """All mutants of a file, by the operators of these names or by all of them, in the order of its lines.

    A change that two operators make counts once, and one that leaves the syntax tree as it was not at all.
    Raises ParityError for unknown operators, and where LibCST is not installed.
    """
    table = operators_of(operators)
    try:
        same = ast.dump(ast.parse(source.text))
    except SyntaxError as cause:
        raise _unreadable(source, cause) from cause
    found: dict[str, Mutant] = {}
    for operator, lines, text in _changes(source, table):
        try:
            differs = ast.dump(ast.parse(text)) != same
        except SyntaxError:  # an operator's blunder; no port could be like that
            continue
        if differs and text not in found:
            found[text] = _mutant(source, operator, lines, text)
    return sorted(found.values(), key=lambda mutant: mutant.lines)


def operators_of(names: Collection[str] = ()) -> list[Operator]:
    """The operators of these names; all if there are none."""
    try:
        from parity.mutating.operators import OPERATORS
    except ModuleNotFoundError as cause:
        raise ParityError(
            'mutants need LibCST',
            values='expected the package libcst; found none',
            error='not installed',
            where='parity mutate',
            next_step="pip install 'parity[mutate]'",
        ) from cause
    for name in names:
        if name not in OPERATORS:
            raise unknown(
                'operator', name, sorted(OPERATORS), where='--operators', next_step='parity mutate --list'
            )
    return [OPERATORS[name] for name in names] or list(OPERATORS.values())


def _changes(source: Source, operators: Sequence[Operator]) -> Iterator[Change]:
    """(operator, lines, text) of every change."""
    import libcst as cst
    from libcst import For, FunctionDef, If, While, With
    from libcst.metadata import MetadataWrapper, PositionProvider

    from parity.mutating.operators.site import Site

    wrapper = MetadataWrapper(cst.parse_module(source.text))
    positions = wrapper.resolve(PositionProvider)

    def lines_of(node: cst.CSTNode, above: tuple[cst.CSTNode, ...]) -> tuple[int, int] | None:
        """The lines of the innermost statement, of a compound one those of its head; None of a block."""
        statement = next(
            (
                each
                for each in reversed((*above, node))
                if isinstance(each, cst.SimpleStatementLine | If | For | While | With | FunctionDef)
            ),
            None,
        )
        if statement is None or isinstance(node, cst.IndentedBlock):
            return None
        span = positions[statement]
        last = (
            positions[statement.body].start.line - 1
            if isinstance(statement, If | For | While | With | FunctionDef)
            else span.end.line
        )
        return span.start.line, max(last, span.start.line)

    by_node: dict[str, list[Operator]] = {}
    for operator in operators:
        for name in operator.nodes:
            by_node.setdefault(name, []).append(operator)

    def walk(node: cst.CSTNode, above: tuple[cst.CSTNode, ...]) -> Iterator[Change]:
        if type(node).__name__ in SKIPPED or _only_says(node):
            return
        for operator in by_node.get(type(node).__name__, ()):
            site = Site(wrapper.module, above)
            for changed in operator.changes(node, site):
                yield operator.name, lines_of(node, above), site.with_other(node, changed).code
        for child in node.children:
            yield from walk(child, (*above, node))

    return walk(wrapper.module, ())


def _only_says(node: 'cst.CSTNode') -> bool:
    """A docstring, or a test of arguments that can only raise."""
    import libcst as cst

    if isinstance(node, cst.Expr):
        return isinstance(node.value, cst.SimpleString | cst.ConcatenatedString)
    if isinstance(node, cst.If):
        last = node.body.body[-1]
        return isinstance(last, cst.SimpleStatementLine) and isinstance(last.body[-1], cst.Raise)
    return False


def _mutant(source: Source, operator: str, lines: tuple[int, int] | None, text: str) -> Mutant:
    old, new = source.text.splitlines(), text.splitlines()
    before, after, first, last = _differing(old, new)
    lines = lines or (first, last)
    name = f'{source.file} {operator} {lines} {first} {before} {after}'
    diff = difflib.unified_diff(old, new, source.file, source.file, lineterm='', n=2)
    return Mutant(
        hashlib.sha256(name.encode()).hexdigest()[:12],
        source.module,
        source.file,
        operator,
        lines,
        before,
        after,
        text,
        '\n'.join(diff),
    )


def _differing(old: list[str], new: list[str]) -> tuple[str, str, int, int]:
    """The lines that differ, of both, and the numbers of the first and the last of the old ones."""
    start = next(
        (i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new))
    )
    end = 0
    while end < min(len(old), len(new)) - start and old[-1 - end] == new[-1 - end]:
        end += 1
    before, after = old[start : len(old) - end], new[start : len(new) - end]
    texts = ('\n'.join(line.strip() for line in lines) for lines in (before, after))
    return *texts, start + 1, start + max(1, len(before))  # type: ignore[return-value]


def _unreadable(source: Source, cause: SyntaxError) -> ParityError:
    return ParityError(
        f'cannot read {source.file}',
        values=f'expected Python; found {cause.msg}',
        error='not parsed',
        where=f'{source.path}:{cause.lineno}',
        next_step='python -m py_compile ' + str(source.path),
    )
