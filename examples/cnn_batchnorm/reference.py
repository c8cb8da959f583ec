"""The reference: a small image classifier with batch normalisation, in Flax linen."""

import jax.numpy as jnp
import optax
from flax import linen as nn

optimizer = optax.sgd(0.1, momentum=0.9)


class CNN(nn.Module):
    def setup(self):
        self.conv1 = nn.Conv(4, (3, 3), use_bias=False)
        self.norm1 = nn.BatchNorm(momentum=0.9)
        self.conv2 = nn.Conv(6, (3, 3), strides=2, use_bias=False)
        self.norm2 = nn.BatchNorm(momentum=0.9)
        self.head = nn.Dense(5)

    def __call__(self, x, train):
        x = nn.relu(self.norm1(self.conv1(x), use_running_average=not train))
        x = nn.relu(self.norm2(self.conv2(x), use_running_average=not train))
        return self.head(x.mean(axis=(1, 2)))


def init(key):
    return CNN().init(key, jnp.zeros((1, 8, 8, 3)), train=False)


def apply(variables, batch):
    return CNN().apply(variables, batch['images'], train=False)


def loss(variables, batch):
    logits, statistics = CNN().apply(variables, batch['images'], train=True, mutable='batch_stats')
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch['labels']).mean()
    return loss, {}, {**variables, **statistics}
