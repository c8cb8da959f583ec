"""Finding the one Adam state in an Optax state, by names, so that none of Optax is needed to read it."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from weight_bridge.arrays import as_array, number_kind, summary
from weight_bridge.errors import BridgeError, Problem

_MOST_STEPS = 2**24  # torch counts in float32 (torch.optim.optimizer._get_scalar_dtype), exact up to here


class AdamState(NamedTuple):
    """The fields of optax.ScaleByAdamState: a scalar and two trees like the parameters."""

    count: Any
    mu: Any
    nu: Any


def adam_state(opt_state: object) -> tuple[AdamState, list[Problem]]:
    """The one ScaleByAdamState in any nesting of tuples and dicts, and what torch.optim.Adam cannot hold.

    Raises:
        BridgeError: there is none, or more than one (multi_transform). All types found are named.
    """
    places = list(_walk(opt_state, 'opt_state'))
    adams = [node for _, node in places if _is_adam(node)]
    if len(adams) != 1:
        found = ', '.join(dict.fromkeys(_states(opt_state))) or type(opt_state).__name__
        problem = Problem('optimizer', 'opt_state', 'one ScaleByAdamState', f'{len(adams)} among {found}')
        raise BridgeError(
            'this is not the state of one Adam',
            [problem],
            ['bridge a state that optax.adam made, at any depth'],
        )
    state = AdamState(adams[0].count, adams[0].mu, adams[0].nu)
    return state, [*_strays(places), *_count_problems(state.count)]


def _walk(node: object, path: str) -> Iterator[tuple[str, Any]]:
    """The Adam states and all other leaves, with their places."""
    children = _children(node)
    if children is None or _is_adam(node):
        yield path, node
        return
    for key, child in children:
        yield from _walk(child, f'{path}/{key}')


def _states(node: object) -> Iterator[str]:
    if hasattr(node, '_fields'):
        yield type(node).__name__
    for _, child in _children(node) or []:
        yield from _states(child)


def _children(node: object) -> list[tuple[Any, Any]] | None:
    if isinstance(node, Mapping):
        return list(node.items())
    if isinstance(node, tuple | list):
        return list(zip(getattr(node, '_fields', range(len(node))), node, strict=True))
    return None


def _is_adam(node: object) -> bool:
    return type(node).__name__ == 'ScaleByAdamState'


def _strays(places: list[tuple[str, Any]]) -> Iterator[Problem]:
    for path, node in places:
        array = None if _is_adam(node) else as_array(node)
        if array is not None and array.ndim:
            found = summary(array.dtype, array.shape)
            yield Problem('optimizer', path, 'nothing', found, 'torch.optim.Adam has no such state')


def _count_problems(count: object) -> Iterator[Problem]:
    array = as_array(count)
    if array is None or array.ndim or number_kind(array.dtype) not in ('int', 'uint'):
        found = type(count).__name__ if array is None else summary(array.dtype, array.shape)
        yield Problem('optimizer', 'count', 'i32[]', found)
    elif not 0 <= int(array) <= _MOST_STEPS:
        yield Problem('optimizer', 'count', f'0 to {_MOST_STEPS}', str(array))
