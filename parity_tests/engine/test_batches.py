"""Generated batches obey their description in every style; others are refused, with all reasons."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parity.batches import STYLES, Field, Style, generate, has_images, sizes_of
from parity.errors import ParityError
from parity.trees import Arrays

FIELDS = {
    'observations': 'B O',
    'actions': 'B A | unit',
    'rewards': 'B',
    'masks': 'B | binary',
    'terminals': 'B | not masks',
    'dones': 'B | not masks',
    'weights': 'B | binary',
    'rest': 'B | not weights',
    'low': 'O | min observations',
    'high': 'O | max observations',
    'goal': 'O',
}
SIZES = {'B': 64, 'O': 4, 'A': 2}
Lines = Callable[[Callable[[], object]], list[str]]


@pytest.mark.parametrize(
    ('text', 'field'),
    [
        ('B O', Field(('B', 'O'), 'normal', '')),
        ('', Field((), 'normal', '')),
        ('B A | unit', Field(('B', 'A'), 'unit', '')),
        ('B|binary', Field(('B',), 'binary', '')),
        ('B | not masks', Field(('B',), 'not', 'masks')),
        ('O | min observations', Field(('O',), 'min', 'observations')),
        ('| max observations', Field((), 'max', 'observations')),
        ('B H W C | image', Field(('B', 'H', 'W', 'C'), 'image', '')),
    ],
)
def test_parse(text: str, field: Field) -> None:
    assert Field.parse(text) == field


@pytest.mark.parametrize('text', ['B | unti', 'B | not', 'B | min', 'B H | image', 'B H W C | image x'])
def test_a_kind_without_meaning_is_an_error(text: str) -> None:
    with pytest.raises(ParityError):
        generate({'masks': text}, SIZES, 0, 'plain')


def breaches(batch: Arrays) -> set[str]:
    """Which promises of FIELDS a batch does not keep."""
    observations, zero_one = batch['observations'], [0.0, 1.0]
    kept = {
        'float32': all(array.dtype == np.float32 for array in batch.values()),
        'finite': all(np.isfinite(array).all() for array in batch.values()),
        'unit': np.abs(batch['actions']).max() <= 1,
        'binary': np.isin([batch['masks'], batch['weights']], zero_one).all(),
        'not masks': (batch['masks'] + [batch['terminals'], batch['dones']] == 1).all(),
        'not weights': (batch['weights'] + batch['rest'] == 1).all(),
        'min': (batch['low'] <= observations).all(),
        'max': (batch['high'] >= observations).all(),
    }
    return {promise for promise, held in kept.items() if not held}


@given(st.sampled_from(STYLES), st.integers(0, 2**31 - 1), st.integers(1, 5))
@settings(deadline=None, max_examples=60)
def test_every_style_keeps_the_promises(style: Style, seed: int, size: int) -> None:
    sizes = {'B': size, 'O': 3, 'A': 1}
    batch = generate(FIELDS, sizes, seed, style)
    assert list(batch) == list(FIELDS)
    assert breaches(batch) == set()
    assert sizes_of(FIELDS, batch) == sizes


DAMAGE: dict[str, tuple[str, object]] = {
    'float32': ('goal', np.zeros(4)),
    'finite': ('goal', np.full(4, np.inf, np.float32)),
    'unit': ('actions', np.full(2, 1.5, np.float32)),
    'binary': ('weights', np.full(64, 0.5, np.float32)),
    'not masks': ('terminals', np.full(64, 0.5, np.float32)),
    'not weights': ('rest', np.full(64, 0.5, np.float32)),
    'min': ('low', np.full(4, 0.0, np.float32)),
    'max': ('high', np.full(4, 0.0, np.float32)),
}


@pytest.mark.parametrize('promise', DAMAGE)
def test_twin_each_promise_can_be_broken(promise: str) -> None:
    name, array = DAMAGE[promise]
    assert promise in breaches({**generate(FIELDS, SIZES, 0, 'plain'), name: array})


def batch_of(style: Style, seed: int = 0) -> Arrays:
    return generate(FIELDS, SIZES, seed, style)


def test_bounds_are_tight() -> None:
    batch = batch_of('plain')
    np.testing.assert_array_equal(batch['low'], batch['observations'].min(axis=0))
    np.testing.assert_array_equal(batch['high'], batch['observations'].max(axis=0))


def peculiarities(batch: Arrays) -> set[str]:
    """What sets a style's values apart."""
    size = np.abs(batch['observations']).max()
    found = {
        'tiny': size < 1e-4,
        'huge': size > 1e3,
        'bounds': (np.abs(batch['actions']) == 1).any() and (batch['observations'] == 0).any(),
        'constant': np.ptp(batch['rewards']) == 0 and not batch['masks'].any(),
        'duplicates': all(
            (array == array[:1]).all() for name, array in batch.items() if FIELDS[name].startswith('B')
        ),
    }
    return {style for style, holds in found.items() if holds}


@pytest.mark.parametrize('style', STYLES)
def test_each_style_has_its_peculiarity_and_no_other(style: Style) -> None:
    # the styles of parameters leave the batch plain
    expected = {'tiny', 'huge', 'bounds', 'constant', 'duplicates'} & {style}
    if style == 'duplicates':
        assert expected <= peculiarities(batch_of(style)) <= {'duplicates', 'constant'}
    else:
        assert peculiarities(batch_of(style)) == expected


def test_bounds_are_partly_reached() -> None:
    batch = batch_of('bounds')
    for share in ((np.abs(batch['actions']) == 1).mean(), (batch['observations'] == 0).mean()):
        assert 0.1 < share < 0.9
    assert {-1.0, 1.0} <= set(batch['actions'].ravel().tolist())


def test_binary_values_are_both() -> None:
    assert set(batch_of('plain')['masks'].tolist()) == {0.0, 1.0}


def same(one: Arrays, two: Arrays) -> bool:
    return one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize('style', STYLES)
def test_the_same_arguments_give_the_same_values(style: Style) -> None:
    assert same(batch_of(style), batch_of(style))
    assert not same(batch_of(style), batch_of(style, seed=1))  # twin


def test_each_style_draws_its_own_values() -> None:
    assert len({batch_of(style)['goal'].tobytes() for style in STYLES}) == len(STYLES)


# --- images

FRAMES = {
    'observations': 'B H W C | image',
    'low': '| min observations',
    'high': '| max observations',
    'rewards': 'B',
}
FRAME_SIZES = {'B': 3, 'H': 6, 'W': 7, 'C': 2}
VALUES = {'tiny': {0, 1}, 'huge': {254, 255}, 'bounds': {0, 255}}


def test_which_batches_have_images() -> None:
    assert has_images(FRAMES)
    assert not has_images(FIELDS)


def frame_breaches(batch: Arrays, style: Style) -> set[str]:
    """Which promises of FRAMES and of a style a batch does not keep."""
    images = batch['observations']
    kept = {
        'uint8': images.dtype == np.uint8,
        'float32': all(batch[name].dtype == np.float32 for name in ('low', 'high', 'rewards')),
        'shape': images.shape == (3, 6, 7, 2),
        'range': batch['low'] <= images.min() and batch['high'] >= images.max(),
        'values': set(np.unique(images).tolist()) == VALUES[style] if style in VALUES else np.ptp(images) > 9,
        'constant': (style == 'constant') == all(np.ptp(image) == 0 for image in images),
        'duplicates': (style == 'duplicates') == bool((images == images[:1]).all()),
    }
    return {promise for promise, held in kept.items() if not held}


@pytest.mark.parametrize('style', STYLES)
def test_images_are_whole_numbers_in_every_style(style: Style) -> None:
    batch = generate(FRAMES, FRAME_SIZES, 0, style)
    assert frame_breaches(batch, style) == set()
    assert sizes_of(FRAMES, batch) == FRAME_SIZES


def test_twin_each_promise_of_images_can_be_broken() -> None:
    plain = generate(FRAMES, FRAME_SIZES, 0, 'plain')
    damaged = {**plain, 'observations': np.zeros((3, 42, 2)), 'low': np.float64(1)}
    assert frame_breaches(damaged, 'plain') == {
        'uint8', 'float32', 'shape', 'range', 'values', 'constant', 'duplicates'
    }  # fmt: skip
    assert frame_breaches(plain, 'tiny') == {'values'}
    assert frame_breaches(plain, 'duplicates') == {'duplicates'}


def test_a_size_may_stand_for_two_dimensions(raised: Lines) -> None:
    fields = {'observations': 'B H B C | image'}
    sizes = {'B': 3, 'H': 6, 'C': 2}
    batch = generate(fields, sizes, 0, 'plain')
    assert batch['observations'].shape == (3, 6, 3, 2)
    assert sizes_of(fields, batch) == sizes
    lines = raised(lambda: sizes_of(fields, {'observations': np.zeros((3, 6, 7, 2), np.uint8)}))
    assert lines[1] == '  observations: expected shape (3, 6, 3, 2), found u8[3,6,7,2]'


@pytest.mark.parametrize(
    ('array', 'found'),
    [
        (np.full((3, 6, 7, 2), 0.5, np.float32), 'f32[3,6,7,2] mean 0.5 in [0.5, 0.5]'),
        (np.full((3, 6, 7, 2), 300, np.int64), 'i64[3,6,7,2] mean 300 in [300, 300]'),
        (np.ones((3, 6, 7, 2), bool), 'bool[3,6,7,2] mean 1 in [1, 1]'),
    ],
)
def test_images_of_another_dtype_are_refused(array: np.ndarray, found: str, raised: Lines) -> None:
    batch = {**generate(FRAMES, FRAME_SIZES, 0, 'plain'), 'observations': array}
    assert raised(lambda: sizes_of(FRAMES, batch)) == [
        'the batch cannot be used',
        f'  observations: expected an image of uint8, 0 to 255, found {found}',
        '  error: 1 problems; allowed: 0',
        '  at: batch with high, low, observations, rewards',
        f'  next: give exactly the entries {FRAMES}, finite',
    ]


def test_vectors_in_the_place_of_images_are_refused(raised: Lines) -> None:
    batch = {**generate(FRAMES, FRAME_SIZES, 0, 'plain'), 'observations': np.zeros((3, 4), np.float32)}
    assert raised(lambda: sizes_of(FRAMES, batch))[1] == (
        '  observations: expected dimensions (B, H, W, C), found f32[3,4]; '
        'observations: expected an image of uint8, 0 to 255, found f32[3,4] mean 0 in [0, 0]'
    )


# --- validation


def test_sizes_of_a_good_batch() -> None:
    assert sizes_of(FIELDS, batch_of('plain')) == SIZES


def test_whole_numbers_are_numbers() -> None:
    batch = {'a': np.ones(3, np.int64), 'b': np.ones((3, 2), np.uint8)}
    assert sizes_of({'a': 'B', 'b': 'B O'}, batch) == {'B': 3, 'O': 2}


def test_all_problems_are_listed_together(raised: Lines) -> None:
    fields = {'obs': 'B O', 'act': 'B A | unit', 'rew': 'B', 'mask': 'B', 'gone': 'B', 'both': 'B'}
    batch = {
        'obs': np.zeros((5, 3), np.float32),
        'act': np.zeros((5,), np.float32),
        'rew': np.array([0, np.nan, 1, -np.inf, 2], np.float32),
        'mask': np.ones(6, bool),
        'both': np.array([np.nan]),
        'extra': np.zeros(5),
    }
    assert raised(lambda: sizes_of(fields, batch)) == [
        'the batch cannot be used',
        "  missing key 'gone'; unexpected key 'extra'; act: expected dimensions (B, A), found f32[5]; "
        'rew: expected finite values, found 2 NaN or infinite of 5; '
        'mask: expected shape (5,), found bool[6]; mask: expected numbers, found dtype bool; '
        'both: expected shape (5,), found f64[1]; both: expected finite values, found 1 NaN or infinite of 1',
        '  error: 8 problems; allowed: 0',
        '  at: batch with act, both, extra, mask, obs, rew',
        f'  next: give exactly the entries {fields}, finite',
    ]


DAMAGED: dict[str, tuple[Callable[[Arrays], object], str]] = {
    'missing': (lambda b: b.pop('rewards'), "missing key 'rewards'"),
    'unexpected': (lambda b: b.update(more=b['rewards']), "unexpected key 'more'"),
    'longer': (lambda b: b.update(goal=np.zeros(5)), 'goal: expected shape (4,), found f64[5]'),
    'column': (
        lambda b: b.update(rewards=b['rewards'][:, None]),
        'rewards: expected dimensions (B), found f32[64,1]',
    ),
    'scalar': (lambda b: b.update(rewards=np.array(1.0)), 'rewards: expected dimensions (B), found f64[]'),
    'nan': (
        lambda b: b['goal'].__setitem__(2, np.nan),
        'goal: expected finite values, found 1 NaN or infinite of 4',
    ),
    'text': (
        lambda b: b.update(goal=np.array(list('abcd'))),
        'goal: expected numbers, found dtype <U1',
    ),
    'objects': (
        lambda b: b.update(goal=np.array([None] * 4)),
        'goal: expected numbers, found dtype object',
    ),
}


@pytest.mark.parametrize('damage', DAMAGED)
def test_one_problem(damage: str, raised: Lines) -> None:
    change, problem = DAMAGED[damage]
    batch = batch_of('plain')
    change(batch)
    lines = raised(lambda: sizes_of(FIELDS, batch))
    assert lines[1:3] == [f'  {problem}', '  error: 1 problems; allowed: 0']


def test_no_entries(raised: Lines) -> None:
    assert raised(lambda: sizes_of({'a': 'B'}, {}))[3] == '  at: batch with no entries'


def test_a_batch_of_nothing_proves_nothing(raised: Lines) -> None:
    lines = raised(lambda: sizes_of({'a': 'B O', 'b': 'B'}, {'a': np.zeros((0, 3)), 'b': np.zeros(0)}))
    assert lines[0] == 'the batch cannot be used'
