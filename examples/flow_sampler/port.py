"""The port: the same flow in PyTorch; its random numbers are those of jax.random, bit for bit."""

from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from torch_agents import random

STEPS = 4

optimizer = partial(torch.optim.Adam, lr=1e-3)


class Velocity(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(2 + 1, 16)
        self.out = nn.Linear(16, 2)

    def forward(self, x, time):
        h = F.silu(self.hidden(torch.concatenate([x, time], axis=-1)))
        return self.out(h)


def sample(model, batch):
    x = random.normal(batch['key'], batch['x'].shape)
    for step in range(STEPS):
        time = torch.full((len(x), 1), step / STEPS)
        x = x + model(x, time) / STEPS
    return x


def loss(model, batch):
    x = batch['x']
    noise_key, time_key = random.split(batch['key'])
    noise = random.normal(noise_key, x.shape)
    time = random.uniform(time_key, (len(x), 1))
    velocity = model((1 - time) * noise + time * x, time)
    return torch.mean((velocity - (x - noise)) ** 2)
