"""A cause is named only where undoing it makes the difference vanish: bugs are planted in the ports."""

import ast
import contextlib
import copy
import dataclasses
import inspect
import json
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F

import reference_jax
import torch_agents
from parity import Case, JaxModel, ModelPair, TorchModel, registered
from parity.locating.causes import UNKNOWN, Cause, Piece, find_cause, find_causes
from parity.locating.counterfactuals import Source, source_at
from parity.locating.layers import Layers
from parity.locating.pieces import kept, loss_piece, module_piece, operation_piece
from parity.locating.rewrites import REWRITES
from parity.locating.scopes import scope_of
from parity.locating.syntax import rewritten
from parity.runs import Runs
from parity.stages import LOSSES
from parity_tests.agents.test_classic_mistakes import layer_norm_epsilon, port_with

pytestmark = pytest.mark.slow

PRETRAINING, FINETUNING = LOSSES[:2]


# --- operations with their recorded arguments

RNG = np.random.default_rng(0)
X, SQUARE, IMAGES, KERNEL = (RNG.normal(size=s) for s in ((5, 4), (4, 4), (2, 3, 8, 6), (5, 3, 3, 3)))


def same_convolution() -> Any:
    dimensions = ('NCHW', 'OIHW', 'NCHW')
    return jax.lax.conv_general_dilated(IMAGES, KERNEL, (2, 2), 'SAME', dimension_numbers=dimensions)


OPERATIONS: list[tuple[str, Callable[[], Any], Callable[..., Any], list[Any], dict[str, Any]]] = [
    ('gelu variant', lambda: jax.nn.gelu(X), F.gelu, [X], {}),
    ('gelu variant', lambda: jax.nn.gelu(X, approximate=False), F.gelu, [X], {'approximate': 'tanh'}),
    (
        'normalisation epsilon',
        lambda: (X - X.mean(-1, keepdims=True)) / np.sqrt(X.var(-1, keepdims=True) + 1e-6),
        F.layer_norm,
        [X, (4,)],
        {},
    ),
    ('softplus threshold', lambda: jax.nn.softplus(X + 22), F.softplus, [X + 22], {}),
    ('biased variance', lambda: jnp.std(X), torch.std, [X], {}),
    ('softmax axis', lambda: jax.nn.softmax(X, -1), F.softmax, [X], {'dim': 0}),
    ('other reduction', lambda: X.min(0), torch.mean, [X, 0], {}),
    ('other reduction', lambda: X.mean(0), torch.sum, [X, 0], {}),
    ('transposed kernel', lambda: X @ SQUARE, F.linear, [X, SQUARE], {}),
    ('SAME padding', same_convolution, F.conv2d, [IMAGES, KERNEL], {'stride': 2, 'padding': 1}),
    ('other activation', lambda: jax.nn.gelu(X), F.relu, [X], {}),
    ('function left out', lambda: X, torch.tanh, [X], {}),
]


def operation_cause(reference: Any, function: Callable[..., Any], args: list[Any], kwargs: Any) -> Cause:
    tensors = [torch.tensor(arg) if isinstance(arg, np.ndarray) else arg for arg in args]
    cause, _ = find_cause(operation_piece(np.asarray(reference), function, tensors, kwargs))
    return cause


@pytest.mark.parametrize('row', OPERATIONS, ids=[f'{row[0]}-{row[2].__name__}' for row in OPERATIONS])
def test_the_cause_of_an_operation(row: Any) -> None:
    name, reference, function, args, kwargs = row
    with jax.enable_x64(True):
        cause = operation_cause(reference(), function, args, kwargs)
    assert cause.name == name
    assert cause.before > 1e3
    assert cause.after <= 1


def test_twin_an_unknown_operation_has_no_cause_and_the_nearest() -> None:
    cause = operation_cause(X.mean(0) + 0.01, torch.sum, [X, 0], {})
    assert not cause.known
    assert cause.description.startswith('nearest: other reduction, mean')
    assert 1 < cause.after < cause.before


def test_twin_nothing_brings_a_sine_nearer_to_a_cosine() -> None:
    cause = operation_cause(np.cos(X), torch.sin, [X], {})
    assert (cause.name, cause.description) == (UNKNOWN, 'no known difference brings it nearer')
    assert cause.after == cause.before


# --- lines of the ports


@contextlib.contextmanager
def planted(function: Any, *changes: tuple[str, str]) -> Iterator[Source]:
    """The function of a port with some of its text changed, each once; its source as changed."""
    original = Source.of(function)
    text = inspect.getsource(original.function)
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    tree = ast.parse(inspect.cleandoc('\n' + text)).body[0]
    assert isinstance(tree, ast.FunctionDef)
    ast.increment_lineno(tree, original.tree.lineno - tree.lineno)
    tree.decorator_list = []
    changed = Source(original.function, tree)
    with original.replaced(original.tree.body[0], original.tree.body[0]):  # restores the code at the end
        body = changed.tree.body[0]
        with changed.replaced(body, body):
            yield changed


def line_of(source: Source, text: str) -> int:
    lines = ast.unparse(source.tree).splitlines()
    assert sum(text in line for line in lines) == 1, text
    statements = [node for node in ast.walk(source.tree) if isinstance(node, ast.stmt)]
    return min(
        (node for node in statements if text in ast.unparse(node)), key=lambda node: len(ast.unparse(node))
    ).lineno


@dataclasses.dataclass(frozen=True)
class Bug:
    """A change of one line of a port, the cause that it is, and the leaves that show it (none: all)."""

    agent: str
    function: str
    old: str
    new: str
    cause: str
    leaves: tuple[str, ...] = ()
    call: Any = FINETUNING
    config: tuple[tuple[str, Any], ...] = ()

    @property
    def classes(self) -> tuple[type, type]:
        return reference_jax.agents[self.agent], torch_agents.agents[self.agent]


VALUE, CRITIC, ACTOR = (('info/value/value_loss',), ('info/critic/critic_loss',), ('info/actor/actor_loss',))
BUGS = [
    Bug('iql', 'value_loss', 'torch.minimum(q1, q2)', 'torch.maximum(q1, q2)', 'other reduction', VALUE),
    Bug('iql', 'value_loss', 'torch.minimum(q1, q2)', '(q1 + q2) / 2', 'other reduction', VALUE),
    Bug('iql', 'value_loss', 'loss(q - v, q - v,', 'loss(v - q, q - v,', 'sign', VALUE),
    Bug('iql', 'critic_loss', "batch['next_observations']", "batch['observations']", 'other key', CRITIC),
    Bug('iql', 'critic_loss', " * batch['masks'] * next_v", ' * next_v', 'missing term', CRITIC),
    Bug('iql', 'critic_loss', '(q2 - q) ** 2).mean()', '(q2 - q) ** 2).sum()', 'other reduction', CRITIC),
    Bug('iql', 'awr_loss', '-(weight * log_prob)', '(weight * log_prob)', 'sign or complement', ACTOR),
    Bug('iql', 'awr_loss', 'torch.minimum(q1, q2) - v', 'torch.minimum(q1, q2) + v', 'sign', ACTOR),
    Bug('iql', 'critic_loss', "self.config['discount'] * ", '', 'missing term', CRITIC),
    Bug('rebrac', 'critic_loss', '.amin(axis=0)', '.mean(axis=0)', 'other reduction', CRITIC),
    Bug('rebrac', 'actor_loss', '.mean().detach()', '.mean()', 'detach too few'),
    Bug('rebrac', 'actor_loss', 'actions = dist.mode()', 'actions = dist.mode().detach()', 'detach too many'),
    Bug('rebrac', 'actor_loss', '(torch.abs(q).mean()', '(torch.abs(q).mean()', ''),
    Bug(
        'rebrac',
        'critic_loss',
        "next_actions']) ** 2).sum(axis=-1)",
        "next_actions']) ** 2).sum()",
        'other axis',
        CRITIC,
        config=(('alpha_critic', 0.1),),
    ),
    Bug('infom', 'critic_loss', " / (1 - self.config['discount'])", '', 'missing term', CRITIC),
    Bug(
        'infom',
        'current_flow_matching_loss',
        '(observations - noises).detach()',
        '(noises - observations).detach()',
        'sign',
        ('info/flow_occupancy/current_flow_matching_loss',),
        PRETRAINING,
    ),
    Bug(
        'infom',
        'flow_occupancy_loss',
        'latents.detach(), times',
        'latents, times',
        'detach too few',
        (),
        PRETRAINING,
    ),
    Bug(
        'infom',
        'flow_goals',
        "range(self.config['num_flow_steps'])",
        "range(self.config['num_flow_steps'] - 1)",
        'surplus term',
        ('info/flow_occupancy/future_flow_matching_loss',),
        PRETRAINING,
    ),
    Bug(
        'infom',
        'future_flow_matching_loss',
        "field='target_critic_vf'",
        "field='critic_vf'",
        'other key',
        ('info/flow_occupancy/future_flow_matching_loss',),
        PRETRAINING,
    ),
    Bug(
        'infom',
        'flow_occupancy_loss',
        'kl_loss = -0.5',
        'kl_loss = 0.5',
        'sign',
        ('info/flow_occupancy/kl_loss',),
        PRETRAINING,
    ),
    Bug(
        'fb_repr',
        'q_and_bc_loss',
        'q_loss / q_abs_mean',
        'q_loss / (q_abs_mean + 1e-8)',
        'added epsilon',
        (),
        PRETRAINING,
        (('normalize_q_loss', True),),
    ),
    Bug(
        'fb_repr',
        'fb_actor_loss',
        'torch.minimum(q1, q2)',
        'torch.maximum(q1, q2)',
        'other reduction',
        ('info/fb_actor/actor_loss',),
        PRETRAINING,
    ),
]
BUGS = [bug for bug in BUGS if bug.cause]


def cause_of(bug: Bug, *, reference: bool = True) -> Cause:
    theirs, ours = (getattr(cls, bug.function) for cls in bug.classes)
    runs = Runs(registered()[bug.agent], Case(seed=3, config=dict(bug.config)))
    with planted(ours, (bug.old, bug.new)) as source:
        changed = [
            node.lineno
            for node, old in zip(_simple(source.tree), _simple(Source.of(ours).tree), strict=True)
            if ast.unparse(node) != ast.unparse(old)
        ]
        piece = loss_piece(
            runs, bug.call, source, changed[-1], bug.leaves, Source.of(theirs) if reference else None
        )
        return find_cause(piece)[0]


def _simple(tree: ast.FunctionDef) -> list[ast.stmt]:
    """The statements without their blocks."""
    return [
        ast.parse('pass').body[0] if isinstance(node, ast.FunctionDef) else _head(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.stmt) and node is not tree
    ]


def _head(node: ast.stmt) -> ast.stmt:
    return ast.copy_location(ast.Expr(node.iter), node) if isinstance(node, ast.For) else node


@pytest.mark.parametrize('bug', BUGS, ids=[f'{bug.agent}-{bug.function}-{bug.new}' for bug in BUGS])
def test_the_cause_of_a_line(bug: Bug) -> None:
    cause = cause_of(bug)
    assert (cause.name, cause.before > 1, cause.after <= 1) == (bug.cause, True, True), cause


def test_twin_a_line_that_no_rewrite_repairs_is_unknown_and_the_references_line_tells_it() -> None:
    bug = Bug('iql', 'value_loss', 'q = torch.minimum(q1, q2)', 'q = (q1 * 3).sin() - q2 / 7', '', VALUE)
    assert cause_of(bug, reference=False).name == UNKNOWN
    cause = cause_of(bug)
    assert cause.name == "unlike the reference's line"
    assert '`torch.minimum(q1, q2)` instead of' in cause.description


def test_twin_a_correct_line_is_no_piece() -> None:
    runs = Runs(registered()['iql'], Case(seed=3))
    source = Source.of(torch_agents.IQLAgent.value_loss)
    piece = loss_piece(runs, FINETUNING, source, line_of(source, 'q = torch.minimum(q1, q2)'))
    assert piece.margin() <= 1
    assert find_causes([piece]) == []


def test_one_bug_hides_another_until_it_is_undone() -> None:
    runs = Runs(registered()['iql'], Case(seed=3))
    changes = (" * batch['masks'] * next_v", ' * next_v'), ('(q2 - q) ** 2).mean()', '(q2 - q) ** 2).sum()')
    reference = Source.of(reference_jax.IQLAgent.critic_loss)
    with planted(torch_agents.IQLAgent.critic_loss, *changes) as source:
        lines = line_of(source, "q = batch['rewards']"), line_of(source, 'critic_loss = (')
        first = loss_piece(runs, FINETUNING, source, lines[0], ('info/critic/q_mean',), reference)
        second = loss_piece(runs, FINETUNING, source, lines[1], CRITIC, reference)
        alone, _ = find_cause(second)
        causes = find_causes([first, second])
    assert not alone.known
    assert [cause.name for cause in causes] == ['missing term', 'other reduction']


# --- modules


def layers_of(mistake: Callable[[Any], None]) -> Layers:
    return Layers(Runs(port_with(registered()['iql'], mistake), Case(seed=3)), FINETUNING)


def test_the_epsilon_of_a_layer() -> None:
    layers = layers_of(layer_norm_epsilon)
    cause, found = find_cause(module_piece(layers, 'modules_value/value_net/LayerNorm_0'))
    assert (cause.name, cause.tried) == ('normalisation epsilon', 1)
    assert cause.description == 'LayerNorm.eps = 1e-06 instead of 1e-05'
    assert found is not None


def test_a_gelu_is_exact() -> None:
    def exact(agent: Any) -> None:
        net = agent.network.modules_actor.actor_net
        net.forward = lambda x: F.gelu(net.Dense_1(F.gelu(net.Dense_0(x))))

    cause, _ = find_cause(module_piece(layers_of(exact), 'modules_actor/actor_net'))
    assert cause.name == 'gelu variant'


def test_activation_on_the_last_layer() -> None:
    def activated(agent: Any) -> None:
        agent.network.modules_value.value_net.activate_final = True
        agent.network.modules_value.value_net.LayerNorm_2 = torch.nn.Identity()

    cause, _ = find_cause(module_piece(layers_of(activated), 'modules_value/value_net'))
    assert cause.description == 'MLP.activate_final = False instead of True'


def test_twin_a_module_that_is_wrong_otherwise_is_unknown() -> None:
    def shifted(agent: Any) -> None:
        norm = agent.network.modules_value.value_net.LayerNorm_0
        norm.register_forward_hook(lambda module, args, output: output + 0.125)

    cause, found = find_cause(module_piece(layers_of(shifted), 'modules_value/value_net/LayerNorm_0'))
    assert not cause.known
    assert found is None


class Net(linen.Module):
    @linen.compact
    def __call__(self, x: Any) -> Any:
        h = linen.Dense(4, name='up')(jnp.clip(x, -1, 1))
        h = linen.gelu(h)
        return linen.LayerNorm(name='norm')(h)


class Port(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.norm = torch.nn.Linear(4, 4), torch.nn.LayerNorm(4, eps=1e-6)


class NormFirst(Port):
    def forward(self, x: Any) -> Any:
        x = torch.minimum(torch.maximum(x, -torch.ones_like(x)), torch.ones_like(x))
        x = self.up(x)
        x = self.norm(x)
        x = F.gelu(x, approximate='tanh')
        return x


class Clipped(linen.Module):
    @linen.compact
    def __call__(self, x: Any) -> Any:
        return jnp.clip(linen.Dense(4, name='up')(x), -0.5, 0.5)


class Clamping(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = torch.nn.Linear(4, 4)

    def forward(self, x: Any) -> Any:
        return torch.clamp(self.up(x), -0.5, 0.5)


def own_layers(net: linen.Module, port: type[torch.nn.Module], **fields: Any) -> Layers:
    pair = ModelPair(
        name='own',
        reference=JaxModel(
            init=lambda key: net.init(key, jnp.zeros((1, 4)))['params'],
            loss=lambda params, batch: (net.apply({'params': params}, batch['x']) ** 3).mean(),
        ),
        port=TorchModel(port, loss=lambda module, batch: (module(batch['x']) ** 3).mean()),
        batch={'x': 'B 4'},
    )
    return Layers(Runs(pair, Case(seed=3, **fields)), ModelPair.losses[0])


def test_norm_before_activation() -> None:
    cause, _ = find_cause(module_piece(own_layers(Net(), NormFirst), ''))
    assert cause.name == 'order of statements'


def test_clamp_for_clip_at_a_bound() -> None:
    layers = own_layers(Clipped(), Clamping, values='zero')  # kernels zero, biases 0.5: exactly the bound
    assert {row.path: (row.forward, row.backward) for row in layers.rows()} == {
        '': ('match', 'culprit'),
        'up': ('match', 'carrier'),
    }
    cause, _ = find_cause(module_piece(layers, ''))
    assert cause.name == 'clamp for clip'


def test_twin_clamp_for_clip_is_no_difference_inside_the_bounds() -> None:
    layers = own_layers(Clipped(), Clamping)
    assert not any(row.is_culprit for row in layers.rows())


# --- the table of rewrites, row by row: (row, what a port says, what it should say)

SAID = [
    ('other reduction', 'q.mean(axis=0)', 'q.amin(axis=0)'),
    ('other reduction', '(q + r) / 2', 'torch.minimum(q, r)'),
    ('other axis', 'x.sum(axis=0)', 'x.sum(axis=-1)'),
    ('other axis', 'x.mean(axis=0, keepdim=True)', 'x.mean(axis=0)'),
    ('other axis', 'torch.softmax(x, 0)', 'torch.softmax(x, -1)'),
    ('detach too many', 'x.detach()', 'x'),
    ('frozen or trained network', "net('a')(x, params=grad_params)", "net('a')(x)"),
    ('frozen or trained network', "net('a')(x)", "net('a')(x, params=grad_params)"),
    (
        'clamp for clip',
        'x.clamp(-1, 1)',
        'torch.minimum(torch.maximum(x, torch.as_tensor(-1, dtype=torch.float64)), '
        'torch.as_tensor(1, dtype=torch.float64))',
    ),
    ('added epsilon', 'x + 1e-8', 'x'),
    ('gradient at a tie', 'torch.abs(x)', 'torch.where(x >= 0, x, -x)'),
    ('gradient at a tie', 'x.min(0).values', 'x.amin(0)'),
    ('biased statistic or sample', 'x.std()', 'x.std(correction=0)'),
    ('biased statistic or sample', 'dist.sample()', 'dist.rsample()'),
    ('other distribution', 'random.normal(key, (3,))', 'random.uniform(key, (3,))'),
    ('one key for all', '[key] * n', 'random.split(key, n)'),
    ('sign', '-x', 'x'),
    ('sign', 'torch.where(c, x, y)', 'torch.where(c, y, x)'),
    ('other key', "batch['observations']", "batch['next_observations']"),
    ('clip too many', 'torch.clip(x, -1, 1)', 'x'),
    ('exchanged variables', 'x - y * x', 'y - x * y'),
    ('surplus term', 'x * y', 'x'),
    ('surplus term', 'torch.exp(x)', 'x'),
    ('other number', 'x + 1e-05', 'x + 1e-06'),
    ('other number', 'range(n)', 'range(n + 1)'),
    ('integer division', 'x // y', 'x / y'),
    ('transposed', "einsum('ik,jk->ij', x, y)", "einsum('ik,jk->ji', x, y)"),
    ('transposed', 'x @ y', 'x.mT @ y'),
    ('transposed', '(before, after)', '(after, before)'),
    ('transposed', 'x.permute(0, 3, 2, 1)', 'x.permute(0, 3, 1, 2)'),
    ('transposed', 'x.permute((0, 2, 3, 1))', 'x.permute((0, 3, 1, 2))'),
    ('transposed', 'x.reshape(n, 3, -1)', 'x.reshape(n, -1, 3)'),
    ('other variable', 'x + y', 'x + x'),
    ('detach too few', 'x * y', 'x * y.detach()'),
    ('sign or complement', 'tau * x', '(1 - tau) * x'),
    ('missing term', 'q.mean()', "q.mean() * batch['masks']"),
]


def said(row: str, text: str) -> set[str]:
    """All that the line `result = <text>` should have been by one row of the table."""
    function = ast.parse(f'def f(x, y, tau, grad_params):\n    m = batch["masks"] * x\n    z = {text}').body[
        0
    ]
    assert isinstance(function, ast.FunctionDef)
    source = Source(lambda: None, function)  # type: ignore[arg-type]
    (rewrite,) = [rewrite for rewrite in REWRITES if rewrite.name == row]
    found = set()
    for node in source.expressions(3):
        for new in rewrite.options(node, scope_of(function, 3)):
            tree = copy.deepcopy(function, {id(node): rewritten(new)})
            found.add(ast.unparse(tree.body[-1].value))  # type: ignore[attr-defined]
    return found


@pytest.mark.parametrize(('row', 'wrong', 'right'), SAID)
def test_a_row_of_the_table_undoes_its_mistake(row: str, wrong: str, right: str) -> None:
    assert ast.unparse(rewritten(right)) in said(row, wrong)
    assert ast.unparse(rewritten(right)) not in said(row, right)


def test_what_is_no_expression_by_itself_is_left_in_its_order() -> None:
    assert 'x[None, :]' not in said('transposed', 'x[:, None]')


def test_every_row_of_the_table_has_an_example() -> None:
    assert {row for row, _, _ in SAID} == {rewrite.name for rewrite in REWRITES}


# --- the machinery


def test_changes_are_undone_in_the_end_and_kept_in_order() -> None:
    function = torch_agents.IQLAgent.value_loss
    code = function.__code__
    with planted(function, ('torch.minimum(q1, q2)', 'torch.maximum(q1, q2)')):
        assert function.__code__ is not code
    assert function.__code__ is code


def test_what_a_change_puts_in_the_place_of_a_parameter_is_gone_in_the_end() -> None:
    module = torch.nn.Linear(2, 2)
    weight, table = module.weight, module._parameters
    with kept(SimpleNamespace(module=module)):
        table['weight'] = 'something'  # type: ignore[assignment]
        del table['bias']
    assert module.weight is weight
    assert module._parameters is table
    assert list(table) == ['weight', 'bias']


def test_a_function_is_found_by_a_line_of_its_file() -> None:
    source = Source.of(torch_agents.IQLAgent.value_loss)
    path = source.function.__code__.co_filename
    assert source_at(path, source.tree.lineno + 3).function is source.function
    with pytest.raises(LookupError, match='no imported function at'):
        source_at(path, 1)


def test_methods_that_use_super_can_be_changed() -> None:
    source = Source.of(torch_agents.InFOMAgent.reward_loss)
    first = source.tree.body[-1]
    with source.replaced(first, first):
        runs = Runs(registered()['infom'], Case(seed=3))
        values, _ = runs.port64.side.losses((FINETUNING,), runs.port64.batch, runs.inputs.key)
    assert np.isfinite(values['finetuning_full/loss'])


def test_a_candidate_that_makes_no_sense_is_passed_over() -> None:
    def margin() -> float:
        raise ValueError('no')

    cause, _ = find_cause(Piece(margin, lambda: iter(())))
    assert cause == Cause(UNKNOWN, 'no known difference brings it nearer', np.inf, np.inf, 0)
    assert json.loads(json.dumps(dataclasses.asdict(cause)))['name'] == UNKNOWN
