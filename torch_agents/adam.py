"""One step of torch's Adam for a whole tree, as optax does it: also for what the loss did not use."""

from typing import NamedTuple

import torch


@torch.no_grad()
def step_all(tx, params, looks, settled=()):
    """Step all params, which are tx's; without a gradient as with one of zero.

    looks:   {param: Look}, empty at first; to be kept from step to step.
    settled: params that have their new values already: their moments are stepped alone.

    Where the moments are zero as well, as those of targets and of networks yet to be trained, nothing moves,
    and Adam would take as long for it as for the others: such steps are only counted.
    """
    unused = [param for param in params if param.grad is None]
    resting = {param for param in unused if is_resting(param, tx.state.get(param, {}), looks)}
    fill_gradients([param for param in unused if param not in resting])
    count_steps({param: tx.state[param] for param in resting}, looks)
    values = [(param, param.clone()) for param in settled if param not in resting]
    tx.step()
    for param, value in values:
        param.copy_(value)


def is_resting(param, state, looks):
    """Whether the moments are zero. They are looked at once, and again after somebody else's step."""
    if param not in looks or not looks[param].holds(state):
        are_zero = bool(state) and not any(state[key].any() for key in state.keys() - {'step'})
        looks[param] = Look([*state.values()], writes(state), are_zero)
    return looks[param].are_zero


def count_steps(states, looks):
    """Count a step of these parameters, which is not somebody else's."""
    if states:
        torch._foreach_add_([state['step'] for state in states.values()], 1)
    for param, state in states.items():
        looks[param] = looks[param]._replace(writes=writes(state))


class Look(NamedTuple):
    """What a look at the state of a parameter found. Its tensors are kept: no others take their ids."""

    tensors: list
    writes: list
    are_zero: bool

    def holds(self, state):
        """Whether another look would find the same: moments that are not zero hardly become zero."""
        is_of_it = [*map(id, self.tensors)] == [*map(id, state.values())]
        return is_of_it and not (self.are_zero and self.writes != writes(state))


def writes(state):
    """How often each tensor was written into. Adam's fused kernel counts in `step` alone, which is enough."""
    return [tensor._version for tensor in state.values()]


def fill_gradients(params):
    """Give each of the parameters the gradient zero.

    It is one array, as it is only read: to fill one for each takes as long as Adam.
    """
    if not params:
        return
    zeros = torch.zeros_like(max(params, key=torch.numel)).flatten()
    for param in params:
        # parity: an unused parameter has gradient zero in JAX, and its moments still move it
        param.grad = zeros[: param.numel()].view(param.shape)
