"""A bag-of-words classifier in plain jax, with a learning rate of its own for the embedding."""

import jax
import jax.numpy as jnp
import optax

WORDS, WIDTH, CLASSES = 20, 6, 3


def init(key):
    embedding, hidden, out = jax.random.split(key, 3)
    return {
        'embedding': jax.random.normal(embedding, (WORDS, WIDTH)),
        'hidden': {'w': 0.3 * jax.random.normal(hidden, (WIDTH, WIDTH)), 'b': jnp.zeros(WIDTH)},
        'out': {'w': 0.3 * jax.random.normal(out, (WIDTH, CLASSES)), 'b': jnp.zeros(CLASSES)},
    }


def attention(scores, values):
    """The values (..., T, D) weighted by the softmax of the scores (..., T)."""
    return jnp.einsum('...t,...td->...d', jax.nn.softmax(scores, axis=-1), values)


def logits(params, batch):
    words = params['embedding'][batch['words']]
    pooled = attention(words.sum(axis=-1), words)
    hidden = jax.nn.gelu(pooled @ params['hidden']['w'] + params['hidden']['b'])
    return hidden @ params['out']['w'] + params['out']['b']


def loss(params, batch):
    scores = logits(params, batch)
    loss = optax.softmax_cross_entropy_with_integer_labels(scores, batch['labels']).mean()
    return loss, {'accuracy': (scores.argmax(axis=-1) == batch['labels']).mean()}


def label(path, _):
    return 'slow' if path[0].key == 'embedding' else 'fast'


optimizer = optax.multi_transform(
    {'slow': optax.adam(1e-3), 'fast': optax.adam(1e-2)},
    lambda params: jax.tree_util.tree_map_with_path(label, params),
)
