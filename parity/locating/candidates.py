"""What may have gone wrong in a module or in a line: the changes that would undo each known mistake."""

import ast
import functools
import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from parity.locating.counterfactuals import Counterfactual, Source, operation, settings
from parity.locating.operations import OPERATIONS
from parity.locating.rewrites import PERMUTED, REWRITES, Rewrite
from parity.locating.scopes import Scope, scope_of
from parity.locating.syntax import call_name, rewritten

# How torch calls what Flax calls otherwise.
ALIASES = {'epsilon': ('eps', 'epsilon'), 'momentum': ('momentum',), 'negative_slope': ('negative_slope',)}
# What the cause is called where a module agrees once it has the reference's value of a setting.
OTHER_SETTING = 'other setting'
EPSILON = 'normalisation epsilon'


def other_settings(modules: Sequence[Any], reference: dict[str, Any]) -> Iterator[Counterfactual]:
    """Modules of one class with what the reference's was made with, and with their switches the other way."""
    first = modules[0]
    for name, value in reference.items():
        for own in ALIASES.get(name, (name,)):
            if isinstance(getattr(first, own, None), int | float) and getattr(first, own) != value:
                row = EPSILON if own.startswith('eps') else OTHER_SETTING
                yield with_setting(row, modules, own, value)
    for name, value in vars(first).items():
        if isinstance(value, bool) and not name.startswith('_'):
            row = 'training mode' if name == 'training' else OTHER_SETTING
            yield with_setting(row, modules, name, not value)
        if name in ('eps', 'epsilon'):
            for eps in (1e-6, 1e-5, 1e-3, 1e-8, 1e-12):
                yield with_setting(EPSILON, modules, name, eps)


def with_setting(row: str, modules: Sequence[Any], name: str, value: Any) -> Counterfactual:
    """Modules of one class with another value of an attribute. Raises AttributeError if they have none."""
    first = modules[0]
    description = f'{type(first).__name__}.{name} = {value!r} instead of {getattr(first, name)!r}'
    return Counterfactual(row, description, functools.partial(settings, modules, name, value))


def other_operations() -> Iterator[Counterfactual]:
    """Torch's functions with other arguments, or others in their places, wherever they are called."""
    for row in OPERATIONS:
        apply = functools.partial(operation, row.functions, row.result)
        yield Counterfactual(row.name, row.description, apply)


def source_changes(
    source: Source,
    line: int | None = None,
    reference: Source | None = None,
    without: Collection[str] = (),
) -> Iterator[Counterfactual]:
    """Every known rewrite of every expression of a line and of the loops around it, or of the whole function.

    reference: the function that it ports, which says what may be missing; without: the names of functions
    whose calls are known to be right.
    """
    nodes = _but_calls(source.expressions(line), without)
    last = source.tree.end_lineno or 0 if line is None else line
    scope = scope_of(source.tree, last, reference.tree if reference else None)
    yield from _rewrites(source, REWRITES, nodes, scope)
    yield from _orders(source, line)
    yield from exchanged(source, line)


def _but_calls(nodes: list[ast.expr], names: Collection[str]) -> list[ast.expr]:
    """Without the calls of functions of these names, and all that is in them."""
    calls = (node for node in nodes if call_name(node) in names)
    inside = {id(part) for call in calls for part in ast.walk(call)}
    return [node for node in nodes if id(node) not in inside]


def other_axes(sources: Iterable[Source]) -> Iterator[Counterfactual]:
    """Axes and sizes in another order, anywhere in some functions."""
    for source in sources:
        scope = scope_of(source.tree, source.tree.end_lineno or 0)
        yield from _rewrites(source, [PERMUTED], source.expressions(), scope)


def _rewrites(
    source: Source, rows: Iterable[Rewrite], nodes: Sequence[ast.expr], scope: Scope
) -> Iterator[Counterfactual]:
    """What each row of the table makes of each node, row by row."""
    for row in rows:
        for node in nodes:
            for text in row.options(node, scope):
                yield rewrite(source, row.name, node, text)


def preceded(source: Source, statement: ast.stmt, text: str) -> Counterfactual:
    """Other statements before one of a function."""
    description = f'before line {statement.lineno}: `{text}`'
    apply = functools.partial(source.preceded, statement, ast.parse(text).body)
    return Counterfactual('statement left out', description, apply, source.line_of(statement))


def without(source: Source, statement: ast.stmt) -> Counterfactual:
    """A function without one of its statements."""
    description = f'without line {statement.lineno}: `{ast.unparse(statement)}`'
    apply = functools.partial(source.replaced, statement, ast.Pass())
    return Counterfactual('surplus statement', description, apply, source.line_of(statement))


def conditions(source: Source) -> Iterator[Counterfactual]:
    """Each `if` of a function, the other way round: what differs then is in its branches."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.If | ast.IfExp):
            yield rewrite(source, 'condition', node.test, f'not ({ast.unparse(node.test)})')


def _orders(source: Source, line: int | None) -> Iterator[Counterfactual]:
    """Two statements that follow each other, the other way round: norm before activation."""
    for block in source.blocks():
        for first, second in itertools.pairwise(block):
            if line is None or first.lineno <= line <= (second.end_lineno or 0):
                description = f'line {second.lineno} before line {first.lineno}'
                apply = functools.partial(source.swapped, first, second)
                yield Counterfactual('order of statements', description, apply, source.line_of(second))


def exchanged(source: Source, line: int | None = None) -> Iterator[Counterfactual]:
    """Names that are set together, `rng, other = split(rng)`, the other way round."""
    for node in ast.walk(source.tree):
        targets = node.targets if isinstance(node, ast.Assign) and line in (None, node.lineno) else []
        for target in (target for target in targets if isinstance(target, ast.Tuple)):
            for i, j in itertools.combinations(range(len(target.elts)), 2):
                names = list(target.elts)
                names[i], names[j] = names[j], names[i]
                yield rewrite(source, 'order of names', target, ast.unparse(ast.Tuple(names, ast.Store())))


def rewrite(source: Source, name: str, node: ast.expr, text: str) -> Counterfactual:
    """Another expression in the place of one of a function."""
    description = f'line {node.lineno}: `{text}` instead of `{ast.unparse(node)}`'
    apply = functools.partial(source.replaced, node, rewritten(text))
    return Counterfactual(name, description, apply, source.line_of(node))
