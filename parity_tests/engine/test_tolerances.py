"""Where tolerances come from: the reference's noise, a rounding floor, and Adam's steps."""

import functools
import inspect
from collections.abc import Iterator
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parity import stages, tolerances
from parity.tolerances import (
    ADAM_BETAS,
    ADAM_EPS,
    EXACT,
    FLOOR,
    SAFETY,
    Tolerance,
    square_slack,
    tolerance,
    underflow,
)

# --- sizes


@pytest.mark.parametrize(
    ('array', 'size'), [([1.0, -3.0], 3.0), ([np.nan, -np.inf, 2.0], 2.0), ([np.nan], 0.0), ([], 0.0)]
)
def test_largest(array: list, size: float) -> None:
    assert tolerances.largest(np.array(array)) == size


# --- the tolerance of a leaf


@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_the_floor_scales_with_eps_the_reduction_and_the_largest_value(dtype: str) -> None:
    value, eps = np.array([1.0, -4.0]), np.finfo(dtype).eps
    floor = tolerance(value, 0.0, dtype, 1).allowed
    assert floor == FLOOR * eps * 4
    assert tolerance(value * 8, 0.0, dtype, 1).allowed == 8 * floor
    assert tolerance(value, 0.0, dtype, 256).allowed == 16 * floor


def test_the_floor_is_far_below_a_real_difference() -> None:
    # LayerNorm's epsilon of torch instead of Flax: 6e-5 of values of size 1
    assert tolerance(np.ones(8), 1e-15, 'float64', 512).allowed < 1e-12
    assert tolerance(np.ones(8), 1e-6, 'float32', 512).allowed < 6e-5


def test_the_floor_of_a_gradient_is_relative_to_the_whole() -> None:
    small = np.array([1e-9, 0.0])
    assert tolerance(small, 0.0, 'float32', 1, whole=2.0).allowed == FLOOR * np.finfo('float32').eps * 2
    assert tolerance(np.zeros(2), 0.0, 'float32', 1, whole=2.0).allowed == underflow('float32')


def test_the_floor_is_that_of_the_coarser_precision() -> None:
    single = np.array([4.0], np.float32)
    coarse, fine = (np.finfo(dtype).eps for dtype in ('float32', 'float64'))
    assert tolerance(single, 0.0, 'float64', 1).allowed == FLOOR * coarse * 4
    assert tolerance(single.astype(np.float64), 0.0, 'float32', 1).allowed == FLOOR * coarse * 4
    assert tolerance(single.astype(np.float64), 0.0, 'float64', 1).allowed == FLOOR * fine * 4


def test_noise_counts_times_safety() -> None:
    value = np.array([1.0])
    without, with_noise = (tolerance(value, noise, 'float32', 4).allowed for noise in (0.0, 1e-3))
    assert with_noise - without == pytest.approx(SAFETY * 1e-3, rel=1e-12)


@pytest.mark.parametrize('zero', [np.zeros(3), np.zeros(()), np.zeros((0, 2)), np.array([0.0, np.inf])])
def test_an_exact_zero_stays_zero_but_for_underflow(zero: np.ndarray) -> None:
    allowed = {dtype: tolerance(zero, 0.0, dtype, 512).allowed for dtype in ('float32', 'float64')}
    assert allowed == {dtype: underflow(dtype) for dtype in allowed}
    assert allowed['float32'] == pytest.approx(2.0**-126 * 2**23)
    assert allowed['float64'] == pytest.approx(2.0**-1022 * 2.0**52)


def test_twin_one_entry_that_is_not_zero_gives_a_floor() -> None:
    assert tolerance(np.array([0.0, 1e-20]), 0.0, 'float32', 512).allowed > 1e-25


def test_xla_makes_subnormal_numbers_zero_and_torch_does_not() -> None:
    subnormal = np.float32(1e-40)
    assert float(jax.jit(lambda x: x * 3)(subnormal)) == 0
    assert float(torch.tensor(subnormal) * 3) > 0


def test_what_is_lost_by_underflow_can_grow_beyond_the_smallest_normal_number() -> None:
    square = np.float32(1e-20)  # of an activation, say, with a kernel of 1e4 behind it
    lost = float(jax.jit(lambda x: (x * x) * 1e4)(square)), float(torch.tensor(square) ** 2 * 1e4)
    assert lost[0] == 0 < np.finfo(np.float32).smallest_normal < lost[1] < underflow('float32')


@pytest.mark.parametrize('dtype', ['int32', 'uint32', 'bool', '<U5'])
def test_other_leaves_than_floats_are_exact(dtype: str) -> None:
    assert tolerance(np.ones(2).astype(dtype), 3.0, 'float32', 512) is EXACT
    assert EXACT.allowed == 0


def test_why() -> None:
    assert tolerance(np.array([2.0]), 1e-7, 'float32', 256).why == (
        '8 x noise 1.00e-07 + 8 eps sqrt(256) x largest 2.00e+00'
    )


def test_widened_adds_and_says_so() -> None:
    wide = Tolerance(1.0, 'noise').widened(np.array([0.0, 2.0]), 'Adam')
    assert np.array_equal(wide.allowed, [1.0, 3.0])
    assert wide.why == 'noise + Adam'


# --- Adam


@pytest.fixture(scope='module')
def float64() -> Iterator[None]:
    import jax

    with jax.enable_x64(True):
        yield


def test_the_constants_are_those_of_optax() -> None:
    import optax

    defaults = {name: p.default for name, p in inspect.signature(optax.adam).parameters.items()}
    assert (defaults['b1'], defaults['b2']) == ADAM_BETAS
    assert (defaults['eps'], defaults['eps_root']) == (ADAM_EPS, 0.0)


@functools.cache
def transform() -> SimpleNamespace:
    """The Adam of optax, compiled."""
    import jax
    import optax

    adam = optax.scale_by_adam()
    return SimpleNamespace(init=adam.init, update=jax.jit(adam.update))


def adam(gradients: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The moments and the last step, in units of the learning rate, of optax after these gradients."""
    state = transform().init(gradients[0])
    for gradient in gradients:
        step, state = transform().update(gradient, state)
    moments = {'count': state.count, 'mu': state.mu, 'nu': state.nu}
    return {name: np.asarray(leaf) for name, leaf in moments.items()}, np.asarray(step)


def excess(gradients: np.ndarray, error: np.ndarray) -> float:
    """The largest change of Adam's last step, and of its second moment, by that error of its last gradient.

    Relative to the slack of each.
    """
    moments, step = adam(gradients)
    changed, moved = adam(np.concatenate([gradients[:-1], gradients[-1:] + error]))
    allowed, count = float(np.abs(changed['mu'] - moments['mu']).max()), int(moments['count'])
    slack = tolerances.adam_slack(moments['nu'], count, allowed, 1.0)
    squares = tolerances.square_slack(moments['nu'], count, allowed)
    assert slack.shape == squares.shape == step.shape
    # 1e-9: where the cap holds with equality, the steps themselves are rounded; so are the squares
    steps = np.abs(moved - step) / (slack + 1e-9)
    rounding = 1e-12 * (moments['nu'] + changed['nu']) + 1e-300
    return float(np.max([steps, np.abs(changed['nu'] - moments['nu']) / (squares + rounding)]))


MAGNITUDES = st.floats(-12, 2).map(lambda power: 10.0**power)
SIGNED = st.builds(lambda size, sign: size * sign, MAGNITUDES, st.sampled_from([-1.0, 0.0, 1.0]))
GRADIENTS = st.integers(1, len(stages.SCRIPT)).flatmap(
    lambda steps: st.lists(SIGNED, min_size=4 * steps, max_size=4 * steps).map(
        lambda values: np.array(values).reshape(steps, 4)
    )
)


@pytest.mark.usefixtures('float64')
@given(GRADIENTS, MAGNITUDES, st.lists(st.sampled_from([-1.0, -0.5, 0.0, 1.0]), min_size=4, max_size=4))
@settings(deadline=None, max_examples=60)
def test_no_error_of_the_gradient_moves_adam_beyond_the_slack(
    gradients: np.ndarray, size: float, shares: list[float]
) -> None:
    assert excess(gradients, size * np.array(shares)) <= 1


FLIP = np.array([[1e-3, -1e-3, 1e-3, 0.0]]), np.array([-2e-3, 2e-3, 0.0, 1e-3])


@pytest.mark.usefixtures('float64')
def test_a_flipped_gradient_needs_all_of_it() -> None:
    assert excess(*FLIP) == pytest.approx(1, abs=1e-2)


@pytest.mark.usefixtures('float64')
def test_twin_a_smaller_slack_is_exceeded(monkeypatch: pytest.MonkeyPatch) -> None:
    real = tolerances.adam_slack
    monkeypatch.setattr(tolerances, 'adam_slack', lambda *args: 0.9 * real(*args))
    assert excess(*FLIP) > 1


@pytest.mark.usefixtures('float64')
@pytest.mark.parametrize('count', [10, 100, 1000])
def test_the_slack_holds_after_many_steps(count: int) -> None:
    # a long silence, then the first gradient: Adam's step is up to 3.2 learning rates here
    assert excess(np.zeros((count, 4)), np.ones(4)) <= 1


@pytest.mark.usefixtures('float64')
def test_twin_a_smaller_slack_of_the_squares_is_exceeded(monkeypatch: pytest.MonkeyPatch) -> None:
    first_step = np.array([[1e-3]]), np.array([1e-6])
    assert excess(*first_step) <= 1
    real = tolerances.square_slack
    monkeypatch.setattr(tolerances, 'square_slack', lambda *args: 0.01 * real(*args))
    assert excess(*first_step) > 1


def slack(second: float, allowed_mu: float, count: int = 1, learning_rate: float = 1e-3) -> float:
    return float(tolerances.adam_slack(np.array([second], np.float32), count, allowed_mu, learning_rate)[0])


def test_no_error_no_slack() -> None:
    assert slack(1.0, 0.0) == 0


def test_slack_is_small_where_the_gradient_is_known_and_two_steps_where_it_is_not() -> None:
    assert slack(1e-3, 1e-9) == pytest.approx(2e-3 * 1e-8 / 1.0, rel=1e-3)  # |g| is 1, known to 1e-8
    assert slack(1e-20, 1e-3) == pytest.approx(2e-3)
    assert slack(1e-20, 1e-3, learning_rate=1.0) == pytest.approx(2)


# --- norms of gradients


def norms_apart(entries: list[float], shares: list[float], d: float) -> tuple[float, float]:
    """How far an error of up to d in each entry moves the norm of Adam's first gradient, and the slack."""
    gradient, error = d * np.array(entries), d * np.array(shares)
    beta1, _ = ADAM_BETAS
    moved = abs(np.linalg.norm(gradient + error) - np.linalg.norm(gradient))
    return moved, tolerances.norm_slack({'w': (1 - beta1) * gradient}, {'w': (1 - beta1) * d})


SHARES = st.lists(st.floats(-1, 1), min_size=5, max_size=5)


@given(SHARES, SHARES, MAGNITUDES)
def test_no_error_moves_the_norm_of_what_may_be_rounding_beyond_the_slack(
    entries: list[float], shares: list[float], d: float
) -> None:
    moved, slack = norms_apart(entries, shares, d)
    assert moved <= slack * (1 + 1e-12)


def test_a_gradient_of_zero_needs_all_of_it() -> None:
    moved, slack = norms_apart([0.0] * 5, [1.0] * 5, 1e-14)
    assert moved == pytest.approx(slack)


def test_twin_the_norm_of_what_is_larger_has_no_slack() -> None:
    moved, slack = norms_apart([2.0] * 5, [1.0] * 5, 1e-14)
    assert (moved > 0, slack) == (True, 0.0)


def test_a_square_that_overflows_allows_all() -> None:
    assert np.isinf(square_slack(np.ones(2), 1, 1e200)).all()
    assert np.isfinite(square_slack(np.ones(2), 1, 1e100)).all()  # the twin
