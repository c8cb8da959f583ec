"""The stages of a check: what each of them makes one side compute."""

import functools
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

import numpy as np

from parity import trees
from parity.cases import TEMPERATURES, Inputs
from parity.pair import Pair
from parity.sides import BATCH, LITERALS, Calls, LossCall, Networks, Side, State, UpdateCall
from parity.trees import Arrays

STAGES: dict[str, str] = {
    'config': 'the default configurations, entry by entry, and the presets that their values are names of',
    'params': 'the initial parameters and key that the same seed gives, exactly',
    'forward': 'the outputs of every network and of further methods, from the same parameters and inputs',
    'contractions': 'what each einsum, tensordot and matmul of the losses returns, as arrays',
    'loss': 'every loss and every info value, full, partial and frozen; the draws and their keys',
    'grads': 'the gradient of every parameter, and which loss term reaches which network',
    'update': 'parameters, targets, moments, key, count and info of each update, from the reference state',
    'rollout': 'the same updates in one go, without restoring',
    'actions': 'sampled actions of a batch and of one observation, at temperatures 0, 0.7 and 1 and at none',
}

# Stages that run the agents' updates, and no program of the others.
UPDATES = ('update', 'rollout')

FULL, PARTIAL = (('full_update', True),), (('full_update', False),)
LOSSES = (
    LossCall('pretraining', 'pretraining_loss'),
    LossCall('finetuning_full', 'finetuning_loss', FULL),
    LossCall('finetuning_partial', 'finetuning_loss', PARTIAL),
    LossCall('pretraining_frozen', 'pretraining_loss', frozen=True, own_key=True),
    LossCall('finetuning_frozen', 'finetuning_loss', frozen=True, own_key=True),
)
SCRIPT = (
    UpdateCall('pretrain'),
    UpdateCall('pretrain'),
    UpdateCall('target_reset'),
    UpdateCall('finetune'),
    UpdateCall('finetune', PARTIAL),
    UpdateCall('finetune', PARTIAL),
    UpdateCall('finetune'),
)

# What the leaf is called for which no temperature is given.
DEFAULT_TEMPERATURE = 'default temperature'


def stages_of(pair: Pair) -> list[str]:
    """The stages that have something to compare for this pair."""
    return [stage for stage in STAGES if pair.has(stage)]


# A term reaches a network if its gradient there is more than rounding of the loss's largest gradient: behind
# a tanh of exactly 1 there is none, and behind one that is rounded to a little less some 1e-16 of it.
REACH = 1e3 * float(np.finfo(np.float64).eps)


class Leader(Protocol):
    """Whose states the update stage of another runner starts from: a Runner, or what was kept of one."""

    @property
    def states(self) -> list[State]:
        """The states before each step of the updates, once the stage update was asked for."""

    def stage(self, name: str) -> Arrays:
        """The leaves of a stage."""


class Runner:
    """One side on one case: computes each stage once and keeps the result.

    side:   already created.
    leader: the side whose states the update stage restores before each step; without one it runs freely.
    move:   applied to every state before it is restored.
    drift:  called with each step's name and its state in the rollout, returns the state to go on from.
    """

    def __init__(
        self,
        side: Side,
        pair: Pair,
        inputs: Inputs,
        leader: Leader | None = None,
        move: Callable[[State], State] = lambda state: state,
        drift: Callable[[str, State], State] | None = None,
    ) -> None:
        self.drift = drift
        self.side, self.pair, self.inputs, self.leader, self.move = side, pair, inputs, leader, move
        self.states: list[State] = []
        self.batch = trees.astype(inputs.batch, side.dtype)
        self.extra = trees.astype(inputs.extra, side.dtype)
        self.initial = side.state()
        # with other parameters than the reference's nothing else can be computed
        self._results: dict[str, Arrays] = {'params': {**self.initial.params, **self.initial.key_leaf()}}

    def stage(self, name: str) -> Arrays:
        """The leaves of a stage."""
        if name not in self._results:
            self.side.restore(self.start)
            getattr(self, f'_{name}')()
        return self._results[name]

    def _restore(self, state: State) -> None:
        self.side.restore(self.move(state.astype(self.side.dtype)))

    @functools.cached_property
    def start(self) -> State:
        """The given state, in the precision of the side; one object, so that a side knows it again."""
        return self.move(self.inputs.state.astype(self.side.dtype))

    def _forward(self) -> None:
        self._results['forward'] = self.side.forward(*self.networks())

    def networks(self) -> tuple[Networks, Arrays]:
        """The networks and methods of the stage forward, and the arrays that they take."""
        left_out = () if self.inputs.style == 'plain' else self.pair.plain
        networks = tuple(
            (name, tuple(names.split())) for name, names in self.pair.forward.items() if name not in left_out
        )
        used = {name for _, names in networks for name in names} - set(LITERALS)
        if BATCH in used:
            used = used - {BATCH} | set(self.batch)
        arrays = {**self.batch, **self.extra}
        return networks, {name: arrays[name] for name in sorted(used)}

    def _loss(self) -> None:
        values, grads = self.side.losses(self.calls(), self.batch, self.inputs.key)
        contractions = {path: leaf for path, leaf in values.items() if path.split('/')[1] == 'contractions'}
        losses = {path: leaf for path, leaf in values.items() if path not in contractions}
        self._results.update(contractions=contractions, loss=losses, grads=grads)

    def _contractions(self) -> None:
        self._loss()

    def _grads(self) -> None:
        self._loss()

    def reach(self, losses: Collection[str] | None = None) -> Arrays:
        """Which term reaches which network: `reach/<loss>/<term>/<network>`, bool; losses: all if None."""
        self.side.restore(self.start)
        trained = tuple(c for c in self.calls() if not c.frozen and (losses is None or c.name in losses))
        return _arrives(self.side.reach(trained, self.batch, self.inputs.key))

    def _update(self) -> None:
        leader = self.leader
        if leader is not None:
            leader.stage('update')
        results: Arrays = {}
        for i, call in self.script():
            if leader is not None:
                self._restore(leader.states[i])
            else:
                self.states.append(self.side.state())
            results.update(self._step(i, call))
        self._results['update'] = results

    def _rollout(self) -> None:
        if self.leader is None and self.drift is None and 'update' in self._results:
            self._results['rollout'] = self._results['update']
            return
        results: Arrays = {}
        for i, call in self.script():
            results.update(self._step(i, call))
            if self.drift is not None:
                self.side.restore(self.drift(step_name(i, call), self.side.state()))
        self._results['rollout'] = results

    def calls(self) -> Calls:
        """The losses that are called."""
        return self.pair.losses or LOSSES

    def script(self) -> list[tuple[int, UpdateCall]]:
        """The updates, numbered."""
        if self.pair.script:
            return list(enumerate(self.pair.script))
        calls = [call for call in SCRIPT if hasattr(self.pair.load('reference'), call.method)]
        return list(enumerate(calls))

    def _step(self, i: int, call: UpdateCall) -> Arrays:
        before = self.side.counted()
        info = self.side.update(call, self.batch)
        after = self.side.counted()
        counted = {} if before is None or after is None else {'counted': np.asarray(after - before)}
        leaves = {**trees.with_prefix('info', info), **counted, **self.side.state().leaves()}
        return trees.with_prefix(step_name(i, call), leaves)

    def _actions(self) -> None:
        observations, latents = self.batch['observations'], self.batch.get('latents')
        one = None if latents is None else latents[0]
        sample: Callable[..., np.ndarray] = functools.partial(self.side.actions, key=self.inputs.key)
        results: Arrays = {}
        results[f'batch/{DEFAULT_TEMPERATURE}'] = sample(observations, latents, temperature=None)
        for temperature in TEMPERATURES:
            results[f'batch/temperature {temperature}'] = sample(
                observations, latents, temperature=temperature
            )
            results[f'single/temperature {temperature}'] = sample(
                observations[0], one, temperature=temperature
            )
        self._results['actions'] = results


def step_name(i: int, call: UpdateCall) -> str:
    """`step3 finetune_partial`."""
    return f'step{i} {call.name}'


def config_leaves(config: Mapping[str, Any]) -> Arrays:
    """A configuration as leaves: each value's text, because values of any type are compared exactly."""
    return {key: np.array(repr(_listless(value)), dtype=object) for key, value in config.items()}


def _listless(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _arrives(sizes: Arrays) -> Arrays:
    """From the largest gradients `<loss>/<term>/<network>`: whether there is any, `reach/...`, bool."""
    largest: dict[str, float] = {}
    for path, size in sizes.items():
        loss = path.split('/')[0]
        largest[loss] = max(largest.get(loss, 0.0), float(size) if np.isfinite(size) else 0.0)
    arrives = {
        path: not np.isfinite(size) or float(size) > REACH * largest[path.split('/')[0]]
        for path, size in sizes.items()
    }
    return {f'reach/{path}': np.asarray(value) for path, value in arrives.items()}
