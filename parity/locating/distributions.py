"""Known mistakes in what is drawn, and with which key, as rewrites that undo them: see `rewrites`."""

import ast
from collections.abc import Iterator

from parity.locating.scopes import Scope
from parity.locating.syntax import call_name, renamed

# Of jax.random, and of what ports of it are called.
DISTRIBUTIONS = ('uniform', 'normal', 'truncated_normal')
OF_TORCH = {'rand': 'randn', 'randn': 'rand', 'rand_like': 'randn_like', 'randn_like': 'rand_like'}


def distributions(node: ast.expr, scope: Scope) -> Iterator[str]:
    """The same key, shape and dtype, drawn from another distribution."""
    name = call_name(node)
    if name in DISTRIBUTIONS and isinstance(node, ast.Call) and node.args:
        key, *rest = node.args[:1] + node.args[3 if name == 'truncated_normal' else 1 :][:2]
        bounds: list[ast.expr] = [ast.Constant(-2.0), ast.Constant(2.0)]
        for other in (other for other in DISTRIBUTIONS if other != name):
            args = [key, *(bounds if other == 'truncated_normal' else []), *rest]
            yield renamed(ast.Call(node.func, args, node.keywords), other)
    if name in OF_TORCH and isinstance(node, ast.Call):
        yield renamed(node, OF_TORCH[name])


def split_keys(node: ast.expr, scope: Scope) -> Iterator[str]:
    """One key for all members of an ensemble, where each should have its own."""
    if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.Mult):
        return
    keys, count = node.left, node.right
    if isinstance(keys, ast.List) and len(keys.elts) == 1:
        yield f'random.split({ast.unparse(keys.elts[0])}, {ast.unparse(count)})'
