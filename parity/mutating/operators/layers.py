"""Mistakes in layers: normalisation, activations, weights and biases."""

from collections.abc import Iterator

import libcst as cst

from parity.mutating.operators.site import (
    Site,
    callee,
    code,
    expr,
    find_arg,
    mentions,
    number,
    receiver,
    string,
    subject,
    with_arg,
    with_body,
    with_more,
    without_arg,
)
from parity.mutating.operators.table import operator

EPSILONS = ('eps', 'epsilon')
OTHER_EPSILON = {1e-6: '1e-5', 1e-5: '1e-6', 1e-3: '1e-5', 1e-8: '1e-5'}
ACTIVATIONS = {
    'gelu': 'relu',
    'relu': 'gelu',
    'silu': 'relu',
    'swish': 'relu',
    'elu': 'relu',
    'tanh': 'sigmoid',
    'sigmoid': 'tanh',
    'softplus': 'relu',
}


@operator('Param', 'Arg')
def norm_epsilon(node: cst.Param | cst.Arg, site: Site) -> Iterator[cst.CSTNode]:
    """LayerNorm's epsilon is 1e-6 in Flax and 1e-5 in torch; whoever writes none gets the other."""
    if isinstance(node, cst.Param):
        name, value = node.name.value, node.default
    else:
        name, value = node.keyword.value if node.keyword else '', node.value
    other = OTHER_EPSILON.get(number(value) or 0.0) if value is not None else None
    if name in EPSILONS and other and not mentions(site.parent or node, 'adam|optim'):
        changed = expr(other)
        yield (
            node.with_changes(default=changed)
            if isinstance(node, cst.Param)
            else node.with_changes(value=changed)
        )


@operator('Call')
def norm_missing(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """A normalisation that the original has is forgotten."""
    function = mentions(node.func, 'norm') and len(node.args) == 1 and receiver(node) is None
    if function or _is_norm_of(node):
        yield node.args[0].value


@operator('IndentedBlock')
def norm_before_activation(node: cst.IndentedBlock, site: Site) -> Iterator[cst.CSTNode]:
    """The norm comes before the activation, as in most papers, where the original has it after it."""
    for i, (first, second) in enumerate(zip(node.body, node.body[1:], strict=False)):
        if _activates(first) and mentions(second, 'norm') and not _activates(second):
            yield with_body(node, [*node.body[:i], second, first, *node.body[i + 2 :]])


@operator('Call')
def gelu_variant(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """jax.nn.gelu is the tanh approximation, torch's gelu the exact one."""
    if callee(node) not in ('gelu', 'GELU'):
        return
    i = find_arg(node, 'approximate')
    if i is not None:
        other = "'none'" if string(node.args[i].value) == 'tanh' else "'tanh'"
        yield with_arg(node, i, expr(other))
        yield without_arg(node, i)
    elif code(node.func).startswith(('F.', 'nn.', 'torch.')):
        yield with_more(node, "approximate='tanh'")


@operator('Call')
def other_activation(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """Another activation than the original's."""
    other = ACTIVATIONS.get(callee(node))
    if other and subject(node) is not None:
        yield expr(f'torch.nn.functional.{other}({code(subject(node) or node)})')


@operator('Call')
def activation_missing(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """A layer without its activation."""
    value = subject(node)
    if callee(node) in ACTIVATIONS and value is not None:
        yield value


@operator('If')
def activation_on_last_layer(node: cst.If, site: Site) -> Iterator[cst.CSTNode]:
    """Every layer is followed by the activation, or one layer more has none."""
    if not mentions(node.test, r'len\(|activate_final|is_last|last') or not mentions(
        node, 'lu\\(|tanh|norm|act'
    ):
        return
    yield node.with_changes(test=expr('True'))
    for comparison in _comparisons(node.test):
        text = code(node.test).replace(
            code(comparison), f'({code(comparison.left)}) + 1 < {_right(comparison)}'
        )
        yield node.with_changes(test=expr(text))


@operator('Arg')
def activate_final(node: cst.Arg, site: Site) -> Iterator[cst.CSTNode]:
    """The last layer of a trunk is left linear, or is not."""
    if node.keyword and node.keyword.value == 'activate_final':
        yield node.with_changes(value=expr('False' if code(node.value) == 'True' else 'True'))


@operator('Call')
def bias_missing(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """A layer without its bias, or with one that the original lacks."""
    for i, arg in enumerate(node.args):
        if (
            not arg.keyword
            and mentions(arg.value, r'\bbias$')
            and callee(node) in ('linear', 'conv2d', 'conv1d')
        ):
            yield with_arg(node, i, expr('None'))
        if arg.keyword and arg.keyword.value in ('use_bias', 'bias') and code(arg.value) in ('True', 'False'):
            yield with_arg(node, i, expr('False' if code(arg.value) == 'True' else 'True'))


@operator('BinaryOperation')
def bias_not_added(node: cst.BinaryOperation, site: Site) -> Iterator[cst.CSTNode]:
    """The shift of a norm or of a layer is forgotten."""
    if isinstance(node.operator, cst.Add) and mentions(node.right, r'\bbias$'):
        yield node.left


@operator('Call')
def clipped_variance(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """Flax cuts E[x^2] - E[x]^2 off at zero; a port without it has a NaN where rounding makes it negative."""
    if callee(node) in ('maximum', 'relu') and node.args and mentions(node.args[0].value, '^var'):
        yield node.args[0].value


def _is_norm_of(node: cst.Call) -> bool:
    """`getattr(self, f'LayerNorm_{i}')(x)`, `self.norm(x)`."""
    called = node.func
    owned = (
        isinstance(called, cst.Attribute) and code(called.value) == 'self' and mentions(called.attr, 'norm')
    )
    return len(node.args) == 1 and (owned or (isinstance(called, cst.Call) and mentions(called, 'norm')))


def _activates(node: cst.CSTNode) -> bool:
    """A line that is an activation, `x = gelu(x)`."""
    text = code(node).strip()
    return isinstance(node, cst.SimpleStatementLine) and any(f'{name}(' in text for name in ACTIVATIONS)


def _comparisons(test: cst.BaseExpression) -> list[cst.Comparison]:
    parts = [test.left, test.right] if isinstance(test, cst.BooleanOperation) else [test]
    return [part for part in parts if isinstance(part, cst.Comparison) and 'len(' in code(part)]


def _right(comparison: cst.Comparison) -> str:
    return code(comparison.comparisons[0].comparator)
