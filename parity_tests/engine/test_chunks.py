"""What is asked of many leaves at once is what each of them says by itself."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from parity import chunks
from parity.comparison import compare
from parity.summaries import summaries, summary
from parity.tolerances import Tolerance, largest
from parity.trees import Arrays

SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)
ENTRIES = st.sampled_from([0.0, -0.0, 1.0, -2.5, 3.0, 1e30, np.nan, np.inf, -np.inf])


@st.composite
def leaves(draw: st.DrawFn, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Two arrays alike in shape and dtype."""
    shape = draw(SHAPES)
    entries = ENTRIES if dtype.startswith('float') else st.integers(0, 1)
    one, other = (draw(arrays(dtype, shape, elements=entries)) for _ in range(2))
    return one, other


PAIRS = st.lists(st.sampled_from(['float32', 'float64', 'int32', 'bool']).flatmap(leaves), min_size=1)


@pytest.fixture(params=[(1, 1), (5, 7), (1 << 18, 1 << 13)], ids=str, scope='module')
def _sizes(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, 'CHUNK', request.param[0])
        patch.setattr(chunks, 'TOGETHER', request.param[1])
        yield


@pytest.mark.usefixtures('_sizes')
@given(PAIRS, st.sampled_from([0.0, 0.5, 2.0]), st.booleans())
@settings(deadline=None, max_examples=100)
def test_together_as_alone(pairs: list[tuple[np.ndarray, np.ndarray]], allowed: float, places: bool) -> None:
    one, other = ({str(i): pair[side] for i, pair in enumerate(pairs)} for side in (0, 1))
    limits = {
        path: Tolerance(np.full(leaf.shape, allowed) if int(path) % 2 else allowed, path)
        for path, leaf in one.items()
    }

    def compared(paths: list[str]) -> set:
        sides = [{path: side[path] for path in paths} for side in (one, other)]
        return set(compare(*sides, one, limits, places=places))

    assert compared(list(one)) == set().union(*(compared([path]) for path in one))
    assert summaries(one) == {path: summary(leaf) for path, leaf in one.items()}
    assert chunks.largest(one) == {path: largest(leaf) for path, leaf in one.items()}
    assert chunks.differences(other, one) == {
        path: difference(other[path], leaf) for path, leaf in one.items()
    }


def difference(rounded: np.ndarray, truth: np.ndarray) -> float:
    return chunks.differences({'': rounded}, {'': truth})['']


@pytest.mark.parametrize(
    ('rounded', 'truth', 'size'),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([1.0, 2.0], [1.25, 1.5], 0.5),
        ([-1.0], [1.0], 2.0),
        ([np.nan, 1.0], [5.0, 1.5], 0.5),
        ([5.0, 1.0], [np.inf, 1.5], 0.5),
        ([np.inf, 1.0], [1e39, 1.0], 0.0),
        ([np.nan], [np.nan], 0.0),
        ([], [], 0.0),
    ],
)
def test_a_difference_is_the_largest_where_both_are_finite(rounded: list, truth: list, size: float) -> None:
    assert difference(np.array(rounded, np.float32), np.array(truth)) == size


def test_the_difference_of_one_number() -> None:
    assert difference(np.array(1.0), np.array(3.0)) == 2.0


def test_differences_are_measured_in_float64() -> None:
    assert difference(np.ones(1, np.float32), np.array([1 + 2.0**-40])) == 2.0**-40


def many() -> Arrays:
    rng = np.random.default_rng(0)
    return {f'{kind}/{i}': rng.normal(size=3 + i).astype(kind) for i in range(50) for kind in ('f4', 'f8')}


@pytest.mark.parametrize('value', [7.0, np.nan])
def test_twin_one_entry_of_one_leaf_is_found(value: float) -> None:
    reference, port = many(), many()
    port['f8/30'][17] = value
    limits = dict.fromkeys(reference, Tolerance(1e-12, 'little'))
    worst, *others = compare(reference, port, reference, limits)
    assert (worst.path, worst.where, worst.matches) == ('f8/30', (17,), False)
    assert all(leaf.margin == 0 for leaf in others)
    changed = {path for path, text in summaries(port).items() if text != summaries(reference)[path]}
    assert changed == {'f8/30'}


def test_each_entry_is_in_one_chunk_of_its_dtype() -> None:
    reference = {**many(), 'empty': np.zeros((0, 3)), 'large': np.arange(2.0 * chunks.CHUNK)}
    found: dict[str, int] = dict.fromkeys(reference, 0)
    for chunk in chunks.chunks(reference):
        assert len({reference[path].dtype for path in chunk.paths}) == 1
        assert len(chunk.of(reference)) <= (chunks.TOGETHER if len(chunk.pieces) > 1 else chunks.CHUNK)
        for piece in chunk.pieces:
            found[piece.path] += piece.size
    assert found == {path: leaf.size for path, leaf in reference.items()}
