"""Proposes which leaf is which parameter, confirmed by running both sides, and prints it as a table.

python -m examples.transformer.propose > examples/transformer/mapping.toml
"""

import jax
import torch

import weight_bridge
from examples.transformer import port, reference


def propose():
    tokens = torch.randint(port.VOCABULARY, (2, port.LENGTH + 1), generator=torch.Generator().manual_seed(0))
    return weight_bridge.match(
        reference.init(jax.random.PRNGKey(0)),
        port.Transformer(),
        reference=lambda params: reference.apply(params, {'tokens': tokens.numpy()}),
        port=lambda model: port.apply(model, {'tokens': tokens}),
    )


if __name__ == '__main__':
    print(propose(), end='')
