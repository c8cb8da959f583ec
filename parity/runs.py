"""All computations that one case needs, each made once, and their comparison."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from parity import cases as case_module
from parity import trees
from parity.backends import JaxSide
from parity.cases import Case, Inputs
from parity.comparison import Leaf
from parity.execution import Execution
from parity.expected import Expected, exactly, port_leaves
from parity.pair import Pair
from parity.sides import Mode, State
from parity.stages import Leader, Runner, config_leaves
from parity.tolerances import EXACT, Tolerance, adam_slack, largest, noise_of, square_slack, tolerance
from parity.trees import Arrays

# Noise is measured with the parameters as they are and with each leaf scaled a little, because one sample can
# be small by luck: in float32 far enough to round differently everywhere, in float64 by a few roundings.
SAMPLES = {'float32': 2, 'float64': 4}
SCALES = {'float32': 2.0**-10, 'float64': 2.0**-50}
# All of a few samples can be small: of three normal ones the largest is below a tenth of their deviation once
# in 2,000 times, of 17 never; and where terms cancel, all can be zero. A stage that differs by no more than
# luck may explain, in tolerances or in roundings of its largest value, is judged with so many.
MORE_SAMPLES, LUCK = 16, 32.0
# Matrices of less entries are multiplied faster by one thread.
SMALL = 2**16


class Runs:
    """All computations for one case, each made when first needed and only once."""

    def __init__(self, pair: Pair, case: Case, execution: Execution = Execution()) -> None:  # noqa: B008
        self.pair, self.case, self.execution = pair, case, execution
        self.samples = dict(SAMPLES)
        self._near32: list[tuple[Runner, Runner]] = []
        self._near64: list[Runner] = []
        self._eager: dict[Mode, Runner] = {}

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
        if 'created' in self.__dict__ and self._largest < SMALL:  # not created for this alone
            torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    @functools.cached_property
    def _largest(self) -> int:
        """Entries of the largest parameter."""
        return max((leaf.size for leaf in self.created.state().params.values()), default=0)

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

    @property
    def nearby32(self) -> list[tuple[Runner, Runner]]:
        """The reference in float32 and its truth, each with scaled parameters."""
        for sample in range(len(self._near32), self.samples['float32']):
            state = self.inputs.state.scaled(sample, SCALES['float32'])
            near = dataclasses.replace(self.inputs, state=state)
            drift = functools.partial(self._drift, 'float32', sample)
            runner = Runner(self.created.like('float32'), self.pair, near, drift=drift)
            self._near32.append((runner, self._truth_of(runner)))
        return self._near32

    @property
    def nearby64(self) -> list[Runner]:
        """The reference in float64, rounding otherwise, with scaled parameters before every step and a nudged
        batch.
        """
        for sample in range(len(self._near64), self.samples['float64']):
            self._near64.append(
                Runner(
                    self.created.like('float64').rounding_as(sample),
                    self.pair,
                    dataclasses.replace(self.inputs, batch=case_module.nudged(self.inputs.batch, sample)),
                    self.reference64,
                    scaling(sample, SCALES['float64']),
                    functools.partial(self._drift, 'float64', sample),
                )
            )
        return self._near64

    def _drift(self, dtype: str, sample: int, step: str, state: State) -> State:
        """A state as far off as Adam may be after this step, for what follows from it in a free run.

        One share for each entry of the last axis: a LayerNorm takes away what all features share, and members
        of an ensemble, which are stacked along another axis, stay as equal as they are.
        """
        steps = (self._steps64 if dtype == 'float64' else self._steps32)[step]
        rng = np.random.default_rng([sample, *step.encode()])
        params = {}
        for path, leaf in state.params.items():
            share = rng.choice([-1, 1], leaf.shape[-1:]) * rng.uniform(0.5, 1, leaf.shape[-1:])
            params[path] = leaf + np.asarray(share * steps.get(path, 0.0)).astype(leaf.dtype)
        return dataclasses.replace(state, params=params)

    @functools.cached_property
    def _steps64(self) -> dict[str, dict[str, np.ndarray]]:
        """For each update in float64, how far the gradient's tolerance moves each parameter."""
        return self._steps('float64', self.reference64.stage('update'))

    @functools.cached_property
    def _steps32(self) -> dict[str, dict[str, np.ndarray]]:
        """The same in float32."""
        return self._steps('float32', self.truth.stage('update'))

    def _steps(self, dtype: str, truth: Arrays) -> dict[str, dict[str, np.ndarray]]:
        found = self._unwidened('update', dtype, truth)
        return {
            step: {
                path: steps for path, (steps, _) in self._slacks(moments, trees.subtree(found, step)).items()
            }
            for step in dict.fromkeys(path.split('/')[0] for path in truth)
            for moments in [trees.subtree(truth, step)]
        }

    @functools.cached_property
    def port64(self) -> Runner:
        """The port in float64."""
        return self._port('float64', self.reference64)

    @functools.cached_property
    def port32(self) -> Runner:
        """The port in float32."""
        return self._port('float32', self.reference32)

    def compare(self, stage: str, dtype: str, *, reach: bool = True) -> list[Leaf]:
        """All leaves of a stage in one precision, judged; reach: with the table, where the stage has one."""
        if stage == 'config':
            port = config_leaves(self.pair.get_config('port'))
        else:
            port = port_leaves(self.port64 if dtype == 'float64' else self.port32, stage, reach=reach)
        expected = self.expected(stage, dtype, reach=reach)
        leaves = expected.judge(port)
        if self.samples[dtype] < MORE_SAMPLES and self._may_be_luck(leaves, expected.truth, dtype):
            self.samples[dtype] = MORE_SAMPLES
            leaves = self.expected(stage, dtype, reach=reach).judge(port)
        return leaves

    def _may_be_luck(self, leaves: list[Leaf], truth: Arrays, dtype: str) -> bool:
        """Whether something differs, and nothing by more than too few samples of the noise may explain."""
        differing = [leaf for leaf in leaves if not leaf.matches]
        size = max((largest(leaf) for leaf in truth.values() if leaf.dtype.kind == 'f'), default=0.0)
        roundings = LUCK * float(np.finfo(dtype).eps * np.sqrt(self.inputs.reduction)) * size
        return bool(differing) and all(
            leaf.kind == 'value' and (leaf.margin <= LUCK or leaf.error <= roundings) for leaf in differing
        )

    def expected(self, stage: str, dtype: str, *, reach: bool = True) -> Expected:
        """What a port's leaves of a stage must be; nothing of the port is needed for it."""
        if stage == 'config':
            return exactly(config_leaves(self.pair.get_config('reference')))
        double = dtype == 'float64'
        reference = self._judging('float64' if double else 'float32').stage(stage)
        if stage == 'params':
            return exactly(reference)
        truth = reference if double else self.truth.stage(stage)
        tolerances = self.tolerances(stage, dtype, truth)
        if stage == 'grads' and double and reach:
            table = self.reference64.reach()
            reference = truth = {**reference, **table}
            tolerances = {**tolerances, **dict.fromkeys(table, EXACT)}
        return Expected(reference, truth, tolerances, places=stage in ('grads', 'update', 'rollout'))

    def _judging(self, mode: Mode) -> Runner:
        """The reference that the port is compared with; what it is allowed comes from the compiled one."""
        compiled = self.reference64 if mode == 'float64' else self.reference32
        if self.execution.variant != 'eager-jax':
            return compiled
        if mode not in self._eager:
            side = self.created.like(mode).unjitted()
            self._eager[mode] = Runner(side, self.pair, self.inputs, compiled)
        return self._eager[mode]

    def _noise(self, stage: str, dtype: str) -> dict[str, float]:
        """The reference's own rounding error in each leaf, the largest of several samples."""
        if dtype == 'float64':
            exact = self.reference64.stage(stage)
            samples = [(near.stage(stage), exact) for near in self.nearby64]
        else:
            pairs = [(self.reference32, self.truth), *self.nearby32]
            samples = [(rounded.stage(stage), exact.stage(stage)) for rounded, exact in pairs]
        return {
            path: max(noise_of(rounded[path], exact[path]) for rounded, exact in samples)
            for path in samples[0][1]
        }

    def tolerances(self, stage: str, dtype: str, truth: Arrays) -> dict[str, Tolerance]:
        """What each leaf of a stage is allowed; truth: what it is judged by."""
        found = self._unwidened(stage, dtype, truth)
        if stage in ('update', 'rollout'):
            found = self._widen_by_adam(found, truth, accumulate=stage == 'rollout')
        return self._widen_counts(found, dtype)

    def _unwidened(self, stage: str, dtype: str, truth: Arrays) -> dict[str, Tolerance]:
        noise, whole = self._noise(stage, dtype), self._wholes(stage, truth)
        zeros = [path for path in whole if not noise[path] and not largest(truth[path])]
        cancel = self._cancelling(stage, zeros) if self.samples[dtype] == MORE_SAMPLES else ()
        return {
            path: tolerance(
                leaf, noise[path], dtype, self.inputs.reduction, whole.get(path, 0.0), path in cancel
            )
            for path, leaf in truth.items()
        }

    def _cancelling(self, stage: str, zeros: list[str]) -> set[str]:
        """Those of the leaves, which are zero here, that are not where equal rows are moved apart."""
        return {path for path in zeros if largest(self.apart.stage(stage)[path])}

    @functools.cached_property
    def apart(self) -> Runner:
        """The reference in float64 on a batch without equal rows."""
        moved = dataclasses.replace(self.inputs, batch=case_module.apart(self.inputs.batch))
        return self._reference('float64', moved, self.reference64)

    def _wholes(self, stage: str, truth: Arrays) -> dict[str, float]:
        """For each gradient, or first moment of Adam, the largest in all leaves of the same loss or step."""
        if stage == 'grads':
            vectors = {path: path.split('/')[0] for path in truth}
        elif stage in ('update', 'rollout'):
            vectors = {path: path.split('/')[0] for path in truth if path.split('/')[1] == 'opt_mu'}
        else:
            vectors = {}
        sizes: dict[str, float] = {}
        for path, vector in vectors.items():
            sizes[vector] = max(sizes.get(vector, 0.0), largest(truth[path]))
        return {path: sizes[vector] for path, vector in vectors.items()}

    def _widen_counts(self, found: dict[str, Tolerance], dtype: str) -> dict[str, Tolerance]:
        """Allow for comparisons of equals, which fall either way, where an info value counts comparisons.

        In float32 one row of the batch more or less may be such a one. Where all rows are the same, what is
        compared between rows is equal throughout, in float64, too.
        """
        alike = self.case.values == 'duplicates'
        if not self.pair.counts or (dtype == 'float64' and not alike):
            return found
        row = 1 / len(next(iter(self.batch.values())))
        extra, why = (1.0, 'all rows are one') if alike else (row, 'one row of a count')
        counts = [path for path in found if path.split('/')[-1] in self.pair.counts]
        return {**found, **{path: found[path].widened(extra, why) for path in counts}}

    def _widen_by_adam(
        self, found: dict[str, Tolerance], truth: Arrays, *, accumulate: bool
    ) -> dict[str, Tolerance]:
        """Judge Adam's second moment and step by the gradient, which may be rounding and nothing else."""
        total: dict[str, np.ndarray] = {}
        widened = dict(found)
        for step in dict.fromkeys(path.split('/')[0] for path in truth):
            moments = trees.subtree(truth, step)
            for path, (steps, squares) in self._slacks(moments, trees.subtree(found, step)).items():
                total[path] = steps + (total.get(path, 0.0) if accumulate else 0.0)
                _widen(widened, f'{step}/params/{path}', total[path], 'Adam step of the gradient tolerance')
                _widen(widened, f'{step}/opt_nu/{path}', squares, 'square of the gradient tolerance')
        return widened

    @functools.cached_property
    def longest_step(self) -> float:
        """About how far the optimiser moves a parameter in one step: the learning rate."""
        return self.created.longest_step(self.inputs.config)

    def _slacks(
        self, moments: Arrays, found: dict[str, Tolerance]
    ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """For each trained parameter, how far its gradient's tolerance moves the step and Adam's square."""
        slacks = {}
        for path, second in trees.subtree(moments, 'opt_nu').items():
            count = int(moments.get(f'opt_count/{path}', 0))
            if count and f'opt_mu/{path}' in found:
                allowed = float(np.max(found[f'opt_mu/{path}'].allowed))
                steps = adam_slack(second, count, allowed, self.longest_step)
                slacks[path] = steps, square_slack(second, count, allowed)
        return slacks

    def _reference(self, mode: Mode, inputs: Inputs, leader: Runner | None = None) -> Runner:
        return Runner(self.created.like(mode), self.pair, inputs, leader)

    def _truth_of(self, rounded: Runner) -> Runner:
        return self._reference('wide', rounded.inputs, leader=rounded)

    def _port(self, mode: Mode, leader: Leader) -> Runner:
        side = self.pair.port_side(mode, self.execution.device, self.created)
        with self.pair.creating('port'):
            side.create(self.case.seed, self.batch, self.config)
        if self.execution.variant == 'compiled':
            side.compile()
        return Runner(side, self.pair, self.inputs, leader)


def _widen(tolerances: dict[str, Tolerance], path: str, extra: np.ndarray, why: str) -> None:
    tolerances[path] = tolerances[path].widened(extra, why)


def scaling(sample: int, step: float) -> Callable[[State], State]:
    """Moves the parameters of a state, see `State.scaled`."""
    return lambda state: state.scaled(sample, step)
