"""How far two results may differ, and why: derived from the reference's own rounding error, never tuned.

float64 decides semantics. The reference runs again with every parameter leaf scaled by a few roundings,
2**-50, and every sum by one or none (`backends.rounding`): the same function, rounded differently everywhere.
How far its results move is its *noise*; the port may differ from the reference by SAFETY times as much. (J.
Vignes 1993, "A stochastic arithmetic for reliable scientific computation".)

float32 decides numerics. The reference runs in float32, and in float64 from the same float32 inputs and
draws, its *truth*; the difference is its noise, of these inputs and of some that are scaled a little. The
port's error against the truth may be SAFETY times as much. Where that is not enough, what the truth makes of
inputs a few roundings off is noise as well.

Samples of the noise can only allow more. So they are taken as they are needed (`Runs.compare`): what is well
within the rounding floor is judged by that alone.

Where a sample is finite and the reference is not, or reversely, rounding decides which: a free run may come
to an action of nearly 1, and atanh of 1 is infinite. Such samples tell nothing of the size of the noise, so
more are taken. The port may be as non-finite there as one of them, and anything if none of them is finite.

To both comes a rounding floor of FLOOR machine epsilons times the square root of the longest reduction
(N. Higham and T. Mary 2019, "A new approach to probabilistic rounding error analysis"), relative to the
leaf's largest value, because samples of the noise can be small by luck. The gradients of one loss are one
vector, and the floor of each is relative to the largest of all leaves: what is left of a gradient that
cancels is the rounding of the terms that cancelled. A leaf that is exactly zero, without noise, has no
floor: it must stay zero, but for underflow; unless it is zero only where rows are equal, for then its terms
cancel. XLA on a CPU makes subnormal numbers zero and torch does not, and where they are multiplied up
afterwards, more is left of them. So `underflow` is always allowed: what is lost by it is no more than
rounding to anything larger (J. Demmel 1984, "Underflow and the reliability of numerical software").
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from parity import chunks
from parity.trees import Arrays

SAFETY = 8.0
FLOOR = 8.0

ADAM_BETAS = 0.9, 0.999
ADAM_EPS = 1e-8


@dataclass(frozen=True)
class Tolerance:
    """The allowed error of one leaf.

    allowed: a number, or an array like the leaf where entries differ (Adam's steps).
    why:     where it comes from, in words with numbers.
    """

    allowed: float | np.ndarray
    why: str

    @property
    def largest(self) -> float:
        """What the entry is allowed that is allowed most."""
        return float(np.max(self.allowed)) if isinstance(self.allowed, np.ndarray) else self.allowed

    def widened(self, extra: float | np.ndarray, why: str) -> 'Tolerance':
        """This tolerance plus `extra`, for the reason `why`."""
        return Tolerance(self.allowed + extra, f'{self.why} + {why}')


EXACT = Tolerance(0.0, 'exact: not a floating value')


@functools.cache
def underflow(dtype: str | np.dtype[Any]) -> float:
    """The smallest normal number over the machine epsilon: 1e-31 in float32, 1e-292 in float64."""
    info = np.finfo(dtype)
    return float(info.smallest_normal) / float(info.eps)


def largest(array: np.ndarray) -> float:
    """The largest finite magnitude."""
    return chunks.largest({'': array})['']


def tolerance(
    reference: np.ndarray,
    noise: float | None,
    dtype: str,
    reduction: int,
    whole: float = 0.0,
    cancels: bool = False,
    own: float | None = None,
) -> Tolerance:
    """The tolerance of one leaf.

    reference: the leaf's value; noise: the reference's own error in it, None if it was not measured, for
    what needs no more than its floor; reduction: the longest sum in it;
    whole: the largest magnitude in the vector that the leaf is a part of, for gradients; cancels: it is zero
    because its terms cancel here, not because it has none; own: its largest magnitude, if that is known.
    """
    if reference.dtype.kind != 'f':
        return EXACT
    # a mean of booleans is float32 in jax, whatever the precision
    coarser = _coarser(dtype, reference.dtype)
    eps = float(np.finfo(coarser).eps)
    own = largest(reference) if own is None else own
    # zero throughout, and not only by luck of rounding
    size = max(own, whole) if own or noise or cancels else 0.0
    floor = FLOOR * eps * math.sqrt(reduction) * size
    why = f'{FLOOR:g} eps sqrt({reduction}) x largest {size:.2e}'
    why = why if noise is None else f'{SAFETY:g} x noise {noise:.2e} + {why}'
    return Tolerance(SAFETY * (noise or 0.0) + floor + underflow(coarser), why)


@functools.cache
def _coarser(dtype: str, other: np.dtype[Any]) -> np.dtype[Any]:
    """The coarser of two precisions."""
    return max(np.dtype(dtype), other, key=lambda one: np.finfo(one).eps)


def square_slack(second: np.ndarray, count: int, allowed_mu: float) -> np.ndarray:
    """How far a gradient tolerance may move Adam's second moment, an array like the leaf.

    The moment averages g**2: gradients known to within d move it by at most 2 sqrt(v w) d + w d**2 (Cauchy-
    Schwarz), w being the sum of the average's weights after `count` steps.
    """
    beta1, beta2 = ADAM_BETAS
    gradient_error, weight = np.float64(allowed_mu / (1 - beta1)), 1 - beta2**count
    with np.errstate(over='ignore'):  # a square that is infinite allows all
        slack: np.ndarray = 2 * np.sqrt(second * weight) * gradient_error + weight * gradient_error**2
    return slack


def norm_slack(first: Arrays, allowed_mu: Mapping[str, float]) -> float:
    """How far rounding in the gradients may move the sum of their norms.

    A leaf of n entries, each known to within d, has a norm known to within sqrt(n) d (triangle inequality).
    Only leaves that may be all rounding count, by their first moments: in the norm of a larger one errors of
    either sign cancel, and the floor of the sum allows what is left.
    """
    rounding = (path for path, size in chunks.largest(first).items() if size <= allowed_mu[path])
    beta1, _ = ADAM_BETAS
    return sum(math.sqrt(first[path].size) * allowed_mu[path] / (1 - beta1) for path in rounding)


def adam_slack(second: np.ndarray, count: int, allowed_mu: float, learning_rate: float) -> np.ndarray:
    """How far rounding in the gradient may move each parameter in one step of Adam, an array like the leaf.

    A step is lr * m / (sqrt(v) + eps): a gradient known to within g moves it by lr * g / (sqrt(v) + eps), so
    that an entry whose gradient is pure rounding may be a whole step (either sign, hence twice) away. Such an
    entry is judged by its gradient, that is by the moments, and not by the step.
    """
    beta1, beta2 = ADAM_BETAS
    unbiased = second.astype(np.float64) / (1 - beta2**count)
    error = allowed_mu / (1 - beta1) / (np.sqrt(unbiased) + ADAM_EPS)
    slack: np.ndarray = 2 * learning_rate * np.minimum(error, _longest_step(count))
    return slack


def _longest_step(count: int) -> float:
    """The largest |step| / lr that Adam can make: Cauchy-Schwarz on the weights of its two averages."""
    beta1, beta2 = ADAM_BETAS
    ratio = beta1**2 / beta2
    weights = (1 - beta1) ** 2 / (1 - beta1**count) ** 2 * (1 - ratio**count) / (1 - ratio)
    return float(np.sqrt(weights * (1 - beta2**count) / (1 - beta2)))
