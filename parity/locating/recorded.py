"""The update stage of both sides, step by step from the same state, with the port's gradients."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from parity import trees
from parity.locating.steps import Moments
from parity.runs import Runs
from parity.sides import State
from parity.stages import step_name
from parity.tolerances import FLOOR, Tolerance, largest
from parity.trees import Arrays, subtree


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
        return moments_of(self.before, path)

    def margin(self, path: str, found: Moments, *, what: str = 'port') -> float:
        """How far the parameter and its moments after the step are from `found`, in what is allowed."""
        state: State = getattr(self, what)
        after = moments_of(state, path)
        pairs = [(f'params/{path}', after.param, found.param)]
        pairs += [(f'opt_mu/{path}', after.mu, found.mu)] if path in state.opt_mu else []
        pairs += [(f'opt_nu/{path}', after.nu, found.nu)] if path in state.opt_nu else []
        return max(_margin(one, other, self.tolerances[f'{self.name}/{name}']) for name, one, other in pairs)


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


def moments_of(state: State, path: str) -> Moments:
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
