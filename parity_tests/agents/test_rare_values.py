"""Values that generated cases do not come to, made for the lines that nothing else tells from a mistake."""

import dataclasses

import numpy as np
import pytest

from parity import Case, MismatchError, Pair, check
from parity.batches import generate
from parity.checking import check_stage
from parity.runs import Runs
from parity.verdict import Outcome
from parity_tests.engine.planting import Substitution, planted
from torch_agents.pairs import CRL_INFONCE, HILP, REBRAC

FLOOR = Substitution('crl_infonce.py', 'maximum(v, 1e-6)', 'maximum(v, 1e-5)')
RANK = Substitution('hilp.py', 'torch.finfo(steps.dtype).eps', 'torch.finfo(torch.float32).eps')


def losses_at_the_floor(pair: Pair) -> Outcome:
    """The outcome of the losses where critic values are spread over many powers of ten, around the floor."""
    runs = Runs(pair, Case(sizes={'B': 16}))
    values = runs.reference64.stage('forward')['critic']
    spread = 30 / float(np.abs(np.log(values)).max())
    params = {
        path: leaf * np.float32(spread) if path.startswith('modules_critic/phi/Dense_2') else leaf
        for path, leaf in runs.inputs.state.params.items()
    }
    state = dataclasses.replace(runs.inputs.state, params=params)
    spread_out = Runs(pair, runs.case)
    spread_out.__dict__['inputs'] = dataclasses.replace(runs.inputs, state=state)
    found = spread_out.reference64.stage('forward')['critic']
    assert ((found > 1e-6) & (found < 1e-5)).any()
    return check_stage(spread_out, 'loss', 'float64').outcome


def test_the_floor_of_a_logarithm() -> None:
    assert losses_at_the_floor(CRL_INFONCE) == 'match'


def test_twin_another_floor_is_seen() -> None:
    with planted('crl_infonce', FLOOR) as found:
        assert losses_at_the_floor(found.pair) == 'mismatch'


def nearly_one_row(pair: Pair) -> Case:
    """Transitions that nearly are one and the same: a least-squares problem of nearly deficient rank."""
    batch = generate(pair.batch, {'B': 16, 'O': 4, 'A': 2, 'L': 3}, 0, 'plain')
    batch['next_observations'] = np.repeat(batch['next_observations'][:1], 16, axis=0)
    batch['observations'] = batch['observations'] * np.float32(1e-7)
    return Case(batch=batch)


def test_a_rank_that_is_nearly_deficient() -> None:
    check(HILP, cases=[nearly_one_row(HILP)], stages=['forward'], dtypes=['float64']).raise_if_mismatch()


def test_twin_a_rank_as_in_float32_is_seen() -> None:
    with planted('hilp', RANK) as found, pytest.raises(MismatchError, match='infer_latent'):
        check(
            found.pair, cases=[nearly_one_row(found.pair)], stages=['forward'], dtypes=['float64']
        ).raise_if_mismatch()


def free_run_at_the_edge() -> Outcome:
    """The outcome of a free run in which most of the reference's own samples of the noise end in NaN.

    Its actions are nearly 1, and of an action that is 1 atanh is infinite. A soak found it.
    """
    switches = {'tanh_squash': True, 'actor_fc_scale': 0.01, 'alpha_actor': 0.0, 'alpha_critic': 0.0}
    layers = {'actor_layer_norm': False, 'value_layer_norm': True, 'value_hidden_dims': (12, 10)}
    config = {**switches, **layers, 'normalize_q_loss': True}
    case = Case(seed=981769744, values='huge', sizes={'B': 16, 'O': 17, 'A': 6}, config=config)
    return check_stage(Runs(REBRAC, case), 'rollout', 'float64').outcome


@pytest.mark.xdist_group('rebrac')
def test_a_free_run_of_which_rounding_decides_whether_it_is_finite() -> None:
    assert free_run_at_the_edge() == 'match'


@pytest.mark.xdist_group('rebrac')
def test_twin_samples_that_are_not_finite_are_no_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Runs, '_undecided', lambda *args: {})
    assert free_run_at_the_edge() == 'mismatch'
