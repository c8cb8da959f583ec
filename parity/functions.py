"""Two bare functions on pytrees: their outputs for the same inputs, and the gradients at the inputs."""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from parity import chunks
from parity.cases import Case, Inputs
from parity.checking import DTYPES, check_stage, environment, known
from parity.comparison import Leaf
from parity.computations import SAMPLES, SCALES, scaling
from parity.errors import ParityError
from parity.execution import Execution
from parity.pair import Pair
from parity.runs import Runs
from parity.sides import NO_KEY, Mode, State
from parity.stages import Leader, Runner
from parity.summaries import summary
from parity.trees import Arrays
from parity.verdict import CaseResult, Verdict

if TYPE_CHECKING:
    from parity.backends.jax_function import JaxFunction

Function = Callable[..., Any]
Given = Mapping[str, Any] | tuple[Any, ...]
STAGES = ('forward', 'grads')

# How much finer float64 rounds than float32, and how far one sample of noise may be below another by luck.
FINER = float(np.finfo(np.float64).eps / np.finfo(np.float32).eps)
LUCK = 64.0


def check_functions(
    reference: Function | str,
    port: Function | str,
    inputs: Given | list[Given],
    *,
    grads: bool = True,
    seed: int = 0,
    dtypes: Sequence[str] = DTYPES,
    device: str = 'cpu',
    jit: bool = True,
    name: str | None = None,
) -> Verdict:
    """Compare a torch function with its jax original: its outputs, and its gradients at the inputs.

        parity.check_functions(jax.nn.silu, torch.nn.functional.silu, (x,)).raise_if_mismatch()

    reference, port: called with jax arrays and with tensors; functions or `'module:attr'`. They return an
              array, or any nesting of mappings, sequences, namedtuples and dataclasses, where None is no
              leaf; a complex leaf is compared as `<path>/real` and `<path>/imag`.
    inputs:   a mapping of keyword arguments or a tuple of positional ones, each a pytree; or a list of such,
              each a case. Floating arrays, numpy scalars and Python floats are rounded to float32, so that
              both precisions compute on the same numbers. Other arrays (integers, bools, random keys u32[2])
              arrive as they are; Python integers, bools, strings and functions are static.
    grads:    also compare the vector-Jacobian product at every floating input, with random cotangents for all
              floating outputs; and, in float64, which output sends any gradient to which input.
    seed:     of the cotangents.
    device:   the torch device of the port.
    jit:      False for a reference that jax cannot trace, because it decides on values.
    name:     what the verdict is called; the port's name by default.

    In the float32 check, jax has no 64-bit integers: there the port's int64 stands for int32. While the port
    runs, torch's default dtype is that of the check.
    Raises ParityError for bad arguments, and where there is nothing to compare. What a function raises
    becomes the outcome 'error'.
    """
    started = time.perf_counter()
    pair = Pair(name or _name(port), reference, port, batch={})
    dtypes = known('dtype', dtypes, list(DTYPES))
    again = f'reference={_name(reference)}, port={_name(port)}, inputs=..., seed={seed}'
    cases = []
    for i, given in enumerate(inputs if isinstance(inputs, list) else [inputs]):
        runs = FunctionRuns(pair, Case(seed), given, grads, device, jit)
        stages = STAGES if grads else STAGES[:1]
        results = tuple(check_stage(runs, stage, dtype) for stage in stages for dtype in dtypes)
        command = f'parity.check_functions({again})  # inputs of case {i}'
        cases.append(CaseResult(f'case {i}', f'case {i}: {runs.described}', command, results))
    where = environment(Execution(device))
    return Verdict(pair.name, tuple(cases), where, time.perf_counter() - started)


class FunctionRuns(Runs):
    """The computations for one case of two functions: their inputs take the place of the parameters."""

    def __init__(self, pair: Pair, case: Case, given: Given, grads: bool, device: str, jit: bool) -> None:
        from parity.backends import pytrees

        super().__init__(pair, case, Execution(device))
        self.jit, self.grads = jit, grads
        if not isinstance(given, Mapping | tuple):
            raise _refused([f'expected a mapping or a tuple, found {type(given).__name__}'])
        self.skeleton, arrays = pytrees.split(dict(given) if isinstance(given, Mapping) else given)
        self.arrays = _single(arrays, grads)

    @property
    def described(self) -> str:
        """The inputs in a line."""
        return _listed(self.arrays)

    @functools.cached_property
    def created(self) -> 'JaxFunction':
        """The reference."""
        from parity.backends.jax_function import JaxFunction
        from parity.backends.pytrees import Call

        call = Call(self.pair.load('reference'), self.skeleton)
        return JaxFunction(call, self.arrays, 'float32', self.case.seed, self.jit)

    @functools.cached_property
    def inputs(self) -> Inputs:
        """What both functions are given."""
        return Inputs(self.case.seed, {}, {}, {}, NO_KEY, State(self.arrays, {}, {}, {}, NO_KEY))

    def compare(self, stage: str, dtype: str, *, reach: bool = True) -> list[Leaf]:
        """All leaves of a stage in one precision, judged. Raises ParityError where nothing has a gradient."""
        if stage == 'grads' and not any(leaf.dtype.kind == 'f' for leaf in self._outputs(dtype).values()):
            raise _nothing_to_differentiate(f'outputs {_listed(self._outputs(dtype))}')
        return super().compare(stage, dtype, reach=reach)

    def _noise(self, stage: str, dtype: str, samples: int) -> dict[str, float]:
        """As for pairs; but in float64 a jump is no noise.

        Inputs that are moved by a rounding leave a bound or a tie that they lie on exactly, where a gradient
        jumps. A jump does not grow with the step, as what rounding does would: then no more is believed than
        what the noise in float32 lets expect, where nothing is moved away from its truth.
        """
        noise = super()._noise(stage, dtype, samples)
        if dtype == 'float32' or not samples:
            return noise
        single, farther = super()._noise(stage, 'float32', SAMPLES['float32']), self._farther(stage)
        return {
            path: value if farther[path] > LUCK / 8 * value else min(value, LUCK * FINER * single[path])
            for path, value in noise.items()
        }

    def _farther(self, stage: str) -> dict[str, float]:
        """How far the results move with inputs LUCK times as far away as for the noise."""
        exact = self.reference64.stage(stage)
        side, move = self.created.like('float64'), scaling(0, LUCK * SCALES['float64'])
        moved = Runner(side, self.pair, self.inputs, move=move).stage(stage)
        return chunks.differences(moved, exact)

    def _wholes(self, stage: str, own: Mapping[str, float]) -> dict[str, float]:
        """The cotangents belong to the gradient, too: they are what arrives at the outputs.

        Behind a saturated softmax they cancel, in some formulas exactly and in others to their own rounding.
        """
        from parity.backends.pytrees import cotangents

        wholes = super()._wholes(stage, own)
        sent = cotangents(self.reference64.stage('forward'), self.case.seed) if stage == 'grads' else {}
        arriving = max(chunks.largest(sent).values(), default=0.0)
        return {path: max(size, arriving) for path, size in wholes.items()}

    def _outputs(self, dtype: str) -> Arrays:
        return (self.reference64 if dtype == 'float64' else self.reference32).stage('forward')

    def new_port(self, mode: Mode, leader: Leader) -> Runner:
        from parity.backends.pytrees import Call
        from parity.backends.torch_function import TorchFunction

        call = Call(self.pair.load('port'), self.skeleton)
        side = TorchFunction(call, self.arrays, mode, self.case.seed, self.execution.device)
        return Runner(side, self.pair, self.inputs, leader)


def _single(arrays: Arrays, grads: bool) -> Arrays:
    """The arrays with float32 in the place of every floating dtype. Raises ParityError, with all problems."""
    with np.errstate(over='ignore'):
        single = {path: a.astype(np.float32) if a.dtype.kind == 'f' else a for path, a in arrays.items()}
    problems = [
        f'{path}: expected floats, integers or bools, found dtype {array.dtype}'
        for path, array in arrays.items()
        if array.dtype.kind not in 'fiub'
    ]
    problems += [
        f'{path}: {lost} of {array.size} values are too large for float32'
        for path, array in arrays.items()
        if array.dtype.kind == 'f' and (lost := int((np.isfinite(array) & ~np.isfinite(single[path])).sum()))
    ]
    if problems:
        raise _refused(problems)
    if grads and not any(array.dtype.kind == 'f' for array in arrays.values()):
        raise _nothing_to_differentiate(f'inputs {_listed(arrays)}')
    return single


def _refused(problems: list[str]) -> ParityError:
    return ParityError(
        'the inputs cannot be used',
        values='; '.join(problems),
        error=f'{len(problems)} problems; allowed: 0',
        where='parity.check_functions',
        next_step='give a mapping of keyword arguments, a tuple of positional ones, or a list of such cases',
    )


def _nothing_to_differentiate(found: str) -> ParityError:
    return ParityError(
        'there are no gradients to compare',
        values=f'expected floating inputs and outputs; found {found}',
        error='0 gradients; allowed: at least 1',
        where='parity.check_functions',
        next_step='check_functions(..., grads=False) compares the outputs alone',
    )


def _listed(arrays: Arrays) -> str:
    return ', '.join(f'{path} {summary(array)}' for path, array in arrays.items()) or '(none)'


def _name(function: Function | str) -> str:
    if isinstance(function, str):
        return function
    named = getattr(function, 'func', function)  # functools.partial
    return str(getattr(named, '__name__', type(named).__name__))
