"""The reference's cotangents: its steps in reverse, each by jax's own rule, evaluated in numpy."""

from collections.abc import Callable
from typing import Any

import numpy as np

from parity.locating.capture_jax import Captured, Interpreter, Step
from parity.locating.fingerprints import fingerprint
from parity.locating.trace import Trace, Use


def pull_back(captured: Captured, weights: dict[str, np.ndarray]) -> None:
    """Fill in the cotangents and uses of the trace. The steps are used up, so that their arrays can go.

    weights: output name -> the cotangent that starts there.
    """
    import jax

    trace, rules = captured.trace, dict[Any, Any]()
    sums: dict[int, np.ndarray] = {}
    for name, weight in weights.items():
        index = trace.outputs[name]
        if trace[index].active:
            sums[index] = sums.get(index, 0.0) + weight
    with jax.enable_x64(True):
        while captured.steps:
            step = captured.steps.pop()
            arrived = [sums.pop(i, None) for i in step.results]
            for i, cotangent in zip(step.results, arrived, strict=True):
                if cotangent is not None:
                    trace[i].cotangent = fingerprint(cotangent)
            if any(cotangent is not None for cotangent in arrived):
                _send(trace, step, _pulled(step, arrived, trace, rules), sums)
    for i, cotangent in sums.items():
        trace[i].cotangent = fingerprint(cotangent)


def _send(trace: Trace, step: Step, cotangents: list[np.ndarray], sums: dict[int, np.ndarray]) -> None:
    active = [i for i in step.operands if i is not None and trace[i].active]
    for operand, cotangent in zip(active, cotangents, strict=True):
        sums[operand] = sums[operand] + cotangent if operand in sums else cotangent
        trace.uses.append(Use(operand, step.results[0], fingerprint(cotangent)))


def _pulled(step: Step, arrived: list[Any], trace: Trace, rules: dict[Any, Any]) -> list[np.ndarray]:
    """The cotangents of the active operands of a step."""
    places = [k for k, i in enumerate(step.operands) if i is not None and trace[i].active]
    floats = [k for k, i in enumerate(step.results) if trace[i].active]
    given = [
        np.zeros(trace[step.results[k]].print.shape) if arrived[k] is None else np.asarray(arrived[k])
        for k in floats
    ]
    shapes = tuple((array.shape, str(array.dtype)) for array in step.arrays)
    key = None if step.key is None else (step.key, shapes, tuple(places))
    rule = rules.get(key) if key is not None else None
    if rule is None:
        rule = _rule(step, places, floats, given)
        if key is not None:
            rules[key] = rule
    return evaluated(rule, [*step.arrays, *given])


def _rule(step: Step, places: list[int], floats: list[int], given: list[np.ndarray]) -> Any:
    """The vector-Jacobian product of a step, as a jaxpr of its operands and the cotangents of its results."""
    import jax

    count = len(step.arrays)

    def pull(*arguments: Any) -> Any:
        operands, cotangents = list(arguments[:count]), arguments[count:]

        def run(*differentiated: Any) -> list[Any]:
            for place, operand in zip(places, differentiated, strict=True):
                operands[place] = operand
            results = step.apply(*operands)
            results = results if isinstance(results, list | tuple) else [results]
            return [results[k] for k in floats]

        results, back = jax.vjp(run, *(operands[place] for place in places))
        return back([c.astype(result.dtype) for c, result in zip(cotangents, results, strict=True)])

    return jax.make_jaxpr(pull)(*step.arrays, *given)


def evaluated(closed: Any, arguments: list[np.ndarray]) -> list[np.ndarray]:
    """The results of a jaxpr in numpy, nothing kept."""
    results = Silent().run(closed.jaxpr, closed.consts, [(None, array) for array in arguments], ())
    return [array for _, array in results]


class Silent(Interpreter):
    """Evaluates without a trace."""

    def _record(
        self,
        name: str,
        apply: Callable[..., Any],
        operands: list[Any],
        results: list[np.ndarray],
        stack: Any,
        key: Any = None,
    ) -> list[Any]:
        return [(None, result) for result in results]

    def _constant(self, value: Any, stack: Any) -> Any:
        return None, np.asarray(value)
