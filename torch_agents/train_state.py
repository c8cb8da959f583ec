"""All networks of an agent in one parameter tree, stepped by one Adam."""

import functools

import torch
import torch.nn as nn

from torch_agents.adam import step_all
from torch_agents.shared_reads import shared_reads


class TrainState(nn.Module):
    """All networks of an agent (online and target), and the Adam that steps them as one tree.

    step:   the number of updates done.
    params: {'modules_<name>.<path>': the live nn.Parameter}, of all parameters.
    tx:     torch.optim.Adam over the whole tree.
    """

    def __init__(self, networks):
        super().__init__()
        self.step = 0
        self.looks = {}
        for name, module in networks.items():
            self.add_module(f'modules_{name}', module)
        # once: `functional_call` searches them in every call, and takes as long as a small network
        self.slots = {name: slots_of(module, f'modules_{name}') for name, module in networks.items()}

    @classmethod
    @torch.no_grad()
    def create(cls, networks, rng, learning_rate, device=None, dtype=None):
        """networks: {name: (module, example inputs)}, initialised in this order with the key rng."""
        for module, inputs in networks.values():
            module(*map(example, inputs))  # gives the lazy layers their shapes
        self = cls({name: module for name, (module, _) in networks.items()})
        for path, layer in self.named_modules():
            if hasattr(layer, 'init_params'):
                layer.init_params(rng, path.split('.'))
        self.to(device=device, dtype=dtype)
        # parity: eps is added after the square root in both; the betas are the defaults of both
        self.tx = torch.optim.Adam(
            self.parameters(), lr=learning_rate, betas=(0.9, 0.999), eps=1e-8, fused=True
        )
        return self

    @property
    def params(self):
        return dict(self.named_parameters())

    def forward(self, *args, name, params=None, **kwargs):
        """The output of network `name`: trained if params are given, else frozen (the stored values)."""
        slots = self.slots[name]
        stored = [owner[key] for _, owner, key in slots]
        try:
            for (path, owner, key), param in zip(slots, stored, strict=True):
                owner[key] = param.detach() if params is None else params[path]
            return getattr(self, f'modules_{name}')(*args, **kwargs)
        finally:
            for (_, owner, key), param in zip(slots, stored, strict=True):
                owner[key] = param

    def subtree(self, name):
        """The live parameters of network `name`, under their whole paths."""
        return {path: owner[key] for path, owner, key in self.slots[name]}

    def select(self, name):
        """Network `name` as a function; pass `params=grad_params` to train it, nothing to read it frozen."""
        return functools.partial(self, name=name)

    @torch.no_grad()
    def copy_params(self, source, target):
        """Set the parameters of network `target` equal to those of network `source`."""
        for param, value in zip(self.subtree(target).values(), self.subtree(source).values(), strict=True):
            param.copy_(value)
        return self

    def set_param(self, name, value):
        """Set the parameter of network `name`, a Param. Its shape may change; its moments are then broadcast.

        optax would broadcast them itself, in the next update.
        """
        param = getattr(self, f'modules_{name}').value
        if param.shape == value.shape:
            param.data.copy_(value)
            return self
        param.data, param.grad = value, None
        state = self.tx.state.get(param, {})
        for moment in state.keys() - {'step'}:
            state[moment] = torch.broadcast_to(state[moment], value.shape).clone()
        return self

    def apply_loss_fn(self, loss_fn, targets=None, tau=None):
        """One Adam step of the whole tree on loss_fn(params) -> (loss, info), then the target updates.

        targets: {target network: online network}; target <- tau * online + (1 - tau) * target, where both are
                 the values from before this step.
        Returns (this state, info with grad/max, grad/min and grad/norm added).
        """
        params = self.params
        self.tx.zero_grad()
        with shared_reads():
            loss, info = loss_fn(params)
        loss.backward()
        info = {**info, **gradient_info(gradients(params.values()))}
        targets = targets or {}
        # parity: before the step, because the step overwrites the old values in place
        for target, online in targets.items():
            self.moving_average(target, online, tau)
        averaged = [param for target in targets for param in self.subtree(target).values()]
        step_all(self.tx, params.values(), self.looks, averaged)
        self.step += 1
        return self, {key: value.detach() for key, value in info.items()}

    @torch.no_grad()
    def moving_average(self, target, online, tau):
        """Make network `target` tau * online + (1 - tau) * target, of the stored values."""
        for p, tp in zip(self.subtree(online).values(), self.subtree(target).values(), strict=True):
            tp.mul_(1 - tau).add_(p, alpha=tau)


def slots_of(network, path):
    """Where a network at this path keeps its parameters: (whole path, dict of the layer, key in it)."""
    return [
        (f'{prefix}.{key}', layer._parameters, key)
        for prefix, layer in network.named_modules(prefix=path)
        for key in layer._parameters
        if layer._parameters[key] is not None
    ]


def example(x):
    """An example input as the new networks take it: on the CPU, floating values of torch's default dtype."""
    if x is None or isinstance(x, bool):
        return x
    x = torch.as_tensor(x, device='cpu')
    return x.to(torch.get_default_dtype()) if x.is_floating_point() else x


def gradients(params):
    """The gradients of what the loss used; a zero stands for those of all else."""
    grads = [param.grad for param in params if param.grad is not None]
    return [*grads, grads[0].new_zeros(())] if len(grads) < len(params) else grads


def gradient_info(grads):
    """Maximum and minimum over all entries, and the *sum* of the leaves' Euclidean norms."""
    lowest, highest = zip(*(g.aminmax() for g in grads), strict=True)
    return {
        'grad/max': torch.stack(highest).max(),
        'grad/min': torch.stack(lowest).min(),
        'grad/norm': torch.stack([torch.linalg.vector_norm(g) for g in grads]).sum(),
    }
