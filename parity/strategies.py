"""Hypothesis strategies: cases to check a pair on.

A *structure* (sizes and switches) costs a compilation of the reference, values cost milliseconds. So a
property test draws from a few structures that cover every switch, and freely from seeds and styles of values.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from parity.batches import STYLES, Field
from parity.cases import Case
from parity.pair import Pair

SIZES = (1, 2, 3, 5, 8)
# The sizes of the first structure, of the second and of all others. Images are never square.
STRUCTURES = {
    'B': (16, 1, 2),
    'M': (16, 3, 3),
    'O': (17, 3, 2),
    'A': (6, 1, 3),
    'H': (10, 9, 12),
    'W': (7, 12, 9),
}


def structures(pair: Pair) -> list[dict[str, Any]]:
    """Cases' sizes and configurations that use every value of every switch, a batch of one included.

    The first is the default at the sizes of the recorded transitions, which it shares its compilation with;
    hypothesis shrinks to it.
    """
    choices = max([2, *map(len, pair.switches.values())])
    letters = [letter for letter in STRUCTURES if letter in letters_of(pair)]
    return [
        {
            'sizes': {k: max(STRUCTURES[k][min(i, 2)], pair.smallest.get(k, 1)) for k in letters},
            'config': {key: values[i % len(values)] for key, values in pair.switches.items()},
        }
        for i in range(choices)
    ]


def cases(pair: Pair, most: int | None = None) -> st.SearchStrategy[Case]:
    """Cases of the few structures, or of the first `most` of them, with any seed and style."""
    return st.builds(
        lambda structure, seed, values: Case(seed=seed, values=values, **structure),
        st.sampled_from(structures(pair)[:most]),
        st.integers(0, 2**31 - 1),
        st.sampled_from(STYLES),
    )


def any_cases(pair: Pair) -> st.SearchStrategy[Case]:
    """Cases of any size and any combination of switches; each new one compiles the reference."""
    return st.builds(
        Case,
        seed=st.integers(0, 2**31 - 1),
        sizes=st.fixed_dictionaries({letter: st.sampled_from(v) for letter, v in _sizes(pair).items()}),
        config=st.fixed_dictionaries({key: st.sampled_from(v) for key, v in pair.switches.items()}),
        values=st.sampled_from(STYLES),
    )


def any_structure(pair: Pair, rng: np.random.Generator) -> dict[str, Any]:
    """A structure of any size and any combination of switches."""
    return {
        'sizes': {letter: _one_of(sizes, rng) for letter, sizes in _sizes(pair).items()},
        'config': {key: _one_of(values, rng) for key, values in pair.switches.items()},
    }


def _sizes(pair: Pair) -> dict[str, list[int]]:
    """What each dimension letter of the pair may be."""
    return {
        letter: [size for size in SIZES if size >= pair.smallest.get(letter, 1)]
        for letter in letters_of(pair)
    }


def letters_of(pair: Pair) -> list[str]:
    """The dimension letters of what a batch holds and of what the configuration takes from it."""
    fields = [Field.parse(text) for text in pair.batch.values()]
    named = {letter for field in fields for letter in field.letters if not letter.isdigit()}
    return sorted({*pair.sizes_from.values(), *named})


def _one_of(values: Sequence[Any], rng: np.random.Generator) -> Any:
    return values[int(rng.integers(len(values)))]
