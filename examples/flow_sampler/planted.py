"""The port's loss with a planted bug: the times are drawn with the key of the noise."""

import torch

from torch_agents import random


def loss(model, batch):
    x = batch['x']
    noise_key, _ = random.split(batch['key'])
    noise = random.normal(noise_key, x.shape)
    time = random.uniform(noise_key, (len(x), 1))
    velocity = model((1 - time) * noise + time * x, time)
    return torch.mean((velocity - (x - noise)) ** 2)
