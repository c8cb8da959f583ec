"""The reference: a regression in Flax NNX, its gradients clipped, its kernels decayed by AdamW."""

import jax
import jax.numpy as jnp
import optax
from flax import nnx


def kernels(params):
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


optimizer = optax.chain(
    optax.clip_by_global_norm(0.1),
    optax.adamw(1e-2, mask=kernels),
)


class MLP(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(4, 8, rngs=rngs)
        self.out = nnx.Linear(8, 1, rngs=rngs)

    def __call__(self, x):
        return self.out(jnp.tanh(self.hidden(x))).squeeze(-1)


def init(key):
    return MLP(nnx.Rngs(key))


def loss(model, batch):
    return jnp.mean((model(batch['x']) - batch['y']) ** 2)
