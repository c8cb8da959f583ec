"""Known mistakes in what is summed up, and over what, as rewrites that undo them: see `rewrites`."""

import ast
from collections.abc import Iterator

from parity.locating import kinds
from parity.locating.scopes import Scope
from parity.locating.syntax import call_name, is_integer, renamed, rewritten

REDUCTIONS = ('mean', 'sum', 'amin', 'amax', 'min', 'max')


def reductions(node: ast.expr, scope: Scope) -> Iterator[str]:
    """mean for min, min for max, sum for mean; of two values, too."""
    name = call_name(node)
    if name in REDUCTIONS and isinstance(node, ast.Call):
        yield from (renamed(node, other) for other in ('mean', 'amin', 'amax', 'sum') if other != name)
    if name in ('minimum', 'maximum') and isinstance(node, ast.Call) and len(node.args) == 2:
        first, second = map(ast.unparse, node.args)
        yield renamed(node, 'maximum' if name == 'minimum' else 'minimum')
        yield f'(({first}) + ({second})) / 2'
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and isinstance(node.left, ast.BinOp):
        first, second = ast.unparse(node.left.left), ast.unparse(node.left.right)
        yield from (f'torch.{other}({first}, {second})' for other in ('minimum', 'maximum'))


def axes(node: ast.expr, scope: Scope) -> Iterator[str]:
    """Another axis, all axes, or the other choice of keepdims."""
    if not isinstance(node, ast.Call):
        return
    for i, keyword in enumerate(node.keywords):
        others: list[ast.keyword | None] = []
        if keyword.arg in ('axis', 'dim'):
            others = [ast.keyword(keyword.arg, rewritten(str(axis))) for axis in (0, 1, -1, -2)]
            others.append(None)
        if keyword.arg in ('keepdim', 'keepdims'):
            others = [None]
        for other in others:
            kept = [*node.keywords[:i], *([other] if other else []), *node.keywords[i + 1 :]]
            yield ast.unparse(ast.Call(node.func, node.args, kept))
    if call_name(node) in (*REDUCTIONS, 'softmax', 'log_softmax', 'logsumexp'):
        for i, argument in enumerate(node.args):
            if is_integer(argument):
                for axis in (0, 1, -1, -2):
                    changed = [*node.args[:i], rewritten(str(axis)), *node.args[i + 1 :]]
                    yield ast.unparse(ast.Call(node.func, changed, node.keywords))
        if not any(keyword.arg in ('axis', 'dim') for keyword in node.keywords):
            for axis in (0, -1):
                yield ast.unparse(
                    ast.Call(node.func, node.args, [*node.keywords, ast.keyword('dim', rewritten(str(axis)))])
                )
        if any(keyword.arg in ('axis', 'dim') for keyword in node.keywords):
            yield ast.unparse(
                ast.Call(node.func, node.args, [*node.keywords, ast.keyword('keepdim', ast.Constant(True))])
            )


def statistics(node: ast.expr, scope: Scope) -> Iterator[str]:
    """An unbiased variance or standard deviation; a sample without its gradient."""
    if call_name(node) in kinds.VARIANCES and isinstance(node, ast.Call):
        rest = [keyword for keyword in node.keywords if keyword.arg not in ('correction', 'unbiased')]
        for correction in (0, 1):
            yield ast.unparse(
                ast.Call(node.func, node.args, [*rest, ast.keyword('correction', ast.Constant(correction))])
            )
    if call_name(node) == 'sample' and isinstance(node, ast.Call):
        yield renamed(node, 'rsample')
