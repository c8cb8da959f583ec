"""Long runs: correct ports drift as the reference does, wrong ones further, wrong latents included."""

import dataclasses
from collections.abc import Callable

import pytest

from parity import Pair
from parity.growth import check_growth, script
from parity.report import html, series
from parity.stages import step_name
from parity.verdict import Growth, Verdict
from parity_tests.engine import broken_ports
from reference_jax.hilp import HILPAgent as Reference
from torch_agents.hilp import HILPAgent
from torch_agents.pairs import HILP, IQL

pytestmark = pytest.mark.xdist_group('growth')
STEPS = 12


def grown(pair: Pair, dtype: str = 'float64', steps: int = STEPS) -> Verdict:
    return check_growth(pair, steps, sources=['halfcheetah'], dtypes=[dtype])


def first_difference(verdict: Verdict) -> int:
    """The first step with a leaf that differs."""
    leaves = [leaf for _, stage in verdict.stages() for leaf in stage.leaves if not leaf.matches]
    return min(int(leaf.path.split()[0].removeprefix('step')) for leaf in leaves)


def test_the_script_pretrains_resets_and_finetunes() -> None:
    class WithReset:
        target_reset = None

    names = [step_name(i, call) for i, call in enumerate(script(WithReset, 7, 3))]
    assert names == [
        'step0 pretrain',
        'step1 pretrain',
        'step2 pretrain',
        'step3 target_reset',
        'step4 finetune',
        'step5 finetune_partial',
        'step6 finetune_partial',
        'step7 finetune',
    ]
    assert 'target_reset' not in [call.method for call in script(object, 7, 3)]


@pytest.mark.parametrize(
    ('pair', 'dtype'),
    [
        pytest.param(IQL, 'float64', id='iql-float64'),
        pytest.param(HILP, 'float32', id='hilp-float32', marks=pytest.mark.slow),
        pytest.param(IQL, 'float32', id='iql-float32', marks=pytest.mark.slow),
        pytest.param(HILP, 'float64', id='hilp-float64', marks=pytest.mark.slow),
    ],
)
def test_a_correct_port_drifts_as_the_reference_does(pair: Pair, dtype: str) -> None:
    verdict = grown(pair, dtype)
    assert verdict.outcome == 'match'
    (growth,) = verdict.growth
    updates = STEPS + hasattr(pair.load('reference'), 'target_reset')
    assert [step for step, _, _ in growth.drifts] == list(range(updates))
    assert 0 < growth.drifts[-1][1] < (1e-6 if dtype == 'float64' else 1)
    assert f'{pair.name} {dtype}, halfcheetah: the growth is that of the reference: after step' in growth.says


@pytest.mark.parametrize(
    ('broken', 'dtype'),
    [
        (broken_ports.LAYER_NORM_EPSILON, 'float64'),
        (broken_ports.TARGET_AFTER_STEP, 'float64'),
        (broken_ports.NONE_FOR_ZERO, 'float64'),
        (broken_ports.HALF_PRECISION, 'float32'),
    ],
    ids=lambda value: getattr(value, 'name', value),
)
def test_twin_a_wrong_port_drifts_further(broken: Pair, dtype: str) -> None:
    verdict = grown(broken, dtype)
    assert verdict.outcome == 'mismatch'
    assert 'the growth is NOT that of the reference' in verdict.growth[0].says


class Unscaled(HILPAgent):
    """Its latents keep the length that least squares gives them."""

    def infer_latent(self, batch):
        return super().infer_latent(batch) / 2


def test_twin_a_wrong_latent_shows_when_fine_tuning_begins() -> None:
    verdict = grown(dataclasses.replace(HILP, name='unscaled', port=Unscaled))
    assert hasattr(Reference, 'target_reset')
    assert first_difference(verdict) == STEPS // 2 + 1


def test_each_step_keeps_its_worst_parameter_and_info_value() -> None:
    (_, stage) = next(grown(IQL, steps=4).stages())
    kinds = [tuple(leaf.path.split('/')[:2]) for leaf in stage.leaves]
    names = [step_name(i, call) for i, call in enumerate(script(IQL.load('reference'), 4, 4))]
    assert sorted(kinds) == sorted((name, kind) for name in names for kind in ('info', 'params'))
    assert stage.total > 100


def test_fewer_than_two_updates_are_refused(raised: Callable[[Callable[[], object]], list[str]]) -> None:
    lines = raised(lambda: check_growth(IQL, 1, sources=['halfcheetah']))
    assert lines[0] == 'cannot run 1 updates'
    assert len(lines) == 5


def test_the_report_plots_both_drifts() -> None:
    growth = Growth('toy', 'walker2d', 'float32', ((0, 0.1, 0.2), (1, 0.4, 0.3)), True)
    other = dataclasses.replace(growth, source='halfcheetah', drifts=((0, 0.3, 0.1), (1, 0.2, 0.9)))
    verdict = Verdict('toy', (), growth=(growth, other))
    assert series.drift(verdict) == {
        'port float32': [(0, 0.3), (1, 0.4)],
        'reference float32': [(0, 0.2), (1, 0.9)],
    }
    page = html.pair_page(verdict)
    assert 'toy float32, walker2d: the growth is that of the reference: after step 1' in page.replace(
        '&#39;', "'"
    )
    assert page.count('<svg') == 1
