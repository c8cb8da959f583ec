"""Every network's outputs agree in float64, and those of the methods that a pair names."""

import dataclasses

import pytest
import torch

from parity import Case, Pair, check
from parity.pair import find
from parity_tests.agents.properties import assert_parity, differing, for_all_cases
from parity_tests.engine import broken_ports
from torch_agents.pairs import FB_REPR, HILP, MBPO_REBRAC

SMALL = {'B': 5, 'O': 3, 'A': 2}


def test_networks(pair: Pair) -> None:
    for_all_cases(pair, lambda case: assert_parity(pair, case, 'forward'))


def test_a_wrong_network_fails() -> None:
    assert differing(broken_ports.LAYER_NORM_EPSILON, Case(), 'forward') == {
        'value',
        'critic',
        'target_critic',
    }


@pytest.mark.parametrize(
    ('owner', 'method'),
    [
        (HILP, 'get_phis'),
        (HILP, 'infer_latent'),
        (FB_REPR, 'infer_latent'),
        (MBPO_REBRAC, 'predict_rewards'),
        (MBPO_REBRAC, 'predict_next_observations'),
    ],
)
def test_twin_a_wrong_method_fails(owner: Pair, method: str) -> None:
    class Wrong(owner.load('port')):  # type: ignore[misc]
        pass

    def wrong(self: Wrong, *args: object) -> torch.Tensor:
        result: torch.Tensor = getattr(super(Wrong, self), method)(*args)
        return result * (1 + 1e-9)

    setattr(Wrong, method, wrong)
    case = Case(sizes=SMALL)
    assert differing(dataclasses.replace(owner, port=Wrong), case, 'forward') == {f'{method}()'}


def test_what_is_ill_posed_is_compared_for_plain_values_only() -> None:
    names = {}
    for style in ('plain', 'constant'):
        verdict = check(HILP, cases=[Case(sizes=SMALL, values=style)], stages=['forward'], dtypes=['float64'])
        assert verdict.outcome == 'match'
        names[style] = {leaf.path for _, stage in verdict.stages() for leaf in stage.leaves}
    assert names['plain'] - names['constant'] == {'infer_latent()'}


@pytest.mark.slow  # compiles all stages
@pytest.mark.parametrize('name', ['HILP', 'FB_REPR', 'CRL_INFONCE', 'TD_INFONCE', 'INFOM'])
def test_encoders_of_vectors(name: str) -> None:
    assert_parity(
        find(f'torch_agents.pairs:{name}_ENCODED'), Case(sizes=SMALL), 'params', 'forward', 'loss', 'update'
    )
