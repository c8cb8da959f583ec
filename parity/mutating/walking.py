"""All changes that operators make to a file: its syntax tree, walked once."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import libcst as cst

    from parity.mutating.operators.table import Operator

Span = tuple[int, int]  # the first and the last line, from 1
# what an operator must not touch: not the port's computation, but what is said about it
SKIPPED = ('Import', 'ImportFrom', 'Raise', 'Assert', 'Annotation', 'Decorator', 'Global')
STATEMENTS = ('SimpleStatementLine', 'If', 'For', 'While', 'With', 'FunctionDef')


@dataclass(frozen=True)
class Change:
    """lines: of the statement that is changed, of a compound one its head; None where it is several.

    runs: the lines that must run for the change to matter, if they are others. text: the file after it.
    """

    operator: str
    lines: Span | None
    runs: Span | None
    text: str


def changes(text: str, operators: Sequence['Operator']) -> Iterator[Change]:
    """Every change of a file with this text, in its order."""
    import libcst as cst
    from libcst.metadata import MetadataWrapper, PositionProvider

    from parity.mutating.operators.site import Site

    wrapper = MetadataWrapper(cst.parse_module(text))
    positions = wrapper.resolve(PositionProvider)

    def span(node: cst.CSTNode) -> Span:
        return positions[node].start.line, positions[node].end.line

    def walk(node: cst.CSTNode, above: tuple[cst.CSTNode, ...]) -> Iterator[Change]:
        kind = type(node).__name__
        if kind in SKIPPED or _only_says(node):
            return
        site = Site(wrapper.module, above)
        for operator in operators:
            if kind in operator.nodes:
                for changed in operator.changes(node, site):
                    lines, runs = _places(node, above, span)
                    yield Change(operator.name, lines, runs, site.with_other(node, changed).code)
        for child in node.children:
            yield from walk(child, (*above, node))

    return walk(wrapper.module, ())


def _places(
    node: 'cst.CSTNode', above: tuple['cst.CSTNode', ...], span: 'Callable[[cst.CSTNode], Span]'
) -> tuple[Span | None, Span | None]:
    """The lines that a change of the node is at, and those that must run for it to matter."""
    if type(node).__name__ == 'IndentedBlock':
        return None, None
    statement = next((each for each in (node, *reversed(above)) if type(each).__name__ in STATEMENTS), None)
    if statement is None:
        return None, None
    body = getattr(statement, 'body', None)
    if body is None or type(body).__name__ not in ('IndentedBlock', 'SimpleStatementSuite'):
        return span(statement), None
    head = span(statement)[0], max(span(statement)[0], span(body)[0] - 1)
    return head, span(body) if type(statement).__name__ == 'FunctionDef' else None


def _only_says(node: 'cst.CSTNode') -> bool:
    """A docstring, or a test of arguments that can only raise."""
    import libcst as cst

    if isinstance(node, cst.Expr):
        return isinstance(node.value, cst.SimpleString | cst.ConcatenatedString)
    if isinstance(node, cst.If):
        last = node.body.body[-1]
        return isinstance(last, cst.SimpleStatementLine) and isinstance(last.body[-1], cst.Raise)
    return False
