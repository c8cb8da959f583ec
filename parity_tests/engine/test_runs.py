"""A stage is judged by as many samples of the noise as it needs: none, the usual few, or more."""

import functools
import itertools
import operator
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from parity import Verdict, check, check_functions, runs
from parity.cases import Case
from parity.computations import MORE_SAMPLES, SAMPLES
from parity.expected import Expected
from parity.models import JaxModel, ModelPair, TorchModel
from parity.pair import Pair, find
from parity.runs import Runs
from parity.tolerances import FLOOR, Tolerance

NONE, FEW, MANY = 1e-8, 1e-7, 1e-6  # what is allowed with no samples, with few, and with many
VALUE = {'x': np.zeros((), np.float32)}


class Lucky(Runs):
    """Few samples of its noise are small.

    taken: how many samples it was judged with, in order; undecided: in how many of them a leaf is not finite.
    """

    port32 = None
    inputs = SimpleNamespace(reduction=1)

    def __init__(self) -> None:
        super().__init__(Pair('lucky', None, None, batch={}), Case())
        self.taken: list[int] = []
        self.undecided: dict[str, np.ndarray] = {}

    def _undecided(self, stage: str, dtype: str, samples: int) -> dict[str, np.ndarray]:
        return self.undecided

    def expected(self, stage: str, dtype: str, samples: int | None = None, *, reach: bool = True) -> Expected:
        assert samples is not None
        self.taken.append(samples)
        allowed = MANY if samples == MORE_SAMPLES else FEW if samples else NONE
        undecided = self.undecided if samples == MORE_SAMPLES else {}
        return Expected(VALUE, VALUE, dict.fromkeys(VALUE, Tolerance(allowed, 'noise')), False, undecided)


def judged(error: float, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    found = {'x': np.asarray(error, np.float32)}
    monkeypatch.setattr(runs, 'port_leaves', lambda *args, **kwargs: found)
    lucky = Lucky()
    (leaf,) = lucky.compare('loss', 'float32')
    return SimpleNamespace(matches=leaf.matches, samples=lucky.taken[-1])


def test_what_more_samples_allow_is_no_mismatch(monkeypatch: pytest.MonkeyPatch) -> None:
    assert vars(judged(5e-7, monkeypatch)) == {'matches': True, 'samples': MORE_SAMPLES}


def test_twin_what_they_do_not_allow_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert vars(judged(3e-6, monkeypatch)) == {'matches': False, 'samples': MORE_SAMPLES}


def test_roundings_of_the_largest_value_may_be_luck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VALUE, 'large', np.full((), 100, np.float32))
    judged_by = {'x': 1e-5, 'large': 100.0}  # beyond LUCK tolerances, and below an ulp of 100
    found = {path: np.asarray(value, np.float32) for path, value in judged_by.items()}
    monkeypatch.setattr(runs, 'port_leaves', lambda *args, **kwargs: found)
    lucky = Lucky()
    lucky.compare('loss', 'float32')
    assert lucky.taken == [0, 1, SAMPLES['float32'], MORE_SAMPLES]


def test_what_luck_cannot_explain_is_judged_with_the_usual_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    assert vars(judged(1e-5, monkeypatch)) == {'matches': False, 'samples': SAMPLES['float32']}


def judged_undecided(value: float, times: int, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """times: in how many samples the leaf is not finite, as the reference is."""
    monkeypatch.setattr(runs, 'port_leaves', lambda *args, **kwargs: {'x': np.asarray(value, np.float32)})
    lucky = Lucky()
    lucky.undecided = {'x': np.array(times)} if times else {}
    (leaf,) = lucky.compare('rollout', 'float32')
    return SimpleNamespace(matches=leaf.matches, kind=leaf.kind, samples=lucky.taken[-1])


def test_where_some_samples_are_not_finite_the_others_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    found = judged_undecided(1e-5, 1, monkeypatch)  # with the usual samples, luck would not explain it
    assert vars(found) == {'matches': False, 'kind': 'value', 'samples': MORE_SAMPLES}
    assert judged_undecided(9e-7, 1, monkeypatch).matches


def test_where_some_samples_are_not_finite_the_port_need_not_be(monkeypatch: pytest.MonkeyPatch) -> None:
    assert judged_undecided(np.inf, 1, monkeypatch).matches


def test_twin_where_all_samples_are_finite_the_port_must_be(monkeypatch: pytest.MonkeyPatch) -> None:
    found = judged_undecided(np.inf, 0, monkeypatch)
    assert vars(found) == {'matches': False, 'kind': 'non-finite', 'samples': SAMPLES['float32']}


def test_only_entries_that_no_sample_has_finite_are_allowed_anything() -> None:
    undecided = {'x': np.array([0, 1, MORE_SAMPLES]), 'y': np.array([0, MORE_SAMPLES - 1])}
    found = runs._widen_undecided(dict.fromkeys(undecided, Tolerance(1.0, 'noise')), undecided)
    assert np.array_equal(found['x'].allowed, [1.0, 1.0, np.inf])
    assert found['x'].why.endswith('rounding decides whether it is finite')
    assert found['y'].allowed == 1.0


@pytest.mark.parametrize(('error', 'samples'), [(4e-9, 0), (4e-8, 1), (9e-8, SAMPLES['float32'])])
def test_what_matches_with_room_needs_no_more_samples(
    error: float, samples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert vars(judged(error, monkeypatch)) == {'matches': True, 'samples': samples}


def test_a_leaf_that_matches_with_room_is_judged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VALUE, 'y', np.zeros((), np.float32))
    found = {path: np.asarray(error, np.float32) for path, error in (('x', 9e-8), ('y', 4e-9))}
    monkeypatch.setattr(runs, 'port_leaves', lambda *args, **kwargs: found)
    allowed = {leaf.path: leaf.allowed for leaf in Lucky().compare('loss', 'float32')}
    assert allowed == {'x': FEW, 'y': NONE}


@pytest.mark.parametrize('dtype', ['float64', 'float32'])
def test_more_samples_never_allow_less(dtype: str) -> None:
    """Or what matches without them could differ with them."""
    runs = Runs(find('iql'), Case(seed=1, sizes={'B': 16, 'O': 17, 'A': 6, 'M': 16}))
    for stage in ('loss', 'grads', 'update', 'rollout'):
        counts = runs.counts(dtype)[:-1]
        found = [runs.expected(stage, dtype, samples).tolerances for samples in counts]
        for fewer, more in itertools.pairwise(found):
            less = [path for path in more if np.any(more[path].allowed < fewer[path].allowed)]
            assert not less
            assert any(np.any(more[path].allowed > fewer[path].allowed) for path in more)


def test_what_was_measured_is_told() -> None:
    runs = Runs(find('iql'), Case(seed=1, sizes={'B': 16, 'O': 17, 'A': 6, 'M': 16}))
    without, measured = (runs.expected('loss', 'float64', samples).tolerances for samples in (0, 1))
    assert all('noise' not in tolerance.why for tolerance in without.values())
    assert any('x noise' in tolerance.why for tolerance in measured.values())


@pytest.mark.parametrize(
    ('smallest', 'largest', 'allowed'),
    [('grad/min', 'grad/max', True), ('grad/max', 'grad/min', True), ('q_min', 'q_max', False)],
)
def test_an_extreme_entry_of_a_gradient_is_as_exact_as_the_gradient(
    smallest: str, largest: str, allowed: bool
) -> None:
    """Where all others are above zero, the smallest may be one that cancels, and is rounding."""
    runs = Runs(Pair('extremes', None, None, batch={}), Case())
    truth = {
        f'step0 pretrain/info/{smallest}': np.array(1e-20),
        f'step0 pretrain/info/{largest}': np.array(2.0),
    }
    vars(runs).update(
        inputs=SimpleNamespace(reduction=1), reference64=SimpleNamespace(stage=lambda stage: truth)
    )
    found = runs.tolerances('update', 'float64', truth, 0)[f'step0 pretrain/info/{smallest}']
    assert bool(found.allowed >= 2 * np.finfo(np.float64).eps) is allowed


@pytest.mark.parametrize(
    ('name', 'size', 'allowed'),
    [('grad/norm', 1e-16, True), ('grad/norm', 1e-3, False), ('q_norm', 1e-16, False)],
)
def test_a_norm_of_gradients_is_as_exact_as_those_that_may_be_rounding(
    name: str, size: float, allowed: bool
) -> None:
    """Of 10,000 entries that cancel each is within the floor of the largest, and their norm is 100 of it."""
    runs = Runs(Pair('norms', None, None, batch={}), Case())
    truth = {
        'step0 pretrain/opt_mu/cancelling': np.full(10_000, size),
        'step0 pretrain/opt_mu/large': np.array(0.1),
        f'step0 pretrain/info/{name}': np.array(1.0),
    }
    vars(runs).update(
        inputs=SimpleNamespace(reduction=1), reference64=SimpleNamespace(stage=lambda stage: truth)
    )
    found = runs.tolerances('update', 'float64', truth, 0)[f'step0 pretrain/info/{name}']
    assert bool(found.allowed >= 100 * FLOOR * np.finfo(np.float64).eps) is allowed


def test_small_models_are_run_with_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        runs = Runs(find('iql'), Case())
        with runs.threads():
            assert torch.get_num_threads() == 2  # nothing is created for it
        _ = runs.inputs
        with runs.threads():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        monkeypatch.setattr('parity.computations.SMALL', 10)
        with runs.threads():
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def _info_nce(weights: Any, rows: Any, softmax: Any, tanh: Any) -> Any:
    """Rows told apart from each other: where all are equal, what reaches `near` is 1/2 - 1/2."""
    features = tanh(rows @ weights['near'])
    contrast = -softmax(features @ features.T, -1).diagonal().mean()
    return contrast + (weights['size'] ** 2).sum()


def _contrast(residue_of: str) -> ModelPair:
    """A pair that agrees, but for a gradient of 1e-17 that the port sends into one of its parameters."""

    def loss(module: Any, batch: Any) -> Any:
        weights = dict(module.named_parameters())
        return _info_nce(weights, batch['x'], torch.softmax, torch.tanh) + 1e-17 * weights[residue_of].sum()

    def module() -> torch.nn.Module:
        return torch.nn.ParameterDict({name: torch.ones(shape) for name, shape in SHAPES.items()})

    reference = JaxModel(
        lambda key: {name: jax.random.normal(key, shape) for name, shape in SHAPES.items()},
        loss=lambda weights, batch: _info_nce(weights, batch['x'], jax.nn.softmax, jnp.tanh),
    )
    return ModelPair('contrast', reference, TorchModel(module, loss=loss), batch={'x': 'B 4'})


SHAPES = {'near': (4, 3), 'size': (2,), 'unused': (2,)}
EQUAL = Case(values='duplicates', sizes={'B': 2})


def test_what_cancels_where_rows_are_equal_may_leave_a_rounding() -> None:
    found = check(_contrast('near'), cases=[EQUAL], stages=['grads'], dtypes=['float64'])
    near = next(leaf for _, stage in found.stages() for leaf in stage.leaves if leaf.path.endswith('near'))
    assert near.reference == 'f64[4,3] mean 0 in [0, 0]'
    assert near.error > 0
    found.raise_if_mismatch()


def test_twin_what_is_never_used_may_not() -> None:
    found = check(_contrast('unused'), cases=[EQUAL], stages=['grads'], dtypes=['float64'])
    (differing,) = [leaf.path for _, stage in found.stages() for leaf in stage.leaves if not leaf.matches]
    assert differing.endswith('unused')


def test_samples_in_float32_move_parameters_and_batch() -> None:
    runs = Runs(find('iql'), Case(seed=1, sizes={'B': 16, 'O': 17, 'A': 6, 'M': 16}))
    for rounded, exact in runs.nearby32(2):
        assert rounded.inputs is exact.inputs
        for moved, given in (
            (rounded.inputs.batch, runs.inputs.batch),
            (rounded.inputs.state.params, runs.inputs.state.params),
        ):
            assert not any(
                np.array_equal(moved[name], given[name]) for name in given if np.any(given[name] % 1)
            )
            assert all(moved[name].dtype == given[name].dtype for name in given)


# Of a transition that a soak found. What changed sums up without rounding in float32, from first to last, and
# does so however both are scaled.
STATE = np.float32([0.0, -1.357885479927063, 0.4566419720649719, 0.7776000499725342, -0.3873156011104584])
NEXT_STATE = np.float32(
    [0.45351067185401917, -2.1604390144348145, 0.47769132256507874, 0.9639099836349487, -0.2474532276391983]
)


def residual(error: float) -> Verdict:
    """Of a port that sums from last to first, and is off by this share of the largest term."""
    batch = {'next': NEXT_STATE, 'now': STATE}
    reference = lambda next, now: functools.reduce(operator.add, next - now)  # noqa: E731
    port = lambda next, now: functools.reduce(operator.add, (next - now).flip(0)) + error * now[1]  # noqa: E731
    return check_functions(reference, port, batch, dtypes=['float32'], grads=False)


def test_a_sum_that_is_exact_in_one_order_may_round_in_another() -> None:
    residual(0.0).raise_if_mismatch()


def test_twin_scaled_terms_alone_do_not_show_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('parity.computations.ROUNDED_INPUTS', 0)
    assert residual(0.0).outcome == 'mismatch'


def test_twin_more_than_roundings_of_its_terms_is_a_difference() -> None:
    assert residual(1e-5).outcome == 'mismatch'
