"""The port: the same transformer in PyTorch, with names of its own."""

from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

VOCABULARY, LENGTH, WIDTH, HEADS, LAYERS = 11, 6, 8, 2, 2

optimizer = partial(torch.optim.Adam, lr=1e-3)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj = nn.Linear(WIDTH, WIDTH)
        self.k_proj = nn.Linear(WIDTH, WIDTH)
        self.v_proj = nn.Linear(WIDTH, WIDTH)
        self.o_proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        q, k, v = (self.heads(project(x)) for project in (self.q_proj, self.k_proj, self.v_proj))
        h = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(h.transpose(1, 2).flatten(2))

    def heads(self, x):  # (B, T, WIDTH) -> (B, HEADS, T, WIDTH / HEADS)
        return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln_1 = nn.LayerNorm(WIDTH, eps=1e-6)  # parity: Flax's default; torch's is 1e-5
        self.attn = Attention()
        self.ln_2 = nn.LayerNorm(WIDTH, eps=1e-6)
        self.fc_in = nn.Linear(WIDTH, 4 * WIDTH)
        self.fc_out = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x):
        h = self.ln_1(x)
        x = x + self.attn(h)
        h = self.ln_2(x)
        h = F.gelu(self.fc_in(h), approximate='tanh')  # parity: jax.nn.gelu is the approximation
        return x + self.fc_out(h)


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte = nn.Embedding(VOCABULARY, WIDTH)
        self.wpe = nn.Parameter(torch.zeros(LENGTH, WIDTH))
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.ln_f = nn.LayerNorm(WIDTH, eps=1e-6)

    def forward(self, tokens):
        x = self.wte(tokens) + self.wpe
        for block in self.blocks:
            x = block(x)
        return self.ln_f(x) @ self.wte.weight.T


def apply(model, batch):
    return model(batch['tokens'][:, :-1])


def loss(model, batch):
    logits, targets = apply(model, batch), batch['tokens'][:, 1:]
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten().long())
