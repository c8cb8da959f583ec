"""One step of Adam and one of a target, recomputed; and their constants, solved from what a step did."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from parity.tolerances import ADAM_BETAS, ADAM_EPS

# A solved constant is a constant if it explains the numbers to so much of their size.
SOLVED = 1e-6
# What Adam's constants can be, but for rounding: a parameter that grows is not decaying backwards.
LIMITS = {'beta1': (0, 1), 'beta2': (0, 1), 'eps': (0, np.inf), 'decay': (0, np.inf), 'l2': (0, np.inf)}


@dataclass(frozen=True)
class Moments:
    """A parameter with Adam's moments, arrays of one shape, and the steps done."""

    param: np.ndarray
    mu: np.ndarray
    nu: np.ndarray
    count: int


@dataclass(frozen=True)
class Adam:
    """Its constants. decay: decoupled weight decay; l2: weight decay as a part of the gradient."""

    lr: float
    beta1: float = ADAM_BETAS[0]
    beta2: float = ADAM_BETAS[1]
    eps: float = ADAM_EPS
    decay: float = 0.0
    l2: float = 0.0
    bias_correction: bool = True

    def step(self, before: Moments, gradient: np.ndarray) -> Moments:
        """The parameter and moments after one step."""
        gradient = gradient + self.l2 * before.param
        count = before.count + 1
        mu = self.beta1 * before.mu + (1 - self.beta1) * gradient
        nu = self.beta2 * before.nu + (1 - self.beta2) * gradient**2
        first, second = self._unbiased(mu, nu, count)
        direction = first / (np.sqrt(second) + self.eps) + self.decay * before.param
        return Moments(before.param - self.lr * direction, mu, nu, count)

    def gradient(self, before: Moments, after: Moments) -> np.ndarray:
        """What such a step was given, by the first moment."""
        gradient: np.ndarray = (after.mu - self.beta1 * before.mu) / (1 - self.beta1) - self.l2 * before.param
        return gradient

    def again(self, before: Moments, after: Moments) -> Moments:
        """A step from `before` with the gradient that led to `after`."""
        return self.step(before, self.gradient(before, after))

    def fitted(self, before: Moments, after: Moments) -> list['Adam']:
        """With the learning rate, or that and a decay, that explain `after` best: three digits of them."""
        without = dataclasses.replace(self, decay=0.0)
        moved, direction = before.param - after.param, before.param - without.again(before, after).param
        alone = self.lr * ratio(moved, direction)
        rate, decayed = combination(moved, direction, before.param)
        pairs = [(alone, 0.0), (self.lr * rate, decayed / (self.lr * rate) if rate else np.nan)]
        return [
            dataclasses.replace(self, lr=float(f'{lr:.3g}'), decay=float(f'{decay:.3g}'))
            for lr, decay in pairs
            if np.isfinite((lr, decay)).all()
        ]

    def solved(self, before: Moments, gradient: np.ndarray, after: Moments) -> dict[str, float]:
        """For each constant by itself, the value that explains best what `after` is, if it can be one."""
        return {
            name: value
            for name, value in (
                ('beta1', _share(after.mu, before.mu, gradient)),
                ('beta2', _share(after.nu, before.nu, gradient**2)),
                ('lr', self._lr(before, gradient, after)),
                ('eps', self._eps(before, gradient, after)),
                ('decay', self._decay(before, gradient, after)),
                ('l2', self._l2(before, gradient, after)),
            )
            if np.isfinite(value) and _is_possible(name, value)
        }

    def having(self, name: str, value: float) -> 'Adam':
        """The same with another value of one constant."""
        changed: Any = {name: value}
        return dataclasses.replace(self, **changed)

    def _unbiased(self, mu: np.ndarray, nu: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        if not self.bias_correction:
            return mu, nu
        return mu / (1 - self.beta1**count), nu / (1 - self.beta2**count)

    def _lr(self, before: Moments, gradient: np.ndarray, after: Moments) -> float:
        step = self.step(before, gradient).param - before.param
        return self.lr * ratio(after.param - before.param, step)

    def _eps(self, before: Moments, gradient: np.ndarray, after: Moments) -> float:
        expected = self.step(before, gradient)
        first, second = self._unbiased(expected.mu, expected.nu, expected.count)
        moved = before.param - after.param
        return ratio(self.lr * first - moved * np.sqrt(second), moved)

    def _decay(self, before: Moments, gradient: np.ndarray, after: Moments) -> float:
        without = dataclasses.replace(self, decay=0.0).step(before, gradient)
        return ratio(without.param - after.param, self.lr * before.param)

    def _l2(self, before: Moments, gradient: np.ndarray, after: Moments) -> float:
        without = dataclasses.replace(self, l2=0.0).step(before, gradient)
        return ratio(after.mu - without.mu, (1 - self.beta1) * before.param)


def _is_possible(name: str, value: float) -> bool:
    low, high = LIMITS.get(name, (-np.inf, np.inf))
    return bool(low - SOLVED <= value <= high + SOLVED)


def moving_average(online: np.ndarray, target: np.ndarray, tau: float) -> np.ndarray:
    """tau * online + (1 - tau) * target."""
    average: np.ndarray = tau * online + (1 - tau) * target
    return average


def rate(online: np.ndarray, before: np.ndarray, after: np.ndarray) -> float:
    """The tau with which a target went from before to after, following online; NaN where there is none."""
    tau = ratio(after - before, online - before)
    error = np.abs(moving_average(online, before, tau) - after).max(initial=0.0)
    moved = np.abs(after - before).max(initial=0.0)
    return tau if moved and error <= SOLVED * moved else np.nan


def weights(online: np.ndarray, before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """The (a, b) for which a target went from before to a * online + b * before; NaN where there are none."""
    a, b = combination(after, online, before)
    error = np.abs(a * online + b * before - after).max(initial=0.0)
    columns = np.stack([online.ravel(), before.ravel()])
    is_told_apart = after.size > 2 and np.linalg.matrix_rank(columns, rtol=SOLVED) == 2
    return (a, b) if is_told_apart and error <= SOLVED * np.abs(after).max() else (np.nan, np.nan)


def _share(after: np.ndarray, before: np.ndarray, new: np.ndarray) -> float:
    """The b in after = b * before + (1 - b) * new."""
    return ratio(after - new, before - new)


def combination(found: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """The (a, b) for which a * first + b * second is nearest to what was found, in least squares."""
    columns = np.stack([first.ravel(), second.ravel()], axis=-1)
    (a, b), *_ = np.linalg.lstsq(columns, found.ravel(), rcond=None)
    return float(a), float(b)


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> float:
    """The factor that takes the one nearest to the other, in least squares."""
    square = float((denominator**2).sum())
    return float((numerator * denominator).sum()) / square if square else np.nan
