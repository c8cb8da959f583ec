"""A stage that differs by no more than luck may explain is judged by more samples of the noise."""

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from parity import check, runs
from parity.cases import Case
from parity.computations import SAMPLES
from parity.expected import Expected
from parity.models import JaxModel, ModelPair, TorchModel
from parity.pair import Pair, find
from parity.runs import MORE_SAMPLES, Runs
from parity.tolerances import Tolerance

FEW, MANY = 1e-7, 1e-6  # what is allowed with few samples, and with many
VALUE = {'x': np.zeros((), np.float32)}


class Lucky(Runs):
    """Few samples of its noise are small."""

    port32 = None
    inputs = SimpleNamespace(reduction=1)

    def expected(self, stage: str, dtype: str, *, reach: bool = True) -> Expected:
        allowed = MANY if self.samples[dtype] == MORE_SAMPLES else FEW
        return Expected(VALUE, VALUE, dict.fromkeys(VALUE, Tolerance(allowed, 'noise')))


def judged(error: float, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    found = {'x': np.asarray(error, np.float32)}
    monkeypatch.setattr(runs, 'port_leaves', lambda *args, **kwargs: found)
    lucky = Lucky(Pair('lucky', None, None, batch={}), Case())
    (leaf,) = lucky.compare('loss', 'float32')
    return SimpleNamespace(matches=leaf.matches, samples=lucky.samples['float32'])


def test_what_more_samples_allow_is_no_mismatch(monkeypatch: pytest.MonkeyPatch) -> None:
    assert vars(judged(5e-7, monkeypatch)) == {'matches': True, 'samples': MORE_SAMPLES}


def test_twin_what_they_do_not_allow_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert vars(judged(3e-6, monkeypatch)) == {'matches': False, 'samples': MORE_SAMPLES}


def test_roundings_of_the_largest_value_may_be_luck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VALUE, 'large', np.full((), 100, np.float32))
    judged_by = {'x': 1e-5, 'large': 100.0}  # beyond LUCK tolerances, and below an ulp of 100
    found = {path: np.asarray(value, np.float32) for path, value in judged_by.items()}
    monkeypatch.setattr(runs, 'port_leaves', lambda *args, **kwargs: found)
    lucky = Lucky(Pair('lucky', None, None, batch={}), Case())
    lucky.compare('loss', 'float32')
    assert lucky.samples['float32'] == MORE_SAMPLES


@pytest.mark.parametrize(('error', 'matches'), [(5e-8, True), (1e-5, False)])
def test_what_luck_cannot_explain_is_judged_at_once(
    error: float, matches: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert vars(judged(error, monkeypatch)) == {'matches': matches, 'samples': SAMPLES['float32']}


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
