"""One case judged: what the reference computes, how far a port may be off, and whether it is."""

import contextlib
import functools
from collections.abc import Mapping

import numpy as np

from parity import chunks, trees
from parity.comparison import Leaf, worst_first
from parity.computations import MORE_SAMPLES, SAMPLES, Computations
from parity.expected import Expected, exactly, port_leaves
from parity.presets import presets_of
from parity.sides import Mode
from parity.stages import UPDATES, Runner, config_leaves
from parity.tolerances import EXACT, Tolerance, adam_slack, norm_slack, square_slack, tolerance
from parity.trees import Arrays

# More samples of the noise can only allow more. So a leaf that is within ROOM of its tolerance without any
# needs none; and a stage that differs by no more than LUCK of the usual ones may explain, in tolerances or in
# roundings of its largest value, is judged with MORE_SAMPLES.
ROOM, LUCK = 0.5, 32.0
# Of these nothing is measured: nothing may differ.
EXACT_STAGES = 'config', 'params'


class Runs(Computations):
    """All computations for one case, and their comparison."""

    def compare(self, stage: str, dtype: str, *, reach: bool = True) -> list[Leaf]:
        """All leaves of a stage in one precision, judged; reach: with the table, where the stage has one."""
        if stage == 'config':
            return self._judged(self._config('port'), stage, dtype, reach)
        port = self.port64 if dtype == 'float64' else self.port32
        found = self._judged(port_leaves(port, stage, reach=reach), stage, dtype, reach)
        if any(leaf.kind == 'non-finite' for leaf in found) and self.execution.flushes:
            with contextlib.suppress(Exception):  # what cannot run so is judged as it ran
                found = self._judged(self._flushed(port, stage, reach), stage, dtype, reach)
        return found

    def _flushed(self, port: Runner, stage: str, reach: bool) -> Arrays:
        """The port's leaves where each subnormal number is zero, of which it may take the logarithm."""
        from parity.backends.flushing import Flushing

        mode: Mode = 'float64' if port.side.dtype == 'float64' else 'float32'
        assert port.leader is not None
        with Flushing():  # type: ignore[no-untyped-call]
            return port_leaves(self.new_port(mode, port.leader), stage, reach=reach)

    def _judged(self, port: Arrays, stage: str, dtype: str, reach: bool) -> list[Leaf]:
        found: dict[str, Leaf] = {}
        for samples in self.counts(dtype):
            expected = self.expected(stage, dtype, samples, reach=reach)
            settled = {path for path, leaf in found.items() if leaf.margin <= ROOM}
            leaves = expected.judge(port, settled)
            found |= {leaf.path: leaf for leaf in leaves}
            if self._suffice(samples, leaves, expected.truth, stage, dtype):
                break
        return worst_first(found.values())

    def counts(self, dtype: str) -> tuple[int, ...]:
        """With how many samples of the noise a stage is judged, one after the other, until they suffice."""
        return 0, 1, SAMPLES[dtype], MORE_SAMPLES

    def _suffice(self, samples: int, leaves: list[Leaf], truth: Arrays, stage: str, dtype: str) -> bool:
        if samples < SAMPLES[dtype]:
            return all(leaf.margin <= ROOM for leaf in leaves)
        return samples == MORE_SAMPLES or not self._may_be_luck(leaves, truth, stage, dtype)

    def _may_be_luck(self, leaves: list[Leaf], truth: Arrays, stage: str, dtype: str) -> bool:
        """Whether something differs, and nothing by more than too few samples of the noise may explain.

        A sample that is not finite where the reference is tells nothing, but that rounding decides this.
        """
        differing = [leaf for leaf in leaves if not leaf.matches]
        if not differing:
            return False
        size = max(chunks.largest(_floating(truth)).values(), default=0.0)
        roundings = LUCK * float(np.finfo(dtype).eps * np.sqrt(self.inputs.reduction)) * size
        undecided = {} if stage in EXACT_STAGES else self._undecided(stage, dtype, SAMPLES[dtype])
        return all(
            leaf.path in undecided
            or (leaf.kind == 'value' and (leaf.margin <= LUCK or leaf.error <= roundings))
            for leaf in differing
        )

    def _undecided(self, stage: str, dtype: str, samples: int) -> dict[str, np.ndarray]:
        """For each entry, in how many samples of the noise it is finite and the reference not, or reversely.

        By leaf, but for those in which that is so nowhere.
        """
        double = dtype == 'float64'
        exact = _floating(self.judging('float64' if double else 'float32').stage(stage))
        near = self.nearby64(samples) if double else [rounded for rounded, _ in self.nearby32(samples)]
        found: dict[str, np.ndarray] = {}
        for leaves in (runner.stage(stage) for runner in near):
            for path, leaf in exact.items():
                otherwise = np.isfinite(leaf) != np.isfinite(leaves[path])
                if otherwise.any():
                    found[path] = found.get(path, 0) + otherwise.astype(int)
        return found

    def expected(self, stage: str, dtype: str, samples: int | None = None, *, reach: bool = True) -> Expected:
        """What a port's leaves of a stage must be; nothing of the port is needed for it.

        samples: of the noise, None for the usual number; reach: with the table, where the stage has one.
        """
        if stage == 'config':
            return exactly(self._config('reference'))
        double = dtype == 'float64'
        reference = self.judging('float64' if double else 'float32').stage(stage)
        if stage == 'params':
            return exactly(reference)
        truth = reference if double else self.truth.stage(stage)
        tolerances = self.tolerances(stage, dtype, truth, samples)
        if stage == 'grads' and double and reach:
            table = self.reached
            reference = truth = {**reference, **table}
            tolerances = {**tolerances, **dict.fromkeys(table, EXACT)}
        undecided = self._undecided(stage, dtype, samples) if samples == MORE_SAMPLES else {}
        tolerances = _widen_undecided(tolerances, undecided)
        return Expected(reference, truth, tolerances, stage in ('grads', *UPDATES), undecided)

    @functools.cached_property
    def reached(self) -> Arrays:
        """Which term reaches which network in the reference."""
        return self.reference64.reach()

    def _config(self, side: str) -> Arrays:
        """The default configuration of a side, and the presets that its values are names of."""
        return config_leaves({**self.pair.get_config(side), **presets_of(self.pair, side)})

    def _noise(self, stage: str, dtype: str, samples: int) -> dict[str, float]:
        """The reference's own rounding error in each leaf, the largest of the samples; {} without any."""
        if dtype == 'float64':
            exact = _floating(self.reference64.stage(stage))
            found = [(near.stage(stage), exact) for near in self.nearby64(samples)]
        else:
            pairs = [(self.reference32, self.truth), *self.nearby32(samples)]
            if samples == MORE_SAMPLES:
                pairs += [(near, self.truth) for near in self.rounded_inputs]
            found = [(rounded.stage(stage), _floating(wide.stage(stage))) for rounded, wide in pairs]
        noises = [chunks.differences(*pair) for pair in found]
        return {path: max(noise[path] for noise in noises) for path in (noises[0] if noises else ())}

    def tolerances(
        self, stage: str, dtype: str, truth: Arrays, samples: int | None = None
    ) -> dict[str, Tolerance]:
        """What each leaf of a stage is allowed; truth: what it is judged by; samples: see `expected`."""
        found = self._unwidened(stage, dtype, truth, SAMPLES[dtype] if samples is None else samples)
        if stage in UPDATES:
            found = self._widen_by_adam(found, truth, accumulate=stage == 'rollout')
            found = self._widen_norms(found, truth)
        return self._widen_counts(found, dtype)

    def _unwidened(self, stage: str, dtype: str, truth: Arrays, samples: int) -> dict[str, Tolerance]:
        noise, own = self._noise(stage, dtype, samples), chunks.largest(_floating(truth))
        whole = self._wholes(stage, own)
        zeros = [path for path in whole if not noise.get(path) and not own[path]]
        cancel = self._cancelling(stage, zeros) if samples == MORE_SAMPLES else ()
        judged = functools.partial(tolerance, dtype=dtype, reduction=self.inputs.reduction)
        return {
            path: judged(
                leaf,
                noise.get(path),
                whole=whole.get(path, 0.0),
                cancels=path in cancel,
                own=own.get(path),
            )
            for path, leaf in truth.items()
        }

    def _cancelling(self, stage: str, zeros: list[str]) -> set[str]:
        """Those of the leaves, which are zero here, that are not where equal rows are moved apart."""
        moved = chunks.largest({path: self.apart.stage(stage)[path] for path in zeros})
        return {path for path, size in moved.items() if size}

    def _wholes(self, stage: str, own: Mapping[str, float]) -> dict[str, float]:
        """For what belongs to a vector, the largest in all of it; own: the largest in each leaf.

        That is all gradients of a loss, all first moments of Adam after a step, and a gradient's extremes.
        """
        if stage == 'grads':
            vectors = {path: path.split('/')[0] for path in own}
        elif stage in UPDATES:
            vectors = {path: path.split('/')[0] for path in own if path.split('/')[1] == 'opt_mu'}
            extremes = {f'info/{name}' for name in self.pair.extremes}
            vectors |= {
                path: f'{path.split("/")[0]}/info' for path in own if path.split('/', 1)[1] in extremes
            }
        else:
            vectors = {}
        sizes: dict[str, float] = {}
        for path, vector in vectors.items():
            sizes[vector] = max(sizes.get(vector, 0.0), own[path])
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
        tolerances = trees.branches(found)
        for step, moments in trees.branches(truth).items():
            for path, (steps, squares) in self._slacks(moments, tolerances[step]).items():
                total[path] = steps + (total.get(path, 0.0) if accumulate else 0.0)
                _widen(widened, f'{step}/params/{path}', total[path], 'Adam step of the gradient tolerance')
                _widen(widened, f'{step}/opt_nu/{path}', squares, 'square of the gradient tolerance')
        return widened

    def _widen_norms(self, found: dict[str, Tolerance], truth: Arrays) -> dict[str, Tolerance]:
        """Allow a sum of norms all of the norm of gradients that may be rounding and nothing else."""
        widened, tolerances = dict(found), trees.branches(found)
        for step, leaves in trees.branches(truth).items():
            moments = trees.subtree(leaves, 'opt_mu')
            allowed = {path: tolerances[step][f'opt_mu/{path}'].largest for path in moments}
            slack = norm_slack(moments, allowed)
            for path in (f'info/{name}' for name in self.pair.norms):
                if slack and path in leaves:
                    _widen(widened, f'{step}/{path}', slack, 'norms of gradients that may be rounding')
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
                allowed = found[f'opt_mu/{path}'].largest
                steps = adam_slack(second, count, allowed, self.longest_step)
                slacks[path] = steps, square_slack(second, count, allowed)
        return slacks

    def steps(self, dtype: str, samples: int) -> dict[str, dict[str, np.ndarray]]:
        """For each update, how far the gradient's tolerance from so many samples moves each parameter."""
        if (dtype, samples) not in self._steps:
            self._steps[dtype, samples] = self._allowed_steps(dtype, samples)
        return self._steps[dtype, samples]

    def _allowed_steps(self, dtype: str, samples: int) -> dict[str, dict[str, np.ndarray]]:
        truth = (self.reference64 if dtype == 'float64' else self.truth).stage('update')
        found = trees.branches(self._unwidened('update', dtype, truth, samples))
        return {
            step: {path: steps for path, (steps, _) in self._slacks(moments, found[step]).items()}
            for step, moments in trees.branches(truth).items()
        }


def _floating(leaves: Arrays) -> Arrays:
    return {path: leaf for path, leaf in leaves.items() if leaf.dtype.kind == 'f'}


def _widen_undecided(found: dict[str, Tolerance], undecided: Arrays) -> dict[str, Tolerance]:
    """Allow anything where the reference is finite and no sample of the noise is; see `Runs._undecided`."""
    widened = dict(found)
    for path, times in undecided.items():
        if (times == MORE_SAMPLES).any():
            extra = np.where(times == MORE_SAMPLES, np.inf, 0.0)
            _widen(widened, path, extra, 'rounding decides whether it is finite')
    return widened


def _widen(tolerances: dict[str, Tolerance], path: str, extra: float | np.ndarray, why: str) -> None:
    tolerances[path] = tolerances[path].widened(extra, why)
