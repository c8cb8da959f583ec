"""The reference: a small decoder-only transformer, pre-norm, in Flax linen."""

import jax.numpy as jnp
import optax
from flax import linen as nn

VOCABULARY, LENGTH, WIDTH, HEADS, LAYERS = 11, 6, 8, 2, 2

optimizer = optax.adam(1e-3)


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, mask):
        h = nn.LayerNorm()(x)
        x = x + nn.MultiHeadDotProductAttention(HEADS, name='attention')(h, mask=mask)
        h = nn.LayerNorm()(x)
        h = nn.gelu(nn.Dense(4 * WIDTH)(h))
        return x + nn.Dense(WIDTH)(h)


class Transformer(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        embed = nn.Embed(VOCABULARY, WIDTH)
        positions = self.param('positions', nn.initializers.normal(), (LENGTH, WIDTH))
        x = embed(tokens) + positions
        mask = nn.make_causal_mask(tokens)
        for _ in range(LAYERS):
            x = Block()(x, mask)
        return embed.attend(nn.LayerNorm()(x))


def init(key):
    return Transformer().init(key, jnp.zeros((1, LENGTH), int))['params']


def apply(params, batch):
    return Transformer().apply({'params': params}, batch['tokens'][:, :-1])


def loss(params, batch):
    logits, targets = apply(params, batch), batch['tokens'][:, 1:]
    return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()
