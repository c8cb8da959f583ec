"""Teacher forcing: each wrong module is a culprit, each that only passes an error on is not."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import flax.linen as linen
import jax
import jax.numpy as jnp
import pytest
import torch
import torch.nn.functional as F
from flax import nnx

from parity import Case, JaxModel, ModelPair, Pair, TorchModel, registered
from parity.locating.layers import LayerRow, layers
from parity.runs import Runs
from parity.stages import LOSSES
from parity_tests.agents.test_classic_mistakes import layer_norm_epsilon, port_with
from parity_tests.engine.broken_ports import LEAKY_TARGET
from torch_agents.layers import Dense, LayerNorm

pytestmark = pytest.mark.slow

PRETRAINING, FINETUNING = LOSSES[:2]
AGENTS = ('iql', 'infom', 'fb_repr', 'rebrac')


def rows_of(pair: Pair, call: Any = FINETUNING) -> list[LayerRow]:
    return layers(Runs(pair, Case(seed=3)), call)


def culprits(rows: list[LayerRow]) -> set[str]:
    return {row.path for row in rows if row.is_culprit}


def with_mistake(name: str, mistake: Callable[[Any], None]) -> Pair:
    return port_with(registered()[name], mistake)


@pytest.mark.parametrize('name', sorted(registered()))
@pytest.mark.parametrize('call', [PRETRAINING, FINETUNING], ids=lambda call: call.name)
def test_a_correct_port_has_no_culprit_and_no_carrier(name: str, call: Any) -> None:
    rows = rows_of(registered()[name], call)
    assert rows
    assert {(row.forward, row.backward) for row in rows} == {('match', 'match')}
    assert all(row.reads[0] == row.reads[1] for row in rows)


@pytest.mark.parametrize(
    ('name', 'style'),
    [('crl_infonce', 'zero'), ('crl_infonce', 'duplicates'), ('td_infonce', 'tiny'), ('iql', 'tied')],
)
def test_gradients_that_cancel_and_ties_are_no_culprits(name: str, style: Any) -> None:
    rows = layers(Runs(registered()[name], Case(seed=11, values=style)), FINETUNING)
    assert {(row.forward, row.backward) for row in rows} == {('match', 'match')}


@pytest.mark.parametrize('name', AGENTS)
def test_twin_every_layer_norm_with_another_epsilon_and_nothing_else_is_a_culprit(name: str) -> None:
    rows = rows_of(with_mistake(name, layer_norm_epsilon))
    norms = {row.path for row in rows if 'LayerNorm' in row.path}
    assert norms
    assert culprits(rows) == norms
    assert {row.forward for row in rows if row.path.endswith('Dense_1')} >= {'carrier'}


def several(agent: Any) -> None:
    """Three mistakes of three kinds in three networks."""
    network = agent.network
    network.modules_value.value_net.LayerNorm_1.eps = 1e-5
    network.modules_critic.value_net.Dense_0.forward = lambda x: (
        -Dense.forward(network.modules_critic.value_net.Dense_0, x)
    )
    actor_net = network.modules_actor.actor_net

    def exact(x: Any) -> Any:
        return F.gelu(actor_net.Dense_1(F.gelu(actor_net.Dense_0(x))))

    actor_net.forward = exact


def test_several_culprits_in_one_pass() -> None:
    rows = rows_of(with_mistake('iql', several))
    assert culprits(rows) == {
        'modules_value/value_net/LayerNorm_1',
        'modules_critic/value_net/Dense_0',
        'modules_actor/actor_net',
    }
    found = {row.path: row for row in rows if row.is_culprit}
    assert found['modules_actor/actor_net'].leaf == 'gives Dense_1/x'
    assert found['modules_critic/value_net/Dense_0'].leaf == 'outputs/output'
    carriers = {row.path for row in rows if row.forward == 'carrier'}
    assert 'modules_value/value_net/Dense_2' in carriers
    assert 'modules_value/value_net/Dense_0' not in carriers


def test_each_call_of_a_loop_has_its_row_in_order() -> None:
    rows = rows_of(registered()['infom'], PRETRAINING)
    flow = [row for row in rows if row.path == 'modules_target_critic_vf']
    assert [row.number for row in flow] == [0, 1, 2, 3, 4]  # four steps, and the field at their end
    inner = [row for row in rows if row.path == 'modules_target_critic_vf/vector_field_net']
    assert [row.parent for row in inner] == [row.order for row in flow]
    assert [row.order for row in rows] == sorted(row.order for row in rows)


def test_each_call_of_a_shared_network_has_its_row() -> None:
    rows = rows_of(registered()['hilp'], PRETRAINING)
    outer = [row for row in rows if row.path == 'modules_value']
    shared = [row for row in rows if row.path == 'modules_value/phi']
    assert len(shared) == 2 * len(outer)
    assert {row.parent for row in shared} == {row.order for row in outer}


def test_a_trained_read_of_a_frozen_network_is_seen_at_its_layers_which_are_no_culprits() -> None:
    rows = rows_of(LEAKY_TARGET)
    assert not culprits(rows)
    leaking = {row.path.split('/')[0] for row in rows if row.reads == (False, True)}
    assert leaking == {'modules_target_critic'}
    assert {row.reads for row in rows if row.path.startswith('modules_actor/')} == {
        (True, True),
        (False, False),
    }


def test_what_a_module_raises_is_told() -> None:
    def refusing(agent: Any) -> None:
        norm = agent.network.modules_value.value_net.LayerNorm_0

        def forward(x: Any) -> Any:
            if torch.is_grad_enabled() and x.is_leaf and x.requires_grad:
                raise ValueError('no')
            return LayerNorm.forward(norm, x)

        norm.forward = forward

    rows = rows_of(with_mistake('iql', refusing))
    assert culprits(rows) == {'modules_value/value_net/LayerNorm_0'}
    assert {row.problem for row in rows if row.is_culprit} == {'ValueError: no'}


def test_rows_are_json() -> None:
    rows = rows_of(with_mistake('iql', several), PRETRAINING)
    assert json.loads(json.dumps(dataclasses.asdict(rows[0])))['path'] == 'modules_actor'


# --- models of one's own


class Block(linen.Module):
    @linen.compact
    def __call__(self, x: Any) -> Any:
        h = linen.Dense(6, name='up')(x)
        scale = jax.lax.stop_gradient(jnp.abs(h).mean(-1, keepdims=True))
        return linen.Dense(3, name='down')(jnp.tanh(h) * scale)


class Net(linen.Module):
    @linen.compact
    def __call__(self, x: Any) -> Any:
        block = Block(name='block')
        return linen.Dense(1, name='head')(block(block(x)))


class TorchBlock(torch.nn.Module):
    detached = True

    def __init__(self) -> None:
        super().__init__()
        self.expand, self.shrink = torch.nn.Linear(3, 6), torch.nn.Linear(6, 3)

    def forward(self, x: Any) -> Any:
        h = self.expand(x)
        scale = h.abs().mean(-1, keepdim=True)
        return self.shrink(h.tanh() * (scale.detach() if self.detached else scale))


class LeakyBlock(TorchBlock):
    detached = False


def torch_net(block: type[TorchBlock]) -> Callable[[], Any]:
    class TorchNet(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk, self.out = block(), torch.nn.Linear(3, 1)

        def forward(self, x: Any) -> Any:
            return self.out(self.trunk(self.trunk(x)))

    return TorchNet


NAMES = {
    'trunk.expand': 'block/up',
    'trunk.shrink': 'block/down',
    'out': 'head',
}
BRIDGE = {
    f'{name}.{ours}': f'params/{path}/{theirs}'
    for name, path in NAMES.items()
    for ours, theirs in (('weight', 'kernel'), ('bias', 'bias'))
}


def own_pair(block: type[TorchBlock]) -> ModelPair:
    net = Net()
    return ModelPair(
        name='own',
        reference=JaxModel(
            init=lambda key: net.init(key, jnp.zeros((1, 3))),
            loss=lambda variables, batch: (net.apply(variables, batch['x']) ** 2).mean(),
        ),
        port=TorchModel(torch_net(block), loss=lambda module, batch: (module(batch['x']) ** 2).mean()),
        batch={'x': 'B 3'},
        bridge=BRIDGE,
    )


def test_a_port_with_names_of_its_own_matches() -> None:
    rows = rows_of(own_pair(TorchBlock), ModelPair.losses[0])
    assert [row.path for row in rows].count('block') == 2
    assert {(row.forward, row.backward) for row in rows} == {('match', 'match')}


def test_twin_a_gradient_that_leaks_is_a_culprit_of_the_backward_pass_alone() -> None:
    rows = rows_of(own_pair(LeakyBlock), ModelPair.losses[0])
    found = [row for row in rows if row.is_culprit]
    assert {(row.path, row.forward, row.backward, row.leaf) for row in found} == {
        ('block', 'match', 'culprit', 'sends up/output')
    }


class NnxNet(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.up, self.norm, self.down = (
            nnx.Linear(3, 6, rngs=rngs),
            nnx.LayerNorm(6, rngs=rngs),
            nnx.Linear(6, 1, rngs=rngs),
        )

    def __call__(self, x: Any) -> Any:
        return self.down(self.norm(nnx.gelu(self.up(x))))


def torch_nnx(eps: float) -> Callable[[], Any]:
    class TorchNnx(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.norm, self.down = (
                torch.nn.Linear(3, 6),
                torch.nn.LayerNorm(6, eps=eps),
                torch.nn.Linear(6, 1),
            )

        def forward(self, x: Any) -> Any:
            return self.down(self.norm(F.gelu(self.up(x), approximate='tanh')))

    return TorchNnx


def nnx_pair(eps: float) -> ModelPair:
    graph, _ = nnx.split(NnxNet(nnx.Rngs(0)))
    return ModelPair(
        name='nnx',
        reference=JaxModel(
            init=lambda key: nnx.split(NnxNet(nnx.Rngs(key)))[1],
            loss=lambda state, batch: (nnx.merge(graph, state)(batch['x']) ** 2).mean(),
        ),
        port=TorchModel(torch_nnx(eps), loss=lambda module, batch: (module(batch['x']) ** 2).mean()),
        batch={'x': 'B 3'},
    )


@pytest.mark.parametrize(('eps', 'expected'), [(1e-6, set()), (1e-5, {'norm'})])
def test_nnx_modules(eps: float, expected: set[str]) -> None:
    rows = rows_of(nnx_pair(eps), ModelPair.losses[0])
    assert {row.path for row in rows} == {'', 'up', 'norm', 'down'}
    assert culprits(rows) == expected
