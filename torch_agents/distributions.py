"""The action and latent distributions: a diagonal Gaussian, and the same seen through tanh."""

import math
from dataclasses import dataclass

import torch

from torch_agents import random
from torch_agents.layers import softplus


@dataclass(frozen=True)
class DiagonalGaussian:
    """Independent normals over the last axis.

    loc:        (..., A) mean.
    scale_diag: (..., A) standard deviation; zero makes every sample the mean.
    """

    loc: torch.Tensor
    scale_diag: torch.Tensor

    def mode(self):
        """The most likely value, (..., A)."""
        return self.loc

    def stddev(self):
        """The standard deviation, (..., A)."""
        return self.scale_diag

    def sample(self, seed):
        """One reparameterised draw, (..., A): gradients reach loc and scale_diag."""
        return self.loc + self.scale_diag * random.normal(seed, self.loc.shape, self.loc.dtype)

    def log_prob(self, value):
        """The log density of value (..., A), summed over the last axis: (...)."""
        z = (value - self.loc) / self.scale_diag
        constant = 0.5 * math.log(2 * math.pi) * self.loc.shape[-1]
        return -0.5 * (z**2).sum(axis=-1) - torch.log(self.scale_diag).sum(axis=-1) - constant


@dataclass(frozen=True)
class TanhDiagonalGaussian:
    """tanh of a DiagonalGaussian. Nothing is clamped: log_prob at exactly -1 or 1 is not finite."""

    loc: torch.Tensor
    scale_diag: torch.Tensor

    def base(self):
        """The Gaussian before tanh."""
        return DiagonalGaussian(self.loc, self.scale_diag)

    def mode(self):
        """tanh of the Gaussian's mode, (..., A)."""
        return torch.tanh(self.loc)

    def stddev(self):
        """The standard deviation of the Gaussian before tanh, (..., A)."""
        return self.scale_diag

    def sample(self, seed):
        """One reparameterised draw, (..., A), inside [-1, 1]."""
        return torch.tanh(self.base().sample(seed))

    def log_prob(self, value):
        """The log density of value (..., A) in [-1, 1], summed over the last axis: (...)."""
        x = torch.arctanh(value)
        log_det = 2 * (math.log(2) - x - softplus(-2 * x))
        return self.base().log_prob(x) - log_det.sum(axis=-1)
