"""Long runs: how the difference between two sides grows over many updates, each side on its own.

Updates feed rounding back into the parameters, so that two correct implementations drift apart, faster in
some agents than in others. How fast is measured on the reference itself: in float32 against its own float64
run (with the draws of float32), in float64 against runs that start a few roundings away. The port may drift
SAFETY times as far. Both sides start from the same seed, not from copied parameters.
"""

import functools
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from parity import chunks, trees
from parity.cases import Case, batch_of
from parity.checking import DTYPES, Progress, environment, not_run
from parity.comparison import Leaf, compare
from parity.computations import SAMPLES, SCALES
from parity.errors import ParityError
from parity.execution import Execution
from parity.pair import Pair
from parity.runs import Runs
from parity.sides import Mode, Side, UpdateCall
from parity.stages import FULL, PARTIAL, step_name
from parity.tolerances import tolerance
from parity.trees import Arrays
from parity.verdict import CaseResult, Growth, Outcome, StageResult, Verdict

ROWS = 16  # of each batch, as many as recorded cases have: they share their compiled programs


def check_growth(
    pair: Pair,
    steps: int,
    *,
    sources: Iterable[str],
    seed: int = 0,
    dtypes: Iterable[str] = DTYPES,
    device: str = 'cpu',
    reference_device: str = 'cpu',
    variant: str | None = None,
    tf32: bool = False,
    progress: Progress = lambda line: None,
) -> Verdict:
    """The stage rollout over `steps` updates on recorded batches, a new one for each update.

    The first half pre-trains; then come `target_reset` and `infer_latent`, where the agent has them, and
    fine-tuning with a full update every `actor_freq` steps. Of each step the worst parameter and the worst
    info value are kept. sources: names of recorded transitions, a case each.
    Raises ParityError for fewer than two steps and for what `check` raises.
    """
    if steps < 2:
        raise _too_few(steps)
    started = time.perf_counter()
    execution = Execution(device, reference_device, variant, tf32)
    with execution.applied():
        results = [_check_source(pair, name, steps, seed, dtypes, execution, progress) for name in sources]
    growth = tuple(found for _, case_growth in results for found in case_growth)
    cases = tuple(case for case, _ in results)
    return Verdict(pair.name, cases, environment(execution), time.perf_counter() - started, growth)


def script(target: type, steps: int, actor_freq: int) -> list[UpdateCall]:
    """Pre-training, the reset of the targets, fine-tuning: `steps` updates and the reset."""
    calls = [UpdateCall('pretrain')] * (steps // 2)
    calls += [UpdateCall('target_reset')] if hasattr(target, 'target_reset') else []
    return calls + [
        UpdateCall('finetune', PARTIAL if i % actor_freq else FULL) for i in range(steps - steps // 2)
    ]


@dataclass
class Race:
    """The runs of one precision, in lockstep: only the present step of each is in memory.

    reference, truth: decide the structure, and the values; eager with the variant eager-jax.
    samples: the compiled reference rounded and exact, which show how far rounding drives it.
    noise:   the largest difference so far between the two runs of a sample, by leaf or network.
    """

    dtype: str
    port: Side
    reference: Side
    truth: Side
    samples: list[tuple[Side, Side]]
    learning_rate: float
    reduction: int
    noise: dict[str, float] = field(default_factory=dict)
    leaves: list[Leaf] = field(default_factory=list)
    hidden: int = 0
    drifts: list[tuple[int, float, float]] = field(default_factory=list)

    def sides(self) -> list[Side]:
        """Each side once."""
        rounded, exact = zip(*self.samples, strict=True)
        every = self.port, self.reference, self.truth, *rounded, *exact
        return list({id(side): side for side in every}.values())

    def step(self, i: int, call: UpdateCall, batch: Arrays, latents: dict[int, np.ndarray]) -> None:
        """Do one update on every side and judge the port's."""
        found = {id(side): _update(side, call, batch, latents) for side in self.sides()}
        port, reference, truth = (found[id(side)] for side in (self.port, self.reference, self.truth))
        samples = [(found[id(rounded)], found[id(exact)]) for rounded, exact in self.samples]
        self._measure(samples)
        prefix, own = step_name(i, call), chunks.largest(truth)
        judged_by = functools.partial(tolerance, dtype=self.dtype, reduction=self.reduction)
        tolerances = {
            f'{prefix}/{path}': judged_by(leaf, self.noise[_group(path)], own=own[path])
            for path, leaf in truth.items()
        }
        expected, result, exact = (trees.with_prefix(prefix, side) for side in (reference, port, truth))
        judged = compare(expected, result, exact, tolerances, places=True)
        self._keep(judged)
        drift = max(_drift(*sample) for sample in samples)
        self.drifts.append((i, _drift(port, truth) / self.learning_rate, drift / self.learning_rate))

    def _measure(self, samples: list[tuple[Arrays, Arrays]]) -> None:
        for rounded, exact in samples:
            for path, noise in chunks.differences(rounded, exact).items():
                group = _group(path)
                self.noise[group] = max(self.noise.get(group, 0.0), noise)

    def _keep(self, judged: list[Leaf]) -> None:
        kept = {leaf.path.split('/')[1]: leaf for leaf in reversed(judged)}
        self.leaves += kept.values()
        self.hidden += len(judged) - len(kept)

    def result(self, seconds: float) -> StageResult:
        """The verdict of the stage."""
        outcome: Outcome = 'match' if all(leaf.matches for leaf in self.leaves) else 'mismatch'
        leaves = tuple(sorted(self.leaves, key=lambda leaf: -leaf.margin))
        return StageResult('rollout', self.dtype, outcome, leaves, '', seconds, self.hidden)


def _check_source(
    pair: Pair,
    source: str,
    steps: int,
    seed: int,
    dtypes: Iterable[str],
    execution: Execution,
    progress: Progress,
) -> tuple[CaseResult, list[Growth]]:
    runs = Runs(pair, Case(seed=seed, source=source, sizes={'B': ROWS}), execution)
    command = execution.command(f'parity run {pair.name} --stage rollout --steps {steps} --seed {seed}')
    described = f'{steps} updates on {source}, seed {seed}'
    if lacks := execution.lacks():
        return CaseResult(source, described, command, not_run(lacks, ['rollout'], dtypes)), []
    results, growth = [], []
    for dtype in dtypes:
        started = time.perf_counter()
        race = _race(runs, dtype)
        for i, call, batch, latents in _calls(runs, steps, race):
            progress(f'{pair.name}: {source}: {dtype} step {i} of {steps}')
            race.step(i, call, batch, latents)
        results.append(race.result(time.perf_counter() - started))
        growth.append(Growth(pair.name, source, dtype, tuple(race.drifts), results[-1].outcome == 'match'))
    return CaseResult(source, described, command, tuple(results)), growth


def _race(runs: Runs, dtype: str) -> Race:
    double = dtype == 'float64'
    mode: Mode = 'float64' if double else 'float32'
    compiled = runs.created.like(mode)
    reference = runs.created.like(mode).unjitted() if runs.execution.variant == 'eager-jax' else compiled
    near = [_moved(runs, dtype, mode, k) for k in range(SAMPLES[dtype])]
    wide = compiled if double else runs.created.like('wide')
    exact = [wide if double else _moved(runs, dtype, 'wide', k) for k in range(SAMPLES[dtype])]
    samples = list(zip(near, exact, strict=True))
    return Race(
        dtype,
        (runs.port64 if double else runs.port32).side,
        reference,
        reference if double else wide,
        samples if double else [(compiled, wide), *samples],
        runs.config['lr'],
        runs.inputs.reduction,
    )


def _moved(runs: Runs, dtype: str, mode: Mode, sample: int) -> Side:
    """The reference with every parameter leaf scaled a little, in float64 also with other rounding."""
    side = runs.created.like(mode)
    if dtype == 'float64':
        side.rounding_as(sample)
    side.restore(side.state().scaled(sample, SCALES[dtype]))
    return side


def _calls(
    runs: Runs, steps: int, race: Race
) -> Iterator[tuple[int, UpdateCall, Arrays, dict[int, np.ndarray]]]:
    """Each update with its batch, and for each side the latent that it inferred for fine-tuning."""
    target = runs.pair.load('reference')
    infers = 'latents' in runs.pair.batch and hasattr(target, 'infer_latent')
    latents: dict[int, np.ndarray] = {}
    for i, call in enumerate(script(target, steps, runs.config.get('actor_freq', 1))):
        batch = batch_of(runs.pair, Case(runs.case.seed + i, runs.case.sizes, source=runs.case.source))
        if infers and call.method == 'finetune' and not latents:
            latents = {id(side): side.infer_latent(trees.astype(batch, side.dtype)) for side in race.sides()}
        yield i, call, batch, latents


def _update(side: Side, call: UpdateCall, batch: Arrays, latents: Mapping[int, np.ndarray]) -> Arrays:
    """One update; info and parameters afterwards."""
    batch = trees.astype(batch, side.dtype)
    if id(side) in latents:
        latent = latents[id(side)]
        batch = {**batch, 'latents': np.broadcast_to(latent, (len(batch['latents']), *latent.shape)).copy()}
    info = side.update(call, batch)
    return {**trees.with_prefix('info', info), **trees.with_prefix('params', side.state().params)}


def _group(path: str) -> str:
    """What shares its noise: the parameters of a network, for one leaf's can be small by luck."""
    kind, network, *_ = path.split('/')
    return network if kind == 'params' else path


def _drift(run: Arrays, exact: Arrays) -> float:
    """The largest difference of any parameter."""
    return max(chunks.differences(trees.subtree(run, 'params'), trees.subtree(exact, 'params')).values())


def _too_few(steps: int) -> ParityError:
    return ParityError(
        f'cannot run {steps} updates',
        values=f'expected at least 2, to pre-train and to fine-tune; found {steps}',
        error='too few',
        where='--steps',
        next_step='parity run --stage rollout --steps 100',
    )
