"""The classic mistakes of a port, made in every agent where they apply: each is red, at its own stage."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch

from parity import Case, Pair, check
from parity.strategies import structures
from parity_tests.engine.broken_ports import LateTargets, SkippingAdam
from torch_agents.layers import LayerNorm


def port_with(pair: Pair, mistake: Callable[[Any], None]) -> Pair:
    """The pair with a port whose new agents have the mistake."""

    class Mistaken(pair.load('port')):  # type: ignore[misc]
        @classmethod
        def create(cls, *args: Any, **kwargs: Any) -> Any:
            agent = super().create(*args, **kwargs)
            mistake(agent)
            return agent

    return dataclasses.replace(pair, port=Mistaken)


def red_stages(pair: Pair, *stages: str, **config: Any) -> list[str]:
    """The stages that differ in float64, at the structure that the property tests have compiled.

    config: what of its configuration is otherwise.
    """
    structure = structures(pair)[0]
    case = Case(seed=3, sizes=structure['sizes'], config={**structure['config'], **config})
    verdict = check(pair, cases=[case], stages=stages, dtypes=['float64'])
    assert {result.outcome for _, result in verdict.stages()} <= {'match', 'mismatch'}
    return [result.stage for _, result in verdict.stages() if result.outcome == 'mismatch']


def layer_norm_epsilon(agent: Any) -> None:
    """LayerNorm left at torch's default epsilon."""
    norms = [module for module in agent.network.modules() if isinstance(module, LayerNorm)]
    assert norms
    for module in norms:
        module.eps = 1e-5


def late_targets(agent: Any) -> None:
    """Targets follow the values from after the step."""
    agent.network.__class__ = LateTargets


def skipping_adam(agent: Any) -> None:
    """Adam skips what the loss does not use; the reference's moves on with its moments."""
    agent.network.tx.__class__ = SkippingAdam


def test_no_mistake_is_green(shipped: Pair) -> None:
    assert red_stages(port_with(shipped, lambda agent: None), 'forward', 'loss', 'grads', 'update') == []


def test_layer_norm_epsilon(shipped: Pair) -> None:
    assert red_stages(port_with(shipped, layer_norm_epsilon), 'forward')


def test_mean_for_min(shipped: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, 'amin', lambda self, axis: self.mean(axis))
    monkeypatch.setattr(torch, 'minimum', lambda a, b: (a + b) / 2)
    minima = dict.fromkeys(shipped.switches.keys() & {'q_agg', 'logit_agg'}, 'min')  # td_infonce has means
    assert red_stages(shipped, 'forward', 'loss', **minima)[-1] == 'loss'


def test_targets_after_the_step(shipped: Pair) -> None:
    if not any(name.startswith('target_') for name in shipped.forward):
        return  # nothing to get wrong: no targets (crl_infonce)
    assert red_stages(port_with(shipped, late_targets), 'loss', 'grads', 'update') == ['update']


def test_adam_that_skips_unused_parameters(shipped: Pair) -> None:
    assert red_stages(port_with(shipped, skipping_adam), 'loss', 'grads', 'update') == ['update']


def test_only_crl_infonce_has_no_targets() -> None:
    from parity import registered

    without = [
        name
        for name, pair in registered().items()
        if not any(network.startswith('target_') for network in pair.forward)
    ]
    assert without == ['crl_infonce']
