"""Names as evidence: the words of a path and the order of its numbers. Words are equal, never similar."""

import re
from collections import Counter
from collections.abc import Sequence

_WORDS = {  # abbreviations that ports use, and the word that they stand for
    **{short: 'query' for short in ('q', 'wq', 'queries')},
    **{short: 'key' for short in ('k', 'wk', 'keys')},
    **{short: 'value' for short in ('v', 'wv', 'values')},
    **{short: 'out' for short in ('o', 'wo', 'output')},
    **{short: 'attention' for short in ('attn', 'mha', 'selfattn')},
    **{short: 'mlp' for short in ('ffn', 'ff', 'feedforward')},
    **{short: 'norm' for short in ('ln', 'layernorm', 'rmsnorm', 'bn', 'batchnorm', 'gn', 'groupnorm')},
    **{short: 'dense' for short in ('linear', 'lin', 'fc', 'proj', 'projection')},
    **{short: 'embed' for short in ('emb', 'embedding', 'embeddings')},
    **{short: 'position' for short in ('pos', 'positional', 'wpe')},
    **{short: 'token' for short in ('tok', 'tokens', 'wte')},
    **{short: 'encoder' for short in ('enc',)},
    **{short: 'decoder' for short in ('dec',)},
}
Path = tuple[str, ...]


def words(path: Path) -> frozenset[str]:
    """`('blocks', '0', 'q_proj')` -> blocks, query, dense; numbers are no words."""
    parts = re.findall(r'[A-Z]+(?![a-z])|[A-Z]?[a-z]+', ' '.join(path))
    return frozenset(_WORDS.get(part.lower(), part.lower()) for part in parts)


def keys(
    paths: Sequence[Path], others: Sequence[Path]
) -> tuple[list[frozenset[str]], list[frozenset[str]]] | None:
    """What tells paths apart in the words that both sides use; None if that is not the same on both sides."""
    sides = [[words(path) for path in side] for side in (paths, others)]
    shared = frozenset.intersection(*(frozenset[str]().union(*side) for side in sides))
    telling = shared - frozenset.intersection(*(found for side in sides for found in side))
    ours, theirs = ([found & telling for found in side] for side in sides)
    return (ours, theirs) if Counter(ours) == Counter(theirs) and len(set(ours)) > 1 else None


def numbered(paths: Sequence[Path]) -> list[int] | None:
    """The positions of paths in the order of their numbers; None if they differ in more than numbers."""
    texts = ['/'.join(path) for path in paths]
    if len({re.sub(r'\d+', '#', text) for text in texts}) > 1:
        return None
    numbers = [tuple(map(int, re.findall(r'\d+', text))) for text in texts]
    return sorted(range(len(paths)), key=numbers.__getitem__) if len(set(numbers)) == len(paths) else None
