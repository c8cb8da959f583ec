"""Mistakes in what gradients flow through, and in the gradients of functions with a corner."""

import re
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
    receiver,
    with_more,
    without_arg,
)
from parity.mutating.operators.table import operator

TENSORS = r'\.(mean|sum|amin|amax|squeeze|exp)\(|torch\.\w+\(|\*|/|\+|-|\bselect\('
NO_TENSOR = r'dist|rng|shape|random|lambda|config\[|info|range\('


@operator('Call')
def detach_missing(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """lax.stop_gradient is not carried over: the loss stays the same, the gradient does not."""
    value = receiver(node)
    if callee(node) == 'detach' and value is not None:
        yield value


@operator('FunctionDef')
def no_grad_missing(node: cst.FunctionDef, site: Site) -> Iterator[cst.CSTNode]:
    """A function without its torch.no_grad: what it returns carries gradients."""
    kept = [each for each in node.decorators if not mentions(each, r'no_grad|inference_mode')]
    if len(kept) < len(node.decorators):
        yield node.with_changes(decorators=kept)


@operator('IndentedBlock')
def no_grad_block_missing(node: cst.IndentedBlock, site: Site) -> Iterator[cst.CSTNode]:
    """Targets are computed outside of torch.no_grad."""
    for i, statement in enumerate(node.body):
        if isinstance(statement, cst.With) and mentions(statement.items[0].item, 'no_grad|inference_mode'):
            inner = statement.body.body if isinstance(statement.body, cst.IndentedBlock) else ()
            yield node.with_changes(body=[*node.body[:i], *inner, *node.body[i + 1 :]])


@operator('Assign')
def detach_added(node: cst.Assign, site: Site) -> Iterator[cst.CSTNode]:
    """A value is detached that the original differentiates: a network is no longer trained by a loss."""
    text = code(node.value)
    alone = len(node.targets) == 1 and isinstance(node.targets[0].target, cst.Name)
    computes = any(re.search(r'loss|forward|log_prob|distribution', name) for name in site.function_names)
    tensor = re.search(TENSORS, text) and not re.search(NO_TENSOR, text) and '.detach(' not in text
    if alone and computes and tensor and site.is_live(node.value):
        yield node.with_changes(value=expr(f'({text}).detach()'))


@operator('Return')
def detach_returned(node: cst.Return, site: Site) -> Iterator[cst.CSTNode]:
    """What a helper returns is detached, as if it were a target."""
    text = code(node.value) if node.value is not None else ''
    single = not isinstance(node.value, cst.Tuple | cst.Dict | None.__class__ | cst.IfExp | cst.Lambda)
    if (
        single
        and site.function
        and re.search(TENSORS, text)
        and not re.search(NO_TENSOR + '|detach|self\\.up', text)
    ):
        yield node.with_changes(value=expr(f'({text}).detach()'))


@operator('Call')
def frozen_for_live(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """A network is read frozen that the loss must train."""
    i = find_arg(node, 'params')
    if i is not None and mentions(node.args[i].value, 'params'):
        yield without_arg(node, i)


@operator('Call')
def live_for_frozen(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """A network is trained by a loss that only reads it: a target, a critic in the actor's loss."""
    selects = isinstance(node.func, cst.Call) and callee(node.func) == 'select'
    if selects and find_arg(node, 'params') is None and 'grad_params' in site.parameters():
        yield with_more(node, 'params=grad_params')


@operator('Call')
def sample_without_gradient(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """torch's sample() has no gradient where a JAX distribution's has one."""
    if callee(node) in ('sample', 'rsample') and node.args and receiver(node) is not None:
        yield expr(f'{code(node)}.detach()')


@operator('Call')
def clamp_for_clip(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """torch's clamp passes the whole gradient at its bounds, jnp.clip half of it."""
    inner = node.args[0].value if node.args else None
    if callee(node) == 'minimum' and isinstance(inner, cst.Call) and callee(inner) == 'maximum':
        (value, low), high = (code(arg.value) for arg in inner.args), code(node.args[1].value)
        yield expr(f'torch.clamp({value}, {low}, {high})')
    if callee(node) == 'maximum' and len(node.args) == 2 and mentions(node.args[1].value, 'tensor|zeros'):
        low = code(node.args[1].value)
        yield expr(f'torch.where({code(node.args[0].value)} >= {low}, {code(node.args[0].value)}, {low})')


@operator('Call')
def min_for_amin(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """min(dim) gives the whole gradient to one of equal members, amin and jnp.min share it."""
    if callee(node) in ('amin', 'amax') and receiver(node) is not None and node.args:
        given = arguments(node).replace('axis=', 'dim=')
        yield expr(f'{code(receiver(node) or node)}.{callee(node)[1:]}({given}).values')


@operator('Call')
def where_for_minimum(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """A choice between two critics: at a tie one of them gets all the gradient."""
    names = len(node.args) == 2 and all(isinstance(arg.value, cst.Name) for arg in node.args)
    if callee(node) == 'minimum' and names and site.is_live(node):
        first, second = (code(arg.value) for arg in node.args)
        yield expr(f'torch.where({first} < {second}, {first}, {second})')
