"""Locating by value in what images go through: float32 inputs, windows with margins, other layouts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn import functional

from parity.locating.defaults import absent
from parity.locating.hollow import hollow
from parity.locating.sources import Line
from parity_tests.engine.test_locating_values import functions

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), np.uint8)
X = np.random.default_rng(1).normal(size=(2, 4, 5, 3)).astype(np.float32)
SHIFT = np.full(3, 0.5, np.float32)
WINDOW, STRIDES = (1, 2, 2, 1), (1, 2, 2, 1)


def pooled(x):
    """The maxima of windows of two by two; an odd row or column is padded."""
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, WINDOW, STRIDES, 'SAME')


def port_pooled(x):
    images = functional.pad(x.permute(0, 3, 1, 2), (0, 1, 0, 0), value=-torch.inf)
    pools = functional.max_pool2d(images, 2)
    return pools.permute(0, 2, 3, 1)


def scaled(x):
    """Images are float32 on both sides, whatever comes after them."""
    return x.astype(jnp.float32) * (1 / 255)


def normalised(x, shift):
    y = scaled(x).astype(jnp.float64)
    return jax.lax.rsqrt(jnp.var(y, axis=(1, 2)) + 1e-6) + shift


@pytest.mark.parametrize('small', [0.0, 1e-8])
def test_what_both_sides_round_to_one_float32_hides_nothing_behind_it(small: float) -> None:
    def port(x, shift):
        y = (x.to(torch.float32) * (1 / 255)).to(torch.float64)
        variance = y.var((1, 2), correction=0) + (1e-6 + small)
        return torch.rsqrt(variance) + shift

    found = [frontier.port.text for frontier in functions(normalised, port, IMAGES, SHIFT).forward[:1]]
    assert found == (['variance = y.var((1, 2), correction=0) + (1e-6 + small)'] if small else [])


def test_twin_what_is_rounded_otherwise_is_noise_to_what_follows() -> None:
    def port(x, shift):
        y = (x.to(torch.float32) / 255).to(torch.float64)  # an ulp off here and there
        return torch.rsqrt(y.var((1, 2), correction=0) + 1e-6) + shift

    assert functions(normalised, port, IMAGES, SHIFT).forward == []


def test_a_margin_that_the_reference_gives_as_an_argument_is_no_divergence() -> None:
    def port(x):
        y = port_pooled(x)
        return 2 * y

    first = functions(lambda x: pooled(x) * 3, port, X).forward[0]
    assert first.port.text == 'return 2 * y'


def nothing(x):
    """Should be swish."""
    return x


def something(x):
    return 2 * x


def calls_both(x):
    y = nothing(torch.exp(x))
    return something(y)


def test_a_function_that_does_nothing_is_found_where_it_returns() -> None:
    first = calls_both.__code__.co_firstlineno + 1
    (line,) = hollow(Line(__file__, first, 'calls_both'))
    assert line == (__file__, nothing.__code__.co_firstlineno + 2, 'nothing')
    assert hollow(Line(__file__, first + 1, 'calls_both')) == []  # the twin


def test_entries_in_another_order_are_found_where_they_are_reordered() -> None:
    def port(x):
        images = torch.exp(x).permute(0, 3, 1, 2)
        images = images.reshape(2, 4, 5, 3)
        return port_pooled(images)

    first = functions(lambda x: pooled(jnp.exp(x)), port, X).forward[0]
    assert first.port.text == 'images = images.reshape(2, 4, 5, 3)'
    assert first.why == 'from here on its entries are in another order'


def test_twin_a_transpose_and_back_is_no_other_order() -> None:
    def port(x):
        images = torch.exp(x).permute(0, 3, 1, 2)
        images = images.permute(0, 2, 3, 1)
        return port_pooled(images) * 2

    first = functions(lambda x: pooled(jnp.exp(x)), port, X).forward[0]
    assert first.port.text == 'return port_pooled(images) * 2'


def test_a_parameter_that_is_not_there_is_found_where_that_is_said() -> None:
    class Without(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(3))
            self.bias = None

    line = absent(Without())
    assert line is not None
    assert line.text == 'self.bias = None'
    assert absent(torch.nn.Identity()) is None
