"""All computations that one case needs, of both sides, each made when first needed and only once."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from parity import cases as case_module
from parity.backends import JaxSide
from parity.cases import Case, Inputs
from parity.execution import Execution
from parity.pair import Pair
from parity.sides import Mode, State
from parity.stages import Leader, Runner
from parity.trees import Arrays

# Noise is measured with the inputs as they are and with each parameter and the batch scaled a little, because
# one sample can be small by luck: in float32 far enough to round differently everywhere, in float64 by a few
# roundings.
SAMPLES = {'float32': 2, 'float64': 4}
# All of a few samples can be small: of three normal ones the largest is below a tenth of their deviation once
# in 2,000 times, of 17 never; and where terms cancel, all can be zero.
MORE_SAMPLES = 16
# A sum of few terms can be free of rounding in the reference's order, also where they are scaled, and not in
# another. How far off that may be shows where the inputs are rounded otherwise: what is exact for inputs a
# few roundings away is as good (backward stability, N. Higham 2002, "Accuracy and Stability").
ROUNDED_INPUTS = 4
FEW_ROUNDINGS = 2.0**-21
SCALES = {'float32': 2.0**-10, 'float64': 2.0**-50}
# Matrices of less entries are multiplied faster by one thread.
SMALL = 2**16
ON_CPU = Execution()


class Computations:
    """What both sides compute for one case."""

    def __init__(self, pair: Pair, case: Case, execution: Execution = ON_CPU) -> None:
        self.pair, self.case, self.execution = pair, case, execution
        self._near32: list[tuple[Runner, Runner]] = []
        self._near64: list[Runner] = []
        self._eager: dict[Mode, Runner] = {}
        self._steps: dict[tuple[str, int], dict[str, dict[str, np.ndarray]]] = {}

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
        side = self.pair.reference_side()
        side.device = self.execution.reference_device
        with self.pair.creating('reference'):
            side.create(self.case.seed, self.batch, self.config)
        return side

    @contextlib.contextmanager
    def settings(self) -> Iterator[None]:
        """What is to hold while sides of these runs compute: their precision, and a number of threads."""
        with self.execution.applied(), self.threads():
            yield

    @contextlib.contextmanager
    def threads(self) -> Iterator[None]:
        """Torch with one thread where all parameters are small: a second one costs more than it does."""
        import torch

        before = torch.get_num_threads()
        if 'inputs' in self.__dict__ and self._largest < SMALL:  # nothing is created for this alone
            torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    @functools.cached_property
    def _largest(self) -> int:
        """Entries of the largest parameter."""
        return max((leaf.size for leaf in self.inputs.state.params.values()), default=0)

    @functools.cached_property
    def inputs(self) -> Inputs:
        """What both sides are given."""
        extra = case_module.extra_of(self.pair, self.case, self.config, self.batch)
        state = case_module.perturbed(self.created.state(), self.pair, self.case)
        key = case_module.key_of(self.case.seed)
        pairwise = bool(self.pair.contractions)
        return Inputs(self.case.seed, self.config, self.batch, extra, key, state, self.case.values, pairwise)

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

    def nearby32(self, samples: int) -> list[tuple[Runner, Runner]]:
        """So many times the reference in float32 and its truth, with scaled parameters and a nudged batch."""
        for sample in range(len(self._near32), samples):
            near = self._near(sample, SCALES['float32'])
            drift = functools.partial(self._drift, 'float32', sample)
            runner = Runner(self.created.like('float32'), self.pair, near, drift=drift)
            self._near32.append((runner, self._truth_of(runner)))
        return self._near32[:samples]

    @functools.cached_property
    def rounded_inputs(self) -> list[Runner]:
        """The truth of inputs that are, in float32, a few roundings off."""
        inputs = (self._near(sample, FEW_ROUNDINGS) for sample in range(ROUNDED_INPUTS))
        return [self._reference('wide', near, leader=self.reference32) for near in inputs]

    def nearby64(self, samples: int) -> list[Runner]:
        """So many times the reference in float64, rounding otherwise, with scaled parameters before every
        step and a nudged batch.
        """
        for sample in range(len(self._near64), samples):
            batch = case_module.nudged(self.inputs.batch, sample, SCALES['float64'], 'float64')
            self._near64.append(
                Runner(
                    self.created.like('float64').rounding_as(sample),
                    self.pair,
                    dataclasses.replace(self.inputs, batch=batch),
                    self.reference64,
                    scaling(sample, SCALES['float64']),
                    functools.partial(self._drift, 'float64', sample),
                )
            )
        return self._near64[:samples]

    def _near(self, sample: int, step: float) -> Inputs:
        """Inputs whose parameters and batch are scaled in float32."""
        batch = case_module.nudged(self.inputs.batch, sample, step, 'float32')
        return dataclasses.replace(self.inputs, state=self.inputs.state.scaled(sample, step), batch=batch)

    def steps(self, dtype: str, samples: int) -> dict[str, dict[str, np.ndarray]]:
        """For each update, how far the gradient's tolerance from so many samples moves each parameter."""
        raise NotImplementedError

    def _drift(self, dtype: str, sample: int, step: str, state: State) -> State:
        """A state as far off as Adam may be after this step, for what follows from it in a free run.

        One share for each entry of the last axis: a LayerNorm takes away what all features share, and members
        of an ensemble, which are stacked along another axis, stay as equal as they are.
        """
        steps = self.steps(dtype, SAMPLES[dtype] if sample < SAMPLES[dtype] else MORE_SAMPLES)[step]
        rng = np.random.default_rng([sample, *step.encode()])
        params = {}
        for path, leaf in state.params.items():
            share = rng.choice([-1, 1], leaf.shape[-1:]) * rng.uniform(0.5, 1, leaf.shape[-1:])
            params[path] = leaf + np.asarray(share * steps.get(path, 0.0)).astype(leaf.dtype)
        return dataclasses.replace(state, params=params)

    @functools.cached_property
    def apart(self) -> Runner:
        """The reference in float64 on a batch without equal rows."""
        moved = dataclasses.replace(self.inputs, batch=case_module.apart(self.inputs.batch))
        return self._reference('float64', moved, self.reference64)

    @functools.cached_property
    def port64(self) -> Runner:
        """The port in float64."""
        return self.new_port('float64', self.reference64)

    @functools.cached_property
    def port32(self) -> Runner:
        """The port in float32."""
        return self.new_port('float32', self.reference32)

    def judging(self, mode: Mode) -> Runner:
        """The reference that the port is compared with; what it is allowed comes from the compiled one."""
        compiled = self.reference64 if mode == 'float64' else self.reference32
        if self.execution.variant != 'eager-jax':
            return compiled
        if mode not in self._eager:
            side = self.created.like(mode).unjitted()
            self._eager[mode] = Runner(side, self.pair, self.inputs, compiled)
        return self._eager[mode]

    def _reference(self, mode: Mode, inputs: Inputs, leader: Runner | None = None) -> Runner:
        return Runner(self.created.like(mode), self.pair, inputs, leader)

    def _truth_of(self, rounded: Runner) -> Runner:
        return self._reference('wide', rounded.inputs, leader=rounded)

    def new_port(self, mode: Mode, leader: Leader) -> Runner:
        """The port, made anew; leader: see Runner."""
        side = self.pair.port_side(mode, self.execution.device, self.created)
        with self.pair.creating('port'):
            side.create(self.case.seed, self.batch, self.config)
        if self.execution.variant == 'compiled':
            side.compile()
        return Runner(side, self.pair, self.inputs, leader)


def scaling(sample: int, step: float) -> Callable[[State], State]:
    """Moves the parameters of a state, see `State.scaled`."""
    return lambda state: state.scaled(sample, step)
