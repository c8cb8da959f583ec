"""Why parameters differ after a step whose gradients agree: alternatives recomputed from the recorded state.

Each step starts from the reference's state. What the port made of it is compared with what a step would have
made that has one mistake; the mistake that reproduces the port's numbers is named, and otherwise the nearest.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from parity import trees
from parity.locating.steps import Adam, Moments, moving_average, rate
from parity.runs import Runs
from parity.sides import State
from parity.stages import step_name
from parity.tolerances import FLOOR, Tolerance, largest
from parity.trees import Arrays, subtree

UNKNOWN = 'cause unknown'
_Row = tuple[float, str, str, str]  # (margin, description, step, path)
Constants = tuple[tuple[str, float], ...]  # (name in steps.Adam, value)


@dataclass(frozen=True)
class UpdateFinding:
    """Some parameters that differ after some steps, for one cause.

    cause:  its name, or 'cause unknown'; description: with numbers.
    steps:  `step3 finetune`; paths: of the parameters.
    margin: of what is left if the cause is what happened, (error / allowed), at most 1 where it is known.
    """

    cause: str
    description: str
    steps: tuple[str, ...]
    paths: tuple[str, ...]
    margin: float


@dataclass(frozen=True)
class Step:
    """One update of both sides, from the same state; gradients: of the port, as its optimiser saw them."""

    name: str
    before: State
    reference: State
    port: State
    gradients: Arrays
    tolerances: Mapping[str, Tolerance]

    def moments(self, path: str) -> Moments:
        """A parameter before the step."""
        return _moments(self.before, path)

    def margin(self, path: str, found: Moments, *, what: str = 'port') -> float:
        """How far the parameter and its moments after the step are from `found`, in what is allowed."""
        state: State = getattr(self, what)
        after = _moments(state, path)
        pairs = [(f'params/{path}', after.param, found.param)]
        pairs += [(f'opt_mu/{path}', after.mu, found.mu)] if path in state.opt_mu else []
        pairs += [(f'opt_nu/{path}', after.nu, found.nu)] if path in state.opt_nu else []
        return max(_margin(one, other, self.tolerances[f'{self.name}/{name}']) for name, one, other in pairs)


@dataclass(frozen=True)
class Follows:
    """A target parameter's online parameter and the rate at which the reference follows it."""

    online: str
    tau: float


def updates(runs: Runs) -> list[UpdateFinding]:
    """Why parameters differ after the steps of the update stage, in float64; nothing where none differs."""
    steps = list(recorded_steps(runs))
    followed = follows(steps)
    lr = runs.longest_step
    found: dict[tuple[str, str], list[_Row]] = {}
    for step in steps:
        differing = [
            path for path in step.port.params if step.margin(path, _moments(step.reference, path)) > 1
        ]
        constants = solved_constants(step, differing, Adam(lr))
        for path in differing:
            cause, description, margin = explained(step, path, Adam(lr), followed, constants)
            key = cause, '' if cause == UNKNOWN else description
            found.setdefault(key, []).append((margin, description, step.name, path))
    return [_finding(cause, rows) for (cause, _), rows in found.items()]


def recorded_steps(runs: Runs) -> Iterator[Step]:
    """The update stage of both sides, with the port's gradients."""
    leader, port = runs.reference64, runs.port64
    leaves = leader.stage('update')
    tolerances = runs.tolerances('update', 'float64', leaves)
    for i, call in leader.script():
        before = leader.states[i]
        port.side.restore(before)
        port.side.update(call, port.batch)
        after = subtree(leaves, step_name(i, call))
        yield Step(
            step_name(i, call),
            before,
            _state(after, before),
            port.side.state(),
            _gradients(port.side),
            tolerances,
        )


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


def solved_constants(step: Step, paths: Sequence[str], adam: Adam) -> Constants:
    """Constants of the port's optimiser, each of which explains all of some parameter; the commonest first.

    A parameter of a single number would be explained by any constant.
    """
    counts: Counter[tuple[str, float]] = Counter()
    for path in paths:
        if path in step.reference.opt_mu and step.port.params[path].size > 1:
            before, after = step.moments(path), _moments(step.port, path)
            with np.errstate(all='ignore'):  # what does not explain the step may be any number
                solved = adam.solved(before, step.gradients[path], after)
            # what somebody wrote is short
            rounded = [(name, float(f'{value:.3g}')) for name, value in solved.items()]
            counts.update(one for one in [*rounded, *solved.items()] if _explains(step, path, adam, one))
    return tuple(constant for constant, _ in counts.most_common())


def _explains(step: Step, path: str, adam: Adam, constant: tuple[str, float]) -> bool:
    ((_, outcome),) = _with_constants(step, path, adam, (constant,))
    return step.margin(path, outcome) <= 1


def _with_constants(
    step: Step, path: str, adam: Adam, constants: Constants
) -> Iterator[tuple[tuple[str, float], Moments]]:
    for name, number in constants:
        with np.errstate(all='ignore'):
            yield (name, number), adam.having(name, number).step(step.moments(path), step.gradients[path])


def explained(
    step: Step, path: str, adam: Adam, followed: Mapping[str, Follows], constants: Constants
) -> tuple[str, str, float]:
    """(cause, description, remaining margin) of what the port did to one parameter in one step."""
    tried = [
        (step.margin(path, outcome), cause, description)
        for cause, description, outcome in _alternatives(step, path, adam, followed, constants)
    ]
    known = [row for row in tried if row[0] <= 1]
    if known:
        margin, cause, description = known[0]
        return cause, description, margin
    if not tried:
        return UNKNOWN, 'no known mistake of an optimiser applies to it', np.inf
    margin, cause, description = min(tried)
    return UNKNOWN, f'nearest: {cause}, {description}', margin


def _alternatives(
    step: Step, path: str, adam: Adam, followed: Mapping[str, Follows], constants: Constants
) -> Iterator[tuple[str, str, Moments]]:
    """What else could have been done: (cause, description, outcome), the likeliest first."""
    before = step.moments(path)
    if path in followed:
        for cause, description, param in _of_target(step, path, followed[path]):
            yield cause, description, Moments(param, before.mu, before.nu, before.count)
    if path in step.reference.opt_mu:
        for cause, description, outcome in _of_trained(step, path, adam, constants):
            if path in followed and _moves(step, path):  # the average overwrites what Adam did to it
                outcome = dataclasses.replace(outcome, param=step.reference.params[path])
            yield cause, description, outcome


def _of_target(step: Step, path: str, follow: Follows) -> Iterator[tuple[str, str, np.ndarray]]:
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


def _of_trained(
    step: Step, path: str, adam: Adam, constants: Constants
) -> Iterator[tuple[str, str, Moments]]:
    """Skipped, another state, other constants."""
    before, gradient = step.moments(path), step.gradients[path]
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


def _finding(cause: str, rows: list[_Row]) -> UpdateFinding:
    """Of what is unknown, the nearest of all tells it."""
    _, description, *_ = min(rows)
    steps = tuple(dict.fromkeys(step for _, _, step, _ in rows))
    paths = tuple(dict.fromkeys(path for _, _, _, path in rows))
    return UpdateFinding(cause, description, steps, paths, max(margin for margin, *_ in rows))


def _moments(state: State, path: str) -> Moments:
    zero = np.zeros_like(state.params[path])
    count = int(state.opt_count.get(path, 0))
    return Moments(state.params[path], state.opt_mu.get(path, zero), state.opt_nu.get(path, zero), count)


def _margin(found: np.ndarray, expected: np.ndarray, tolerance: Tolerance) -> float:
    if found.shape != expected.shape:
        return np.inf
    error = np.abs(found - expected)
    # what the reference has as exactly zero is allowed nothing, but the expected outcome has its own rounding
    allowed = tolerance.allowed + FLOOR * np.finfo(np.float64).eps * largest(expected)
    with np.errstate(over='ignore', divide='ignore', invalid='ignore'):
        margins = np.where(error == 0, 0.0, error / allowed)
    return float(np.nan_to_num(margins, nan=np.inf).max(initial=0.0))


def _state(leaves: Arrays, before: State) -> State:
    params, mu, nu, counts = (subtree(leaves, name) for name in ('params', 'opt_mu', 'opt_nu', 'opt_count'))
    return State(params, mu, nu, counts, leaves.get('key', before.key))


def _gradients(side: Any) -> Arrays:
    """The gradients that the port's update left behind."""
    import weight_bridge

    if hasattr(side, 'bridge'):
        grads = {name: parameter.grad for name, parameter in side.trained().items()}
        gradients: Arrays = side.bridge.to_reference(side.arrays(grads))
        return gradients
    return trees.flat(weight_bridge.grads_to_flax(side.agent.network), np.asarray)
