"""Mistakes in formulas: signs, factors, terms, powers, bounds, loops."""

import re
from collections.abc import Iterator

import libcst as cst

from parity.mutating.operators.site import (
    Site,
    callee,
    code,
    expr,
    mentions,
    number,
    receiver,
    subject,
    with_arg,
)
from parity.mutating.operators.table import operator

FACTORS = (
    r'mask|discount|temp|scale|alpha|coeff|weight|beta|tau|std|noise|expectile|step_size|inv_|gamma|0\.5'
)
TERMS = r'loss|penalty|mse|noise|log_det|constant|bc_|entropy|kl|rewards'
BOUNDED = ('clip', 'clamp', 'clamp_')
BOUNDARY = {'>=': '>', '>': '>=', '<=': '<', '<': '<='}


@operator('UnaryOperation')
def sign(node: cst.UnaryOperation, site: Site) -> Iterator[cst.CSTNode]:
    """A minus is forgotten: a loss is ascended."""
    if isinstance(node.operator, cst.Minus) and (number(node) is None or mentions(node, r'\.')):
        yield node.expression


@operator('BinaryOperation')
def plus_for_minus(node: cst.BinaryOperation, site: Site) -> Iterator[cst.CSTNode]:
    """Plus for minus, or minus for plus."""
    if isinstance(node.operator, cst.Add | cst.Subtract) and not _counts(node):
        other = '-' if isinstance(node.operator, cst.Add) else '+'
        yield expr(f'({code(node.left)} {other} {code(node.right)})')


@operator('BinaryOperation')
def factor_missing(node: cst.BinaryOperation, site: Site) -> Iterator[cst.CSTNode]:
    """A factor is forgotten: the mask, the discount, a temperature, a coefficient, a scale."""
    if isinstance(node.operator, cst.Multiply) and not _counts(node):
        for factor, rest in ((node.left, node.right), (node.right, node.left)):
            if (mentions(factor, FACTORS) or number(factor) is not None) and not isinstance(
                factor, cst.BinaryOperation
            ):
                yield rest
    if isinstance(node.operator, cst.Divide) and not _counts(node):
        yield node.left


@operator('BinaryOperation')
def factor_squared(node: cst.BinaryOperation, site: Site) -> Iterator[cst.CSTNode]:
    """The discount is applied twice: once in the batch's masks and once in the formula."""
    if isinstance(node.operator, cst.Multiply):
        for factor in (node.left, node.right):
            if mentions(factor, r"discount'?\]?$|discounts?$") and not isinstance(
                factor, cst.BinaryOperation
            ):
                yield expr(f'{code(node)} * {code(factor)}')


@operator('BinaryOperation')
def mask_moved(node: cst.BinaryOperation, site: Site) -> Iterator[cst.CSTNode]:
    """The mask of the last step is applied to the reward as well."""
    right = node.right
    if (
        isinstance(node.operator, cst.Add)
        and isinstance(right, cst.BinaryOperation)
        and mentions(right, 'mask')
    ):
        mask = re.search(r"[\w.]*\[?'?\w*masks?'?\]?", code(right))
        if mask and isinstance(right.operator, cst.Multiply):
            yield expr(f'{mask[0]} * ({code(node)})')


@operator('BinaryOperation')
def division_for_product(node: cst.BinaryOperation, site: Site) -> Iterator[cst.CSTNode]:
    """A temperature or a scale multiplies where it must divide, or divides where it must multiply."""
    if isinstance(node.operator, cst.Multiply | cst.Divide) and mentions(
        node.right, 'temp|scale|step|sqrt|std|freq'
    ):
        other = '/' if isinstance(node.operator, cst.Multiply) else '*'
        yield expr(f'({code(node.left)} {other} {code(node.right)})')


@operator('BinaryOperation')
def term_missing(node: cst.BinaryOperation, site: Site) -> Iterator[cst.CSTNode]:
    """A term is forgotten: a loss, a penalty, the noise, the log-determinant of a change of variables."""
    if isinstance(node.operator, cst.Add | cst.Subtract) and not _counts(node):
        if mentions(node.right, TERMS):
            yield node.left
        if isinstance(node.operator, cst.Add) and mentions(node.left, TERMS):
            yield node.right


@operator('BinaryOperation')
def one_minus(node: cst.BinaryOperation, site: Site) -> Iterator[cst.CSTNode]:
    """1 - x for x: the other side of an expectile, of an interpolation, of a moving average."""
    right = code(node.right)
    if isinstance(node.operator, cst.Subtract) and number(node.left) == 1 and 'shape' not in right:
        yield node.right


@operator('BinaryOperation')
def power(node: cst.BinaryOperation, site: Site) -> Iterator[cst.CSTNode]:
    """An absolute value for a square, or no square at all."""
    if isinstance(node.operator, cst.Power) and number(node.right) == 2 and number(node.left) is None:
        yield node.left
        yield expr(f'torch.abs({code(node.left)})')
    if isinstance(node.operator, cst.Power) and number(node.right) == 0.5:
        yield node.left


@operator('Call')
def branches_swapped(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """The two sides of a where change places: the other side of the expectile."""
    if callee(node) == 'where' and len(node.args) == 3:
        first, second = node.args[1].value, node.args[2].value
        yield with_arg(with_arg(node, 1, second), 2, first)


@operator('Comparison')
def boundary(node: cst.Comparison, site: Site) -> Iterator[cst.CSTNode]:
    """>= for >: other at equality only, where a difference is exactly zero."""
    sign = code(node.comparisons[0].operator).strip()
    used = isinstance(site.parent, cst.Arg | cst.Assign | cst.Comparison) or 'where' in code(
        site.parent or node
    )
    if len(node.comparisons) == 1 and sign in BOUNDARY and used and not isinstance(site.parent, cst.If):
        yield expr(f'{code(node.left)} {BOUNDARY[sign]} {code(node.comparisons[0].comparator)}')


@operator('Call')
def root_or_log_missing(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """std for log_std or for a variance: an exp, a log or a root is forgotten."""
    value = subject(node)
    if (
        callee(node) in ('exp', 'log', 'sqrt', 'rsqrt', 'tanh', 'arctanh', 'abs', 'log1p')
        and value is not None
    ):
        yield value


@operator('Call')
def clip_missing(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """Values are not clipped."""
    value = subject(node)
    if callee(node) in BOUNDED and value is not None:
        yield value


@operator('Call')
def clip_bound(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """Another bound: half of it, or none below."""
    if callee(node) not in BOUNDED:
        return
    start = 1 if receiver(node) is None else 0
    for i, arg in enumerate(node.args[start:], start):
        bound = number(arg.value)
        text = f'{bound / 2:g}' if bound else f'0.5 * ({code(arg.value)})'
        yield with_arg(node, i, expr(text))


@operator('IndentedBlock')
def clip_outside_loop(node: cst.IndentedBlock, site: Site) -> Iterator[cst.CSTNode]:
    """Only the last step of a loop is clipped, where the original clips every step."""
    for i, statement in enumerate(node.body):
        inner = list(statement.body.body) if isinstance(statement, cst.For) else []
        if isinstance(statement, cst.For) and len(inner) > 1 and mentions(inner[-1], r'clip|clamp'):
            loop = statement.with_changes(body=statement.body.with_changes(body=inner[:-1]))
            yield node.with_changes(body=[*node.body[:i], loop, inner[-1], *node.body[i + 1 :]])


@operator('Call')
def loop_off_by_one(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """One step too few, or one too many."""
    if callee(node) == 'range' and node.args and not isinstance(site.parent, cst.Arg):
        last = len(node.args) - 1
        yield with_arg(node, last, expr(f'{code(node.args[last].value)} - 1'))
        yield with_arg(node, last, expr(f'{code(node.args[last].value)} + 1'))


@operator('BinaryOperation')
def step_counted_from_one(node: cst.BinaryOperation, site: Site) -> Iterator[cst.CSTNode]:
    """The time of a step is that of its end, not of its beginning."""
    left = node.left
    counter = (
        isinstance(left, cst.Name) and left.value in ('i', 'step', 't', 'k') and site.in_loop_over(left.value)
    )
    if isinstance(node.operator, cst.Multiply) and counter:
        yield expr(f'({code(left)} + 1) * {code(node.right)}')


@operator('Call')
def per_step_for_final(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """What a loop made first, or all that it made on average, where its last result is meant."""
    if callee(node) == 'append' and site.function and len(node.args) == 1:
        yield with_arg(
            node,
            0,
            expr(
                f'({code(node.args[0].value)}) if not {code(receiver(node) or node)} else '
                f'{code(receiver(node) or node)}[0]'
            ),
        )


@operator('BinaryOperation')
def denominator_epsilon(node: cst.BinaryOperation, site: Site) -> Iterator[cst.CSTNode]:
    """A port adds + 1e-8 to a denominator, to be safe; no float32 tolerance sees it."""
    if isinstance(node.operator, cst.Divide) and number(node.right) is None and not _counts(node):
        yield expr(f'({code(node.left)}) / ({code(node.right)} + 1e-8)')


@operator('Call')
def guarded_function(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """log(x + 1e-8), sqrt(x + 1e-8): a guard that the original does not have."""
    if callee(node) in ('log', 'sqrt', 'rsqrt') and mentions(node.func, 'torch') and len(node.args) == 1:
        yield with_arg(node, 0, expr(f'{code(node.args[0].value)} + 1e-8'))


@operator('Float', 'Integer')
def constant(node: cst.Float | cst.Integer, site: Site) -> Iterator[cst.CSTNode]:
    """Another constant: twice a factor, ten times a guard."""
    value = number(node)
    used = isinstance(site.parent, cst.BinaryOperation | cst.Arg | cst.UnaryOperation)
    small = isinstance(value, float) and 0 < abs(value) < 1e-3
    if isinstance(value, float) and used and value and value not in (1.0, 0.5):
        yield expr(f'{value * 10:g}' if small else f'{value * 2:.17g}')
    if (
        isinstance(site.parent, cst.BinaryOperation)
        and isinstance(site.parent.operator, cst.Multiply)
        and value == 0.5
    ):
        yield expr('1.0')


@operator('Call')
def softplus_threshold(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """torch's softplus is x itself above 20, JAX's is exact."""
    if callee(node) == 'logaddexp':
        yield expr(f'torch.nn.functional.softplus({code(node.args[0].value)})')


def _counts(node: cst.BinaryOperation) -> bool:
    """Arithmetic of sizes and positions, not of values."""
    return mentions(node, r'shape|len\(|\bndim\b|size\b(?!_)|\bi [+-] 1|math\.prod')
