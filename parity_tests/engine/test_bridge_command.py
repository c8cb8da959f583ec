"""`parity bridge`: the sizes that shapes tell, and words that are not understood."""

import pytest

from parity.bridge import parse_shape, solve
from parity.errors import ParityError


def shapes(o: int, a: int) -> dict[str, tuple[int, ...]]:
    """An agent with layers that grow with each size, with both and with none."""
    return {'actor': (o, 12), 'mean': (12, a), 'critic': (o + a, 12), 'goals': (2 * o, 3), 'log_stds': (a,)}


@pytest.mark.parametrize(('o', 'a'), [(29, 8), (5, 3), (1, 1), (17, 6)])
def test_the_sizes_are_told_by_the_shapes(o: int, a: int) -> None:
    assert solve(shapes, shapes(o, a), {}) == {'O': o, 'A': a}


def test_what_is_known_is_kept_and_the_rest_is_told_without_it() -> None:
    assert solve(shapes, shapes(29, 8), {'O': 7}) == {'O': 7, 'A': 8}


def test_axes_of_both_tell_one_when_the_other_is_known() -> None:
    def both(o: int, a: int) -> dict[str, tuple[int, ...]]:
        return {'critic': (o + 2 * a, 12)}

    assert solve(both, both(29, 8), {'A': 8}) == {'A': 8, 'O': 29}
    assert solve(both, both(29, 8), {}) == {}


def test_one_leaf_that_disagrees_is_outvoted() -> None:
    found = {**shapes(29, 8), 'log_stds': (9,), 'goals': (57, 3)}
    found['more'] = (1,)
    assert solve(shapes, {**found, 'mean': (12, 8)}, {'A': 8}) == {'A': 8, 'O': 29}


@pytest.mark.parametrize('text', ['64x64', '0,3', '64,', '-1', 'a'])
def test_a_shape_is_numbers_with_commas(text: str) -> None:
    assert parse_shape('64,64,3') == (64, 64, 3)
    with pytest.raises(ParityError, match='sizes like 64,64,3'):
        parse_shape(text)
