"""What the bridge's tests share: float64 in both frameworks, and trees without a special value."""

import jax
import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True)
def float64():
    """float64 as both default dtypes: a wrong layout stands out from rounding by ten orders of magnitude."""
    before = jax.config.jax_enable_x64, torch.get_default_dtype()
    jax.config.update('jax_enable_x64', True)
    torch.set_default_dtype(torch.float64)
    yield
    jax.config.update('jax_enable_x64', before[0])
    torch.set_default_dtype(before[1])


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def randomised(rng):
    """A float64 tree of the same shapes at random: zero biases and unit scales would hide swapped leaves."""
    return lambda tree: jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), tree)
