"""Moments of parameters that are several leaves, of leaves that are several parameters, and mapped ones."""

import flax.linen as fnn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from torch import nn

import weight_bridge
from parity_tests.bridge.optimizers import CASES, LR, Case, Port, Reference, batch, ten_steps
from weight_bridge import BridgeError

pytestmark = pytest.mark.xdist_group('optimizers')

SAME, OTHER = 1e-12, 1e-5
USED = {name: CASES[name] for name in ('adam', 'nesterov', 'lion', 'schedule', 'inject adamw')}
USED['rmsprop momentum'] = Case(  # some gradients are 1e-9 here: smaller eps make steps of their rounding
    lambda: optax.rmsprop(1e-3, decay=0.99, eps=1e-2, eps_in_sqrt=False, momentum=0.9),
    lambda m: torch.optim.RMSprop(m.parameters(), 1e-3, 0.99, eps=1e-2, momentum=0.9),
    counted=(True, False),
    exact=False,
)
WIDTH, CRITICS = 3, 4


class FlaxPieces(fnn.Module):
    """Attention over the rows, a recurrent layer over them, and the mean of an ensemble."""

    @fnn.compact
    def __call__(self, x):
        attention = fnn.MultiHeadDotProductAttention(2, use_bias=False, name='attention')
        cell = fnn.GRUCell(WIDTH, param_dtype=jnp.float64, parent=None)
        x = fnn.RNN(cell, name='rnn')(attention(x[None]))
        critics = fnn.vmap(
            fnn.Dense,
            variable_axes={'params': 0},
            split_rngs={'params': True},
            in_axes=None,
            axis_size=CRITICS,
        )
        return jnp.tanh(critics(2, name='critics')(x[0])).mean(axis=0)


class Stack(nn.ModuleList):
    flax_rule = 'Stack'


class Pieces(nn.Module):
    """The same names. Of the GRU's second bias Flax has the last third: the rest stays zero."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, bias=False, batch_first=True)
        self.rnn = nn.GRU(4, WIDTH, batch_first=True)
        self.rnn.bias_hh_l0.register_hook(only_the_last_third)
        self.critics = Stack(nn.Linear(WIDTH, 2) for _ in range(CRITICS))

    def forward(self, x):
        return forward(x, self.attention, self.rnn, self.critics)


class Renamed(nn.Module):
    """Names and an order of its own, and a plain list in the place of the stack."""

    def __init__(self):
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(WIDTH, 2) for _ in range(CRITICS))
        self.memory = nn.GRU(4, WIDTH, batch_first=True)
        self.memory.bias_hh_l0.register_hook(only_the_last_third)
        self.mixer = nn.MultiheadAttention(4, 2, bias=False, batch_first=True)

    def forward(self, x):
        return forward(x, self.mixer, self.memory, self.heads)


def forward(x, attention, rnn, critics):
    x, _ = rnn(attention(x[None], x[None], x[None])[0])
    return torch.stack([torch.tanh(critic(x[0])) for critic in critics]).mean(dim=0)


def only_the_last_third(grad):
    return grad * (torch.arange(len(grad)) >= 2 * WIDTH)


@pytest.fixture
def params(randomised, rng):
    return randomised(FlaxPieces().init(jax.random.PRNGKey(0), batch(rng)[0])['params'])


@pytest.fixture(params=[Pieces, Renamed])
def kind(request, params):
    """A module's class and the mapping to it, where it has names of its own."""
    mapping = weight_bridge.match(params, Renamed()) if request.param is Renamed else None
    return request.param, mapping


@pytest.fixture(params=USED)
def case(request):
    return USED[request.param]


def stepped(side, rng, *counts):
    """The side after three steps."""
    for count in range(3):
        side.step(*batch(rng), *([count] if counts else []))
    return side


def to_torch(case, reference, kind):
    """A new port with the reference's parameters and state."""
    made, mapping = kind
    port = Port(case, reference.params, made(), mapping)
    count = {'count': 3} if case.counted[0] else {}
    weight_bridge.optimizer_to_torch(reference.state, port.optimizer, port.module, mapping=mapping, **count)
    return port


def to_optax(case, port):
    """A new reference with the port's parameters and state."""
    params = weight_bridge.to_flax(port.module, mapping=port.mapping)
    reference = Reference(case, params, FlaxPieces())
    count = {'count': 3} if case.counted[1] else {}
    reference.state = weight_bridge.optimizer_to_optax(
        port.optimizer, port.module, reference.state, mapping=port.mapping, **count
    )
    return reference


def test_the_port_has_the_layouts_of_the_reference(params):
    """Several leaves in one parameter, one leaf out of several, and a part that Flax lacks."""
    assert params['attention']['query']['kernel'].shape == (4, 2, 2)
    assert params['critics']['kernel'].shape == (CRITICS, WIDTH, 2)
    assert sorted(params['rnn']['cell']['hr']) == ['kernel']
    weight_bridge.to_torch(params, Pieces())
    assert 'critics/kernel' in weight_bridge.match(params, Renamed()).paths


def test_torch_goes_on_where_optax_stopped(case, kind, params, rng):
    reference = stepped(Reference(case, params, FlaxPieces()), rng)
    assert ten_steps(reference, to_torch(case, reference, kind), rng, 3) < SAME


def test_optax_goes_on_where_torch_stopped(case, kind, params, rng):
    made, mapping = kind
    port = stepped(Port(case, params, made(), mapping), rng, 'counts')
    assert ten_steps(to_optax(case, port), port, rng, 3) < SAME


def test_a_state_makes_the_round_trip(case, kind, params, rng):
    reference = stepped(Reference(case, params, FlaxPieces()), rng)
    back = to_optax(case, to_torch(case, reference, kind)).state
    tolerance = 0 if case.exact else 1e-15
    there = jax.device_get(reference.state)
    jax.tree.map(lambda ours, theirs: np.testing.assert_allclose(ours, theirs, tolerance, 0), back, there)


SWAPS = {
    'query and key': lambda port: [halves(port, port.module.attention.in_proj_weight, 4)],
    'gates': lambda port: [halves(port, port.module.rnn.weight_hh_l0, WIDTH)],
    'members': lambda port: [moments(port, critic.weight) for critic in port.module.critics[:2]],
}


def moments(port, parameter):
    return port.optimizer.state[parameter]['exp_avg']


def halves(port, parameter, size):
    return moments(port, parameter)[:size], moments(port, parameter)[size : 2 * size]


@pytest.mark.parametrize('swapped', SWAPS)
def test_twin_moments_in_another_place_are_seen(swapped, params, rng):
    case = CASES['adam']
    reference = stepped(Reference(case, params, FlaxPieces()), rng)
    port = to_torch(case, reference, (Pieces, None))
    found = SWAPS[swapped](port)
    one, other = found[0] if len(found) == 1 else found
    kept = one.clone()
    one.copy_(other)
    other.copy_(kept)
    assert ten_steps(reference, port, rng, 3) > OTHER


def test_adam_moments_are_by_the_paths_of_flax(kind, params, rng):
    made, mapping = kind
    port = stepped(Port(CASES['adam'], params, made(), mapping), rng, 'counts')
    steps, mu, nu = weight_bridge.adam_moments(port.optimizer, port.module, mapping=mapping)
    state, _ = weight_bridge.optimizer_to_optax(port.optimizer, port.module, mapping=mapping)
    assert steps['critics/kernel'] == steps['attention/query/kernel'] == steps['rnn/cell/hn/bias'] == 3
    assert steps.keys() == set(weight_bridge.paths.flatten(params))
    jax.tree.map(np.testing.assert_array_equal, (mu, nu), (state.mu, state.nu))


class TestRefused:
    """Leaves of one parameter and parameters of one leaf that do not go together."""

    def problems(self, function, *arguments, **options):
        with pytest.raises(BridgeError) as error:
            function(*arguments, **options)
        return [str(problem) for problem in error.value.problems]

    def test_a_mapping_that_does_not_fit(self, params):
        """The names are not those of Flax."""
        module = Renamed()
        optimizer = torch.optim.Adam(module.parameters())
        state = optax.adam(LR).init(params)
        assert self.problems(weight_bridge.optimizer_to_torch, state, optimizer, module)
        mapping = weight_bridge.match(params, module)
        weight_bridge.optimizer_to_torch(state, optimizer, module, mapping=mapping)
        assert len(optimizer.state) == len(list(module.parameters()))

    def test_a_part_of_a_parameter_without_moments(self, params):
        module = Pieces()
        mask = jax.tree.map(lambda _: True, params)
        mask['attention']['key']['kernel'] = False
        tx = optax.chain(optax.masked(optax.trace(0.9), mask), optax.scale(-LR))
        optimizer = torch.optim.SGD(module.parameters(), LR, momentum=0.9)
        assert self.problems(weight_bridge.optimizer_to_torch, tx.init(params), optimizer, module) == [
            'optimizer: param_groups[0]: expected 1 TraceState for each parameter (torch.optim.SGD), found '
            'no state for attention/key/kernel (among MaskedState, TraceState, EmptyState)'
        ]

    def test_a_member_that_torch_does_not_step(self, params):
        module = Pieces()
        optimizer = torch.optim.Adam([p for p in module.parameters() if p is not module.critics[2].weight])
        expected = [
            'optimizer: critics/kernel[2]: expected held by the optimiser, found not held '
            '(torch: critics.2.weight)'
        ]
        state = optax.adam(LR).init(params)
        assert self.problems(weight_bridge.optimizer_to_torch, state, optimizer, module) == expected
        assert self.problems(weight_bridge.optimizer_to_optax, optimizer, module) == expected

    def test_a_member_that_was_skipped(self, params, rng):
        port = stepped(Port(CASES['adam'], params, Pieces()), rng, 'counts')
        port.optimizer.state[port.module.critics[1].bias]['step'] -= 1
        expected = ['count: critics/bias[1]: expected step 3 as elsewhere, found step 2']
        for function in (weight_bridge.adam_moments, weight_bridge.optimizer_to_optax):
            assert self.problems(function, port.optimizer, port.module) == expected
        like = CASES['adam'].tx().init(params)
        assert self.problems(weight_bridge.optimizer_to_optax, port.optimizer, port.module, like) == expected

    @pytest.mark.parametrize('like', [True, False])
    def test_moments_that_flax_has_no_place_for(self, like, params, rng):
        port = stepped(Port(CASES['adam'], params, Pieces()), rng, 'counts')
        tree = (CASES['adam'].tx().init(params),) if like else ()
        weight_bridge.optimizer_to_optax(port.optimizer, port.module, *tree)
        moments(port, port.module.rnn.bias_hh_l0)[1] = 1e-30
        assert self.problems(weight_bridge.optimizer_to_optax, port.optimizer, port.module, *tree) == [
            'zero: rnn/cell/hn/bias: expected zeros, found f64[3] with 1 other values '
            '(torch: exp_avg of rnn.bias_hh_l0)'
        ]


class Gates(nn.LSTM):
    """One of its two biases is none of Flax's."""

    def __init__(self, frozen):
        super().__init__(4, WIDTH, batch_first=True)
        self.bias_ih_l0.requires_grad_(not frozen)

    def step(self, optimizer, x):
        optimizer.zero_grad()
        (super().forward(torch.from_numpy(x[None]))[0] ** 2).sum().backward()
        optimizer.step()


@pytest.mark.parametrize('held', [True, False])
def test_a_frozen_bias_that_flax_lacks_has_no_moments(held, rng):
    """Torch steps it never, so that it has no count either; whether the optimiser holds it is the same."""
    module = Gates(frozen=True)
    weight_bridge.to_torch(weight_bridge.to_flax(zeroed(module)), module)
    optimizer = torch.optim.Adam([p for p in module.parameters() if held or p.requires_grad], LR)
    for _ in range(3):
        module.step(optimizer, batch(rng)[0])
    state = weight_bridge.optimizer_to_optax(optimizer, module)
    assert state[0].count == 3
    other = Gates(frozen=True)
    theirs = torch.optim.Adam([p for p in other.parameters() if held or p.requires_grad], LR)
    weight_bridge.to_torch(weight_bridge.to_flax(module), other)
    weight_bridge.optimizer_to_torch(state, theirs, other)
    for side, adam in ((module, optimizer), (other, theirs)):
        side.step(adam, np.ones((8, 4)))
    for ours, copied in zip(module.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, copied)
    assert weight_bridge.optimizer_to_optax(theirs, other)[0].count == 4


def test_twin_one_that_learns_is_refused(rng):
    module = zeroed(Gates(frozen=False))
    optimizer = torch.optim.Adam(module.parameters(), LR)
    module.step(optimizer, batch(rng)[0])
    with pytest.raises(BridgeError, match=r'zero: bias_ih_l0: expected zeros, .*exp_avg_sq of bias_ih_l0'):
        weight_bridge.optimizer_to_optax(optimizer, module)


def zeroed(module):
    with torch.no_grad():
        module.bias_ih_l0.zero_()
    return module
