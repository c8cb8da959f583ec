"""The state that goes in and out of a side."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parity.sides import State, UpdateCall, is_term


def state(params: dict[str, np.ndarray]) -> State:
    moments = {path: np.ones_like(leaf) for path, leaf in params.items()}
    counts = {path: np.array(3, np.int32) for path in params}
    return State(params, moments, moments, counts, np.array([1, 2], np.uint32))


PARAMS = {
    'a/kernel': np.array([[2.0, 2.0, -2.0], [5.0, 0.0, 1.0]], np.float32),
    'a/bias': np.ones(4, np.float32),
    'b': np.full((), 3.0, np.float32),
}
STEPS = st.sampled_from([2.0**-10, 2.0**-20, 2.0**-3])


@given(st.integers(0, 99), STEPS)
@settings(deadline=None)
def test_scaling_keeps_each_factor_within_the_step(sample: int, step: float) -> None:
    scaled = state(PARAMS).scaled(sample, step)
    for path, leaf in PARAMS.items():
        moved = scaled.params[path]
        assert moved.dtype == leaf.dtype
        assert moved.shape == leaf.shape
        error = np.abs(moved.astype(np.float64) - leaf)
        assert (error <= step * np.abs(leaf) + np.spacing(np.abs(leaf))).all()


@given(st.integers(0, 99), STEPS)
@settings(deadline=None)
def test_equal_entries_of_a_leaf_stay_equal(sample: int, step: float) -> None:
    kernel = state(PARAMS).scaled(sample, step).params['a/kernel']
    assert kernel[0, 0] == kernel[0, 1] == -kernel[0, 2]
    assert kernel[1, 1] == 0


def test_each_leaf_has_its_own_factor_and_each_sample_its_own_factors() -> None:
    ones = state({name: np.ones(1) for name in 'abc'})
    factors = [float(leaf[0]) for sample in (0, 1) for leaf in ones.scaled(sample, 0.1).params.values()]
    assert len({1.0, *factors}) == 7


def test_the_same_sample_gives_the_same_bits() -> None:
    one, two = (state(PARAMS).scaled(5, 2.0**-10) for _ in range(2))
    assert all(np.array_equal(one.params[path], two.params[path]) for path in PARAMS)


def test_in_float64_the_smallest_step_moves_something() -> None:
    wide = state(PARAMS).astype('float64')
    moved = [wide.scaled(sample, 2.0**-50).params['a/bias'][0] for sample in range(4)]
    assert sum(value != 1 for value in moved) >= 2
    assert all(abs(value - 1) <= 2.0**-50 for value in moved)


def test_scaling_leaves_moments_count_key_and_the_original_alone() -> None:
    before = state(PARAMS)
    after = before.scaled(0, 0.1)
    assert after.opt_mu is before.opt_mu
    assert after.opt_nu is before.opt_nu
    assert after.opt_count is before.opt_count
    assert after.key.tolist() == [1, 2]
    assert before.params['a/bias'].tolist() == [1] * 4


def test_scaling_leaves_whole_numbers_alone() -> None:
    assert state({'steps': np.array([7, 8])}).scaled(0, 2.0**-10).params['steps'].tolist() == [7, 8]


def test_leaves_are_everything_under_one_set_of_paths() -> None:
    assert list(state({'a': np.ones(1)}).leaves()) == [
        'params/a',
        'opt_mu/a',
        'opt_nu/a',
        'opt_count/a',
        'key',
    ]


def test_astype_converts_floats_only() -> None:
    dtypes = {path: leaf.dtype.name for path, leaf in state(PARAMS).astype('float64').leaves().items()}
    assert {path.split('/')[0]: name for path, name in dtypes.items()} == {
        'params': 'float64',
        'opt_mu': 'float64',
        'opt_nu': 'float64',
        'opt_count': 'int32',
        'key': 'uint32',
    }


@pytest.mark.parametrize(
    ('call', 'name'),
    [
        (UpdateCall('pretrain'), 'pretrain'),
        (UpdateCall('finetune', (('full_update', True),)), 'finetune'),
        (UpdateCall('finetune', (('full_update', False),)), 'finetune_partial'),
    ],
)
def test_names_of_updates(call: UpdateCall, name: str) -> None:
    assert call.name == name


@pytest.mark.parametrize(
    ('key', 'term'),
    [('critic/critic_loss', True), ('loss', True), ('critic/q_mean', False), ('losses', False)],
)
def test_terms_are_known_by_their_names(key: str, term: bool) -> None:
    assert is_term(key) == term
