"""The orchestrator: run both sides of a pair on cases, stage by stage and in both precisions, and judge."""

import dataclasses
import functools
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from parity import cases as case_module
from parity.backends import JaxSide, TorchSide
from parity.cases import Case, Inputs
from parity.comparison import Leaf, compare
from parity.errors import ParityError, unknown
from parity.pair import Pair, find
from parity.sides import Mode
from parity.stages import STAGES, Runner, config_leaves
from parity.tolerances import EXACT, Tolerance, adam_slack, noise_of, tolerance
from parity.trees import Arrays
from parity.verdict import CaseResult, Outcome, StageResult, Verdict

DTYPES = ('float64', 'float32')
PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'torch', 'numpy')

# Noise is measured on the inputs and on NEIGHBOURS inputs close by, because one sample can be small by luck. They
# are far enough away for ties to be broken clearly, and near enough for the same conditioning.
NEIGHBOURS = 2
NEAR = 2.0**-10

# The rollout of the reference is repeated from parameters moved by this much, some hundred roundings.
NUDGE = 2.0**-45

Progress = Callable[[str], None]


def check(
    pair: Pair | str,
    *,
    cases: Iterable[Case] = (Case(),),
    stages: Sequence[str] | None = None,
    dtypes: Sequence[str] = DTYPES,
    device: str = 'cpu',
    progress: Progress | None = None,
) -> Verdict:
    """Compare the port of `pair` (a Pair, a registered name or `module:ATTR`) with its reference.

    cases:    what to run both on; stages: names from STAGES, all by default; dtypes: 'float64', 'float32'.
    device:   the torch device of the port.
    progress: called with a line of text before each stage.
    Raises ParityError for bad arguments or a bad batch; what a side raises becomes the outcome 'error'.
    """
    started = time.perf_counter()
    target = pair if isinstance(pair, str) else pair.name
    pair = find(pair) if isinstance(pair, str) else pair
    stages = _known('stage', list(STAGES) if stages is None else stages, list(STAGES))
    dtypes = _known('dtype', dtypes, list(DTYPES))
    tell = progress or (lambda _: None)
    results = tuple(_check_case(pair, target, case, stages, dtypes, device, tell) for case in cases)
    return Verdict(pair.name, results, versions(), time.perf_counter() - started)


def versions() -> dict[str, str]:
    """The versions of everything that computes."""
    found = {'python': platform.python_version(), 'machine': platform.machine()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = 'not installed'
    return found


def _known(kind: str, names: Sequence[str], known: list[str]) -> list[str]:
    for name in names:
        if name not in known:
            raise unknown(
                kind, name, known, where='parity.check', next_step=f'name one of: {", ".join(known)}'
            )
    return list(names)


def _check_case(
    pair: Pair, target: str, case: Case, stages: list[str], dtypes: list[str], device: str, tell: Progress
) -> CaseResult:
    runs = Runs(pair, case, device)
    results = []
    for stage in stages:
        for dtype in dtypes if stage != 'config' else dtypes[:1]:
            tell(f'{pair.name}: {case.describe()}: {stage} {dtype}')
            results.append(_check_stage(runs, stage, dtype))
    return CaseResult(case.source, case.describe(), case.command(target), tuple(results))


def _check_stage(runs: 'Runs', stage: str, dtype: str) -> StageResult:
    started = time.perf_counter()
    try:
        leaves = tuple(runs.compare(stage, dtype))
        outcome: Outcome = 'match' if all(leaf.matches for leaf in leaves) else 'mismatch'
        return StageResult(stage, dtype, outcome, leaves, seconds=time.perf_counter() - started)
    except ParityError:
        raise
    except Exception as cause:  # whatever a side raises is a result of the check, not a crash of it
        reason = f'{type(cause).__name__}: {cause}'
        return StageResult(stage, dtype, 'error', (), reason, time.perf_counter() - started)


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
        """The reference's float32 error in each leaf: the largest of those here and at the inputs close by."""
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
        """In a rollout rounding feeds on itself: allow what a nudge of the parameters does to the reference."""
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
