"""The same computation with other rounding: it moves by rounding, and ties stay ties."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from parity.backends.compiling import compiled, compiler_options
from parity.backends.rounding import EXACT, FACTORS, as_written, factors, loop_counts

OPTIONS = compiler_options()
EPS = float(np.finfo(np.float64).eps)
X = np.random.default_rng(0).normal(size=(4, 3))


def runs(
    function: Callable[..., Any], *args: Any, scales: np.ndarray = EXACT
) -> tuple[np.ndarray, np.ndarray]:
    """The function as it is, and with these scales."""
    with jax.enable_x64(True):
        plain = jax.jit(function, compiler_options=OPTIONS)(*args)
        scaled = jax.jit(lambda s, *args: as_written(function, s)(*args), compiler_options=OPTIONS)
        moved = scaled(scales, *args)
    return np.asarray(plain), np.asarray(moved)


def saturated(x: jax.Array) -> jax.Array:
    """log(1 + x), as a saturated softmax has it: -log of the largest probability."""
    return -jax.nn.log_softmax(jnp.stack([x, jnp.zeros(())]))[1]


def scanned(x: jax.Array) -> jax.Array:
    return lax.scan(lambda c, row: (c + row.sum(), c), 0.0, x)[1]


def looped(x: jax.Array) -> jax.Array:
    return lax.while_loop(lambda c: c < 100, lambda c: 2 * c + (x * x).sum(), 0.5)


def chosen(x: jax.Array) -> jax.Array:
    return lax.cond(x[0, 0] > 0, lambda x: x.sum(), lambda x: x.sum() * 3, x)


def differentiated(x: jax.Array) -> jax.Array:
    return jax.grad(lambda x: jax.nn.relu(jax.nn.gelu(x @ x.T)).mean())(x)


def recomputed(x: jax.Array) -> jax.Array:
    return jax.checkpoint(lambda x: jnp.sin(x).sum())(x)


PROGRAMS = [scanned, looped, chosen, differentiated, recomputed, jax.jit(differentiated)]


@pytest.mark.parametrize('program', PROGRAMS)
def test_without_scales_nothing_changes(program: Callable[..., Any]) -> None:
    plain, same = runs(program, X)
    assert np.array_equal(plain, same)


@pytest.mark.parametrize('program', PROGRAMS)
def test_twin_with_scales_it_moves_by_rounding(program: Callable[..., Any]) -> None:
    plain, moved = runs(program, X, scales=1 + EPS * np.ones(FACTORS))
    error = np.abs(np.subtract(plain, moved)).max()
    assert 0 < error < 1e3 * EPS * np.abs(plain).max()


def test_the_scales_of_a_sample_are_a_rounding_or_none() -> None:
    assert set(factors(0)) == {1 - EPS, 1, 1 + EPS}
    assert not np.array_equal(factors(0), factors(1))
    assert np.array_equal(factors(1), factors(1))


def test_a_sum_that_absorbs_its_small_terms_moves() -> None:
    """What scaled inputs cannot show: the sum 1 + x rounds alike for every x nearby."""
    x = np.log(1.9e-4)
    plain, nearby = (float(runs(saturated, value)[0]) for value in (x, x * (1 + 2.0**-50)))
    moved = max(abs(float(runs(saturated, x, scales=factors(k))[1]) - plain) for k in range(4))
    assert abs(nearby - plain) < EPS / 100 < EPS / 4 < moved


def test_equal_members_and_zeros_stay_so() -> None:
    def tied(x: jax.Array) -> jax.Array:
        members = jnp.einsum('bi,eij->ebj', x, jnp.ones((2, 3, 1)))
        return jnp.stack([members[0] - members[1], x @ jnp.zeros((3, 1))])

    _, moved = runs(tied, X, scales=factors(0))
    assert not np.any(moved)


def test_other_numbers_than_floats_stay_as_they_are() -> None:
    _, moved = runs(lambda x: jnp.sum(x), np.arange(5), scales=factors(0))
    assert moved == 10
    assert moved.dtype == np.int64


def overflowing(x: jax.Array) -> jax.Array:
    return jnp.stack([jnp.log(jnp.exp(x)), jnp.exp(x) / jnp.exp(x), jnp.exp(x) * jnp.exp(-x), x**2 / x**2])


@pytest.mark.parametrize('dtype', ['float64', 'float32'])
def test_what_overflows_does_so_as_it_is_written(dtype: str) -> None:
    with jax.enable_x64(dtype == 'float64'):
        x = np.asarray([1e200 if dtype == 'float64' else 1e30], dtype)
        with np.errstate(all='ignore'):
            written = overflowing(x)  # operation by operation
        found = compiled(overflowing, dtype, 'cpu')(False, EXACT, x)
        plain = jax.jit(overflowing)(x)
    np.testing.assert_array_equal(found, written)
    assert not np.array_equal(plain, written, equal_nan=True)  # the twin: XLA alone makes numbers of infinity


def test_loop_counts_of_this_jax() -> None:
    """jax keeps them under other names from 0.11 on."""
    rows = jnp.arange(3.0)
    scan = jax.make_jaxpr(
        lambda x, y: jax.lax.scan(lambda c, row: ((c[0] * x, c[1] + y), c[0] + row), (x, y), rows)
    )
    (loop,) = [eqn for eqn in scan(1.0, 2.0).eqns if eqn.primitive.name == 'scan']
    assert loop_counts(loop.params) == (2, 2)
