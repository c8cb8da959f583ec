"""Cases that differ made small: fields, rows, within their time; and never to one that does not differ."""

import time
from collections.abc import Callable

import numpy as np
import pytest

from parity import Case, ParityError
from parity.cases import batch_of
from parity.locating import shrinking
from parity.locating.shrinking import shrunk
from parity.pair import Pair
from parity.runs import Runs
from parity.verdict import StageResult
from parity_tests.engine import model_pairs

STAGE = StageResult('loss', 'float64', 'mismatch')
CASE = Case(77, {'B': 16, 'O': 8, 'A': 3}, {'actor_loss': 'ddpgbc', 'const_std': False, 'alpha': 2.0}, 'tiny')
Differs = Callable[[Runs], bool]
Tried = Callable[[Differs], list[Case]]


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> Tried:
    """Lets a function decide what differs; returns the cases that it is asked about."""

    def decided_by(differs: Differs) -> list[Case]:
        cases: list[Case] = []

        def still_differs(runs: Runs, stage: StageResult, loss: str | None) -> bool:
            assert (stage, loss) == (STAGE, None)
            cases.append(runs.case)
            return differs(runs)

        monkeypatch.setattr(shrinking, 'still_differs', still_differs)
        return cases

    return decided_by


def test_what_always_differs_becomes_the_smallest_at_once(toy: Pair, tried: Tried) -> None:
    cases = tried(lambda runs: True)
    smallest = shrunk(toy, CASE, STAGE)
    assert smallest == Case(0, {'A': 1, 'B': 1, 'O': 1}, {}, 'plain')
    assert cases == [smallest]


def test_only_what_matters_is_kept(toy: Pair, tried: Tried) -> None:
    def differs(runs: Runs) -> bool:
        is_wrong = runs.case.config.get('actor_loss') == 'ddpgbc' and runs.case.values == 'tiny'
        return is_wrong and runs.batch['observations'].shape >= (3, 2)

    cases = tried(differs)
    found = shrunk(toy, CASE, STAGE)
    assert found == Case(0, {'A': 1, 'B': 3, 'O': 2}, {'actor_loss': 'ddpgbc'}, 'tiny')
    assert len(cases) < 60


def test_twin_where_nothing_smaller_differs_the_case_stays(toy: Pair, tried: Tried) -> None:
    def differs(runs: Runs) -> bool:
        return runs.case.seed == 77 and runs.batch['observations'].shape == (16, 8)

    cases = tried(differs)
    found = shrunk(toy, CASE, STAGE)
    assert (found.seed, len(batch_of(toy, found)['rewards'])) == (77, 16)
    assert any(case.seed == 0 for case in cases)


def test_a_size_that_an_agent_is_not_defined_for_is_not_tried(tried: Tried) -> None:
    from torch_agents.pairs import FB_REPR

    cases = tried(lambda runs: True)
    assert shrunk(FB_REPR, Case(sizes={'B': 8}), STAGE).sizes['B'] == 2
    assert len(cases) == 1


def recorded(toy: Pair, wrong: list[int]) -> Case:
    batch = batch_of(toy, Case(sizes={'B': 6}))
    batch['rewards'][wrong] = 99.0
    return Case(5, batch=batch)


def test_rows_of_a_given_batch_are_left_out(toy: Pair, tried: Tried) -> None:
    tried(lambda runs: bool((runs.batch['rewards'] == 99).any()))
    found = shrunk(toy, recorded(toy, [4]), STAGE)
    assert found.seed == 0
    batch = batch_of(toy, found)
    assert batch['rewards'].tolist() == [99.0]
    assert np.array_equal(batch['observations'][0], batch_of(toy, recorded(toy, [4]))['observations'][4])


def test_twin_rows_that_are_needed_stay(toy: Pair, tried: Tried) -> None:
    tried(lambda runs: int((runs.batch['rewards'] == 99).sum()) == 2)
    assert batch_of(toy, shrunk(toy, recorded(toy, [2, 3]), STAGE))['rewards'].tolist() == [99.0, 99.0]
    assert len(batch_of(toy, shrunk(toy, recorded(toy, [0, 5]), STAGE))['rewards']) == 6


def test_time_ends_the_search_with_what_was_found(toy: Pair, tried: Tried) -> None:
    def slowly(runs: Runs) -> bool:
        time.sleep(0.05)
        return runs.batch['observations'].shape >= (3, 2)

    cases = tried(slowly)
    shrunk(toy, CASE, STAGE, seconds=0.2)
    assert 1 <= len(cases) <= 5
    cases.clear()
    assert batch_of(toy, shrunk(toy, CASE, STAGE, seconds=0))['rewards'].shape == (16,)
    assert cases == []


def test_a_case_on_which_the_reference_raises_does_not_differ(toy: Pair, tried: Tried) -> None:
    def differs(runs: Runs) -> bool:
        if len(runs.batch['rewards']) < 16:
            raise ParityError('x', values='', error='', where='', next_step='')
        return True

    tried(differs)
    found = shrunk(toy, CASE, STAGE)
    assert found.sizes == {'A': 1, 'B': 16, 'O': 1}


def test_a_real_mismatch_and_its_twin() -> None:
    case, lines = Case(9, {'B': 3}, values='tiny'), list[str]()
    wrong = shrunk(model_pairs.LINEN_EPSILON, case, STAGE, progress=lines.append)
    assert wrong == Case(0, {'B': 1})
    assert lines == ['smaller: seed 0 plain values B=1']
    assert shrunk(model_pairs.LINEN, case, STAGE, seconds=5).sizes == {'B': 3}
