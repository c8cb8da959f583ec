"""What the reference's side does inside a trace: methods that are jitted themselves, draws of both kinds."""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import random

from parity.backends import compiling
from parity.backends.jax_side import JaxSide, inlined
from parity.draws import logged_draws


class Drawing(flax.struct.PyTreeNode):
    """Something like an agent, whose method is jitted and draws."""

    scale: float = 1.0

    @jax.jit
    def sample_actions(self, observations, seed=None, temperature=1.0):
        return self.scale * random.normal(seed, observations.shape, observations.dtype)


KEY = np.array([3, 4], np.uint32)
OBSERVATIONS = np.zeros((2, 3))


def side(mode: str) -> JaxSide:
    made = JaxSide(Drawing, mode)  # type: ignore[arg-type]
    made.agent = Drawing()
    return made


def drawn(mode: str) -> np.ndarray:
    return side(mode).actions(OBSERVATIONS.astype(side(mode).dtype), None, KEY, 1.0)


def test_wide_draws_are_those_of_float32_in_the_program_of_float64() -> None:
    single, double, wide = (drawn(mode) for mode in ('float32', 'float64', 'wide'))
    assert (single.dtype, double.dtype, wide.dtype) == (np.float32, np.float64, np.float64)
    assert np.array_equal(wide, single.astype(np.float64))
    assert np.abs(double - wide).max() > 0.01  # twin: float64 draws other numbers


def test_what_one_trace_made_of_a_jitted_method_stays_out_of_others() -> None:
    drawn('wide')
    longer = side('wide').actions(np.zeros((4, 3)), None, KEY, 1.0)
    assert longer.shape == (4, 3)
    with jax.enable_x64(True):
        outside = Drawing().sample_actions(jnp.zeros((2, 3)), seed=KEY)
    assert np.array_equal(outside, drawn('float64'))


def test_what_creation_traced_is_not_traced_again_after_the_first_program() -> None:
    compiling._trace_context.cache_clear()  # as in a new process
    compiling.compiled.cache_clear()
    traced = []

    @jax.jit
    def initial(x: jax.Array) -> jax.Array:
        traced.append(x)
        return x + 1

    for _ in range(2):
        with compiling.on('cpu'):
            initial(OBSERVATIONS)
        drawn('float64')
    assert len(traced) == 1


def test_draws_of_a_jitted_method_can_leave_it() -> None:
    method = Drawing.sample_actions

    def keys(x):
        with inlined(Drawing), logged_draws(random) as log:
            Drawing().sample_actions(x, seed=KEY)
        return [key for _, key, _ in log]

    (key,) = jax.jit(keys)(jnp.zeros(3))
    assert np.array_equal(key, KEY)
    assert Drawing.sample_actions is method
