"""What else an update could have done: each known mistake recomputed from the recorded state."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from parity.locating.recorded import Step, moments_of
from parity.locating.steps import (
    SOLVED,
    Adam,
    Moments,
    combination,
    moving_average,
    rate,
    ratio,
    weights,
)

Constants = tuple[tuple[str, float], ...]  # (name in steps.Adam, value)
Weights = tuple[float, float] | None


class Solved(NamedTuple):
    """Of the port's optimiser and of its targets' averages, what explains a step of some parameter."""

    constants: Constants
    weights: Weights


@dataclass(frozen=True)
class Follows:
    """A target parameter's online parameter and the rate at which the reference follows it."""

    online: str
    tau: float


def follows(steps: list[Step]) -> dict[str, Follows]:
    """The target parameters: those that the reference moves without a gradient, towards another one."""
    found: dict[str, Follows] = {}
    for step in steps:
        rested = [path for path, mu in step.reference.opt_mu.items() if not mu.any()]
        for path in rested:
            before, after = step.before.params[path], step.reference.params[path]
            if path not in found and before.shape == after.shape and (before != after).any():
                online = next(_online(step, path), None)
                found |= {} if online is None else {path: online}
    return found


def adam_of(step: Step, path: str, lr: float) -> Adam:
    """The reference's optimiser: with this learning rate, or with what explains its step of a parameter."""
    before, after = step.moments(path), moments_of(step.reference, path)
    found: list[Adam] = [Adam(lr), *(Adam(lr).fitted(before, after) if after.mu.any() else ())]
    for adam in found:
        if step.margin(path, adam.again(before, after), what='reference') <= 1:
            return adam
    return found[0]


def solved_constants(step: Step, adams: Mapping[str, Adam]) -> Constants:
    """Constants of the port's optimiser, each of which explains all of some parameter; the commonest first.

    A parameter of a single number would be explained by any constant, and one whose step is right for its
    gradient by those that the optimiser has.
    """
    counts: Counter[tuple[str, float]] = Counter()
    for path, adam in adams.items():
        is_trained = path in step.reference.opt_mu and step.port.params[path].size > 1
        if is_trained and not _is_right(step, path, adam):
            before, after = step.moments(path), moments_of(step.port, path)
            with np.errstate(all='ignore'):  # what does not explain the step may be any number
                solved = adam.solved(before, step.gradients[path], after)
            # what somebody wrote is short
            rounded = [(name, float(f'{value:.3g}')) for name, value in solved.items()]
            counts.update(one for one in [*rounded, *solved.items()] if _explains(step, path, adam, one))
    return tuple(constant for constant, _ in counts.most_common())


def solved_weights(step: Step, paths: Iterable[str], followed: Mapping[str, Follows]) -> Weights:
    """The commonest (a, b) with which targets became a * online + b * target; None where none did."""
    counts: Counter[tuple[float, float]] = Counter()
    for path in (path for path in paths if path in followed):
        online, target = (step.before.params[name] for name in (followed[path].online, path))
        found = weights(online, target, step.port.params[path])
        if np.isfinite(found).all():
            counts[float(f'{found[0]:.6g}'), float(f'{found[1]:.6g}')] += 1
    return next((found for found, _ in counts.most_common(1)), None)


def _is_right(step: Step, path: str, adam: Adam) -> bool:
    """Whether the port's step is that of the reference's optimiser with the gradient that it was given."""
    return step.margin(path, adam.step(step.moments(path), step.gradients[path])) <= 1


def _explains(step: Step, path: str, adam: Adam, constant: tuple[str, float]) -> bool:
    ((_, outcome),) = _with_constants(step, path, adam, (constant,))
    return step.margin(path, outcome) <= 1


def _with_constants(
    step: Step, path: str, adam: Adam, constants: Constants
) -> Iterator[tuple[tuple[str, float], Moments]]:
    for name, number in constants:
        with np.errstate(all='ignore'):
            yield (name, number), adam.having(name, number).step(step.moments(path), step.gradients[path])


def alternatives(
    step: Step, path: str, adam: Adam, followed: Mapping[str, Follows], solved: Solved
) -> Iterator[tuple[str, str, Moments]]:
    """What else could have been done: (cause, description, outcome), the likeliest first."""
    before = step.moments(path)
    if path in followed:
        for cause, description, param in _of_target(step, path, followed[path], solved.weights):
            yield cause, description, Moments(param, before.mu, before.nu, before.count)
    if path in step.reference.opt_mu:
        for cause, description, outcome in _of_trained(step, path, adam, solved.constants):
            if path in followed and _moves(step, path):  # the average overwrites what Adam did to it
                outcome = dataclasses.replace(outcome, param=step.reference.params[path])
            yield cause, description, outcome
    elif path not in followed:
        yield from _of_statistic(step, path)


def _of_target(
    step: Step, path: str, follow: Follows, found_weights: Weights
) -> Iterator[tuple[str, str, np.ndarray]]:
    """Other values, another time, another rate."""
    before, tau = step.before.params[path], follow.tau
    network = follow.online.split('/')[0]
    old, new = (state.params[follow.online] for state in (step.before, step.port))
    after_step = moving_average(new, before, tau)
    if _moves(step, path):
        yield 'target from the values after the step', f'follows {network} as stepped', after_step
        yield 'target not updated', 'rests in a step in which the reference follows', before
        turned = moving_average(old, before, 1 - tau)
        yield 'target average in the wrong direction', f'tau {1 - tau:.6g} instead of {tau:.6g}', turned
    else:
        average = moving_average(old, before, tau)
        yield 'target updated in a step in which it rests', f'follows {network} always', average
        yield 'target updated in a step in which it rests', f'follows {network} as stepped', after_step
    for name, online in (('before', old), ('after', new)):
        yield 'target copied', f'{network} from {name} the step', online
    solved = rate(old, before, step.port.params[path])
    if np.isfinite(solved):
        found = moving_average(old, before, solved)
        yield 'target rate', f'tau {solved:.6g} instead of {tau:.6g}', found
    if found_weights is not None and _moves(step, path):  # where it rests, a decay would look alike
        own, its = found_weights
        description = f'{own:.6g} of {network} and {its:.6g} of itself instead of {tau:.6g} and {1 - tau:.6g}'
        yield 'target average of other weights', description, own * old + its * before


def _of_trained(
    step: Step, path: str, adam: Adam, constants: Constants
) -> Iterator[tuple[str, str, Moments]]:
    """Another gradient, skipped, another state, other constants."""
    before, gradient = step.moments(path), step.gradients[path]
    yield from _of_gradient(step, path, adam)
    if not gradient.any():
        yield 'parameter without gradient skipped', 'gradient None where the reference has zeros', before
    else:
        yield 'parameter left out of the optimiser', 'not moved by its gradient', before
    for description, state in _states(before):
        yield 'optimiser state', description, adam.step(state, gradient)
    for (name, number), outcome in _with_constants(step, path, adam, constants):
        yield 'optimiser constant', f'{name} {number:.6g} instead of {getattr(adam, name):.6g}', outcome
    uncorrected = Adam(adam.lr, bias_correction=False).step(before, gradient)
    yield 'optimiser without bias correction', 'moments as they are', uncorrected
    descent = before.param - adam.lr * gradient
    yield 'plain gradient descent', 'no Adam', Moments(descent, before.mu, before.nu, before.count)


def _of_gradient(step: Step, path: str, adam: Adam) -> Iterator[tuple[str, str, Moments]]:
    """Gradients that agreed, and were changed before the step; or that are right, in a step that is."""
    before, found = step.moments(path), step.gradients[path]
    given = adam.gradient(before, moments_of(step.reference, path))
    if np.abs(given - found).max(initial=0.0) <= SOLVED * np.abs(found).max(initial=0.0):
        yield 'parameter not set after the step', 'as its gradient moves it', adam.step(before, found)
        return
    scaled = ratio(found, given) * given
    if np.abs(scaled - found).max(initial=0.0) <= SOLVED * np.abs(found).max(initial=0.0):
        yield 'gradient scaled before the step', 'by one number, as clipping does', adam.step(before, scaled)
    yield 'gradient changed before the step', 'and not by one number', adam.step(before, found)


def _of_statistic(step: Step, path: str) -> Iterator[tuple[str, str, Moments]]:
    """A running mean or variance: not updated, at another rate, or of the unbiased variance."""
    before, after, found = (state.params[path] for state in (step.before, step.reference, step.port))
    for cause, description, outcome in _statistics(before, after, found):
        yield cause, description, dataclasses.replace(step.moments(path), param=outcome)


def _statistics(
    before: np.ndarray, after: np.ndarray, found: np.ndarray
) -> Iterator[tuple[str, str, np.ndarray]]:
    yield 'statistic not updated', 'rests in a step in which it moves', before
    factor = ratio(found - before, after - before)
    if found.size > 1 and np.isfinite(factor):
        moved = before + factor * (after - before)
        yield 'rate of a running statistic', f'moves {factor:.4g} times as far', moved
    # with the variance v, after = (1 - m) before + m v, and found the same with v n / (n - 1)
    share, other = combination(found - after, after, before)
    if found.size > 2 and 0 < share <= 1:
        count = round(1 / share) + 1
        unbiased = after + (after + other / share * before) / (count - 1)
        yield 'unbiased running variance', f'n / (n - 1) of it, n = {count}', unbiased


def _states(before: Moments) -> Iterator[tuple[str, Moments]]:
    zero = np.zeros_like(before.param)
    yield 'moments and count start at zero', Moments(before.param, zero, zero, 0)
    yield 'moments start at zero', Moments(before.param, zero, zero, before.count)
    for count in {0, before.count - 1, before.count + 1} - {before.count, -1}:
        description = f'count {count} instead of {before.count}'
        yield description, Moments(before.param, before.mu, before.nu, count)


def _online(step: Step, path: str) -> Iterator[Follows]:
    """What the reference's target follows: first parameters with the same name in another network."""
    before, after = step.before.params, step.reference.params
    ending = path.partition('/')[2]
    names = sorted(before, key=lambda name: (name.partition('/')[2] != ending, name))
    for name in names:
        if name != path and before[name].shape == before[path].shape:
            tau = rate(before[name], before[path], after[path])
            if 0 < tau <= 1:
                yield Follows(name, tau)


def _moves(step: Step, path: str) -> bool:
    return bool((step.reference.params[path] != step.before.params[path]).any())
