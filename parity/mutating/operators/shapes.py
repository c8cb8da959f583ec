"""Mistakes in shapes: transposes, reshapes, broadcasts, members of ensembles, contractions."""

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
    string,
    with_arg,
    with_more,
)
from parity.mutating.operators.table import operator

TRANSPOSES = ('T', 'mT', 'H', 'mH')


@operator('Attribute')
def transpose_missing(node: cst.Attribute, site: Site) -> Iterator[cst.CSTNode]:
    """A Dense kernel is (in, out) in Flax and (out, in) in torch: one transpose too few."""
    if node.attr.value in TRANSPOSES:
        yield node.value


@operator('Attribute')
def reshape_for_transpose(node: cst.Attribute, site: Site) -> Iterator[cst.CSTNode]:
    """A reshape to the transposed shape runs as well, and re-orders the values."""
    if node.attr.value in TRANSPOSES:
        yield expr(f'{code(node.value)}.reshape({code(node)}.shape)')


@operator('Call')
def reshape_for_permute(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """view or reshape where axes must be moved."""
    if callee(node) in ('permute', 'transpose', 'swapaxes', 'movedim') and receiver(node) is not None:
        yield expr(f'{code(receiver(node) or node)}.reshape({code(node)}.shape)')
    if callee(node) in ('moveaxis', 'movedim') and receiver(node) is None and node.args:
        yield expr(f'{code(node.args[0].value)}.reshape({code(node)}.shape)')


@operator('Call')
def permuted_otherwise(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """Channels, height and width in another order: two axes of a permutation change places."""
    if (
        callee(node) == 'permute'
        and len(node.args) > 2
        and all(number(arg.value) is not None for arg in node.args)
    ):
        values = [arg.value for arg in node.args]
        for i, j in ((-2, -1), (1, 2)):
            other = list(values)
            other[i], other[j] = other[j], other[i]
            args = [arg.with_changes(value=value) for arg, value in zip(node.args, other, strict=True)]
            yield node.with_changes(args=args)


@operator('Call')
def permute_missing(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """Flax's images are (H, W, C), torch's (C, H, W); features flattened without the way back are others."""
    if callee(node) in ('permute', 'transpose', 'swapaxes') and receiver(node) is not None:
        yield receiver(node) or node


@operator('Call')
def squeeze_missing(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """Values (B, 1) against targets (B,) broadcast to (B, B), silently; or every axis of one is squeezed."""
    if callee(node) == 'squeeze' and receiver(node) is not None:
        yield receiver(node) or node
        if node.args:
            yield node.with_changes(args=())


@operator('Call')
def keepdims(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """A reduction that keeps its axis, or does not: (B, 1) against (B,) broadcasts to (B, B)."""
    for i, arg in enumerate(node.args):
        if arg.keyword and arg.keyword.value in ('keepdim', 'keepdims') and code(arg.value) == 'True':
            yield with_arg(node, i, expr('False'))
    named = {arg.keyword.value for arg in node.args if arg.keyword}
    reduces = callee(node) in ('sum', 'mean', 'amin', 'amax') and named & {'axis', 'dim'}
    if reduces and not named & {'keepdim', 'keepdims'}:
        yield with_more(node, 'keepdim=True')


@operator('Subscript')
def new_axis(node: cst.Subscript, site: Site) -> Iterator[cst.CSTNode]:
    """An axis for broadcasting is missing, or is at the other end."""
    text = code(node)
    if re.search(r'\[\.\.\., None\]$', text):
        yield node.value
        yield expr(f'{code(node.value)}[None]')


@operator('Subscript')
def other_member(node: cst.Subscript, site: Site) -> Iterator[cst.CSTNode]:
    """The other member of an ensemble or of a pair."""
    if isinstance(site.parent, cst.Attribute) and site.parent.attr.value in ('shape',):
        return
    for index, other in (('[0]', '[1]'), ('[1]', '[0]')):
        if code(node).endswith(index) and 'shape' not in code(node.value) and 'split' not in code(node.value):
            yield expr(f'{code(node.value)}{other}')


@operator('Call')
def einsum_subscripts(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """Letters in another order: the transposed result, or a sum over another axis."""
    equation = string(node.args[0].value) if callee(node) == 'einsum' and node.args else None
    if equation is None or '->' not in equation:
        return
    inputs, output = equation.replace(' ', '').split('->')
    first, *others = inputs.split(',')
    changed = [f'{inputs}->{output[:-2]}{output[-2:][::-1]}', f'{inputs}->{output[:2][::-1]}{output[2:]}']
    changed += [
        f'{first},{",".join([*others[:-1], others[-1][:-2] + others[-1][-2:][::-1]])}->{output}'
    ] * bool(others)
    changed += [f'{first[:-2]}{first[-2:][::-1]},{",".join(others)}->{output}'] * bool(others)
    for other in dict.fromkeys(changed):
        yield with_arg(node, 0, expr(repr(other)))


@operator('Call')
def inputs_joined_otherwise(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """Inputs in another order: observations and actions, phi and psi."""
    if not re.search(r'concat|^cat$|^hstack$|matmul|tensordot', callee(node)) or len(node.args) < 2:
        return
    first, second = node.args[:2]
    if not any(arg.keyword or arg.star or number(arg.value) is not None for arg in (first, second)):
        swapped = [first.with_changes(value=second.value), second.with_changes(value=first.value)]
        yield node.with_changes(args=[*swapped, *node.args[2:]])


@operator('Call')
def input_left_out(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """A network does not see one of its inputs: it sees zeros in its place, so that the shapes fit."""
    if re.search(r'concat|^cat$', callee(node)) and len(node.args) > 1:
        for i, arg in enumerate(node.args):
            if not arg.keyword and not arg.star and isinstance(arg.value, cst.Name) and site.function:
                yield with_arg(
                    node,
                    i,
                    expr(f'{arg.value.value} if {arg.value.value} is None else 0 * {arg.value.value}'),
                )


@operator('BinaryOperation')
def diagonal_for_off_diagonal(node: cst.BinaryOperation, site: Site) -> Iterator[cst.CSTNode]:
    """The pairs that belong together, or those that do not: identity against 1 - identity."""
    is_complement = isinstance(node.operator, cst.Subtract) and number(node.left) == 1
    if is_complement and mentions(node.right, r'identity|\beye\b|mask|diag'):
        yield node.right


@operator('Name')
def off_diagonal_for_diagonal(node: cst.Name, site: Site) -> Iterator[cst.CSTNode]:
    """The pairs that do not belong together, where the original takes those that do."""
    used = isinstance(site.parent, cst.BinaryOperation) and isinstance(site.parent.operator, cst.Multiply)
    if used and re.search(r'diag|identity|^eye$', node.value):
        yield expr(f'(1 - {node.value})')


@operator('Call')
def other_diagonal(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """All pairs, or other pairs, where each row's own column is meant."""
    if callee(node) == 'diagonal' and node.args:
        value = code(node.args[0].value)
        yield expr(f'{value}.mean(-1)')
        yield expr(f'torch.diagonal(torch.roll({value}, 1, -1), 0, -2, -1)')


@operator('Call')
def roll_otherwise(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """Rows shifted the other way, or columns."""
    if callee(node) == 'roll' and len(node.args) == 3 and number(node.args[1].value) is not None:
        yield with_arg(node, 1, expr(str(-(number(node.args[1].value) or 0))))
        yield with_arg(node, 2, expr('1' if number(node.args[2].value) == 0 else '0'))
