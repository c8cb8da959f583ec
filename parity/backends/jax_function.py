"""The reference of two bare functions: called with jax arrays, differentiated at its inputs."""

from collections.abc import Callable
from typing import Any

import numpy as np

from parity import trees
from parity.backends.compiling import eager
from parity.backends.jax_side import JaxSide
from parity.backends.pytrees import Call, cotangents
from parity.sides import NO_KEY, Calls, Mode, Networks, State
from parity.trees import Arrays


class JaxFunction(JaxSide):
    """A function of a pytree of arrays; its state is its inputs. jit: whether jax may trace it as a whole."""

    def __init__(self, call: Call, arrays: Arrays, mode: Mode, seed: int, jit: bool) -> None:
        super().__init__(call, mode)
        self.arrays, self.seed, self.jit = arrays, seed, jit

    def like(self, mode: Mode) -> 'JaxFunction':
        """The same function in another mode."""
        return JaxFunction(self.target, self.arrays, mode, self.seed, self.jit)

    def state(self) -> State:
        return State(self.arrays, {}, {}, {}, NO_KEY)

    def restore(self, state: State) -> None:
        self.arrays = state.params

    def forward(self, networks: Networks, arrays: Arrays) -> Arrays:
        return _numpy(self._run(outputs_of, self.target)(self.arrays))

    def losses(self, calls: Calls, batch: Arrays, key: np.ndarray) -> tuple[Arrays, Arrays]:
        grads = self._run(_pulled_back, self.target)(self.arrays, self._cotangents())
        return {}, trees.with_prefix('vjp', _numpy(grads))

    def reach(self, calls: Calls, batch: Arrays, key: np.ndarray) -> Arrays:
        return _numpy(self._run(_sizes, self.target)(self.arrays, self._cotangents()))

    def _cotangents(self) -> Arrays:
        return cotangents(self.forward((), {}), self.seed)

    def _program(self, function: Callable[..., Any], *static: Any) -> Callable[..., Any]:
        compile_ = super()._program
        return compile_(function, *static) if self.jit else eager(function, self.dtype, *static)


def _numpy(leaves: dict[str, Any]) -> Arrays:
    return {path: np.asarray(leaf) for path, leaf in leaves.items()}


def outputs_of(call: Call, arrays: dict[str, Any]) -> dict[str, Any]:
    """The real leaves that the function returns, by path."""
    import jax.numpy as jnp

    # no numpy arrays, which is what comes in here where nothing is traced
    outputs = trees.real_leaves(call({path: jnp.asarray(array) for path, array in arrays.items()}))
    return {path: jnp.asarray(leaf) for path, leaf in outputs.items()}


def _pulled_back(call: Call, arrays: dict[str, Any], weights: dict[str, Any]) -> dict[str, Any]:
    """The vector-Jacobian product at every floating input."""
    import jax

    run, floats = _floating(call, arrays, weights)
    outputs, pull = jax.vjp(run, floats)
    (grads,) = pull({path: weights[path].astype(leaf.dtype) for path, leaf in outputs.items()})
    return dict(grads)


def _sizes(call: Call, arrays: dict[str, Any], weights: dict[str, Any]) -> dict[str, Any]:
    """`<output>/<input>`: the largest gradient that the output sends to the input."""
    import jax
    import jax.numpy as jnp

    run, floats = _floating(call, arrays, weights)
    # one transposition for each output, as for the terms of a loss: zeros through the others make NaN
    outputs, linear = jax.linearize(run, floats)
    sizes = {}
    for path, leaf in outputs.items():
        transposed = jax.linear_transpose(lambda tangents, path=path: linear(tangents)[path], floats)
        (grads,) = transposed(weights[path].astype(leaf.dtype))
        for name, grad in grads.items():
            sizes[f'{path}/{trees.dotted(name)}'] = jnp.abs(grad).max(initial=0.0)
    return sizes


def _floating(
    call: Call, arrays: dict[str, Any], weights: dict[str, Any]
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The function from its floating inputs to its floating outputs, and those inputs."""
    import jax.numpy as jnp

    floats = {
        path: jnp.asarray(leaf) for path, leaf in arrays.items() if jnp.issubdtype(leaf.dtype, jnp.floating)
    }

    def run(floats: dict[str, Any]) -> dict[str, Any]:
        outputs = outputs_of(call, {**arrays, **floats})
        return {path: outputs[path] for path in weights}

    return run, floats
