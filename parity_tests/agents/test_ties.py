"""Where JAX and torch define a gradient differently, at ties and bounds, the ports' functions follow JAX."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen as nn

from torch_agents.agent import expectile_loss
from torch_agents.layers import GroupNorm, LayerNorm, clip, gelu, logsumexp, softplus

POINTS = np.array([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0])
INFINITE = np.array([-np.inf, -1e300, 0.5, 1e300, np.inf])
TIED = np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 0.0]])
LOGITS = np.array([[1.0, 2.0, 2.0], [0.0, 1e4, 1e300], [-np.inf, 0.0, 5.0], [-1e300, -1e300, -1e300]])
EQUAL = np.full((2, 3), 3300.0)


def logsumexp_of_rows(x: jax.Array) -> jax.Array:
    return jax.nn.logsumexp(x, 1)


def contrast(logsumexp: Callable) -> Callable:
    """How the first logit of each row stands out, much enlarged: of equals the gradients cancel."""
    return lambda x: x[:, 0] * 1e9 - 1e9 * logsumexp(x, 1)


SAME = {
    'clip at its bounds': (lambda x: jnp.clip(x, -1, 1), lambda x: clip(x, -1, 1), POINTS),
    'clip of what is infinite': (lambda x: jnp.clip(x, -1, 1), lambda x: clip(x, -1, 1), INFINITE),
    'minimum of equals': (lambda x: jnp.minimum(x[0], x[1]), lambda x: torch.minimum(x[0], x[1]), TIED),
    'smallest member of equals': (lambda x: x.min(axis=0), lambda x: x.amin(axis=0), TIED),
    'largest of equals': (lambda x: x.max(axis=0), lambda x: x.amax(axis=0), TIED),
    'expectile at 0': (
        lambda x: jnp.where(x >= 0, 0.9 * x**2, 0.1 * x**2),
        lambda x: expectile_loss(x, x, 0.9),
        POINTS,
    ),
    'gelu': (jax.nn.gelu, gelu, POINTS),
    'softplus beyond 20': (jax.nn.softplus, softplus, 30 * POINTS),
    'logsumexp': (logsumexp_of_rows, lambda x: logsumexp(x, 1), LOGITS),
    'logsumexp of equals': (contrast(jax.nn.logsumexp), contrast(logsumexp), EQUAL),
}
DIFFERENT = {
    'torch.clip': (SAME['clip at its bounds'][0], lambda x: torch.clip(x, -1, 1), POINTS),
    'min(dim).values': (SAME['smallest member of equals'][0], lambda x: x.min(dim=0).values, TIED),
    'abs': (jnp.abs, torch.abs, POINTS),
    'F.gelu': (jax.nn.gelu, torch.nn.functional.gelu, POINTS),
    'torch.logsumexp': (contrast(jax.nn.logsumexp), contrast(torch.logsumexp), EQUAL),
    'F.softplus': (jax.nn.softplus, torch.nn.functional.softplus, 30 * POINTS),
}


def largest_difference(reference: Callable, port: Callable, x: np.ndarray) -> float:
    """Of values and gradients, in float64."""
    with jax.enable_x64(True):
        value, gradient = reference(jnp.asarray(x)), jax.grad(lambda x: reference(x).sum())(jnp.asarray(x))
    tensor = torch.tensor(x, requires_grad=True)
    found = port(tensor)
    found.sum().backward()
    pairs = ((value, found.detach()), (gradient, tensor.grad))
    return max(np.abs(np.asarray(a) - b.numpy()).max() for a, b in pairs)


@pytest.mark.parametrize('row', [[-np.inf, -np.inf], [np.inf, 0.0], [-np.inf, np.inf], [np.nan, 0.0]])
def test_logsumexp_of_what_is_infinite(row: list[float]) -> None:
    x = torch.tensor([row], requires_grad=True)
    with jax.enable_x64(True):
        value, gradient = jax.value_and_grad(lambda x: logsumexp_of_rows(x).sum())(jnp.asarray([row]))
    found = logsumexp(x, 1).sum()
    found.backward()
    np.testing.assert_array_equal(found.detach(), value)
    np.testing.assert_array_equal(torch.isfinite(x.grad), np.isfinite(gradient))


@pytest.mark.parametrize('infinite', [np.inf, np.nan])
def test_what_a_clip_does_not_pass_is_multiplied_by_zero(infinite: float) -> None:
    """As in JAX, where 0 * inf is NaN; torch's own functions leave it out."""
    cotangent = np.full_like(POINTS, infinite)
    with jax.enable_x64(True):
        value, pull = jax.vjp(lambda x: jnp.clip(x, -1, 1), jnp.asarray(POINTS))
        (gradient,) = pull(jnp.asarray(cotangent))
    found = {}
    for function in (clip, torch.clip):
        tensor = torch.tensor(POINTS, requires_grad=True)
        clipped = function(tensor, -1, 1)
        clipped.backward(torch.tensor(cotangent))
        np.testing.assert_array_equal(clipped.detach(), value)
        found[function] = tensor.grad.numpy()
    np.testing.assert_array_equal(found[clip], gradient)
    assert not np.array_equal(found[torch.clip], gradient, equal_nan=True)


@pytest.mark.parametrize(('low', 'high'), [(-1, 2), (1, -1), (0.5, 0.5)])
def test_infinite_values_are_clipped_and_the_upper_bound_wins(low: float, high: float) -> None:
    x = torch.tensor([*POINTS, -torch.inf, torch.inf, torch.nan], requires_grad=True)
    clipped = clip(x, low, high)
    clipped.sum().backward()
    value, pull = jax.vjp(lambda x: jnp.clip(x, low, high), jnp.asarray(x.detach().numpy()))
    np.testing.assert_array_equal(clipped.detach(), value)
    # not of NaN itself, where what comes back is NaN in practice, and torch passes it on
    np.testing.assert_array_equal(x.grad[:-1], pull(jnp.ones_like(value))[0][:-1])


@pytest.mark.parametrize('name', SAME)
def test_as_in_jax(name: str) -> None:
    assert largest_difference(*SAME[name]) <= 1e-14


@pytest.mark.parametrize('name', DIFFERENT)
def test_torchs_own_function_differs(name: str) -> None:
    assert largest_difference(*DIFFERENT[name]) > 1e-14


EQUAL = np.linspace(1, 1e4, 200, dtype=np.float32)
NORMS = {
    'LayerNorm': (nn.LayerNorm(), LayerNorm(), np.repeat(EQUAL[:, None], 10, 1)),
    'GroupNorm': (
        nn.GroupNorm(num_groups=4, epsilon=1e-5),
        GroupNorm(num_groups=4, eps=1e-5),
        np.tile(EQUAL[:, None, None, None], (1, 2, 3, 8)),
    ),
}


@pytest.mark.parametrize('name', NORMS)
def test_a_variance_that_rounding_makes_negative_is_cut(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of equal features, in float32: E[x**2] - E[x]**2 + eps is negative for some of them.

    Not of torch's own layer_norm, which sums squares of deviations.
    """
    reference, port, x = NORMS[name]
    assert np.isfinite(reference.init_with_output(jax.random.PRNGKey(0), x)[0]).all()
    port(torch.tensor(x))  # gives it its shapes
    with torch.no_grad():
        port.init_params(None, ())
    assert port(torch.tensor(x)).isfinite().all()
    monkeypatch.setattr(torch, 'maximum', lambda var, zero: var)
    assert port(torch.tensor(x)).isnan().any() == (name == 'GroupNorm')
