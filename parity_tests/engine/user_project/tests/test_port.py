"""The port computes what the original computes."""

import numpy as np
from sentiment import port, reference

from parity import Case

CASES = [Case(seed=1), Case(seed=2, values='duplicates')]


def test_attention(parity_check):
    rng = np.random.default_rng(0)
    inputs = {'scores': rng.normal(size=(2, 5)), 'values': rng.normal(size=(2, 5, 3))}
    parity_check.functions(reference.attention, port.attention, inputs)


def test_all_of_it(parity_check):
    parity_check('sentiment.pairs:SENTIMENT', cases=CASES)


def test_a_planted_bug(parity_check):
    parity_check('sentiment.pairs:EXACT_GELU', cases=CASES[:1])
