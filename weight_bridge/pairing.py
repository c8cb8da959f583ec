"""Whether the states of Optax and the parameter groups of torch are those of the same optimiser."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch

from weight_bridge.arrays import as_array, number_kind, summary_of
from weight_bridge.errors import Problem
from weight_bridge.optax_state import Moments, OptaxState
from weight_bridge.plan import Plan
from weight_bridge.torch_state import Kind, group_of

_MOST_STEPS = 2**24  # torch counts in float32 (torch.optim.optimizer._get_scalar_dtype), exact up to here
_RMS = ('ScaleByRmsState', 'ScaleByRStdDevState')


def covered(state: Moments, wanted: Plan) -> Plan:
    """The part of the plan that a state has moments for; never what Flax lacks."""
    leaves = (
        replace(leaf, pieces=tuple(piece for piece in leaf.pieces if piece.path and state.covers(piece.path)))
        for leaf in wanted.leaves
    )
    return Plan(tuple(leaf for leaf in leaves if leaf.pieces), wanted.tied)


def pairing_problems(
    state: OptaxState, optimizer: torch.optim.Optimizer, kind: Kind, wanted: Plan
) -> Iterator[Problem]:
    """Every parameter must have exactly the states that its group needs; one that is not held, none."""
    groups = group_of(optimizer)
    for leaf in wanted.leaves:
        covering = (one.covers(path) for one in state.moments for path in leaf.paths)
        if id(leaf.parameter) not in groups and any(covering):
            yield Problem('optimizer', leaf.path, 'held by the optimiser', 'not held', f'torch: {leaf.name}')
    for index, group in enumerate(optimizer.param_groups):
        yield from _group_problems(index, group, state, kind, wanted)
    for one in state.moments:
        yield from _masked_problems(one, wanted)
        if one.kind == 'TraceState':
            yield from _trace_problems(one, state, kind)


def learning_rate_inside(trace: Moments) -> bool:
    """Whether a trace sums steps, as in `optax.rmsprop(momentum=...)`: torch's buffer sums what makes them.

    Told by the chain that optax.rmsprop makes: the second moments, the learning rate, the trace and no more.
    """
    return trace.before[-2:-1] != () and trace.before[-2] in _RMS and not trace.after


def count_problems(counts: Mapping[str, Any]) -> Iterator[Problem]:
    """Counts that are no whole numbers, or differ: every step adds 1 to each of them."""
    known: dict[str, int] = {}
    for place, count in counts.items():
        array = as_array(count)
        if array is None or array.ndim or number_kind(array.dtype) not in ('int', 'uint'):
            yield Problem('optimizer', place, 'i32[]', summary_of(count))
        elif not 0 <= int(array) <= _MOST_STEPS:
            yield Problem('optimizer', place, f'0 to {_MOST_STEPS}', str(array))
        else:
            known[place] = int(array)
    first = next(iter(known.items()), None)
    for place, number in known.items():
        if first is not None and number != first[1]:
            yield Problem('optimizer', place, f'{first[1]} as {first[0]}', str(number))


def _group_problems(
    index: int, group: Mapping[str, Any], state: OptaxState, kind: Kind, wanted: Plan
) -> Iterator[Problem]:
    held = {id(parameter) for parameter in group['params']}
    ours = (leaf.paths for leaf in wanted.leaves if id(leaf.parameter) in held)
    paths = dict.fromkeys(path for paths in ours for path in paths)
    needed = Counter(kind.states(group))
    misfits: dict[str, list[str]] = {}
    for path in paths:
        found = Counter(one.kind for one in state.moments if one.covers(path))
        if found != needed:
            misfits.setdefault(_names(found), []).append(path)
    others = ', '.join(dict.fromkeys(state.classes)) or 'no state'
    for names, differing in misfits.items():
        which = 'all' if len(differing) == len(paths) else ', '.join(differing)
        expected = f'{_names(needed)} for each parameter (torch.optim.{kind.name})'
        yield Problem(
            'optimizer', f'param_groups[{index}]', expected, f'{names} for {which}', f'among {others}'
        )


def _names(states: Counter[str]) -> str:
    return ' and '.join(f'{count} {name}' for name, count in states.items()) or 'no state'


def _masked_problems(state: Moments, wanted: Plan) -> Iterator[Problem]:
    for masked in sorted(state.masked):
        if not any(path == masked or path.startswith(f'{masked}/') for path in wanted.targets):
            yield Problem('unexpected path', f'{state.place}/.../{masked}', 'nothing', 'MaskedNode')


def _trace_problems(trace: Moments, state: OptaxState, kind: Kind) -> Iterator[Problem]:
    """Where the learning rate is in the trace, or may be, in a way that torch's buffer cannot hold."""
    if kind.name == 'RMSprop':
        expected = (
            'the trace right after the second moments and before the learning rate, or optax.rmsprop itself'
        )
        raw = trace.before[-1:] != () and trace.before[-1] in _RMS and trace.after != ()
        constant = trace.before[-1:] == ('EmptyState',) and not any(
            'learning_rate' in injected.scheduled for injected in state.injected
        )
        fits = raw or (learning_rate_inside(trace) and constant)
    else:
        expected = 'the trace before the learning rate, as in optax.sgd'
        fits = trace.after != () and 'ScaleByScheduleState' not in trace.before
    if not fits:
        chain = ', '.join([*trace.before, '[TraceState]', *trace.after])
        why = 'torch applies the learning rate of the step to the whole momentum buffer'
        yield Problem('optimizer', trace.place, expected, chain, why)
