"""Mistakes in images, pixels, padding and in how much a network is given of what it needs."""

import re
from collections.abc import Iterator

import libcst as cst

from parity.mutating.operators.site import (
    Site,
    assigned,
    callee,
    code,
    expr,
    mentions,
    number,
    string,
    with_body,
)
from parity.mutating.operators.table import operator

# numbers that normalise pixels, and what they are taken for
OTHER_CONSTANT = {255: '256', 256: '255', 127.5: '128', 128: '127.5'}
STRIDES = {'2': '1', '1': '2', '(2, 2)': '(1, 1)', '(1, 1)': '(2, 2)'}


@operator('Integer', 'Float')
def normalisation_constant(node: cst.Integer | cst.Float, site: Site) -> Iterator[cst.CSTNode]:
    """Pixels are divided by 256 instead of 255, or not centred as in the original."""
    other = OTHER_CONSTANT.get(number(node) or 0)
    if other and isinstance(site.parent, cst.BinaryOperation):
        yield expr(other)


@operator('Arg', 'Param')
def padding(node: cst.Arg | cst.Param, site: Site) -> Iterator[cst.CSTNode]:
    """SAME padding is not the same on both sides in torch, or is none at all."""
    is_param = isinstance(node, cst.Param)
    name = node.name.value if isinstance(node, cst.Param) else node.keyword.value if node.keyword else ''
    value = node.default if isinstance(node, cst.Param) else node.value
    if name != 'padding' or value is None:
        return
    others = ['((1, 1), (1, 1))', '((0, 0), (0, 0))'] if string(value) == 'SAME' else []
    others += [re.sub(r'\d+', lambda found: str(max(0, int(found[0]) - 1)), code(value), count=1)] * (
        '(' in code(value)
    )
    for other in others:
        yield node.with_changes(default=expr(other)) if is_param else node.with_changes(value=expr(other))


@operator('Arg')
def padding_value(node: cst.Arg, site: Site) -> Iterator[cst.CSTNode]:
    """A max-pool pads with minus infinity, not with zeros."""
    if mentions(node.value, r'^-math\.inf$|^-float'):
        yield node.with_changes(value=expr('0.0'))


@operator('Tuple')
def padding_before_and_after(node: cst.Tuple, site: Site) -> Iterator[cst.CSTNode]:
    """The odd pixel of SAME padding goes behind; torch's own padding puts it in front or nowhere."""
    halves = [code(element.value) for element in node.elements]
    if len(halves) == 2 and '//' in halves[0] and halves[1].endswith(halves[0]):
        yield expr(f'({halves[1]}, {halves[0]})')
        yield expr(f'({halves[0]}, {halves[0]})')


@operator('Arg')
def strides(node: cst.Arg, site: Site) -> Iterator[cst.CSTNode]:
    """Another stride: another size, or other pixels."""
    other = STRIDES.get(code(node.value))
    if node.keyword and node.keyword.value in ('strides', 'stride') and other:
        yield node.with_changes(value=expr(other))


@operator('BinaryOperation')
def integer_division(node: cst.BinaryOperation, site: Site) -> Iterator[cst.CSTNode]:
    """/ for //, or // for /."""
    if isinstance(node.operator, cst.Divide | cst.FloorDivide):
        other = '//' if isinstance(node.operator, cst.Divide) else '/'
        yield expr(f'({code(node.left)} {other} {code(node.right)})')


@operator('IndentedBlock')
def skip_missing(node: cst.IndentedBlock, site: Site) -> Iterator[cst.CSTNode]:
    """A residual connection is forgotten."""
    for i, statement in enumerate(node.body):
        if mentions(statement, r'^\s*x = x \+ \w+\s*$'):
            yield with_body(node, [*node.body[:i], *node.body[i + 1 :]])


@operator('IndentedBlock')
def step_missing(node: cst.IndentedBlock, site: Site) -> Iterator[cst.CSTNode]:
    """A line is forgotten that turns a value into its next form, `x = f(x)`."""
    for i, statement in enumerate(node.body):
        found = assigned(statement)
        name = code(found.targets[0].target) if found and len(found.targets) == 1 else ''
        uses = (
            re.search(rf'\b{re.escape(name)}\b', code(found.value)) if found and name.isidentifier() else None
        )
        if found and uses and not re.search(r'config|rng|info|range\(', code(found)):
            yield with_body(node, [*node.body[:i], *node.body[i + 1 :]])


@operator('Call')
def ensemble_of_equals(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """All members of an ensemble start equal, because they share one key."""
    if callee(node) == 'split' and site.function and mentions(node, 'num_ensembles'):
        key, count = (code(arg.value) for arg in node.args[:2])
        yield expr(f'[{key}] * {count}')
