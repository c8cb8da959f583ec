"""Mistakes in which value is read: target for online, s for s', a for a', the wrong entry of a batch."""

import re
from collections.abc import Iterator

import libcst as cst

from parity.mutating.operators.site import Site, callee, code, expr, string
from parity.mutating.operators.table import operator

PREFIXES = ('target_', 'next_')
ENTRIES = {
    'value_goals': 'actor_goals',
    'actor_goals': 'value_goals',
    'relabeled_rewards': 'rewards',
    'relabeled_masks': 'masks',
    'observation_min': 'observation_max',
    'observation_max': 'observation_min',
    'aug1_observations': 'aug2_observations',
    'aug2_observations': 'aug1_observations',
    'masks': 'terminals',
    'observations': 'next_observations',
    'actions': 'next_actions',
    'alpha_actor': 'alpha_critic',
    'alpha_critic': 'alpha_actor',
    'actor_hidden_dims': 'value_hidden_dims',
    'value_hidden_dims': 'actor_hidden_dims',
    'actor_layer_norm': 'value_layer_norm',
    'value_layer_norm': 'actor_layer_norm',
    'reward_layer_norm': 'value_layer_norm',
    'reward_hidden_dims': 'value_hidden_dims',
}


@operator('SimpleString')
def target_for_online(node: cst.SimpleString, site: Site) -> Iterator[cst.CSTNode]:
    """The target network where the online one belongs, or the online one where the target belongs."""
    text = string(node) or ''
    called = isinstance(site.parent, cst.Arg) and any(callee(above) == 'select' for above in site.above[-2:])
    if called and text.startswith('target_'):
        yield expr(repr(text.removeprefix('target_')))
    elif called and f'target_{text}' in site.strings():
        yield expr(repr(f'target_{text}'))


@operator('FormattedString')
def target_for_online_by_prefix(node: cst.FormattedString, site: Site) -> Iterator[cst.CSTNode]:
    """The same, where the network's name is put together."""
    text = code(node)
    if any(callee(above) == 'select' for above in site.above[-2:]):
        yield (
            expr(text.replace("'target_", "'"))
            if 'target_' in text
            else expr(text.replace("f'", "f'target_", 1))
        )


@operator('Attribute')
def target_attribute(node: cst.Attribute, site: Site) -> Iterator[cst.CSTNode]:
    """The same, where networks are attributes: self.target_critic, self.critic."""
    name = node.attr.value
    known = site.attributes()
    if name.startswith('target_') and name.removeprefix('target_') in known:
        yield node.with_changes(attr=cst.Name(name.removeprefix('target_')))
    elif f'target_{name}' in known:
        yield node.with_changes(attr=cst.Name(f'target_{name}'))


@operator('Subscript')
def other_entry(node: cst.Subscript, site: Site) -> Iterator[cst.CSTNode]:
    """Another entry of the batch or of the configuration: s for s', a for a', one network's for another's."""
    found = re.fullmatch(r"(.+)\['(\w+)'\]", code(node))
    if found is None:
        return
    base, name = found.groups()
    others = [name.removeprefix(prefix) for prefix in PREFIXES if name.startswith(prefix)]
    others += [ENTRIES[name]] if name in ENTRIES else []
    for other in others:
        yield expr(f'{base}[{other!r}]')


@operator('Name')
def other_local(node: cst.Name, site: Site) -> Iterator[cst.CSTNode]:
    """s for s', a for a', a prediction for a target: a local name for its neighbour."""
    if not _is_read(node, site):
        return
    names = site.names()
    for prefix in PREFIXES:
        if node.value.startswith(prefix) and node.value.removeprefix(prefix) in names:
            yield cst.Name(node.value.removeprefix(prefix))
        elif prefix + node.value in names:
            yield cst.Name(prefix + node.value)


@operator('Name')
def other_of_two(node: cst.Name, site: Site) -> Iterator[cst.CSTNode]:
    """The first of two for the second: q1 for q2, v1 for v2; next for random, state for goal."""
    if not _is_read(node, site):
        return
    pairs = [
        (r'1\b', '2'),
        (r'1_', '2_'),
        ('^next_', 'random_'),
        ('^phi', 'psi'),
        ('^low$', 'high'),
        ('_min$', '_max'),
    ]
    for pattern, other in pairs:
        name = re.sub(pattern, other, node.value)
        if name != node.value and name in site.names():
            yield cst.Name(name)


@operator('Call')
def mode_for_sample(node: cst.Call, site: Site) -> Iterator[cst.CSTNode]:
    """A sample of the policy for its mode, or its mode for a sample."""
    if callee(node) == 'sample' and isinstance(node.func, cst.Attribute) and 'base()' not in code(node):
        yield expr(f'{code(node.func.value)}.mode()')


def _is_read(node: cst.Name, site: Site) -> bool:
    """A name whose value is used; not a keyword, an attribute, a parameter or what is assigned."""
    parent = site.parent
    if isinstance(parent, cst.Arg):
        return parent.value is node
    if isinstance(parent, cst.Attribute):
        return parent.value is node
    return isinstance(
        parent, cst.BinaryOperation | cst.UnaryOperation | cst.Subscript | cst.Return | cst.Comparison
    )
