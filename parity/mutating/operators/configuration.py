"""Mistakes in defaults and in precision."""

from collections.abc import Iterator

import libcst as cst

from parity.mutating.operators.site import Site, callee, code, expr, mentions, number, receiver, string
from parity.mutating.operators.table import operator

DEFAULTS = ('get_config', 'default_config', 'get_default_config')


@operator('DictElement')
def config_default(node: cst.DictElement, site: Site) -> Iterator[cst.CSTNode]:
    """Another default than the original's: whoever does not set it trains another agent."""
    other = _other(node.value)
    if other is not None and any(name in DEFAULTS for name in site.function_names):
        yield node.with_changes(value=other)


@operator('Param')
def argument_default(node: cst.Param, site: Site) -> Iterator[cst.CSTNode]:
    """Another default of an argument."""
    other = _other(node.default) if node.default is not None else None
    if (
        other is not None
        and node.name.value not in ('eps', 'epsilon', 'padding')
        and string(node.default or node) is None
    ):
        yield node.with_changes(default=other)


@operator('Arg')
def argument_value(node: cst.Arg, site: Site) -> Iterator[cst.CSTNode]:
    """A flag is set otherwise, or a size."""
    flags = {'True': 'False', 'False': 'True'}
    skipped = ('strict', 'axis', 'dim', 'activate_final', 'use_bias', 'keepdim', 'keepdims', 'num', 'i')
    name = node.keyword.value if node.keyword else ''
    if name and name not in skipped and code(node.value) in flags:
        yield node.with_changes(value=expr(flags[code(node.value)]))
    if name and name not in (*skipped, 'eps', 'strides', 'stride') and number(node.value) is not None:
        value = number(node.value) or 0
        yield node.with_changes(value=expr(f'{value * 2 or 1:g}'))


@operator('Attribute')
def smaller_dtype(node: cst.Attribute, site: Site) -> Iterator[cst.CSTNode]:
    """Something is float32 whatever the precision of the port is."""
    if (
        node.attr.value == 'dtype'
        and code(node.value) not in ('torch', 'np')
        and isinstance(site.parent, cst.Arg)
    ):
        yield expr('torch.float32')


@operator('Return')
def rounded_result(node: cst.Return, site: Site) -> Iterator[cst.CSTNode]:
    """A network's output goes through float32: `.float()` at the wrong place."""
    if (
        node.value is not None
        and 'forward' in site.function_names
        and not isinstance(node.value, cst.Tuple | cst.IfExp)
    ):
        text = code(node.value)
        if 'distribution' not in text and 'Gaussian' not in text:
            yield node.with_changes(value=expr(f'({text}).float().to(({text}).dtype)'))


@operator('Call')
def cast_missing(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """A cast of the original is forgotten."""
    moves = bool(node.args) and all(mentions(arg, 'device') for arg in node.args)
    if callee(node) in ('to', 'float', 'double') and receiver(node) is not None and not moves:
        yield receiver(node) or node


@operator('IndentedBlock')
def half_precision(node: cst.IndentedBlock, site: Site) -> Iterator[cst.CSTNode]:
    """Autocast is left on: products in bfloat16."""
    functions = [name for name in site.function_names if name == 'forward']
    direct = isinstance(site.parent, cst.FunctionDef)
    if functions and direct:
        block = cst.ensure_type(
            cst.parse_statement("with torch.autocast('cpu', torch.bfloat16):\n    pass"), cst.With
        )
        yield node.with_changes(body=[block.with_changes(body=cst.IndentedBlock(body=list(node.body)))])


def _other(value: cst.BaseExpression) -> cst.BaseExpression | None:
    text, found = code(value), number(value)
    if text in ('True', 'False'):
        return expr('False' if text == 'True' else 'True')
    if isinstance(found, int):
        return expr(str(found * 2 or 1))
    if isinstance(found, float):
        return expr(f'{found * 2 or 0.1:g}')
    if isinstance(value, cst.Tuple) and len(value.elements) > 1:
        return value.with_changes(elements=value.elements[:-1])
    return None
