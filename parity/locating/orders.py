"""Known mistakes in the order of things, as rewrites that undo them: see `rewrites`."""

import ast
import copy
import itertools
from collections.abc import Iterator, Mapping

from parity.locating.scopes import Scope
from parity.locating.syntax import is_integer, is_read, rewritten


def orders(node: ast.expr, scope: Scope) -> Iterator[str]:
    """Transposed: the operands of a call or a product, the axes of a matrix, the subscripts of an einsum."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and '->' in node.value:
        inputs, _, output = node.value.partition('->')
        first, _, second = inputs.partition(',')
        yield repr(f'{inputs}->{output[:-2]}{output[-1:]}{output[-2:-1]}')
        yield repr(f'{second},{first}->{output}')
    if isinstance(node, ast.Call) and len(node.args) == 2:
        yield ast.unparse(ast.Call(node.func, node.args[::-1], node.keywords))
    if isinstance(node, ast.List | ast.Tuple) and is_read(node) and len(node.elts) == 2:
        is_subscript = any(isinstance(one, ast.Slice | ast.Starred) for one in node.elts)
        yield from [] if is_subscript else [ast.unparse(type(node)(node.elts[::-1], ast.Load()))]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
        yield f'({ast.unparse(node)}).mT'
    if isinstance(node, ast.Attribute) and node.attr in ('T', 'mT'):
        yield ast.unparse(node.value)
    yield from permuted(node, scope)
    if isinstance(node, ast.Name | ast.Call) and is_read(node):
        yield f'({ast.unparse(node)}).mT'


def permuted(node: ast.expr, scope: Scope) -> Iterator[str]:
    """Axes or sizes, that is whole numbers of a call or of a tuple, in another order.

    Two of them in each other's place, or the inverse, where they say how all axes are permuted.
    """
    name = 'args' if isinstance(node, ast.Call) else 'elts'
    given = getattr(node, name, []) if is_read(node) else []
    places = [i for i, one in enumerate(given) if is_integer(one)]
    for i, j in itertools.combinations(places, 2):
        yield _with(node, name, {i: given[j], j: given[i]})
    numbers = [ast.literal_eval(given[i]) for i in places]
    if len(numbers) > 2 and sorted(numbers) == list(range(len(numbers))):
        yield _with(node, name, {places[to]: ast.Constant(at) for at, to in enumerate(numbers)})


def _with(node: ast.expr, name: str, others: Mapping[int, ast.expr]) -> str:
    """A node that has others at these positions of its list of this name."""
    changed = copy.copy(node)
    setattr(changed, name, [others.get(i, one) for i, one in enumerate(getattr(node, name))])
    return ast.unparse(changed)


def exchanged(node: ast.expr, scope: Scope) -> Iterator[str]:
    """Two variables of one expression in each other's place, or two targets of an unpacking."""
    if isinstance(node, ast.Tuple) and not is_read(node):
        for i, j in itertools.combinations(range(len(node.elts)), 2):
            order = [*node.elts]
            order[i], order[j] = order[j], order[i]
            yield ast.unparse(ast.Tuple(order))
    if isinstance(node, ast.BinOp):
        names = sorted({n.id for n in ast.walk(node) if isinstance(n, ast.Name) and n.id in scope.names})
        for pair in itertools.combinations(names, 2):
            other = rewritten(ast.unparse(node))
            for name in (n for n in ast.walk(other) if isinstance(n, ast.Name) and n.id in pair):
                name.id = pair[1 - pair.index(name.id)]
            yield ast.unparse(other)
