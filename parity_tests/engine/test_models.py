"""Models of linen, nnx, equinox and haiku against plain modules: all stages match, each mistake is found."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx
from torch import nn
from typer.testing import CliRunner

import parity
import weight_bridge
from parity import Case, JaxModel, ModelPair, Pair, TorchModel
from parity.batches import generate
from parity.cli import app
from parity.generated import all_cases, generated_cases
from parity.stages import stages_of
from parity.strategies import any_cases
from parity_tests.engine import model_pairs
from weight_bridge.table import Row

pytestmark = pytest.mark.xdist_group('models')

Lines = Callable[[Callable[[], object]], list[str]]
STAGES = ['params', 'forward', 'loss', 'grads', 'update', 'rollout']
PAIRS = {pair.name: pair for pair in vars(model_pairs).values() if isinstance(pair, ModelPair)}
Opt = functools.partial
GOOD = ('LINEN', 'NNX', 'EQUINOX', 'HAIKU')


def differing(pair: Pair, *stages: str) -> dict[str, set[str]]:
    """The stages that differ in float64, and the paths in each."""
    verdict = parity.check(pair, cases=[Case(seed=1)], stages=stages or STAGES, dtypes=['float64'])
    assert [result.reason for _, result in verdict.stages() if result.reason] == []
    return {
        result.stage: {leaf.path for leaf in result.leaves if not leaf.matches}
        for _, result in verdict.stages()
        if result.outcome == 'mismatch'
    }


# --- four libraries


@pytest.mark.parametrize('name', GOOD)
def test_all_stages_match_in_both_precisions(name: str) -> None:
    pair = getattr(model_pairs, name)
    assert stages_of(pair) == STAGES
    parity.check(pair, cases=[Case(seed=1), *generated_cases(pair, 2, 0)]).raise_if_mismatch()


@pytest.mark.parametrize(
    ('name', 'first'),
    [
        ('LINEN_EPSILON', 'forward'),
        ('NNX_VARIANCE', 'update'),
        ('EQUINOX_DAMPENING', 'update'),
        ('HAIKU_DECAY', 'update'),
    ],
)
def test_a_mistake_is_red_at_its_own_stage(name: str, first: str) -> None:
    pair = getattr(model_pairs, name)
    assert next(iter(differing(pair))) == first


def test_a_wrong_running_variance_is_named() -> None:
    found = differing(model_pairs.NNX_VARIANCE, 'update')['update']
    assert found == {f'step{i} train/params/norm/var/value' for i in range(7)}


def test_leaves_have_the_paths_of_the_reference() -> None:
    verdict = parity.check(model_pairs.HAIKU, stages=['params', 'grads'], dtypes=['float64'])
    params, grads = (result for _, result in verdict.stages())
    assert {leaf.path for leaf in params.leaves} == {
        f'mlp/~/linear_{i}/{leaf}' for i in (0, 1) for leaf in 'wb'
    }
    assert 'reach/train/loss/mlp.~.linear_0.w' in {leaf.path for leaf in grads.leaves}


def test_the_command_line_takes_them() -> None:
    target = 'parity_tests.engine.model_pairs:{}'.format
    words = ['--stage', 'forward', '--stage', 'loss', '--dtype', 'float64']
    assert CliRunner().invoke(app, ['check', target('LINEN'), *words]).exit_code == 0
    broken = CliRunner().invoke(app, ['check', target('LINEN_EPSILON'), *words])
    assert broken.exit_code == 1
    assert 'linen_net: forward differs in float64: value of output' in broken.output
    assert 'labels' in CliRunner().invoke(app, ['list', target('LINEN')]).output


def test_runs_have_generated_cases_of_what_may_vary() -> None:
    cases = all_cases(model_pairs.NNX, 4, 0)
    assert [case.source for case in cases] == ['generated'] * 4
    assert min(case.sizes['B'] for case in cases) == 2
    any_cases(model_pairs.NNX).example  # noqa: B018  # no size is asked of the literal 4


# --- batches


def test_labels_keys_and_fixed_sizes() -> None:
    fields = {'x': 'B 4 T', 'labels': 'B | below 3', 'key': '2 | key'}
    batch = generate(fields, {'B': 50, 'T': 2}, 0, 'plain')
    assert {name: (a.dtype.name, a.shape) for name, a in batch.items()} == {
        'x': ('float32', (50, 4, 2)),
        'labels': ('int32', (50,)),
        'key': ('uint32', (2,)),
    }
    assert set(batch['labels'].tolist()) == {0, 1, 2}


def test_another_size_than_the_fixed_one_is_refused(raised: Lines) -> None:
    batch = {'x': np.ones((2, 5)), 'labels': np.zeros(2, int), 'key': np.zeros(2, np.uint32)}
    lines = raised(lambda: parity.check(model_pairs.LINEN, cases=[Case(batch=batch)]))
    assert lines[1] == '  x: expected shape (2, 4), found f32[2,5]'


@pytest.mark.parametrize('text', ['B | below', 'B | below many', 'B | key 3'])
def test_fields_that_are_not_understood(text: str, raised: Lines) -> None:
    assert raised(lambda: generate({'x': text}, {'B': 2}, 0, 'plain'))[0].startswith('cannot read the batch')


# --- a pair as small as it can be, for what each part does


class Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w, self.b = nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.zeros(2))

    def forward(self, x: Any) -> Any:
        return x @ self.w.T + self.b


def make(bridge: Any = None, **options: Any) -> ModelPair:
    """y = x w + b, with the loss mean(y**2)."""

    def split(options: dict[str, Any], prefix: str) -> dict[str, Any]:
        return {key[len(prefix) :]: value for key, value in options.items() if key.startswith(prefix)}

    reference = {
        'init': lambda key: {'w': jax.random.normal(key, (3, 2)), 'b': jnp.zeros(2)},
        'apply': lambda params, batch: batch['x'] @ params['w'] + params['b'],
        'loss': lambda params, batch: ((batch['x'] @ params['w'] + params['b']) ** 2).mean(),
        'optimizer': optax.adam(0.1),
        **split(options, 'jax_'),
    }
    port = {
        'module': Line,
        'apply': lambda module, batch: module(batch['x']),
        'loss': lambda module, batch: (module(batch['x']) ** 2).mean(),
        'optimizer': Opt(torch.optim.Adam, lr=0.1),
        **split(options, 'torch_'),
    }
    bridge = bridge or (lambda params: {'w': params['w'].T, 'b': params['b']})
    return ModelPair('line', JaxModel(**reference), TorchModel(**port), batch={'x': 'B 3'}, bridge=bridge)


def test_the_smallest_pair_matches() -> None:
    parity.check(make()).raise_if_mismatch()


@pytest.mark.parametrize(
    ('jax_optimizer', 'torch_optimizer'),
    [
        (optax.sgd(0.1), Opt(torch.optim.SGD, lr=0.1)),
        (
            optax.sgd(0.1, momentum=0.9, nesterov=True),
            Opt(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True),
        ),
        (optax.chain(optax.scale_by_adam(), optax.scale(-0.1)), Opt(torch.optim.Adam, lr=0.1)),
        (optax.inject_hyperparams(optax.adam)(0.1), Opt(torch.optim.Adam, lr=0.1)),
        (
            optax.rmsprop(0.01, decay=0.9, eps_in_sqrt=False),
            Opt(torch.optim.RMSprop, lr=0.01, alpha=0.9),
        ),
    ],
)
def test_optimisers(jax_optimizer: Any, torch_optimizer: Any) -> None:
    pair = make(jax_optimizer=jax_optimizer, torch_optimizer=torch_optimizer)
    assert differing(pair, 'update', 'rollout') == {}


@pytest.mark.parametrize(
    'torch_optimizer',
    [
        Opt(torch.optim.SGD, lr=0.1),
        Opt(torch.optim.Adam, lr=0.1, betas=(0.9, 0.99)),
        Opt(torch.optim.Adam, lr=0.1, eps=1e-7),
        Opt(torch.optim.Adam, lr=0.1000001),
    ],
)
def test_twin_another_optimiser(torch_optimizer: Any) -> None:
    assert set(differing(make(torch_optimizer=torch_optimizer), 'grads', 'update', 'rollout')) == {
        'update',
        'rollout',
    }


def test_terms_and_their_reach() -> None:
    def loss(params: Any, batch: Any) -> Any:
        value = (params['w'] ** 2).sum() + (params['b'] ** 2).sum()
        return value, {'w_loss': (params['w'] ** 2).sum()}

    def port(stop: bool) -> Any:
        def loss(module: Any, batch: Any) -> Any:
            value = (module.w**2).sum() + (module.b**2).sum()
            leak = 0 if stop else module.b.sum() - module.b.detach().sum()
            return value, {'w_loss': (module.w**2).sum() + leak}

        return loss

    assert differing(make(jax_loss=loss, torch_loss=port(True)), 'loss', 'grads') == {}
    found = differing(make(jax_loss=loss, torch_loss=port(False)), 'loss', 'grads')
    assert found == {'grads': {'reach/train/info.w_loss/b'}}


def test_a_parameter_that_the_loss_does_not_use() -> None:
    """Its gradient is zero on one side and None on the other: Adam goes on with its moments, or skips it."""
    loss = lambda params, batch: (params['w'] ** 2).sum()  # noqa: E731
    pair = make(jax_loss=loss, torch_loss=lambda module, batch: (module.w**2).sum())
    assert differing(pair, 'loss', 'grads') == {}
    assert differing(pair, 'update')['update'] >= {'step0 train/opt_count/b'}


def update_reference(params: Any, opt_state: Any, batch: Any) -> Any:
    grads = jax.grad(lambda p: ((batch['x'] @ p['w'] + p['b']) ** 2).mean())(params)
    updates, opt_state = optax.adam(0.1).update(grads, opt_state, params)
    params = optax.apply_updates(params, updates)
    return (
        {**params, 'w': jnp.clip(params['w'], -0.5, 0.5)},
        opt_state,
        {'norm': jnp.sqrt((grads['w'] ** 2).sum() + (grads['b'] ** 2).sum())},
    )


def update_port(limit: float) -> Any:
    def update(module: Any, optimizer: Any, batch: Any) -> Any:
        optimizer.zero_grad()
        (module(batch['x']) ** 2).mean().backward()
        norm = nn.utils.get_total_norm([parameter.grad for parameter in module.parameters()])
        optimizer.step()
        with torch.no_grad():
            module.w.clamp_(-limit, limit)
        return {'norm': norm}

    return update


def test_an_update_of_ones_own() -> None:
    pair = make(jax_update=update_reference, torch_update=update_port(0.5))
    assert differing(pair, 'update', 'rollout') == {}
    twin = make(jax_update=update_reference, torch_update=update_port(0.4))
    assert {path.split('/', 1)[1] for path in differing(twin, 'update')['update']} == {'params/w'}


def test_layers_are_in_the_mode_in_which_they_were_made() -> None:
    def apply(module: Any, batch: Any) -> Any:
        return module.eval()(batch['x'])

    def loss(module: Any, batch: Any) -> Any:
        assert module.training
        return (module(batch['x']) ** 2).mean()

    assert differing(make(torch_apply=apply, torch_loss=loss), 'forward', 'loss', 'forward', 'grads') == {}


def test_tied_weights_are_one_leaf() -> None:
    class Tied(Line):
        def __init__(self) -> None:
            super().__init__()
            self.again = self.w

    bridge = lambda params: {'w': params['w'].T, 'again': params['w'].T, 'b': params['b']}  # noqa: E731
    assert differing(make(bridge, torch_module=Tied)) == {}


def test_leaves_may_be_cut_and_joined() -> None:
    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.rest = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(3, 2))

        def forward(self, x: Any) -> Any:
            return x @ torch.cat([self.first[None], self.rest[:2]]) + self.rest[2]

    def bridge(params: Any) -> Any:
        return {'first': params['w'][0], 'rest': np.concatenate([params['w'][1:], params['b'][None]])}

    assert differing(make(bridge, torch_module=Joined)) == {}


def test_a_bridge_can_use_torch_and_jax() -> None:
    def bridge(params: Any) -> Any:
        return {'w': torch.tensor(params['w']).T, 'b': jnp.asarray(params['b'])}

    assert differing(make(bridge), 'forward') == {}


def test_without_a_bridge_the_names_are_those_of_weight_bridge() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = nn.Linear(3, 2)

        def forward(self, x: Any) -> Any:
            return self.dense(x)

    functions = {
        'jax_init': lambda key: {'dense': {'kernel': jax.random.normal(key, (3, 2)), 'bias': jnp.zeros(2)}},
        'jax_apply': lambda p, batch: batch['x'] @ p['dense']['kernel'] + p['dense']['bias'],
        'jax_loss': None,
        'torch_loss': None,
        'torch_module': Named,
    }
    pair = dataclasses.replace(make(**functions), bridge=None)
    assert stages_of(pair) == ['params', 'forward']
    assert differing(pair, 'params', 'forward') == {}


def test_a_mapping_is_a_bridge() -> None:
    params = model_pairs.LINEN.reference.init(jax.random.PRNGKey(0))
    mapping = weight_bridge.match(params, model_pairs.Net())
    assert differing(dataclasses.replace(model_pairs.LINEN, bridge=mapping)) == {}
    twin = dataclasses.replace(model_pairs.LINEN_EPSILON, bridge=mapping)
    assert next(iter(differing(twin))) == 'forward'


def test_a_mapping_of_an_nnx_model_with_its_running_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_pairs.BatchNorm, 'flax_rule', 'BatchNorm', raising=False)
    model = model_pairs.NNX.reference.init(jax.random.PRNGKey(0))
    mapping = weight_bridge.match(nnx.state(model), model_pairs.NormNet())
    assert 'norm/mean' in mapping.paths
    assert differing(dataclasses.replace(model_pairs.NNX, bridge=mapping)) == {}


def test_a_mapping_is_total_and_strict(raised: Lines) -> None:
    rows = [Row('w', 'w', 'matrix'), Row('c', 'b')]
    lines = raised(lambda: parity.check(make(weight_bridge.Mapping(tuple(rows))), stages=['forward']))
    assert lines[1].strip().split('; ') == [
        'missing path: c: expected f64[2], found nothing (torch: b)',
        'unexpected path: b: expected nothing, found f64[2]',
    ]
    lines = raised(lambda: parity.check(make(weight_bridge.Mapping(tuple(rows[:1]))), stages=['forward']))
    assert lines[1].strip() == 'mapping: b: expected a row, found none'


class Recurrent(nn.LSTM):
    """The second bias of an LSTM is none of Flax's: zero, and best frozen."""

    def __init__(self, frozen: bool) -> None:
        super().__init__(3, 2, batch_first=True)
        self.bias_ih_l0.requires_grad_(not frozen)

    def forward(self, x: Any) -> Any:
        return super().forward(x)[0]


@pytest.mark.parametrize(('frozen', 'first'), [(True, None), (False, 'rollout')])
def test_gates_and_a_bias_that_the_reference_lacks(frozen: bool, first: str | None) -> None:
    """Leaves lie in one parameter; two biases that learn run away from one at the second step."""
    model = linen.RNN(linen.OptimizedLSTMCell(2))

    def apply(params: Any, batch: Any) -> Any:
        zeros = jnp.zeros((len(batch['x']), 2), batch['x'].dtype)
        return model.apply({'params': params}, batch['x'], initial_carry=(zeros, zeros))

    reference = {
        'jax_init': lambda key: model.init(key, jnp.zeros((1, 5, 3)))['params'],
        'jax_apply': apply,
        'jax_loss': lambda params, batch: (apply(params, batch) ** 2).mean(),
    }
    pair = dataclasses.replace(
        make(**reference, torch_module=Opt(Recurrent, frozen)), bridge=None, batch={'x': 'B 5 3'}
    )
    assert next(iter(differing(pair)), None) == first


def test_a_table_of_names_has_whole_leaves_alone(raised: Lines) -> None:
    names = {'weight_ih_l0': 'w', 'weight_hh_l0': 'b'}
    pair = make(names, torch_module=Opt(Recurrent, True))
    lines = raised(lambda: parity.check(pair, stages=['forward']))
    assert 'weight_ih_l0 is no whole leaf of the reference: give a weight_bridge.Mapping' in lines[1]


# --- bridges that do not lead to the port


@pytest.mark.parametrize(
    ('bridge', 'problems'),
    [
        (lambda p: {'w': p['w'].T}, ['b is not in the bridge']),
        (lambda p: {'w': p['w'].T, 'bias': p['b']}, ['bias is not in the module', 'b is not in the bridge']),
        (lambda p: {'w': p['w'], 'b': p['b']}, ['w: expected shape (2, 3), found (3, 2)']),
        (
            lambda p: {'w': 2 * p['w'].T, 'b': p['b'] + 0.5},
            [f"{name} is not a rearrangement of the reference's values" for name in 'wb'],
        ),
        (
            lambda p: {'w': p['w'].T, 'b': p['w'][0]},
            ['w of the reference is used more than once', 'b of the reference is not used'],
        ),
        (
            lambda p: {'w': p['w'].T, 'b': p['b'][[0, 0]]},
            ['b of the reference is not used as a whole', 'b of the reference is used more than once'],
        ),
        (
            {'w': 'w', 'b': 'b'},
            ['w: expected (2, 3) in the reference, found (3, 2)', 'w is not in the bridge'],
        ),
        ({'w': 'v', 'b': 'b'}, ['v of w is not in the reference', 'w is not in the bridge']),
    ],
)
def test_a_bridge_is_total_and_strict(bridge: Any, problems: list[str], raised: Lines) -> None:
    lines = raised(lambda: parity.check(make(bridge), stages=['forward']))
    assert lines[0] == 'the bridge does not lead from the reference to the port'
    assert sorted(lines[1].strip().split('; ')) == sorted(problems)
    assert lines[2] == f'  error: {len(problems)} problems; allowed: 0'
    assert lines[3] == '  at: bridge to Line'


# --- pairs that cannot be checked


def test_what_one_side_alone_has(raised: Lines) -> None:
    assert raised(lambda: parity.check(make(torch_loss=None))) == [
        'line: the port has nothing for the stage loss',
        '  expected loss on both sides; found it for the reference alone',
        '  error: 1 side; allowed: 0 or 2',
        '  at: pair line',
        '  next: give it to the port, or to neither',
    ]


def test_a_side_of_another_kind(raised: Lines) -> None:
    pair = dataclasses.replace(make(), port='torch_agents.iql:IQLAgent')
    assert raised(lambda: parity.check(pair))[:2] == [
        'line: the port is no TorchModel',
        '  expected parity.TorchModel; found type',
    ]


def test_sides_are_loaded_by_name() -> None:
    target = 'parity_tests.engine.model_pairs:LINEN.{}'.format
    pair = dataclasses.replace(model_pairs.LINEN, reference=target('reference'), port=target('port'))
    assert differing(pair, 'forward') == {}


def test_a_stage_that_the_pair_does_not_have(raised: Lines) -> None:
    lines = raised(lambda: parity.check(make(), stages=['actions']))
    assert lines[0] == 'line has no stage actions'
    assert lines[1] == f'  expected one of {", ".join(STAGES)}; found actions'


def test_models_have_no_twin_files() -> None:
    result = CliRunner().invoke(app, ['twins', 'parity_tests.engine.model_pairs:LINEN'])
    assert isinstance(result.exception, parity.ParityError)


def test_a_model_that_raises() -> None:
    def failing(module: Any, batch: Any) -> Any:
        raise NotImplementedError('not ported yet')

    (_, found), *_ = parity.check(make(torch_apply=failing), stages=['forward']).stages()
    assert (found.outcome, found.reason) == ('error', 'NotImplementedError: not ported yet')
