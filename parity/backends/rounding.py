"""The same computation with other rounding: every sum and matrix product is scaled by a rounding or none.

Moved inputs alone do not show all that rounding does: in log(1 + x) with a small x, the sum rounds alike for
every x nearby, and a port that rounds it the other way is no nearer to nor farther from the truth. (D. S.
Parker 1997, "Monte Carlo arithmetic".) One factor for a whole array, and only where terms are summed, keeps
a tie a tie: equal members of an ensemble come from one product, and zeros stay zero. That needs a compiler
that fuses none of these factors into a multiply-add, as XLA's is without its optimiser.

XLA's algebra is held off where it would change what is not finite: it makes x of log(exp(x)), and a
difference of a quotient of two exponentials, whether or not these are infinite.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

# The factors of a run; the sums of a program take them in turns.
FACTORS = 61
SUMS = ('reduce_sum', 'dot_general', 'conv_general_dilated', 'cumsum', 'reduce_window_sum')
EXACT = np.ones(FACTORS)
# What XLA's algebra would join with what is computed from it.
APART = ('exp', 'exp2', 'expm1', 'log', 'log1p', 'pow', 'integer_pow', 'sqrt', 'rsqrt')
# Equations that hold a program of their own, and the parameter that it is in.
CALLS = {
    'jit': 'jaxpr',
    'pjit': 'jaxpr',
    'closed_call': 'call_jaxpr',
    'core_call': 'call_jaxpr',
    'remat2': 'jaxpr',
    'checkpoint': 'jaxpr',
    'custom_jvp_call': 'call_jaxpr',
    'custom_vjp_call': 'call_jaxpr',
    'custom_vjp_call_jaxpr': 'fun_jaxpr',
    'custom_lin': 'jaxpr',
}


def factors(sample: int) -> np.ndarray:
    """1 plus or minus one float64 machine epsilon or nothing, f64[FACTORS]."""
    return 1 + np.finfo(np.float64).eps * np.random.default_rng([sample, 2]).integers(-1, 2, FACTORS)


def as_written(function: Callable[..., Any], scales: Any) -> Callable[..., Any]:
    """`function`, traceable by jax, for XLA to compute as it is written.

    scales: f64[FACTORS], by which its sums are scaled; None for none.
    """
    import jax

    def run(*args: Any) -> Any:
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
        turns = (None if scales is None else scales[i] for i in itertools.cycle(range(FACTORS)))
        outputs = _evaluate(closed, jax.tree.leaves(args), turns)
        return jax.tree.unflatten(jax.tree.structure(shapes), outputs)

    return run


def _evaluate(closed: Any, args: Sequence[Any], turns: Iterator[Any]) -> list[Any]:
    """The outputs of a program, equation by equation."""
    jaxpr, consts = getattr(closed, 'jaxpr', closed), getattr(closed, 'consts', ())
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))

    def read(atom: Any) -> Any:
        return atom.val if hasattr(atom, 'val') else values[atom]

    for equation in jaxpr.eqns:
        outputs = _outputs(equation, [read(atom) for atom in equation.invars], turns)
        values.update(zip(equation.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _outputs(equation: Any, inputs: list[Any], turns: Iterator[Any]) -> Sequence[Any]:
    name, params = equation.primitive.name, equation.params
    if CALLS.get(name) in params:
        return _evaluate(params[CALLS[name]], inputs, turns)
    if name in CONTROL:
        return CONTROL[name](params, inputs, turns)
    found = equation.primitive.bind(*inputs, **equation.primitive.get_bind_params(params))
    outputs = list(found) if equation.primitive.multiple_results else [found]
    if name in APART:
        import jax

        return list(jax.lax.optimization_barrier(outputs))  # type: ignore[no-untyped-call]
    return [_scaled(output, next(turns)) for output in outputs] if name in SUMS else outputs


def _scaled(output: Any, scale: Any) -> Any:
    return output if scale is None or output.dtype.kind != 'f' else output * scale.astype(output.dtype)


def loop_counts(params: dict[str, Any]) -> tuple[int, int]:
    """How many inputs of a scan are the same in every turn, and how many it carries on."""
    if 'num_consts' in params:
        return params['num_consts'], params['num_carry']
    same, carried, _ = params['ft_in'].unpack()  # of jax from 0.11 on
    return len(list(same)), len(list(carried))


def _scan(params: dict[str, Any], inputs: list[Any], turns: Iterator[Any]) -> Sequence[Any]:
    """A loop: its sums have the same factor in every turn."""
    import jax

    fixed, count = loop_counts(params)
    carried = fixed + count

    def body(carry: list[Any], row: list[Any]) -> tuple[list[Any], list[Any]]:
        outputs = _evaluate(params['jaxpr'], [*inputs[:fixed], *carry, *row], turns)
        return outputs[:count], outputs[count:]

    options = {name: params[name] for name in ('length', 'reverse', 'unroll')}
    carry, rows = jax.lax.scan(body, inputs[fixed:carried], inputs[carried:], **options)
    return [*carry, *rows]


def _while(params: dict[str, Any], inputs: list[Any], turns: Iterator[Any]) -> Sequence[Any]:
    import jax

    first, second = params['cond_nconsts'], params['cond_nconsts'] + params['body_nconsts']
    found: Sequence[Any] = jax.lax.while_loop(
        lambda carry: _evaluate(params['cond_jaxpr'], [*inputs[:first], *carry], turns)[0],
        lambda carry: _evaluate(params['body_jaxpr'], [*inputs[first:second], *carry], turns),
        inputs[second:],
    )
    return found


def _cond(params: dict[str, Any], inputs: list[Any], turns: Iterator[Any]) -> Sequence[Any]:
    import jax

    branches = [
        lambda *operands, branch=branch: _evaluate(branch, operands, turns) for branch in params['branches']
    ]
    found: Sequence[Any] = jax.lax.switch(inputs[0], branches, *inputs[1:])
    return found


CONTROL = {'scan': _scan, 'while': _while, 'cond': _cond}
