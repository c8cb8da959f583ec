"""All computations that one case needs, each made once, and their comparison."""

import dataclasses
import functools
from typing import Any

import numpy as np

from parity import cases as case_module
from parity.backends import JaxSide, TorchSide
from parity.cases import Case, Inputs
from parity.comparison import Leaf, compare
from parity.pair import Pair
from parity.sides import Mode
from parity.stages import Runner, config_leaves
from parity.tolerances import EXACT, Tolerance, adam_slack, noise_of, tolerance
from parity.trees import Arrays

# Noise is measured on the inputs and on NEIGHBOURS inputs close by, because one sample can be small by luck.
# They are far enough away for ties to be broken clearly, and near enough for the same conditioning.
NEIGHBOURS = 2
NEAR = 2.0**-10

# The rollout of the reference is repeated from parameters moved by this much, some hundred roundings.
NUDGE = 2.0**-45


class Runs:
    """All computations for one case, each made when first needed and only once."""

    def __init__(self, pair: Pair, case: Case, device: str = 'cpu') -> None:
        self.pair, self.case, self.device = pair, case, device

    @functools.cached_property
    def batch(self) -> Arrays:
        """The batch, validated."""
        return case_module.batch_of(self.pair, self.case)

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """The whole configuration."""
        return case_module.config_of(self.pair, self.case, self.batch)

    @functools.cached_property
    def created(self) -> JaxSide:
        """The reference as its `create` makes it."""
        side = JaxSide(self.pair.load('reference'), 'float32')
        side.create(self.case.seed, self.batch, self.config)
        return side

    @functools.cached_property
    def inputs(self) -> Inputs:
        """What both sides are given."""
        extra = case_module.extra_of(self.pair, self.case, self.config, self.batch)
        state = case_module.perturbed(self.created.state(), self.pair, self.case)
        key = case_module.key_of(self.case.seed)
        return Inputs(self.case.seed, self.config, self.batch, extra, key, state)

    @functools.cached_property
    def reference64(self) -> Runner:
        """The reference in float64."""
        return self._reference('float64', self.inputs)

    @functools.cached_property
    def reference32(self) -> Runner:
        """The reference in float32."""
        return self._reference('float32', self.inputs)

    @functools.cached_property
    def truth(self) -> Runner:
        """What reference32 would compute without rounding."""
        return self._truth_of(self.reference32)

    @functools.cached_property
    def neighbours(self) -> list[tuple[Runner, Runner]]:
        """The reference in float32 and its truth, on inputs close by."""
        inputs = [self.inputs.near(sample, NEAR) for sample in range(NEIGHBOURS)]
        runners = [self._reference('float32', near) for near in inputs]
        return [(runner, self._truth_of(runner)) for runner in runners]

    @functools.cached_property
    def nudged(self) -> Runner:
        """The reference in float64 from parameters a hundred roundings away."""
        wide = dataclasses.replace(self.inputs, state=self.inputs.state.astype('float64'))
        return self._reference('float64', wide.near(NEIGHBOURS, NUDGE))

    @functools.cached_property
    def port64(self) -> Runner:
        """The port in float64."""
        return self._port('float64', self.reference64)

    @functools.cached_property
    def port32(self) -> Runner:
        """The port in float32."""
        return self._port('float32', self.reference32)

    def compare(self, stage: str, dtype: str) -> list[Leaf]:
        """All leaves of a stage in one precision, judged."""
        if stage == 'config':
            return self._compare_config()
        double = dtype == 'float64'
        reference = (self.reference64 if double else self.reference32).stage(stage)
        port = (self.port64 if double else self.port32).stage(stage)
        if stage == 'params':
            return compare(reference, port, reference, dict.fromkeys(reference, EXACT))
        truth = reference if double else self.truth.stage(stage)
        tolerances = self._tolerances(stage, dtype, truth)
        if stage == 'grads' and double:
            reference, port, tolerances = self._with_reach(reference, port, tolerances)
            truth = reference
        return compare(reference, port, truth, tolerances)

    def _compare_config(self) -> list[Leaf]:
        reference, port = (config_leaves(self.pair.get_config(side)) for side in ('reference', 'port'))
        return compare(reference, port, reference, dict.fromkeys(reference, EXACT))

    def _with_reach(
        self, reference: Arrays, port: Arrays, tolerances: dict[str, Tolerance]
    ) -> tuple[Arrays, Arrays, dict[str, Tolerance]]:
        expected, found = self.reference64.reach(), self.port64.reach()
        return {**reference, **expected}, {**port, **found}, {**tolerances, **dict.fromkeys(expected, EXACT)}

    def _noise(self, stage: str) -> dict[str, float]:
        """The reference's float32 error in each leaf, the largest here and at the inputs close by."""
        pairs = [(self.reference32, self.truth), *self.neighbours]
        samples = [(rounded.stage(stage), exact.stage(stage)) for rounded, exact in pairs]
        return {
            path: max(noise_of(rounded[path], exact[path]) for rounded, exact in samples)
            for path in samples[0][0]
            if path in samples[0][1]
        }

    def _tolerances(self, stage: str, dtype: str, truth: Arrays) -> dict[str, Tolerance]:
        noise = self._noise(stage)
        found = {
            path: tolerance(leaf, noise.get(path, 0.0), dtype, self.inputs.reduction)
            for path, leaf in truth.items()
        }
        if stage == 'rollout' and dtype == 'float64':
            found = self._widen_by_nudge(found, truth)
        if stage in ('update', 'rollout'):
            found = self._widen_by_adam(found, truth, accumulate=stage == 'rollout')
        return found

    def _widen_by_nudge(self, found: dict[str, Tolerance], truth: Arrays) -> dict[str, Tolerance]:
        """In a rollout rounding feeds on itself: allow what a nudge does to the reference's own."""
        nudged = self.nudged.stage('rollout')
        spreads = {
            path: noise_of(nudged[path], leaf) for path, leaf in truth.items() if leaf.dtype.kind == 'f'
        }
        return {
            path: tol.widened(spreads[path], f'nudge {spreads[path]:.2e}') if path in spreads else tol
            for path, tol in found.items()
        }

    def _widen_by_adam(
        self, found: dict[str, Tolerance], truth: Arrays, *, accumulate: bool
    ) -> dict[str, Tolerance]:
        """Judge a parameter whose gradient is rounding by its gradient instead of by Adam's step."""
        total: dict[str, np.ndarray] = {}
        widened = dict(found)
        for step in dict.fromkeys(path.split('/')[0] for path in truth):
            moments = {
                path[len(step) + 1 :]: leaf for path, leaf in truth.items() if path.startswith(f'{step}/')
            }
            for path in (path.removeprefix('params/') for path in moments if path.startswith('params/')):
                slack = self._adam_slack(moments, path, float(np.max(found[f'{step}/opt_mu/{path}'].allowed)))
                total[path] = slack + (total.get(path, 0.0) if accumulate else 0.0)
                name = f'{step}/params/{path}'
                widened[name] = found[name].widened(total[path], 'Adam step of the gradient tolerance')
        return widened

    def _adam_slack(self, moments: Arrays, path: str, allowed_mu: float) -> np.ndarray:
        if not moments['opt_count']:
            return np.zeros_like(moments[f'params/{path}'])
        return adam_slack(moments, path, allowed_mu, self.inputs.config['lr'])

    def _reference(self, mode: Mode, inputs: Inputs, leader: Runner | None = None) -> Runner:
        return Runner(self.created.like(mode), self.pair, inputs, leader)

    def _truth_of(self, rounded: Runner) -> Runner:
        return self._reference('wide', rounded.inputs, leader=rounded)

    def _port(self, mode: Mode, leader: Runner) -> Runner:
        side = TorchSide(self.pair.load('port'), mode, self.pair.draws, self.device)
        side.create(self.case.seed, self.batch, self.config)
        return Runner(side, self.pair, self.inputs, leader)
