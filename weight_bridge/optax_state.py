"""What an Optax state holds, found by the names of its classes, so that none of Optax is needed to read it.

Every array in the state gets a place, `opt_state/0/mu/Dense_0/kernel`, and a meaning: an entry of torch's
state, the count of steps or a hyperparameter. What has none is a problem, as is a state of a class that is
not named here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from weight_bridge.arrays import Array, described, summary
from weight_bridge.errors import Problem
from weight_bridge.paths import flatten

# {the class of a state: {its field: the entry in torch's state of a parameter}}
MOMENTS = {
    'ScaleByAdamState': {'mu': 'exp_avg', 'nu': 'exp_avg_sq'},
    'ScaleByLionState': {'mu': 'exp_avg'},
    'ScaleByRmsState': {'nu': 'square_avg'},
    'ScaleByRStdDevState': {'mu': 'grad_avg', 'nu': 'square_avg'},
    'TraceState': {'trace': 'momentum_buffer'},
}
_COUNTERS = {'ScaleByScheduleState', 'WrappedScheduleState', 'WeightDecaySchedule'}
_INJECTED = {'InjectHyperparamsState', 'InjectStatefulHyperparamsState'}
_PARTITIONS = {'MaskedState', 'PartitionState', 'MultiTransformState'}
_EMPTY = {'EmptyState', 'MaskedNode'}


@dataclass(frozen=True)
class Moments:
    """One state with trees like the parameters: `trees` {torch entry: (place, {path: leaf})}.

    `masked` are the paths, or beginnings of paths, that `optax.masked` took out. `before` and `after` are the
    classes of the states around it in the same partition, in the order in which they are applied.
    """

    kind: str
    place: str
    trees: dict[str, tuple[str, dict[str, Any]]]
    masked: frozenset[str]
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()

    def covers(self, path: str) -> bool:
        return not any(path == masked or path.startswith(f'{masked}/') for masked in self.masked)


@dataclass(frozen=True)
class Injected:
    """The hyperparameters of one `inject_hyperparams`; `scheduled` are computed anew in each step.

    moments:     the states inside it. partitioned: it is in a `masked` or `multi_transform`.
    """

    place: str
    values: dict[str, Any]
    scheduled: frozenset[str]
    moments: tuple[Moments, ...]
    partitioned: bool


@dataclass
class OptaxState:
    """All that an Optax state holds; `counts` {place: leaf}; `classes` of all states, in order."""

    moments: list[Moments] = field(default_factory=list)
    counts: dict[str, Any] = field(default_factory=dict)
    injected: list[Injected] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def read_state(opt_state: object) -> OptaxState:
    """All that is in any nesting of tuples, dicts and the states that are named above."""
    state = OptaxState()
    _read(opt_state, 'opt_state', state, partitioned=False)
    state.moments = list(_with_neighbours(state.moments, state.classes))
    return state


def rebuilt(node: Any, place: str, arrays: Mapping[str, Any], problems: list[Problem]) -> Any:
    """The state again with the arrays in their places."""
    parts = children(node)
    if parts is None:
        if place not in arrays and described(node) is None and described(node, abstract=True) is not None:
            problems.append(Problem('optimizer', place, 'a value', 'a shape', 'pass like=tx.init(params)'))
        return _filled(node, arrays[place]) if place in arrays else node
    new = {key: rebuilt(part, f'{place}/{key}', arrays, problems) for key, part in parts}
    if isinstance(node, Mapping):
        return type(node)(new)  # type: ignore[call-arg]
    return type(node)(*new.values()) if hasattr(node, '_fields') else type(node)(new.values())


def _filled(leaf: Any, array: Any) -> Any:
    """The array, in a variable where the leaf is one of NNX."""
    is_variable = any(base.__name__.endswith('Variable') for base in type(leaf).__mro__)
    return leaf.copy(array) if is_variable else array


def like_count(leaf: Any, count: int) -> Array:
    shape = described(leaf, abstract=True)
    return np.asarray(count, np.int32 if shape is None else shape.dtype)


def children(node: object) -> list[tuple[Any, Any]] | None:
    """The parts of a container with their keys; None for a leaf."""
    if isinstance(node, Mapping):
        return list(getattr(node, 'raw_mapping', node).items())  # a State of NNX gives its dicts as States
    if isinstance(node, tuple | list):
        return list(zip(getattr(node, '_fields', range(len(node))), node, strict=True))
    return None


def _read(node: object, place: str, state: OptaxState, partitioned: bool) -> None:
    kind = type(node).__name__
    parts = children(node)
    if parts is None:
        _stray(node, place, state)
        return
    if hasattr(node, '_fields'):
        state.classes.append(kind)
    if kind in MOMENTS:
        state.moments.append(_moments(node, kind, place))
        state.counts |= _count(node, place)
    elif kind in _COUNTERS:
        state.counts |= _count(node, place)
    elif kind in _INJECTED:
        _read_injected(node, place, state, partitioned)
    elif hasattr(node, '_fields') and kind not in _PARTITIONS | _EMPTY:
        state.problems.append(Problem('optimizer', place, 'a state that torch has too', kind))
    else:
        moments, classes = len(state.moments), len(state.classes)
        apart = kind in _PARTITIONS
        for key, part in parts:
            _read(part, f'{place}/{key}', state, partitioned or apart)
        if apart:
            state.moments[moments:] = _with_neighbours(state.moments[moments:], state.classes[classes:])


def _with_neighbours(moments: list[Moments], classes: list[str]) -> Iterator[Moments]:
    """The same, each with what comes before and after it, where that is not yet known."""
    positions = iter(index for index, name in enumerate(classes) if name in MOMENTS)
    for state, index in zip(moments, positions, strict=True):
        if state.before or state.after:
            yield state
        else:
            yield replace(state, before=tuple(classes[:index]), after=tuple(classes[index + 1 :]))


def _moments(node: Any, kind: str, place: str) -> Moments:
    trees = {
        entry: (f'{place}/{name}', flatten(getattr(node, name))) for name, entry in MOMENTS[kind].items()
    }
    masked = frozenset(path for _, flat in trees.values() for path, leaf in flat.items() if is_masked(leaf))
    kept = {
        entry: (at, {path: leaf for path, leaf in flat.items() if path not in masked})
        for entry, (at, flat) in trees.items()
    }
    return Moments(kind, place, kept, masked)


def is_masked(leaf: object) -> bool:
    """Whether a leaf is what `optax.masked` puts in the place of a leaf or a subtree."""
    return type(leaf).__name__ == 'MaskedNode'


def _count(node: Any, place: str) -> dict[str, Any]:
    return {f'{place}/count': node.count} if hasattr(node, 'count') and 'count' in node._fields else {}


def _read_injected(node: Any, place: str, state: OptaxState, partitioned: bool) -> None:
    first = len(state.moments)
    state.counts |= _count(node, place)
    stateful = getattr(node, 'hyperparams_states', {})
    _read(stateful, f'{place}/hyperparams_states', state, partitioned)
    _read(node.inner_state, f'{place}/inner_state', state, partitioned)
    values = dict(node.hyperparams)
    inside = tuple(state.moments[first:])
    state.injected.append(Injected(f'{place}/hyperparams', values, frozenset(stateful), inside, partitioned))


def _stray(leaf: object, place: str, state: OptaxState) -> None:
    found = described(leaf, abstract=True)
    if found is not None or isinstance(leaf, int | float | complex):
        text = summary(found.dtype, found.shape) if found is not None else repr(leaf)
        state.problems.append(Problem('optimizer', place, 'nothing', text, 'it belongs to no known state'))
