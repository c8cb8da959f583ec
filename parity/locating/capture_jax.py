"""The reference's values: its jaxpr, evaluated equation by equation, each with its source lines."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from parity import trees
from parity.backends.rounding import CALLS, loop_counts
from parity.draws import replaced
from parity.locating.primitives import evaluate, shown
from parity.locating.sources import Line, Stack, is_user, user_stack
from parity.locating.trace import Trace

# Those that define their own derivative: for the backward pass they are one operation.
CUSTOM = ('custom_jvp_call', 'custom_vjp_call', 'custom_vjp_call_jaxpr')

# The scope in which random numbers are drawn: what happens there is nobody's to compare.
DRAWING = 'parity_drawing'


@dataclass
class Step:
    """One operation that a gradient passes: what applies it, to which arrays, and where these are."""

    apply: Callable[..., Any]
    key: Any
    arrays: list[np.ndarray]
    operands: list[int | None]
    results: list[int]


@dataclass
class Captured:
    """A trace and the steps that its gradients pass, in the order of execution."""

    trace: Trace
    steps: list[Step]


Known = tuple[int | None, Any]  # where a value is in the trace (None: a number of the program), and its array


def capture(function: Callable[..., Any], trained: Any, given: Any) -> Captured:
    """Evaluate `function(trained, given) -> {name: array}` and keep what it computed on the way.

    trained: a pytree of what is differentiated, `params/...`; given: of all other inputs, `given/...`.
    Raises what the function raises while it is traced.
    """
    import jax

    with jax.enable_x64(True):
        closed, outputs = _traced(function, trained, given)
        interpreter = Interpreter()
        leaves = []
        for prefix, tree in (('params', trained), ('given', given)):
            for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
                name = f'{prefix}/{jax.tree_util.keystr(path, simple=True, separator="/")}'
                array = np.asarray(leaf)
                leaf_value = interpreter.trace.leaf(name, array, active=prefix == 'params')
                leaves.append((leaf_value.index, array))
        results = interpreter.run(closed.jaxpr, closed.consts, leaves, ())
    for name, (index, _) in zip(trees.flat(outputs, lambda leaf: leaf), results, strict=True):
        assert index is not None
        interpreter.trace.outputs[name] = index
    return Captured(interpreter.trace, interpreter.steps)


def _traced(function: Callable[..., Any], trained: Any, given: Any) -> tuple[Any, Any]:
    """The jaxpr, and the outputs' structure.

    Without jit, so that each call of a jitted function has the lines of that call, and loops are unrolled;
    with it where that fails: a loop whose length is computed.
    """
    import jax

    public = [name for name, value in vars(jax.random).items() if callable(value) and name[0] != '_']
    with replaced(jax.random, public, lambda _, draw: jax.named_scope(DRAWING)(draw)):
        try:
            with jax.disable_jit():
                return jax.make_jaxpr(function, return_shape=True)(trained, given)
        except jax.errors.ConcretizationTypeError:
            return jax.make_jaxpr(function, return_shape=True)(trained, given)


class Interpreter:
    """Evaluates jaxprs into one trace."""

    def __init__(self) -> None:
        self.trace, self.steps = Trace(), list[Step]()
        self.inside_custom, self.library, self.drawing = 0, False, False

    def run(self, jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Known], outer: Stack) -> list[Known]:
        """The results of a jaxpr; outer: the lines of the equation that it belongs to."""
        last = {v: i for i, equation in enumerate(jaxpr.eqns) for v in equation.invars if not _is_literal(v)}
        kept = {v for v in jaxpr.outvars if not _is_literal(v)}
        known: dict[Any, Known] = dict(zip(jaxpr.invars, inputs, strict=True))
        known |= {v: self._constant(c, outer) for v, c in zip(jaxpr.constvars, consts, strict=True)}

        def read(v: Any) -> Known:
            return (None, np.asarray(v.val)) if _is_literal(v) else known[v]

        for i, equation in enumerate(jaxpr.eqns):
            operands = [read(v) for v in equation.invars]
            frames = _frames(equation)
            self.library = bool(frames) and not is_user(frames[0].file)
            self.drawing = DRAWING in str(equation.source_info.name_stack)
            results = self._equation(equation, operands, _lines(frames, outer))
            known |= dict(zip(equation.outvars, results, strict=True))
            for v in (*equation.invars, *equation.outvars):
                if not _is_literal(v) and last.get(v, i) <= i and v not in kept:
                    known.pop(v, None)
        return [self._in_trace(read(v), outer) for v in jaxpr.outvars]

    def _equation(self, equation: Any, operands: list[Known], stack: Stack) -> list[Known]:
        name = equation.primitive.name
        if CALLS.get(name) in equation.params:
            return self._call(equation, operands, stack)
        if name in ('scan', 'while', 'cond'):
            results: list[Known] = getattr(self, f'_{name}')(equation.params, operands, stack)
            return results
        arrays = [array for _, array in operands]
        computed = evaluate(equation.primitive, arrays, equation.params)
        return self._record(name, _binding(equation), operands, computed, stack, _key(equation))

    def _call(self, equation: Any, operands: list[Known], stack: Stack) -> list[Known]:
        name = equation.primitive.name
        inner = equation.params[CALLS[name]]
        jaxpr, consts = (inner.jaxpr, inner.consts) if hasattr(inner, 'consts') else (inner, ())
        self.inside_custom += name in CUSTOM
        results = self.run(jaxpr, consts, operands, stack)
        self.inside_custom -= name in CUSTOM
        if name in CUSTOM:
            self._step(
                _binding(equation), operands, [index for index, _ in results if index is not None], None
            )
        return results

    def _record(
        self,
        name: str,
        apply: Callable[..., Any],
        operands: list[Known],
        results: list[np.ndarray],
        stack: Stack,
        key: Any = None,
    ) -> list[Known]:
        indices = tuple(index for index, _ in operands if index is not None)
        if not self.drawing:  # what leaves the drawing is the draw
            self.trace.drawing.difference_update(indices)
        literals = (array for index, array in operands if index is None)
        numbers = {float(a): None for a in literals if a.dtype.kind == 'f' and a.size == 1}
        undecided = self.trace.is_undecided(name, indices, [array for _, array in operands])
        flows = name != 'stop_gradient' and any(self.trace[i].active for i in indices)
        found: list[Known] = []
        for result in results:
            array = shown(result)
            active = flows and array.dtype.kind == 'f'
            value = self.trace.add(
                name,
                indices,
                stack,
                array,
                active=active,
                library=self.library,
                undecided=undecided,
                numbers=numbers,
            )
            found.append((value.index, result))
            self.trace.drawing.update([value.index] if self.drawing else [])
        self._step(apply, operands, [index for index, _ in found if index is not None], key)
        return found

    def _step(self, apply: Callable[..., Any], operands: list[Known], results: list[int], key: Any) -> None:
        if not self.inside_custom and any(self.trace[i].active for i in results):
            arrays, indices = [array for _, array in operands], [index for index, _ in operands]
            self.steps.append(Step(apply, key, arrays, indices, results))

    def _scan(self, params: dict[str, Any], operands: list[Known], stack: Stack) -> list[Known]:
        consts, carries = loop_counts(params)
        fixed, carry, stacked = (
            operands[:consts],
            operands[consts : consts + carries],
            operands[consts + carries :],
        )
        body, length = params['jaxpr'], params['length']
        rows: dict[int, list[Known]] = {}
        for i in reversed(range(length)) if params['reverse'] else range(length):
            parts = [self._taken(operand, i, stack) for operand in stacked]
            results = self.run(body.jaxpr, body.consts, [*fixed, *carry, *parts], stack)
            carry, rows[i] = results[:carries], results[carries:]
        columns = zip(*(rows[i] for i in range(length)), strict=True)
        return [*carry, *(self._stacked(list(column), stack) for column in columns)]

    def _taken(self, operand: Known, i: int, stack: Stack) -> Known:
        return self._record('scan_slice', lambda x: x[i], [operand], [operand[1][i]], stack)[0]

    def _stacked(self, column: list[Known], stack: Stack) -> Known:
        import jax.numpy as jnp

        arrays = np.stack([array for _, array in column])
        return self._record('scan_stack', lambda *rows: jnp.stack(rows), column, [arrays], stack)[0]

    def _while(self, params: dict[str, Any], operands: list[Known], stack: Stack) -> list[Known]:
        first, second = params['cond_nconsts'], params['cond_nconsts'] + params['body_nconsts']
        test, body = params['cond_jaxpr'], params['body_jaxpr']
        carry = operands[second:]
        while self.run(test.jaxpr, test.consts, [*operands[:first], *carry], stack)[0][1]:
            carry = self.run(body.jaxpr, body.consts, [*operands[first:second], *carry], stack)
        return carry

    def _cond(self, params: dict[str, Any], operands: list[Known], stack: Stack) -> list[Known]:
        branch = params['branches'][int(operands[0][1])]
        return self.run(branch.jaxpr, branch.consts, operands[1:], stack)

    def _constant(self, value: Any, stack: Stack) -> Known:
        array = np.asarray(value)
        return self.trace.add('constant', (), stack, array).index, array

    def _in_trace(self, known: Known, stack: Stack) -> Known:
        index, array = known
        return known if index is not None else self._constant(array, stack)


def _is_literal(variable: Any) -> bool:
    return hasattr(variable, 'val')


def _frames(equation: Any) -> list[Line]:
    """The frames of an equation outside of jax, innermost first."""
    from jax._src import source_info_util  # the only place where jax keeps them

    traceback = equation.source_info.traceback
    frames = source_info_util.user_frames(traceback) if traceback is not None else ()
    return [Line(frame.file_name, frame.start_line, frame.function_name) for frame in frames]


def _lines(frames: list[Line], outer: Stack) -> Stack:
    """The user's lines of an equation, innermost first.

    A jitted function that is traced once has the lines of its first call: then those of this call count.
    """
    stack = user_stack(frames)
    return stack if stack and (not outer or stack[-len(outer) :] == outer) else outer


def _binding(equation: Any) -> Callable[..., Any]:
    """The equation as a function of its operands."""

    def apply(*operands: Any) -> Any:
        bound = equation.primitive.get_bind_params(equation.params)
        functions, params = bound if isinstance(bound, tuple) else ((), bound)
        result = equation.primitive.bind(*functions, *operands, **params)
        return list(result) if equation.primitive.multiple_results else [result]

    return apply


def _key(equation: Any) -> Any:
    """What tells equations apart that have the same derivative, if that is known."""
    with contextlib.suppress(TypeError):
        key = equation.primitive, tuple(sorted(equation.params.items(), key=lambda item: item[0]))
        hash(key)
        return key
    return None
