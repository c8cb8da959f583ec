"""One-line summaries of arrays."""

import numpy as np
import pytest

from parity.summaries import short_dtype, summary


@pytest.mark.parametrize(
    ('array', 'text'),
    [
        (np.float64(0.1), 'f64[] 0.1'),
        (np.float32(0.1), 'f32[] 0.1'),
        (np.array([1, 2], np.int64), 'i64[2] [1, 2]'),
        (np.array(True), 'bool[] True'),
        (np.array([1.0, np.nan, -np.inf]), 'f64[3] [1.0, nan, -inf]'),
        (np.arange(6, dtype=np.uint32), 'u32[6] mean 2.5 in [0, 5]'),
        (np.array([True] * 6 + [False] * 2), 'bool[8] mean 0.75 in [0, 1]'),
        (np.array([[1, 2, 3], [4, 5, np.nan]], np.float32), 'f32[2,3] mean 3 in [1, 5], 1 not finite'),
        (np.array([np.nan, np.inf] * 4), 'f64[8], 8 not finite'),
        (np.zeros((3, 0)), 'f64[3,0]'),
        (np.zeros((0,), bool), 'bool[0]'),
        (np.zeros(2, complex), 'c128[2]'),
    ],
)
def test_summary(array: np.ndarray, text: str) -> None:
    assert summary(np.asarray(array)) == text


@pytest.mark.parametrize('shape', [(2, 2), (4,), (1, 3, 1), (2, 3, 4)])
def test_a_summary_is_one_line(shape: tuple[int, ...]) -> None:
    array = -np.ones(shape) / 3 * np.logspace(0, -17, int(np.prod(shape))).reshape(shape)
    assert '\n' not in summary(array)


def test_a_summary_of_the_largest_values_does_not_overflow() -> None:
    assert summary(np.full(8, 1.7e308)).endswith('in [1.7e+308, 1.7e+308]')


def test_a_summary_shows_all_digits_of_a_small_difference() -> None:
    assert summary(np.array(1.0)) != summary(np.nextafter(np.array(1.0), 2))


@pytest.mark.parametrize(
    ('dtype', 'text'), [('float16', 'f16'), ('uint8', 'u8'), ('int32', 'i32'), ('bool', 'bool')]
)
def test_short_dtype(dtype: str, text: str) -> None:
    assert short_dtype(np.dtype(dtype)) == text
