"""Locating by value: fingerprints, what is no divergence, and planted bugs with their lines."""

import dataclasses
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn import functional

from parity.cases import Case
from parity.errors import ParityError
from parity.functions import FunctionRuns
from parity.locating.causes import UNKNOWN
from parity.locating.fingerprints import distance, fingerprint, rearranged
from parity.locating.frontier import PORT, REFERENCE
from parity.locating.values import Frontier, Values, backward_frontiers, forward_frontiers
from parity.mutating.changes import changed_lines
from parity.pair import Pair, find
from parity.runs import Runs
from parity_tests.engine import model_pairs
from parity_tests.engine.bugs import BUGS, Bug
from parity_tests.engine.planting import Substitution, planted

pytestmark = pytest.mark.slow

LOSSES = ('pretraining', 'finetuning_full', 'finetuning_partial')
AGENTS = (
    'iql',
    'infom',
    'fb_repr',
    'hilp',
    'crl_infonce',
    'td_infonce',
    'rebrac',
    'dino_rebrac',
    'mbpo_rebrac',
)
X = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
FAST = (
    'exact gelu',
    'LayerNorm epsilon of torch',
    'maximum for minimum',
    "s for s' in the target",
    'online critic for the target',
    'mask left out',
    'clip dropped',
    'sum for mean',
    'log-probability without its constant',
    'next observations for the actor',
    'live value in the target',
    'frozen value in its own loss',
    'live advantage',
)


def functions(reference, port, *inputs: np.ndarray) -> Values:
    """Two bare functions on both sides."""
    pair = Pair('functions', reference, port, batch={})
    return Values(FunctionRuns(pair, Case(), inputs or (X,), grads=True, device='cpu', jit=True))


# --- fingerprints


def same(a: np.ndarray, b: np.ndarray, tolerance: float = 1e-12) -> bool:
    prints = fingerprint(a), fingerprint(b)
    return distance(*prints) <= tolerance and not rearranged(*prints, tolerance)


A = np.random.default_rng(1).normal(size=(3, 4, 5))
LAYOUTS = {
    'reshape': lambda a: a.reshape(12, 5),
    'transpose': lambda a: a.transpose(2, 0, 1),
    'broadcast': lambda a: np.broadcast_to(a[:, None], (3, 7, 4, 5)),
    'rounding': lambda a: a * (1 + 1e-14),
}
CHANGES = {
    'one entry': lambda a: a + 1e-6 * (np.arange(60).reshape(a.shape) == 17),
    'sign': lambda a: -a,
    'rows in another order': lambda a: a[::-1],
    'reshape of a transpose': lambda a: a.transpose(1, 0, 2).reshape(3, 4, 5),
    'fewer': lambda a: a[:, :3],
    'a NaN': lambda a: np.where(np.arange(60).reshape(a.shape) == 3, np.nan, a),
}


@pytest.mark.parametrize('change', LAYOUTS)
def test_fingerprints_survive(change: str) -> None:
    assert same(A, LAYOUTS[change](A))


@pytest.mark.parametrize('change', CHANGES)
def test_twin_fingerprints_tell_apart(change: str) -> None:
    assert not same(A, CHANGES[change](A))


def test_infinities_and_sentinels_are_counted_and_set_no_scale() -> None:
    masked = np.where(np.arange(60).reshape(A.shape) % 2, -1e9, A)
    assert fingerprint(masked).strange == (0, 0, 0, 30)
    assert fingerprint(masked).largest < 10
    assert fingerprint(np.where(masked < -10, -np.inf, A)).strange == (0, 0, 30, 0)


@pytest.mark.parametrize('number', [0.5, 0.371234])
def test_simple_numbers_are_plain(number: float) -> None:
    assert fingerprint(np.asarray(number)).plain == (number == 0.5)


# --- other decompositions of the same function are no divergence

DECOMPOSITIONS = {
    'softmax': (
        lambda x: jax.nn.softmax(x, -1)[:, 0],
        lambda x: (x.exp() / x.exp().sum(-1, keepdim=True))[:, 0],
    ),
    'fused softmax': (lambda x: jax.nn.softmax(x, -1)[:, 0], lambda x: torch.softmax(x, -1)[:, 0]),
    'variance': (lambda x: jnp.var(x, -1), lambda x: (x**2).mean(-1) - x.mean(-1) ** 2),
    'logsumexp': (lambda x: jax.nn.logsumexp(x, -1), lambda x: torch.logsumexp(x, -1)),
    'gelu': (jax.nn.gelu, lambda x: functional.gelu(x, approximate='tanh')),
    'swish': (jax.nn.silu, lambda x: x * torch.sigmoid(x)),
    'scan': (
        lambda x: jax.lax.scan(lambda sums, row: (sums + row**2, sums), jnp.zeros(4), x)[0],
        lambda x: (x**2).sum(0),
    ),
    'sign moved': (lambda x: -(2 * x).mean(), lambda x: 2 * (-x).mean()),
}
MISTAKES = {
    'softmax': lambda x: torch.softmax(x, 0)[:, 0],
    'fused softmax': lambda x: torch.softmax(x, 0)[:, 0],
    'variance': lambda x: x.var(-1),
    'logsumexp': lambda x: x.exp().sum(-1),
    'gelu': lambda x: functional.gelu(x),
    'swish': lambda x: x * torch.sigmoid(2 * x),
    'scan': lambda x: (x[1:] ** 2).sum(0),
    'sign moved': lambda x: 2 * x.mean(),
}


@pytest.mark.parametrize('name', DECOMPOSITIONS)
def test_decompositions_raise_no_alarm(name: str) -> None:
    values = functions(*DECOMPOSITIONS[name])
    assert values.forward == values.backward == []


@pytest.mark.parametrize('name', DECOMPOSITIONS)
def test_twin_wrong_decompositions_do(name: str) -> None:
    first = functions(DECOMPOSITIONS[name][0], MISTAKES[name]).forward[0]
    assert os.path.basename(first.port.file) == 'test_locating_values.py'
    assert MISTAKES[name].__code__.co_firstlineno == first.port.line


@pytest.mark.parametrize('name', DECOMPOSITIONS)
def test_decompositions_stay_silent_beside_a_bug(name: str) -> None:
    """A wrong operand goes through it: its inner values have no partners, and are not to blame."""
    reference, port = DECOMPOSITIONS[name]

    def wrong(x: torch.Tensor) -> torch.Tensor:
        y = x + 0.01
        return port(y)

    first = functions(lambda x: reference(x * 1.01), wrong).forward[0]
    assert first.port.text == 'y = x + 0.01'


# --- gradients


def test_a_missing_detach_is_found_where_the_reference_stops() -> None:
    values = functions(lambda x: (x * jax.lax.stop_gradient(jnp.abs(x))).sum(), lambda x: (x * x.abs()).sum())
    assert values.forward == []
    assert values.backward[0].direction == 'backward'
    assert values.backward[0].port.function.endswith('<lambda>')


def test_ties_are_found_by_what_they_send_back() -> None:
    def port(x: torch.Tensor) -> torch.Tensor:
        y = 2 * x
        z = y.clamp(-1, 1)
        return z.sum()

    x = np.array([0.5, -0.5, 0.1], np.float32)
    (first, *_) = functions(lambda x: jnp.clip(2 * x, -1, 1).sum(), port, x).backward
    assert first.port.text == 'z = y.clamp(-1, 1)'
    inside = functions(lambda x: jnp.clip(2 * x, -1, 1).sum(), port, x / 2)
    assert inside.backward == []  # the twin: away from its bounds the gradient is the same


# --- ports that are not plain


def test_a_port_that_raises_has_its_line_and_what_agreed() -> None:
    def port(x: torch.Tensor) -> torch.Tensor:
        y = torch.exp(x)
        return y @ y

    (only,) = functions(lambda x: jnp.exp(x).T @ jnp.exp(x), port).forward
    assert only.port.text == 'return y @ y'
    assert only.why.startswith('raises RuntimeError: mat1 and mat2')
    assert any('exp' in agreed for agreed in only.agreed)


def test_an_operation_without_a_derivative_has_its_line() -> None:
    def port(x: torch.Tensor) -> torch.Tensor:
        y = 2 * x
        z = y // 0.3
        return z.sum()

    (only,) = functions(lambda x: jnp.floor(2 * x / 0.3).sum(), port).forward
    assert only.port.text == 'z = y // 0.3'
    assert only.why == 'raises RuntimeError: derivative for aten::floor_divide is not implemented'


def test_a_backward_of_ones_own_that_raises_has_its_line() -> None:
    class Raising(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return 2 * x

        @staticmethod
        def backward(ctx, cotangent):
            raise NotImplementedError('later')

    (only,) = functions(lambda x: (2 * x).sum(), lambda x: Raising.apply(x).sum()).forward
    assert only.port.text == "raise NotImplementedError('later')"


class Doubled(torch.autograd.Function):
    """What runs in `forward` has no gradients of torch's."""

    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, cotangent):
        return 2 * cotangent


def normed(x):
    y = x - x.mean(-1, keepdims=True)
    return y * jax.lax.rsqrt((y**2).mean(-1, keepdims=True) + 1e-5) * (1 + jnp.arange(4.0))


@pytest.mark.parametrize('kind', ['a function of ones own', 'a LayerNorm, of which nothing uses the mean'])
def test_what_is_right_before_a_missing_detach_is_not_blamed(kind: str) -> None:
    own = kind.startswith('a function')

    def reference(x):
        y = 2 * x if own else normed(x)
        z = jnp.exp(y)
        return (z * jax.lax.stop_gradient(jnp.tanh(z))).sum()

    def port(x: torch.Tensor) -> torch.Tensor:
        y = Doubled.apply(x) if own else functional.layer_norm(x, (4,)) * torch.arange(1, 5)
        z = torch.exp(y)
        return (z * torch.tanh(z)).sum()

    found = functions(reference, port)
    assert found.forward == []
    assert found.backward[0].port.text == 'return (z * torch.tanh(z)).sum()'


# --- shapes


def in_layers(x: torch.Tensor, members: int = 1) -> torch.Tensor:
    x = torch.exp(x)
    if members:
        x = x.expand(members, *x.shape)
    x = functional.linear(x, torch.ones(3, 4, dtype=x.dtype))
    return functional.gelu(x, approximate='tanh')


SHAPES = {  # where the reference has (3,) or (3, 3)
    'kept': (lambda x: x.sum(-1), lambda x: x.sum(-1, keepdim=True), 'keepdim=True'),
    'added': (lambda x: jnp.exp(x).sum(-1), lambda x: torch.exp(x)[None].sum(-1), '[None]'),
    'broadcast': (lambda x: x.sum(-1), lambda x: torch.zeros(3, 1) + x.sum(-1), 'torch.zeros(3, 1) +'),
    'through layers': (lambda x: jax.nn.gelu(jnp.exp(x) @ jnp.ones((4, 3))), in_layers, 'x = x.expand('),
}


@pytest.mark.parametrize('name', SHAPES)
def test_a_shape_is_found_where_it_parts(name: str) -> None:
    reference, port, text = SHAPES[name]
    values = functions(reference, port)
    assert text in values.forward[0].port.text
    assert 'shape' in values.forward[0].why
    assert values.forward[0].reaches


def test_a_squeeze_left_out_is_said_to_be() -> None:
    def port(x: torch.Tensor) -> torch.Tensor:
        y = torch.exp(x)[:, :1]
        return y

    (only,) = functions(lambda x: jnp.squeeze(jnp.exp(x)[:, :1], -1), port).forward
    assert only.port.text == 'y = torch.exp(x)[:, :1]'
    assert only.why == 'the reference applies squeeze here'
    assert only.port_value.startswith('f64[3,1]')
    assert only.reference_value.startswith('f64[3]')


@pytest.mark.parametrize('name', SHAPES)
def test_twin_other_layouts_on_the_way_are_none(name: str) -> None:
    reference, port, _ = SHAPES[name]
    shape = reference(X).shape
    assert functions(reference, lambda x: port(x).reshape(-1, *shape)[0]).forward == []


def test_an_output_of_another_size_is_found_where_its_values_part() -> None:
    def port(x: torch.Tensor) -> torch.Tensor:
        q, v = x[:, 0], x[:, 1:2]
        advantage = q - v
        return 2 * advantage

    first, *_ = functions(lambda x: 2 * (x[:, 0] - x[:, 1]), port).forward
    assert first.port.text == 'advantage = q - v'


def test_writes_in_place_and_views_are_followed() -> None:
    def port(x: torch.Tensor, first: float = 0.0) -> torch.Tensor:
        y = x * 2
        y[0] = first
        y.add_(1)
        return y.sum(0)

    def reference(x: jax.Array) -> jax.Array:
        return ((2 * x).at[0].set(0.0) + 1).sum(0)

    assert functions(reference, port).forward == []
    assert functions(reference, lambda x: port(x, 0.5)).forward[0].port.text == 'y[0] = first'


@pytest.mark.filterwarnings('ignore:.torch.jit.script_method. is deprecated')  # torch's own compiler uses it
def test_compiled_ports_run_uncompiled() -> None:
    assert functions(jnp.exp, torch.compile(torch.exp)).forward == []
    assert functions(jnp.exp, torch.compile(torch.expm1)).forward != []


def test_values_that_are_not_finite_are_compared_by_their_places() -> None:
    x = np.array([-1.0, 0.0, 2.0], np.float32)
    assert functions(lambda x: jnp.log(x).sum(), lambda x: torch.log(x).sum(), x).forward == []
    assert functions(jnp.log, lambda x: torch.log(x.abs()), x).forward != []


def test_comparisons_that_rounding_decides_are_no_divergence() -> None:
    def reference(x: jax.Array) -> jax.Array:
        return jnp.where(jnp.exp(jnp.log(x)) > x, 1.0, 2.0) * x

    x = np.abs(X) + np.float32(0.1)
    assert functions(reference, lambda x: torch.where(x**3 / x**2 > x, 1.0, 2.0) * x, x).forward == []
    twin = functions(reference, lambda x: torch.where(1.1 * x > x, 1.0, 2.0) * x, x)
    assert twin.forward != []


def test_a_loop_of_computed_length_is_evaluated() -> None:
    def reference(x: jax.Array) -> jax.Array:
        return jax.lax.while_loop(lambda y: jnp.abs(y).max() > 0.1, lambda y: y / 2, x)

    def port(x: torch.Tensor, by: float = 2.0) -> torch.Tensor:
        while x.abs().max() > 0.1:
            x = x / by
        return x

    pair = Pair('loop', reference, port, batch={})
    assert forward_frontiers(FunctionRuns(pair, Case(), (X,), False, 'cpu', True)) == []
    wrong = Pair('loop', reference, lambda x: port(x, 3.0), batch={})
    first = forward_frontiers(FunctionRuns(wrong, Case(), (X,), False, 'cpu', True))[0]
    assert first.why == 'the reference has 2 for 3'


def test_an_unknown_loss_is_refused_by_name() -> None:
    with pytest.raises(ParityError, match='unknown loss: training'):
        forward_frontiers(Runs(find('torch_agents.pairs:IQL'), Case()), 'training')


# --- models


@pytest.mark.parametrize('name', ['LINEN', 'EQUINOX', 'HAIKU', 'NNX'])
def test_correct_models_have_no_frontier(name: str) -> None:
    runs = Runs(getattr(model_pairs, name), Case(seed=1))
    assert Values(runs).forward == Values(runs).backward == []


@pytest.mark.parametrize('name', ['LINEN_EPSILON'])
def test_twin_a_wrong_model_has_one(name: str) -> None:
    first = forward_frontiers(Runs(getattr(model_pairs, name), Case(seed=1)))[0]
    assert 'norm' in first.port.text or 'norm' in (first.reference.text if first.reference else '').lower()


# --- agents


class References:
    """The references of the agents, each created once for all of its ports."""

    def __init__(self) -> None:
        self.runs: dict[str, Runs] = {}

    def with_port(self, pair: Pair, case: Case) -> Runs:
        """The runs of a pair whose reference is shared with all pairs of its name."""
        key = f'{pair.name} {case.describe()}'
        if key not in self.runs:
            self.runs[key] = Runs(find(f'torch_agents.pairs:{pair.name.upper()}'), case)
        shared = self.runs[key]
        runs = Runs(pair, case)
        vars(runs).update(
            created=shared.created, reference64=shared.reference64, batch=shared.batch, inputs=shared.inputs
        )
        return runs


@pytest.fixture(scope='module')
def references() -> References:
    return References()


def located(bug: Bug, references: References) -> tuple[list[Frontier], int]:
    """The frontiers of a port with the bug, and the rank of a right one; 0 for none."""
    with planted(bug.agent, bug.substitution) as plant:
        values = Values(references.with_port(plant.pair, bug.case), bug.loss)
        found = values.forward or values.backward
        right = (
            frontier.rank
            for frontier in found
            if (os.path.basename(frontier.port.file), frontier.port.line) in plant.lines
            or any(text in frontier.port.text for text in bug.lines)
        )
        return found, next(right, 0)


def check_clean(name: str, references: References) -> None:
    for loss in LOSSES:
        values = Values(references.with_port(find(f'torch_agents.pairs:{name.upper()}'), Case(seed=1)), loss)
        assert values.forward == values.backward == [], loss


@pytest.mark.parametrize('name', AGENTS[:2])
def test_correct_agents_have_no_frontier(name: str, references: References) -> None:
    check_clean(name, references)


def test_all_values_of_a_correct_port_are_the_references(references: References) -> None:
    """The silence is not only that of the outputs: no value of the port is without a partner.

    But for one: flax scales before it divides by the deviation.
    """
    for loss in LOSSES:
        values = Values(references.with_port(find('torch_agents.pairs:IQL'), Case(seed=1)), loss)
        port = values.traces[PORT]
        told = [v for v in port if v.root == v.index and not v.plain]
        assert len(told) > 40
        alone = {value.operation for value in told if not values.matching.has(PORT, value.index)}
        assert alone <= {'native_layer_norm'}
        assert not all(values.matching.has(REFERENCE, value.index) for value in values.traces[REFERENCE])


@pytest.mark.parametrize('bug', [bug for bug in BUGS if bug.name in FAST], ids=str)
def test_planted_bugs_are_found_first(bug: Bug, references: References) -> None:
    found, rank = located(bug, references)
    assert rank == 1, [str(frontier.port) for frontier in found]
    assert {frontier.direction for frontier in found} == {bug.kind}


def test_a_frontier_tells_both_lines_and_what_it_reaches(references: References) -> None:
    bug = next(bug for bug in BUGS if bug.name == 'maximum for minimum')
    # with seed 1 all maxima are of q2, a value that the reference has as well
    (first, *_), _ = located(dataclasses.replace(bug, seed=2), references)
    assert first.port.text == 'adv = torch.maximum(q1, q2) - v'
    assert first.reference is not None
    assert first.reference.text == 'adv = jnp.minimum(q1, q2) - v'
    assert first.reaches == ('loss', 'info/actor/actor_loss', 'info/actor/adv')
    assert all('q1, q2 = self.network.select' in agreed for agreed in first.agreed)
    assert first.difference is not None
    assert first.difference > 0.01


def test_parameters_of_a_frontier_are_those_that_it_sends_gradients_to(references: References) -> None:
    bug = next(bug for bug in BUGS if bug.name == 'log-probability without its constant')
    (first, *_), _ = located(bug, references)
    assert {name.split('/')[0] for name in first.parameters} == {'modules_actor'}


def test_what_asks_whether_it_is_finite_hides_nothing_behind_it() -> None:
    """`x == x` is true whatever rounding does to x: what is made of it is no matter of chance."""

    def reference(x):
        y = jnp.tanh(x)
        return jnp.exp(jnp.where(jnp.isfinite(y), y, 0.0)) * 2

    def port(x):
        y = torch.tanh(x)
        return torch.exp(torch.where(torch.isfinite(y), y, 0.0)) * 3

    (first, *_) = functions(reference, port).forward
    assert first.port.text.endswith('* 3')


def test_two_bugs_at_once_are_both_found(references: References) -> None:
    changes = [bug.substitution for bug in BUGS if bug.name in ('mask left out', 'clip dropped')]
    with planted('iql', *changes) as plant:
        found = forward_frontiers(references.with_port(plant.pair, Case(seed=1)), 'finetuning_full')
    places = [(os.path.basename(frontier.port.file), frontier.port.line) for frontier in found[:3]]
    assert plant.lines <= set(places)


def test_backward_is_silent_where_values_differ(references: References) -> None:
    bug = next(bug for bug in BUGS if bug.name == 'exact gelu')
    with planted(bug.agent, bug.substitution) as plant:
        assert backward_frontiers(references.with_port(plant.pair, bug.case), bug.loss) == []


# --- planting


def test_texts_that_do_not_occur_are_refused() -> None:
    with (
        pytest.raises(ValueError, match='has 0 times, not 1'),
        planted('iql', Substitution('iql.py', 'none such', '')),
    ):
        pass


@pytest.mark.parametrize(
    ('before', 'after', 'lines'),
    [
        ('a\nb\nc\n', 'a\nB\nc\n', {2}),
        ('a\nb\nc\n', 'a\nc\n', {1, 2}),
        ('f(\n  a,\n)\n', 'f(\n  b,\n)\n', {1, 2}),
    ],
)
def test_changed_lines(before: str, after: str, lines: set[int]) -> None:
    assert set(changed_lines(before, after)) == lines


# --- all bugs: minutes


@pytest.mark.slow
@pytest.mark.parametrize('name', AGENTS)
def test_every_correct_agent_has_no_frontier(name: str, references: References) -> None:
    check_clean(name, references)


# Of these no line computes a wrong value: what chose it is found in other ways, see test_locate_bugs.py.
CHOSEN = ('condition', 'other setting', 'other default', UNKNOWN)


@pytest.mark.slow
def test_the_right_line_comes_first(references: References) -> None:
    """Of the bugs whose line computes a wrong value or gradient, 90 % come first and 98 % among three."""
    bugs = [bug for bug in BUGS if bug.kind in ('forward', 'backward') and bug.cause not in CHOSEN]
    ranks = {bug.name: located(bug, references)[1] for bug in bugs}
    late = {name: rank for name, rank in ranks.items() if rank != 1}
    assert len(late) <= 0.1 * len(bugs), late
    assert sum(not 1 <= rank <= 3 for rank in ranks.values()) <= 0.02 * len(bugs), late
