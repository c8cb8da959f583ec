"""The port: the same regression in PyTorch, with what torch needs to make optax's steps."""

import torch
from torch import nn


def optimizer(parameters):
    parameters = list(parameters)
    kernels = [parameter for parameter in parameters if parameter.ndim > 1]
    others = [parameter for parameter in parameters if parameter.ndim <= 1]
    groups = [
        {'params': kernels, 'weight_decay': 1e-4},  # parity: optax's default; torch's is 1e-2
        {'params': others, 'weight_decay': 0.0},
    ]
    return torch.optim.AdamW(groups, lr=1e-2)


class MLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(4, 8)
        self.out = nn.Linear(8, 1)

    def forward(self, x):
        return self.out(torch.tanh(self.hidden(x))).squeeze(-1)


def loss(model, batch):
    return torch.mean((model(batch['x']) - batch['y']) ** 2)


@torch.no_grad()
def clip_by_global_norm(parameters, max_norm):
    """As optax does; torch's clip_grad_norm_ adds 1e-6 to the norm."""
    grads = [parameter.grad for parameter in parameters]
    norm = nn.utils.get_total_norm(grads)
    if norm >= max_norm:
        for grad in grads:
            grad.copy_(grad / norm * max_norm)


def update(model, optimizer, batch):
    optimizer.zero_grad()
    value = loss(model, batch)
    value.backward()
    clip_by_global_norm(model.parameters(), 0.1)
    optimizer.step()
    return {'loss': value}
