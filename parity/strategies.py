"""Hypothesis strategies: cases to check a pair on.

A *structure* (sizes and switches) costs a compilation of the reference, values cost milliseconds. So a
property test draws from a few structures that cover every switch, and freely from seeds and styles of values.
"""

from typing import Any

from hypothesis import strategies as st

from parity.batches import STYLES, Field
from parity.cases import Case
from parity.pair import Pair

SIZES = (1, 2, 3, 5, 8)


def structures(pair: Pair) -> list[dict[str, Any]]:
    """Cases' sizes and configurations that use every value of every switch, a batch of one included.

    The first is the default at the sizes of the recorded transitions, which it shares its compilation with;
    hypothesis shrinks to it.
    """
    choices = max([2, *map(len, pair.switches.values())])
    sizes = [{'B': 16, 'O': 17, 'A': 6}, {'B': 1, 'O': 3, 'A': 1}, {'B': 2, 'O': 2, 'A': 3}]
    return [
        {
            'sizes': {k: max(n, pair.smallest.get(k, 1)) for k, n in sizes[min(i, 2)].items()},
            'config': {key: values[i % len(values)] for key, values in pair.switches.items()},
        }
        for i in range(choices)
    ]


def cases(pair: Pair) -> st.SearchStrategy[Case]:
    """Cases of the few structures, with any seed and style."""
    return st.builds(
        lambda structure, seed, values: Case(seed=seed, values=values, **structure),
        st.sampled_from(structures(pair)),
        st.integers(0, 2**31 - 1),
        st.sampled_from(STYLES),
    )


def any_cases(pair: Pair) -> st.SearchStrategy[Case]:
    """Cases of any size and any combination of switches; each new one compiles the reference."""
    fields = [Field.parse(text) for text in pair.batch.values()]
    letters = sorted({*pair.sizes_from.values(), *(letter for field in fields for letter in field.letters)})
    return st.builds(
        Case,
        seed=st.integers(0, 2**31 - 1),
        sizes=st.fixed_dictionaries({letter: _sizes(pair, letter) for letter in letters}),
        config=st.fixed_dictionaries({key: st.sampled_from(v) for key, v in pair.switches.items()}),
        values=st.sampled_from(STYLES),
    )


def _sizes(pair: Pair, letter: str) -> st.SearchStrategy[int]:
    return st.sampled_from([size for size in SIZES if size >= pair.smallest.get(letter, 1)])
