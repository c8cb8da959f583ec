"""Mistakes in reductions: another kind, another axis, another denominator."""

from collections.abc import Iterator

import libcst as cst

from parity.mutating.operators.site import (
    Site,
    arguments,
    callee,
    code,
    expr,
    find_arg,
    mentions,
    number,
    receiver,
    renamed,
    subject,
    with_arg,
    without_arg,
)
from parity.mutating.operators.table import operator

OPPOSITE = {
    'minimum': 'maximum',
    'maximum': 'minimum',
    'amin': 'amax',
    'amax': 'amin',
    'min': 'max',
    'max': 'min',
    'argmax': 'argmin',
    'argmin': 'argmax',
}
WITH_AXIS = (
    'softmax',
    'log_softmax',
    'logsumexp',
    'concatenate',
    'cat',
    'stack',
    'argmax',
    'cumsum',
    'cross_entropy',
)
BUILTIN = ('min', 'max', 'sum')  # of Python, too: of tensors only as methods


@operator('Call')
def minimum_for_maximum(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """The largest for the smallest, or the other way round."""
    name = callee(node)
    if name in OPPOSITE and _is_tensors(node):
        yield renamed(node, OPPOSITE[name])


@operator('Call')
def mean_for_minimum(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """Twin critics are averaged, where the original takes the smaller; or one of them is used alone."""
    if callee(node) in ('minimum', 'maximum') and len(node.args) == 2 and mentions(node.func, 'torch'):
        first, second = (code(arg.value) for arg in node.args)
        yield expr(f'({first} + {second}) / 2')
        yield expr(first)
        yield expr(second)
    if callee(node) in ('amin', 'amax') and receiver(node) is not None:
        yield renamed(node, 'mean')
        if node.args and number(node.args[0].value) == 0:
            yield expr(f'{code(receiver(node) or node)}[0]')


@operator('Call')
def minimum_for_mean(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """The smaller of two critics, where the original averages them."""
    i = find_arg(node, 'axis', 'dim')
    if callee(node) == 'mean' and i is not None and number(node.args[i].value) == 0:
        yield renamed(node, 'amin')


@operator('Call')
def sum_for_mean(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """A sum for a mean: a factor of the batch or of the features, which Adam's first step hides."""
    other = {'sum': 'mean', 'mean': 'sum'}.get(callee(node))
    if other and _is_tensors(node):
        yield renamed(node, other)


@operator('Call')
def other_axis(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """Another axis is reduced, normalised or joined along: batch for features, ensemble for batch."""
    i = find_arg(node, 'axis', 'dim')
    if (
        i is None
        and callee(node) in WITH_AXIS
        and len(node.args) > 1
        and _axis(node.args[-1].value) is not None
    ):
        i = len(node.args) - 1
    if i is not None:
        for other in _others(node.args[i].value):
            yield with_arg(node, i, expr(other))


@operator('Call')
def axis_missing(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """A reduction over everything: without its axis, torch reduces all of them."""
    i = find_arg(node, 'axis', 'dim')
    if (
        i is not None
        and callee(node) in ('mean', 'sum', 'amin', 'amax', 'argmax')
        and find_arg(node, 'keepdim') is None
    ):
        yield without_arg(node, i)


@operator('Call')
def unbiased_variance(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """torch's var and std divide by n - 1, numpy's by n."""
    for keyword in ('correction', 'unbiased'):
        i = find_arg(node, keyword)
        if callee(node) in ('var', 'std', 'var_mean', 'std_mean') and i is not None:
            yield without_arg(node, i)


@operator('Call')
def softmax_for_log_softmax(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """Probabilities for their logarithms, or logits for probabilities."""
    other = {'softmax': 'log_softmax', 'log_softmax': 'softmax'}.get(callee(node))
    if other:
        yield expr(f'torch.{other}({arguments(node)})') if receiver(node) is None else renamed(node, other)
        value = subject(node)
        if value is not None:
            yield value


def _is_tensors(node: cst.Call) -> bool:
    """A method, or a function of torch; not Python's own min, max and sum."""
    return isinstance(node.func, cst.Attribute) or callee(node) not in BUILTIN


def _axis(value: cst.CSTNode) -> int | None:
    found = number(value)
    return found if isinstance(found, int) else None


def _others(value: cst.BaseExpression) -> list[str]:
    axis = _axis(value)
    if axis is not None:
        return {-1: ['0', '-2'], 0: ['-1', '1'], 1: ['0', '-1']}.get(axis, ['0'])
    if isinstance(value, cst.Tuple) and len(value.elements) > 1:
        rest = [code(element.value) for element in value.elements]
        return [f'({", ".join(rest[1:])},)', f'({", ".join(rest[:-1])},)']
    return []
