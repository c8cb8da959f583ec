"""The port with a planted bug: the attention is scaled by the width of the model, not by that of a head."""

from torch.nn import functional as F

from examples.transformer import port
from examples.transformer.port import WIDTH


class Attention(port.Attention):
    def forward(self, x):
        q, k, v = (self.heads(project(x)) for project in (self.q_proj, self.k_proj, self.v_proj))
        h = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=WIDTH**-0.5)
        return self.o_proj(h.transpose(1, 2).flatten(2))


class Transformer(port.Transformer):
    def __init__(self):
        super().__init__()
        for block in self.blocks:
            block.attn = Attention()
