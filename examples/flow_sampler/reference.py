"""The reference: a flow from noise to data in Equinox, trained by flow matching, sampled by Euler steps."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax import random

STEPS = 4

optimizer = optax.adam(1e-3)


class Velocity(eqx.Module):
    hidden: eqx.nn.Linear
    out: eqx.nn.Linear

    def __init__(self, key):
        hidden_key, out_key = random.split(key)
        self.hidden = eqx.nn.Linear(2 + 1, 16, key=hidden_key)
        self.out = eqx.nn.Linear(16, 2, key=out_key)

    def __call__(self, x, time):
        h = jax.nn.silu(self.hidden(jnp.concatenate([x, time], axis=-1)))
        return self.out(h)


def sample(model, batch):
    x = random.normal(batch['key'], batch['x'].shape)
    for step in range(STEPS):
        time = jnp.full((len(x), 1), step / STEPS)
        x = x + jax.vmap(model)(x, time) / STEPS
    return x


def loss(model, batch):
    x = batch['x']
    noise_key, time_key = random.split(batch['key'])
    noise = random.normal(noise_key, x.shape)
    time = random.uniform(time_key, (len(x), 1))
    velocity = jax.vmap(model)((1 - time) * noise + time * x, time)
    return jnp.mean((velocity - (x - noise)) ** 2)
