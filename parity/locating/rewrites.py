"""Known mistakes in a line of a port, as rewrites of its expressions that undo them."""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from parity.locating.distributions import distributions, split_keys
from parity.locating.orders import exchanged, orders, permuted
from parity.locating.reductions import axes, reductions, statistics
from parity.locating.scopes import Scope
from parity.locating.syntax import (
    binary,
    call_name,
    is_read,
    is_value,
    operand,
    renamed,
    rewritten,
)

UNARY = ('exp', 'log', 'sqrt', 'tanh', 'abs', 'relu', 'sigmoid', 'softplus', 'square')
CLAMPS = ('clamp', 'clip', 'clamp_min', 'clamp_max')
PREFIXES = ('next_', 'target_')


Change = Callable[[ast.expr, Scope], Iterator[str]]


@dataclass(frozen=True)
class Rewrite:
    """A known mistake: change(expression, scope) yields what the expression should have been."""

    name: str
    description: str
    change: Change

    def options(self, node: ast.expr, scope: Scope) -> list[str]:
        """What the expression should have been, each once, and never what it is."""
        found = dict.fromkeys(self.change(node, scope))
        return [text for text in found if ast.dump(rewritten(text)) != ast.dump(node)]


def detached(node: ast.expr, scope: Scope) -> Iterator[str]:
    """A detach too many."""
    if call_name(node) == 'detach' and isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        yield ast.unparse(node.func.value)


def attached(node: ast.expr, scope: Scope) -> Iterator[str]:
    """A detach too few."""
    if isinstance(node, ast.Name | ast.Call | ast.BinOp | ast.Subscript) and is_read(node):
        yield f'({ast.unparse(node)}).detach()'


def networks(node: ast.expr, scope: Scope) -> Iterator[str]:
    """A network that is read frozen and should be trained, or the reverse."""
    if not isinstance(node, ast.Call):
        return
    rest = [keyword for keyword in node.keywords if keyword.arg != 'params']
    if len(rest) < len(node.keywords):
        yield ast.unparse(ast.Call(node.func, node.args, rest))
    elif isinstance(node.func, ast.Call):
        for name in (name for name in scope.names if name.endswith('params')):
            yield ast.unparse(ast.Call(node.func, node.args, [*rest, ast.keyword('params', ast.Name(name))]))


def clamps(node: ast.expr, scope: Scope) -> Iterator[str]:
    """clamp for clip: all of the gradient at a bound instead of half."""
    if call_name(node) not in CLAMPS or not isinstance(node, ast.Call):
        return
    clamped = operand(node)
    bounds = [ast.unparse(argument) for argument in node.args if ast.unparse(argument) != clamped]
    named = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    low = named.get('min', bounds[0] if bounds else '-torch.inf')
    high = named.get('max', bounds[1] if len(bounds) > 1 else 'torch.inf')
    yield (
        f'torch.minimum(torch.maximum({clamped}, torch.as_tensor({low}, dtype=torch.float64)), '
        f'torch.as_tensor({high}, dtype=torch.float64))'
    )


def unclamped(node: ast.expr, scope: Scope) -> Iterator[str]:
    """A clip too many."""
    if call_name(node) in CLAMPS and isinstance(node, ast.Call):
        yield operand(node)


def epsilons(node: ast.expr, scope: Scope) -> Iterator[str]:
    """A small number added for safety that the original does not add."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        for small, other in ((node.right, node.left), (node.left, node.right)):
            if isinstance(small, ast.Constant) and isinstance(small.value, float) and abs(small.value) < 1e-3:
                yield ast.unparse(other)


def ties(node: ast.expr, scope: Scope) -> Iterator[str]:
    """The gradient where a function has a corner: abs at 0, min over equal values."""
    name = call_name(node)
    if name == 'abs' and isinstance(node, ast.Call):
        x = operand(node)
        yield f'torch.where({x} >= 0, {x}, -({x}))'
    if isinstance(node, ast.Attribute | ast.Subscript) and call_name(node.value) in ('min', 'max'):
        yield renamed(node.value, f'a{call_name(node.value)}')  # type: ignore[arg-type]


def signs(node: ast.expr, scope: Scope) -> Iterator[str]:
    """A sign: a minus too many or too few, plus for minus, 1 - x for x, a comparison the other way."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield ast.unparse(node.operand)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
        yield binary(node.left, '-' if isinstance(node.op, ast.Add) else '+', node.right)
        if isinstance(node.op, ast.Sub):
            yield binary(node.right, '-', node.left)
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        left, right = ast.unparse(node.left), ast.unparse(node.comparators[0])
        yield from (f'{left} {sign} {right}' for sign in ('>', '>=', '<', '<=', '=='))
    if call_name(node) == 'where' and isinstance(node, ast.Call) and len(node.args) == 3:
        yield ast.unparse(ast.Call(node.func, [node.args[0], node.args[2], node.args[1]], node.keywords))


def negations(node: ast.expr, scope: Scope) -> Iterator[str]:
    """-x for x, and 1 - x for x."""
    if is_value(node):
        yield f'-({ast.unparse(node)})'
        yield f'(1 - ({ast.unparse(node)}))'
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub) and ast.unparse(node.left) == '1':
        yield ast.unparse(node.right)


def surplus(node: ast.expr, scope: Scope) -> Iterator[str]:
    """A factor, divisor, summand, power or function too many."""
    if isinstance(node, ast.BinOp):
        yield ast.unparse(node.left)
        yield ast.unparse(node.right)
        if isinstance(node.op, ast.Mult | ast.Div):
            yield binary(node.left, '/' if isinstance(node.op, ast.Mult) else '*', node.right)
    if call_name(node) in UNARY and isinstance(node, ast.Call):
        yield operand(node)


def missing(node: ast.expr, scope: Scope) -> Iterator[str]:
    """A factor, divisor, square or function too few."""
    if not is_value(node):
        return
    text = ast.unparse(node)
    for factor in (factor for factor in scope.factors if factor != text):
        yield f'({text}) * ({factor})'
        yield f'({text}) / ({factor})'
        if isinstance(rewritten(factor), ast.Name | ast.Subscript):
            yield f'({text}) * (1 - ({factor}))'
    yield f'({text}) * 2'
    yield f'({text}) / 2'
    yield f'({text}) ** 2'
    yield f'({text}) ** 0.5'  # of a number, too
    yield from (f'torch.{name}({text})' for name in ('exp', 'log', 'tanh'))


def keys(node: ast.expr, scope: Scope) -> Iterator[str]:
    """Another key: observations for next_observations, the critic for its target."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        found = [f'{prefix}{node.value}' for prefix in PREFIXES]
        found += [node.value.removeprefix(prefix) for prefix in PREFIXES if node.value.startswith(prefix)]
        yield from (repr(key) for key in dict.fromkeys([*found, *scope.keys]) if key != node.value)


def names(node: ast.expr, scope: Scope) -> Iterator[str]:
    """Another variable of the function."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in scope.names:
        yield from (name for name in scope.names if name != node.id)


def constants(node: ast.expr, scope: Scope) -> Iterator[str]:
    """Another number: an epsilon, one more or less, half or double."""
    if (
        isinstance(node, ast.Constant)
        and isinstance(node.value, int | float)
        and not isinstance(node.value, bool)
    ):
        value = node.value
        found = [value + 1, value - 1, value * 2, value / 2, -value]
        if isinstance(value, float) and 0 < abs(value) < 1e-2:
            found = [1e-5, 1e-6, 1e-8, 1e-12, 1e-3, *found]
        yield from (repr(number) for number in found if number != value)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        yield from (f'{binary(node.left, "/", node.right)[:-1]} {sign} 1)' for sign in '+-')
    if call_name(node) == 'range' and isinstance(node, ast.Call):
        last = ast.unparse(node.args[-1])
        for count in (f'{last} + 1', f'{last} - 1'):
            yield ast.unparse(ast.Call(node.func, [*node.args[:-1], rewritten(count)], []))


def quotients(node: ast.expr, scope: Scope) -> Iterator[str]:
    """A quotient that is rounded down, or that should be."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div | ast.FloorDiv):
        yield binary(node.left, '//' if isinstance(node.op, ast.Div) else '/', node.right)


# The part of 'transposed' that is tried in functions that a module calls, too.
PERMUTED = Rewrite('transposed', 'the order of axes', permuted)
# The likeliest first: of several that make a difference vanish the first is named.
REWRITES = (
    Rewrite('other reduction', 'mean for min, min for max, sum for mean', reductions),
    Rewrite('other axis', 'another axis, all of them, or keepdims', axes),
    Rewrite('detach too many', 'a gradient is stopped that should flow', detached),
    Rewrite('frozen or trained network', 'read frozen for trained, or the reverse', networks),
    Rewrite('clamp for clip', 'at a bound jnp.clip passes half of the gradient, clamp all of it', clamps),
    Rewrite('added epsilon', 'a small number is added that the original does not add', epsilons),
    Rewrite('gradient at a tie', 'abs, min and max share or choose differently at equal values', ties),
    Rewrite('biased statistic or sample', 'ddof 0 against 1; a sample that stops the gradient', statistics),
    Rewrite('other distribution', 'normal for truncated normal, uniform for normal', distributions),
    Rewrite('one key for all', 'a key is used again instead of split', split_keys),
    Rewrite('sign', 'a minus, a comparison or the sides of where', signs),
    Rewrite('other key', "s for s', online for target", keys),
    Rewrite('clip too many', 'a value is clipped that should not be', unclamped),
    Rewrite('surplus term', 'a factor, divisor, summand or function too many', surplus),
    Rewrite('other number', 'an epsilon, a count or a weight', constants),
    Rewrite('integer division', 'a quotient is rounded down, or not', quotients),
    Rewrite('transposed', 'the order of operands, axes or subscripts', orders),
    Rewrite('exchanged variables', "two variables in each other's place", exchanged),
    Rewrite('other variable', 'another value of the same function', names),
    Rewrite('detach too few', 'a gradient flows that should be stopped', attached),
    Rewrite('sign or complement', 'x for -x or 1 - x', negations),
    Rewrite('missing term', 'a factor, divisor, square or function too few', missing),
)
