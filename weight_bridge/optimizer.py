"""The optimiser's state: Optax <-> torch.optim.Adam, AdamW, SGD, RMSprop and a Lion, both ways.

`torch_state` says which Optax state is which entry of torch's, `optax_state` in which nestings they are found
(chain, multi_transform, masked, inject_hyperparams, schedules). Each partition of a multi_transform can be a
parameter group of one torch optimiser, or have a torch optimiser of its own: then pass `inner_states[label]`.

Hyperparameters are no state, except where Optax injects them into it: give the same ones to both optimisers.
With equal ones ten steps agree to 1e-12 in float64 (`parity_tests/bridge/test_bridge_optimizers.py`), with
these differences in mind:

- What Flax lacks, the second bias of a recurrent layer, has no moments in Optax: they are zero in torch, and
  refused on the way back if they are not.
- Adam: Optax has one count for the tree, torch one for each parameter; a skipped parameter is refused.
- AdamW, Lion: both multiply the decay by the learning rate. Torch's Adam puts its decay into the gradient:
  that is `chain(add_decayed_weights, adam)`.
- SGD: torch's momentum starts at the first gradient, Optax's at zero; the same, unless there is dampening,
  which is refused.
- RMSprop: Optax's default adds eps inside the square root, torch outside: call it with `eps_in_sqrt=False`.
  The default is off by more than 1e-3 after ten steps with eps=1e-4. Mind decay=0.9 and alpha=0.99.
- RMSprop with momentum: the trace of `optax.rmsprop` sums steps, torch's buffer what the learning rate is yet
  to multiply. The copy divides by it, which rounds once; a learning rate that changes is refused, since the
  trace holds past ones. `chain(scale_by_rms, trace, scale_by_learning_rate)` is torch's order, and exact.
"""

from collections.abc import Iterator
from importlib import import_module
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from weight_bridge import hyperparams
from weight_bridge.checks import misfits
from weight_bridge.convert import tree_of
from weight_bridge.errors import BridgeError, Problem, next_steps
from weight_bridge.mapping import Mapping
from weight_bridge.moments import moments_of, replace_entries, surplus_moments
from weight_bridge.optax_state import OptaxState, like_count, read_state, rebuilt
from weight_bridge.pairing import count_problems, covered, pairing_problems
from weight_bridge.paths import Tree
from weight_bridge.plan import Plan, plan
from weight_bridge.torch_entries import common_count, entry, entry_problems, held
from weight_bridge.torch_state import ADAM, Kind, group_problems, kind_of

Optimizer = TypeVar('Optimizer', bound=torch.optim.Optimizer)


def optimizer_to_torch(
    opt_state: Any,
    optimizer: Optimizer,
    module: nn.Module,
    count: int | None = None,
    *,
    mapping: Mapping | None = None,
) -> Optimizer:
    """Copies an Optax state into `optimizer`: its moments, its count of steps and injected hyperparameters.

    Args:
        opt_state: what `tx.init` or `tx.update` gave. Every array in it must have its place in torch; counts
            of schedules have none and must only agree, because torch keeps them in its scheduler.
        optimizer: its groups hold exactly the parameters that Optax steps. Its earlier state is replaced.
        module, mapping: as in `to_torch`; the moments have the paths of its parameters.
        count: the steps done, where torch counts them and the Optax state does not (RMSprop).

    Returns:
        The optimiser.

    Raises:
        BridgeError: lists all that does not fit; the optimiser is then as before.
    """
    wanted, state = plan(module, mapping), read_state(opt_state)
    kind, problems = _paired(state, optimizer, wanted)
    for one in state.moments:
        for place, flat in one.trees.values():
            problems += misfits(flat, covered(one, wanted), f'{place}/')
    found, more = hyperparams.settings(state, optimizer, kind, wanted) if kind else ([], [])
    problems += [*more, *count_problems(_counts(state, count))]
    problems += [] if problems else _count_needed(state, kind, count)
    settings, more = hyperparams.values_to_torch(found) if not problems else ([], [])
    if problems := [*problems, *more]:
        raise _error('optimizer_to_torch', problems)
    assert kind is not None  # else there was a problem
    for setting, value in settings:
        setting.write(value)
    replace_entries(state, optimizer, wanted, kind, int(next(iter(_counts(state, count).values()), 0)))
    return optimizer


def optimizer_to_optax(
    optimizer: torch.optim.Optimizer,
    module: nn.Module,
    like: Any = None,
    count: int | None = None,
    *,
    mapping: Mapping | None = None,
) -> Any:
    """The state that Optax would have after the same steps, to go on with in Optax.

    A parameter without state has not been stepped: zero moments, and count 0.

    Args:
        optimizer: as in `optimizer_to_torch`.
        module, mapping: as in `to_torch`.
        like: a state of the same structure, `tx.init(params)` or `jax.eval_shape(tx.init, params)`. None
            stands for that of `optax.adam(learning_rate)`.
        count: the steps done, where Optax counts them and torch does not (SGD, Lion).

    Returns:
        `like` with new numpy arrays of its own shapes and dtypes in the place of its values; without it
        `(ScaleByAdamState(count, mu, nu), EmptyState())`, count an int32 scalar, mu and nu with the paths,
        shapes and dtypes of `to_flax(module)`.

    Raises:
        BridgeError: lists all that does not fit. Steps of the parameters that differ are among it, because
            Optax has one count for all.
    """
    wanted = plan(module, mapping)
    if like is None:
        return _plain_adam(optimizer, wanted)
    state = read_state(like)
    kind, problems = _paired(state, optimizer, wanted)
    for one in state.moments:
        for place, flat in one.trees.values():
            problems += misfits(flat, covered(one, wanted), f'{place}/', values=False)
    found, more = hyperparams.settings(state, optimizer, kind, wanted) if kind else ([], [])
    problems += [*more, *count_problems(_given(count)), *entry_problems(optimizer, wanted, kind)]
    steps, more = _steps(optimizer, wanted, kind, state, count) if kind and not problems else (0, [])
    problems += [*more, *(surplus_moments(optimizer, wanted, kind) if kind and not problems else ())]
    if problems:
        raise _error('optimizer_to_optax', problems)
    scalars, problems = hyperparams.values_to_optax(found)
    arrays = scalars | {place: like_count(leaf, steps) for place, leaf in state.counts.items()}
    for place, array, lost in moments_of(state, optimizer, wanted):
        arrays[place] = array
        problems += [lost] if lost else []
    new = rebuilt(like, 'opt_state', arrays, problems)
    if problems:
        raise _error('optimizer_to_optax', problems)
    return new


def adam_moments(
    optimizer: torch.optim.Adam, module: nn.Module, *, mapping: Mapping | None = None
) -> tuple[dict[str, float], Tree, Tree]:
    """The state as torch keeps it: the steps of every parameter by its Flax path, and the trees mu and nu.

    Raises:
        BridgeError: the optimiser is no Adam over exactly the module's parameters, or members of one leaf
            have done other numbers of steps.
    """
    wanted = plan(module, mapping)
    mu, nu = _adam_trees(optimizer, wanted)
    members = {path: [leaf for leaf, _ in target.parts] for path, target in wanted.targets.items()}
    found = {path: common_count(optimizer, leaves) for path, leaves in members.items()}
    if problems := [problem for _, differing in found.values() for problem in differing]:
        raise _error('adam_moments', problems)
    return {path: step for path, (step, _) in found.items()}, mu, nu


def _adam_trees(optimizer: torch.optim.Optimizer, wanted: Plan) -> tuple[Tree, Tree]:
    problems = list(group_problems(optimizer, kind_of(optimizer), wanted))
    if not problems and not isinstance(optimizer, torch.optim.Adam):
        where = 'pass like=tx.init(params) for the state of another optimiser'
        found = type(optimizer).__name__
        problems = [Problem('optimizer', 'the optimiser', 'torch.optim.Adam', found, where)]
    ours = held(optimizer, wanted)
    problems += [
        Problem('optimizer', leaf.path, 'held by the optimiser', 'not held', f'torch: {leaf.name}')
        for leaf in wanted.leaves
        if leaf.paths and leaf not in ours
    ]
    problems = problems or entry_problems(optimizer, wanted, ADAM)
    if problems := problems or surplus_moments(optimizer, wanted, ADAM):
        raise _error('optimizer_to_optax', problems)
    mu, nu = (
        tree_of(wanted, {leaf.name: entry(optimizer, leaf, name) for leaf in wanted.leaves})
        for name in ('exp_avg', 'exp_avg_sq')
    )
    return mu, nu


def _plain_adam(optimizer: torch.optim.Optimizer, wanted: Plan) -> tuple[Any, Any]:
    mu, nu = _adam_trees(optimizer, wanted)
    count, problems = common_count(optimizer, wanted.leaves)
    if problems:
        raise _error('optimizer_to_optax', problems)
    optax = import_module('optax')
    return optax.ScaleByAdamState(np.asarray(count, np.int32), mu, nu), optax.EmptyState()


def _paired(
    state: OptaxState, optimizer: torch.optim.Optimizer, wanted: Plan
) -> tuple[Kind | None, list[Problem]]:
    kind = kind_of(optimizer)
    problems = list(group_problems(optimizer, kind, wanted))
    if kind is not None:
        problems += pairing_problems(state, optimizer, kind, wanted)
    return kind, problems + state.problems


def _counts(state: OptaxState, count: int | None) -> dict[str, Any]:
    return state.counts | _given(count)


def _count_needed(state: OptaxState, kind: Kind | None, count: int | None) -> Iterator[Problem]:
    if kind is not None and kind.counts and not _counts(state, count):
        yield Problem(
            'optimizer', 'count', 'the steps done', 'none', f'pass count=...: {kind.name} counts them'
        )


def _steps(
    optimizer: torch.optim.Optimizer, wanted: Plan, kind: Kind, state: OptaxState, count: int | None
) -> tuple[int, list[Problem]]:
    """The steps that all parameters have done: torch's own count, or the one that was passed."""
    if not kind.counts:
        where = f'pass count=...: {kind.name} does not count them'
        missing = [Problem('optimizer', 'count', 'the steps done', 'none', where)]
        return count or 0, missing if count is None and state.counts else []
    steps, problems = common_count(optimizer, held(optimizer, wanted))
    common = int(steps)
    if count is not None and count != common:
        problems.append(Problem('optimizer', 'count', f'{common} as in torch', str(count)))
    return common, problems


def _given(count: int | None) -> dict[str, Any]:
    return {} if count is None else {'count': np.asarray(count)}


def _error(function: str, problems: list[Problem]) -> BridgeError:
    subject = f'{function}: {len(problems)} problems; nothing was copied'
    return BridgeError(subject, problems, next_steps(problems))
