"""Mistakes in updates: the optimiser, its state, moving averages and when they move."""

import re
from collections.abc import Iterator

import libcst as cst

from parity.mutating.operators.site import (
    Site,
    arguments,
    assigned,
    callee,
    code,
    expr,
    find_arg,
    mentions,
    moved,
    number,
    receiver,
    with_arg,
    with_body,
)
from parity.mutating.operators.table import operator

ADAMS = ('Adam', 'AdamW')
AVERAGES = r'target|average|moving|ema|polyak|soft_update'
CALLS = r'zero_grad|copy_params|copy_\(|set_params|set_param\(|load_state_dict|\.train\(|\.eval\(|add_\('


@operator('Call')
def adam_epsilon(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """Another epsilon in Adam: it matters where gradients are small."""
    i = find_arg(node, 'eps')
    if callee(node) in ADAMS and i is not None:
        yield with_arg(node, i, expr('1e-5'))
        yield with_arg(node, i, expr('1e-7'))


@operator('Call')
def adam_betas(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """Other decay rates of Adam's moments."""
    i = find_arg(node, 'betas')
    value = node.args[i].value if i is not None else None
    if callee(node) in ADAMS and i is not None and isinstance(value, cst.Tuple):
        first, second = (code(element.value) for element in value.elements)
        for betas in (f'(0.5, {second})', f'({first}, 0.99)', f'({second}, {first})'):
            yield with_arg(node, i, expr(betas))


@operator('Call')
def weight_decay(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """AdamW decays weights by 0.01 when nothing is said; AMSGrad keeps the largest moment."""
    if callee(node) == 'Adam':
        yield expr(f'torch.optim.AdamW({arguments(node)})')
        yield expr(f'torch.optim.Adam({arguments(node)}, amsgrad=True)')


@operator('Call')
def optimiser_without_network(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """The optimiser does not know some of the parameters."""
    if callee(node) in ADAMS and node.args:
        yield with_arg(node, 0, expr(f'list({code(node.args[0].value)})[2:]'))
        yield with_arg(node, 0, expr(f'list({code(node.args[0].value)})[:-2]'))


@operator('IndentedBlock')
def none_for_zero_gradient(node: cst.IndentedBlock, site: Site) -> Iterator[cst.CSTNode]:
    """Adam skips a parameter without gradient; optax decays its moments and moves it."""
    for i, statement in enumerate(node.body):
        found = assigned(statement)
        if found and mentions(found.targets[0].target, r'\.grad$'):
            yield with_body(node, [*node.body[:i], *node.body[i + 1 :]])


@operator('IndentedBlock')
def target_after_step(node: cst.IndentedBlock, site: Site) -> Iterator[cst.CSTNode]:
    """The targets follow the values from after the step, where the original takes those from before it."""
    steps = [i for i, statement in enumerate(node.body) if mentions(statement, r'\.step\(\)')]
    for step in steps[:1]:
        for i in range(step):
            if assigned(node.body[i]) and mentions(node.body[i], AVERAGES):
                yield with_body(node, moved(node.body, i, step))


@operator('IndentedBlock')
def call_missing(node: cst.IndentedBlock, site: Site) -> Iterator[cst.CSTNode]:
    """A call is forgotten: gradients add up, a target is not copied at first, a parameter is not set."""
    for i, statement in enumerate(node.body):
        line = statement.body[0] if isinstance(statement, cst.SimpleStatementLine) else None
        if isinstance(line, cst.Expr | cst.Assign) and mentions(line, CALLS):
            yield with_body(node, [*node.body[:i], *node.body[i + 1 :]])


@operator('IndentedBlock')
def state_not_kept(node: cst.IndentedBlock, site: Site) -> Iterator[cst.CSTNode]:
    """A part of the state is not carried over: moments, counts, infos."""
    for i, statement in enumerate(node.body):
        text = code(statement).strip()
        counts = isinstance(statement, cst.SimpleStatementLine) and isinstance(
            statement.body[0], cst.AugAssign
        )
        if re.match(r'(state\[|info\.update\()', text) or counts:
            yield with_body(node, [*node.body[:i], *node.body[i + 1 :]])


@operator('BinaryOperation')
def average_direction(node: cst.BinaryOperation, site: Site) -> Iterator[cst.CSTNode]:
    """tau and 1 - tau change places: the target jumps to the online network."""
    text = code(node)
    found = re.search(r'\(1(?:\.0)? - (\w+)\)', text)
    if found and isinstance(node.operator, cst.Add) and text.count(found[1]) == 2:
        swapped = text.replace(found[0], '\0').replace(found[1], found[0]).replace('\0', found[1])
        yield expr(f'({swapped})')


@operator('Arg')
def other_rate(node: cst.Arg, site: Site) -> Iterator[cst.CSTNode]:
    """Another rate of the moving average, or none at all."""
    if node.keyword and node.keyword.value in ('tau', 'decay', 'momentum') and number(node.value) is None:
        yield node.with_changes(value=expr(f'2 * ({code(node.value)})'))


@operator('Arg')
def target_not_updated(node: cst.Arg, site: Site) -> Iterator[cst.CSTNode]:
    """A target network that never moves; or one that moves where the original's rests."""
    if node.keyword and node.keyword.value == 'targets' and not (mentions(node.value, '^targets$')):
        yield node.with_changes(value=expr('None'))


@operator('Dict')
def entry_missing(node: cst.Dict, site: Site) -> Iterator[cst.CSTNode]:
    """One of several is forgotten: a target network, an info value."""
    keys = [code(element.key) for element in node.elements if isinstance(element, cst.DictElement)]
    if (
        site.function is None
        or not keys
        or 'get_config' in site.function_names
        or len(keys) < len(node.elements)
    ):
        return
    if any('target_' in key for key in keys) and not mentions(node, '_def'):
        for i in range(len(node.elements)):
            rest = [element for k, element in enumerate(node.elements) if k != i]
            if rest or isinstance(site.parent, cst.Assign | cst.Arg):
                yield node.with_changes(elements=rest)


@operator('IfExp')
def condition_ignored(node: cst.IfExp, site: Site) -> Iterator[cst.CSTNode]:
    """Always, where the original does it only in full updates or where a switch says so; or never."""
    yield node.body
    yield node.orelse


@operator('If')
def switch_ignored(node: cst.If, site: Site) -> Iterator[cst.CSTNode]:
    """A switch of the configuration, or the kind of update, is not asked."""
    if mentions(
        node.test, r'config|full_update|self\.\w+|normalize|layer_norm|squash'
    ) and 'len(' not in code(node.test):
        yield node.with_changes(test=expr('True'))
        yield node.with_changes(test=expr('False'))


@operator('Call')
def aliased_copy(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """Two networks share one set of parameters, because nothing was copied."""
    if callee(node) in ('deepcopy', 'copy') and node.args:
        yield node.args[0].value
    if callee(node) == 'clone' and receiver(node) is not None:
        yield receiver(node) or node


@operator('Call')
def norm_of_gradients(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """Gradients are summed over the losses, where each step must start from zero."""
    if callee(node) == 'backward':
        yield expr(f'(2 * {code(receiver(node) or node)}).backward()')
