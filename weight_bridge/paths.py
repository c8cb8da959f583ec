"""Names: nested tree <-> flat paths `a/b/c`; dotted torch names."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from weight_bridge.errors import BridgeError, Problem

Tree = dict[str, Any]  # nested; its leaves are arrays


def flatten(tree: object) -> dict[str, Any]:
    """The leaves of a nested mapping (dict, FrozenDict, NNX State) by path, e.g. `critic/Dense_0/kernel`.

    An empty mapping holds no leaf and leaves no trace, like in `jax.tree`; anything that is not a mapping is
    a leaf. The key 0 of a list in an NNX state is the name `0`. NNX's random states (a variable of type
    RngState) are left out: they are no weights.

    Raises:
        BridgeError: the tree is no mapping; a key is no string and no index, is empty or contains `/` (its
            path would be ambiguous); two leaves have the same path.
    """
    if not isinstance(tree, Mapping):
        problem = Problem('dtype', 'the tree', 'a nested dict', type(tree).__name__)
        raise BridgeError(
            'this is not a parameter tree', [problem], ["pass a tree such as variables['params']"]
        )
    items = [(keys, leaf) for keys, leaf in _walk(tree, ()) if not _is_random_state(leaf)]
    count = Counter(tuple(map(str, keys)) for keys, _ in items)
    bad = [keys for keys, _ in items if not all(map(_is_name, keys)) or count[tuple(map(str, keys))] > 1]
    if bad:
        problems = [
            Problem('rule', repr(keys), "non-empty string keys without '/', each once", 'other keys')
            for keys in bad
        ]
        raise BridgeError(
            f'{len(bad)} of {len(items)} leaves have no path', problems, ['rename them in the reference']
        )
    return {'/'.join(map(str, keys)): leaf for keys, leaf in items}


def unflatten(flat: Mapping[str, Any]) -> Tree:
    """The nested dict of flat paths, in their order; the inverse of `flatten`, empty mappings aside.

    Raises:
        BridgeError: one path is the beginning of another, so it would be both a leaf and a subtree.
    """
    subtrees = {parent for path in flat for parent in _parents(path)}
    leaf_and_tree = [path for path in flat if path in subtrees]
    if leaf_and_tree:
        problems = [Problem('rule', path, 'a leaf', 'a leaf and a subtree') for path in leaf_and_tree]
        raise BridgeError('these paths do not form a tree', problems, ['rename the parameters in the module'])
    tree: Tree = {}
    for path, leaf in flat.items():
        *parents, name = path.split('/')
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = leaf
    return tree


def below(path: str, name: str) -> str:
    """`critic/Dense_0`, `kernel` -> `critic/Dense_0/kernel`; the root's path is empty."""
    return f'{path}/{name}' if path else name


def with_indices(tree: Tree) -> dict[Any, Any]:
    """The same tree with its keys `0`, `1`, ... as integers, as NNX names the items of lists."""
    return {
        int(key) if key.isdecimal() else key: with_indices(node) if isinstance(node, dict) else node
        for key, node in tree.items()
    }


def torch_name(module_name: str, parameter_name: str) -> str:
    """`critic.Dense_0`, `weight` -> `critic.Dense_0.weight`."""
    return f'{module_name}.{parameter_name}' if module_name else parameter_name


def _walk(node: object, keys: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if not isinstance(node, Mapping):
        yield keys, node
        return
    for key, child in node.items():
        yield from _walk(child, (*keys, key))


def _is_name(key: object) -> bool:
    if isinstance(key, int) and not isinstance(key, bool):
        return key >= 0
    return isinstance(key, str) and key != '' and '/' not in key


def _is_random_state(leaf: object) -> bool:
    return any(base.__name__ == 'RngState' for base in type(leaf).__mro__)


def _parents(path: str) -> list[str]:
    keys = path.split('/')
    return ['/'.join(keys[:count]) for count in range(1, len(keys))]
