"""After a step whose gradients agree: the mistake that reproduces the port's numbers is named."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from parity import Case, Pair, registered
from parity.locating.alternatives import follows
from parity.locating.recorded import recorded_steps
from parity.locating.steps import Adam, Moments, rate
from parity.locating.updates import UNKNOWN, UpdateFinding, updates
from parity.runs import Runs
from parity_tests.agents.test_classic_mistakes import late_targets, port_with, skipping_adam

pytestmark = pytest.mark.slow

Mistake = Callable[[Any], None]


def found(name: str, mistake: Mistake) -> list[UpdateFinding]:
    pair: Pair = port_with(registered()[name], mistake)
    return updates(Runs(pair, Case(seed=3)))


@pytest.mark.parametrize('name', sorted(registered()))
def test_correct_updates_have_no_finding(name: str) -> None:
    runs = Runs(registered()[name], Case(seed=3))
    assert updates(runs) == []
    followed = {path.split('/')[0] for path in follows(list(recorded_steps(runs)))}
    assert {network.removeprefix('modules_target_') for network in followed} == {
        network.removeprefix('target_') for network in runs.pair.forward if network.startswith('target_')
    } - {'repr_center'}  # the mean of features, which is no parameter


def constant(**values: Any) -> Mistake:
    def mistake(agent: Any) -> None:
        agent.network.tx.param_groups[0].update(values)

    return mistake


def configured(**values: Any) -> Mistake:
    def mistake(agent: Any) -> None:
        agent.config = {**agent.config, **values}

    return mistake


def decoupled_decay(agent: Any) -> None:
    """AdamW at torch's default weight decay."""
    agent.network.tx = torch.optim.AdamW(agent.network.parameters(), lr=agent.config['lr'], eps=1e-8)


def forgetting(agent: Any) -> None:
    """The moments are lost before every step."""
    optimizer = agent.network.tx
    step = optimizer.step

    def fresh() -> None:
        optimizer.state.clear()
        step()

    optimizer.step = fresh


def resting(agent: Any) -> None:
    """The value network is not given to the optimiser."""
    network = agent.network
    kept = [p for name, p in network.named_parameters() if not name.startswith('modules_value')]
    step = network.tx.step

    def without() -> None:
        before = [(p, p.detach().clone()) for p in network.parameters() if not any(p is one for one in kept)]
        tensors = [(x, x.clone()) for p, _ in before for x in network.tx.state[p].values()]
        step()
        with torch.no_grad():
            for tensor, value in (*before, *tensors):
                tensor.copy_(value)

    network.tx.step = without


def descending(agent: Any) -> None:
    """Plain gradient descent."""

    def step() -> None:
        with torch.no_grad():
            for parameter in agent.network.parameters():
                if parameter.grad is not None:
                    parameter -= agent.config['lr'] * parameter.grad

    agent.network.tx.step = step


def averaging(agent: Any, average: Callable[[torch.Tensor, torch.Tensor, float], Any]) -> None:
    """Targets become average(online, target, tau)."""

    @torch.no_grad()
    def moving_average(target: str, online: str, tau: float) -> None:
        for p, tp in zip(*(agent.network.subtree(name).values() for name in (online, target)), strict=True):
            tp.copy_(average(p, tp, tau))

    agent.network.moving_average = moving_average


def no_targets(agent: Any) -> None:
    averaging(agent, lambda p, tp, tau: tp)


def copied(agent: Any) -> None:
    averaging(agent, lambda p, tp, tau: p)


def heavier(agent: Any) -> None:
    averaging(agent, lambda p, tp, tau: tau * p + (1 + tau) * tp)


CASES = [
    (late_targets, 'target from the values after the step', 'follows modules_critic as stepped'),
    (skipping_adam, 'parameter without gradient skipped', 'gradient None where the reference has zeros'),
    (constant(eps=1e-5), 'optimiser constant', 'eps 1e-05 instead of 1e-08'),
    (constant(lr=6e-4), 'optimiser constant', 'lr 0.0006 instead of 0.0003'),
    (constant(betas=(0.9, 0.99)), 'optimiser constant', 'beta2 0.99 instead of 0.999'),
    (constant(betas=(0.5, 0.999)), 'optimiser constant', 'beta1 0.5 instead of 0.9'),
    (decoupled_decay, 'optimiser constant', 'decay 0.01 instead of 0'),
    (constant(weight_decay=0.01), 'optimiser constant', 'l2 0.01 instead of 0'),
    (forgetting, 'optimiser state', 'moments and count start at zero'),
    (resting, 'parameter left out of the optimiser', 'not moved by its gradient'),
    (configured(tau=0.01), 'target rate', 'tau 0.01 instead of 0.005'),
    (configured(tau=0.995), 'target average in the wrong direction', 'tau 0.995 instead of 0.005'),
    (
        heavier,
        'target average of other weights',
        '0.005 of modules_critic and 1.005 of itself instead of 0.005 and 0.995',
    ),
    (no_targets, 'target not updated', 'rests in a step in which the reference follows'),
    (copied, 'target copied', 'modules_critic from before the step'),
]


@pytest.mark.parametrize(('mistake', 'cause', 'description'), CASES, ids=[f'{c[1]}-{c[2]}' for c in CASES])
def test_the_mistake_is_named(mistake: Mistake, cause: str, description: str) -> None:
    findings = found('iql', mistake)
    names = {(finding.cause, finding.description) for finding in findings}
    assert (cause, description) in names
    assert {name for name, _ in names} == {cause}
    assert all(finding.margin <= 1 for finding in findings)


def test_a_target_that_never_rests() -> None:
    def always(agent: Any) -> None:
        targets = {'target_critic': 'critic', 'target_actor': 'actor'}
        agent.finetune = lambda batch, full_update=True: agent.update(
            lambda params, rng: agent.finetuning_loss(batch, params, full_update=full_update, rng=rng),
            targets,
        )

    findings = found('rebrac', always)
    assert {finding.cause for finding in findings} == {'target updated in a step in which it rests'}
    assert {step for finding in findings for step in finding.steps} == {
        'step3 finetune_partial',
        'step4 finetune_partial',
    }
    assert {path.split('/')[0] for finding in findings for path in finding.paths} == {
        'modules_target_critic',
        'modules_target_actor',
    }


def test_two_mistakes_at_once_are_both_named() -> None:
    def both(agent: Any) -> None:
        constant(eps=1e-5)(agent)
        configured(tau=0.01)(agent)

    causes = {finding.cause for finding in found('iql', both)}
    assert causes == {'optimiser constant', 'target rate'}


def test_twin_what_no_alternative_reproduces_is_unknown_with_the_nearest() -> None:
    def noisy(agent: Any) -> None:
        step = agent.network.tx.step

        def moved() -> None:
            step()
            with torch.no_grad():
                for i, parameter in enumerate(agent.network.modules_value.parameters()):
                    parameter += (
                        1e-4 * torch.arange(parameter.numel()).sin().reshape(parameter.shape) * (i + 1)
                    )

        agent.network.tx.step = moved

    findings = found('iql', noisy)
    assert {finding.cause for finding in findings} == {UNKNOWN}
    assert all(finding.description.startswith('nearest: ') and finding.margin > 1 for finding in findings)
    assert {path.split('/')[0] for finding in findings for path in finding.paths} == {'modules_value'}


def test_findings_are_json() -> None:
    finding = UpdateFinding('target rate', 'tau 1 instead of 0.5', ('step0 pretrain',), ('a/b',), 0.25)
    assert json.loads(json.dumps(dataclasses.asdict(finding)))['margin'] == 0.25


@pytest.mark.parametrize('settings', [{}, {'betas': (0.8, 0.95)}, {'eps': 1e-3}, {'weight_decay': 0.1}])
def test_a_recomputed_step_is_that_of_torch(settings: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    parameter = torch.nn.Parameter(torch.tensor(rng.normal(size=5)))
    optimizer = torch.optim.Adam([parameter], lr=1e-3, **settings)
    betas = settings.get('betas', (0.9, 0.999))
    adam = Adam(1e-3, *betas, settings.get('eps', 1e-8), l2=settings.get('weight_decay', 0.0))
    state = Moments(parameter.detach().numpy().copy(), np.zeros(5), np.zeros(5), 0)
    for _ in range(4):
        parameter.grad = torch.tensor(rng.normal(size=5))
        state = adam.step(state, parameter.grad.numpy())
        optimizer.step()
    np.testing.assert_allclose(state.param, parameter.detach().numpy(), rtol=1e-13)


def test_a_rate_is_solved_only_where_it_explains_the_step() -> None:
    online, before = np.array([1.0, 2.0, 5.0]), np.array([0.0, 1.0, -1.0])
    assert np.isclose(rate(online, before, 0.25 * online + 0.75 * before), 0.25)
    assert np.isnan(rate(online, before, before + np.array([0.1, 0.1, 0.9])))
    assert np.isnan(rate(online, before, before))
