"""Mistakes in random draws: keys, their order, shapes, distributions and precision."""

from collections.abc import Iterator

import libcst as cst

from parity.mutating.operators.site import Site, callee, code, expr, mentions, renamed, with_arg
from parity.mutating.operators.table import operator

KEY = r'^(\w*_)?(rng|key|seed)\d?$'
DRAWS = ('normal', 'uniform')


@operator('Arg')
def other_key(node: cst.Arg, site: Site) -> Iterator[cst.CSTNode]:
    """Another key than the original's, or one that was used before."""
    if not isinstance(node.value, cst.Name) or not mentions(node.value, KEY) or _is_split(site):
        return
    keys = sorted(name for name in site.names() if mentions(cst.Name(name), KEY) and name != node.value.value)
    for name in keys[:3]:
        yield node.with_changes(value=cst.Name(name))


@operator('Tuple')
def split_order(node: cst.Tuple, site: Site) -> Iterator[cst.CSTNode]:
    """The keys of a split in another order: the same numbers, drawn for something else."""
    names = [code(element.value) for element in node.elements]
    if (
        isinstance(site.parent, cst.AssignTarget)
        and len(names) > 1
        and any('rng' in n or 'key' in n for n in names)
    ):
        for i in range(len(names) - 1):
            if '_' not in names[i : i + 2]:
                swapped = [*names[:i], names[i + 1], names[i], *names[i + 2 :]]
                yield expr(', '.join(swapped))


@operator('Call')
def key_not_split(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """The key is used again instead of being split."""
    if (
        callee(node) == 'split'
        and _is_split(site) is False
        and node.args
        and mentions(node.args[0].value, KEY)
    ):
        count = code(node.args[1].value) if len(node.args) > 1 else '2'
        if not mentions(node, 'num_ensembles'):
            yield expr(f'[{code(node.args[0].value)}] * {count}')


@operator('Call')
def draw_shape(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """One draw for all, where each has its own: the first axis is broadcast."""
    if callee(node) in DRAWS and len(node.args) > 1 and mentions(node.func, 'random'):
        yield with_arg(node, 1, expr(f'({code(node.args[1].value)})[1:]'))
        yield with_arg(node, 1, expr(f'(1, *({code(node.args[1].value)})[1:])'))


@operator('Call')
def distribution(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """Uniform noise for normal noise, or normal for uniform."""
    other = {'normal': 'uniform', 'uniform': 'normal', 'truncated_normal': 'normal'}.get(callee(node))
    if other and mentions(node.func, r'^random\.'):
        if callee(node) == 'truncated_normal':
            rest = ', '.join(code(arg.value) for arg in node.args[3:])
            yield expr(f'random.normal({code(node.args[0].value)}, {rest})')
        elif len(node.args) <= 3:
            yield renamed(node, other)


@operator('Call')
def draw_precision(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """The noise is drawn in float32 and widened: other numbers than a float64 draw."""
    if callee(node) in DRAWS and mentions(node.func, 'random') and len(node.args) == 3:
        yield with_arg(node, 2, expr('torch.float32'))


@operator('Call')
def permutation_missing(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """Rows are not shuffled."""
    if callee(node) == 'permutation' and len(node.args) > 1:
        yield node.args[1].value


def _is_split(site: Site) -> bool:
    """Whether the surroundings are the split that makes keys."""
    return any(callee(above) in ('split', 'PRNGKey') for above in site.above[-2:])
