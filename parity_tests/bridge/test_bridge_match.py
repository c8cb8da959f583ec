"""`match` proposes what is right and says why; what nothing decides it reports, or decides by running."""

import re

import flax.linen as fnn
import jax
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import weight_bridge
from parity_tests.bridge.test_bridge_every_layer import HEADS, B, F, T, bits, variables_of
from weight_bridge import BridgeError, Mapping

SEQUENCE = (B, T, F)


class FlaxBlock(fnn.Module):
    @fnn.compact
    def __call__(self, x):
        h = fnn.LayerNorm()(x)
        x = x + fnn.MultiHeadDotProductAttention(HEADS, name='attention')(h)
        h = fnn.Dense(2 * F)(fnn.LayerNorm()(x))
        return x + fnn.Dense(F)(fnn.gelu(h))


class FlaxTransformer(fnn.Module):
    @fnn.compact
    def __call__(self, x):
        x = fnn.Dense(F, name='embed')(x)
        x = x + self.param('pos_embed', fnn.initializers.normal(), (1, T, F))
        for index in range(3):
            x = FlaxBlock(name=f'blocks_{index}')(x)
        return fnn.Dense(3, name='head')(fnn.LayerNorm(name='final')(x))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(F, F) for _ in range(4))

    def forward(self, x):
        q, k, v = (p(x).unflatten(-1, (HEADS, -1)) for p in (self.q_proj, self.k_proj, self.v_proj))
        attended = nn.functional.scaled_dot_product_attention(*(t.transpose(1, 2) for t in (q, k, v)))
        return self.o_proj(attended.transpose(1, 2).flatten(-2))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln1, self.attn, self.ln2 = nn.LayerNorm(F, eps=1e-6), Attention(), nn.LayerNorm(F, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(F, 2 * F), nn.GELU('tanh'), nn.Linear(2 * F, F))

    def forward(self, x):
        x = x + self.attn(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class Transformer(nn.Module):
    """Names of its own, and a grouping that the reference has not."""

    def __init__(self):
        super().__init__()
        self.inp = nn.Linear(F, F)
        self.positions = nn.Parameter(torch.zeros(1, T, F))
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.out = nn.Sequential(nn.LayerNorm(F, eps=1e-6), nn.Linear(F, 3))

    def forward(self, x):
        x = self.inp(x) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.out(x)


class FlaxCNN(fnn.Module):
    @fnn.compact
    def __call__(self, x):
        for _ in range(2):
            x = fnn.relu(fnn.BatchNorm(use_running_average=True)(fnn.Conv(4, (3, 3), padding='VALID')(x)))
        return fnn.Dense(5)(x.reshape(x.shape[0], -1))


class CNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
        self.classifier = nn.Linear(24, 5)

    def forward(self, x):
        x = self.stem_norm(self.stem(x.movedim(-1, 1))).relu()
        x = self.body(x).relu()
        return self.classifier(x.movedim(1, -1).flatten(1))


class FlaxGates(fnn.Module):
    """Two layers of one shape that play different parts."""

    @fnn.compact
    def __call__(self, x):
        return fnn.Dense(F, name='left')(x) * fnn.tanh(fnn.Dense(F, name='right')(x))


class Gates(nn.Module):
    def __init__(self):
        super().__init__()
        self.squashed, self.plain = nn.Linear(F, F), nn.Linear(F, F)

    def forward(self, x):
        return self.plain(x) * self.squashed(x).tanh()


class FlaxSum(fnn.Module):
    """Two branches that no output can tell apart."""

    @fnn.compact
    def __call__(self, x):
        branches = [fnn.Dense(F, name=f'{name}_in')(x) for name in ('left', 'right')]
        first, second = (fnn.tanh(branch) for branch in branches)
        return fnn.Dense(F, name='left_out')(first) + fnn.Dense(F, name='right_out')(second)


class Sum(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Linear(F, F) for _ in range(4))

    def forward(self, x):
        return self.c(self.a(x).tanh()) + self.d(self.b(x).tanh())


def random_variables(reference, shape, rng):
    return variables_of(reference, shape, rng)


def outputs(reference, variables, port, x):
    with torch.no_grad():
        return np.asarray(reference.apply(variables, x)), port.eval()(torch.from_numpy(x)).numpy()


def runs(reference, x):
    """The two functions that `match` may run."""
    return {
        'reference': jax.jit(lambda variables: reference.apply(variables, x)),
        'port': lambda module: module.eval()(torch.from_numpy(x)),
    }


def evidence(mapping):
    return {row.flax: row.by for row in mapping.rows}


PAIRS = {
    'transformer': (FlaxTransformer(), Transformer, SEQUENCE),
    'CNN': (FlaxCNN(), CNN, (B, 7, 6, 4)),
}
pairs = pytest.mark.parametrize('name', PAIRS)


@pairs
@pytest.mark.parametrize('running', [False, True])
def test_a_port_with_names_of_its_own_computes_the_same(name, running, rng):
    reference, make, shape = PAIRS[name]
    variables, port, x = random_variables(reference, shape, rng), make(), rng.normal(size=shape)
    before = {key: value.clone() for key, value in port.state_dict().items()}
    mapping = weight_bridge.match(variables, port, **(runs(reference, x) if running else {}))
    assert all(torch.equal(value, before[key]) for key, value in port.state_dict().items())
    assert not mapping.ambiguous
    weight_bridge.to_torch(variables, port, mapping=mapping)
    expected, found = outputs(reference, variables, port, x)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11)
    assert bits(weight_bridge.to_flax(port, form='variables', mapping=mapping)) == bits(variables)


@pairs
def test_the_table_is_read_as_it_was_written(name, rng):
    reference, make, shape = PAIRS[name]
    mapping = weight_bridge.match(random_variables(reference, shape, rng), make())
    assert Mapping.from_toml(mapping.to_toml()) == mapping
    assert str(mapping) == mapping.to_toml()


def test_every_row_says_what_decided_it(rng):
    found = evidence(weight_bridge.match(random_variables(*PAIRS['transformer'][::2], rng), Transformer()))
    assert found['pos_embed'] == 'shape'
    assert found['head/kernel'] == 'shape'
    assert found['blocks_1/attention/query/kernel'] == 'order + names'
    assert found['blocks_1/LayerNorm_0/scale'] == 'order + rules'


class TestAmbiguity:
    """Two layers of one shape whose names say nothing."""

    @pytest.fixture
    def variables(self, rng):
        return random_variables(FlaxGates(), SEQUENCE, rng)

    def test_it_is_reported_with_its_candidates(self, variables):
        mapping = weight_bridge.match(variables, Gates())
        assert {row.flax: row.torch for row in mapping.ambiguous} == {
            'left/kernel': ('squashed.weight', 'plain.weight'),
            'left/bias': ('squashed.bias', 'plain.bias'),
            'right/kernel': ('squashed.weight', 'plain.weight'),
            'right/bias': ('squashed.bias', 'plain.bias'),
        }

    def test_it_is_not_used(self, variables):
        port = Gates()
        before = {key: value.clone() for key, value in port.state_dict().items()}
        proposed = weight_bridge.match(variables, port)
        for mapping in (proposed, Mapping.from_toml(proposed.to_toml())):
            with pytest.raises(BridgeError) as error:
                weight_bridge.to_torch(variables, port, mapping=mapping)
            assert [problem.kind for problem in error.value.problems] == ['ambiguous'] * 4
        assert all(torch.equal(value, before[key]) for key, value in port.state_dict().items())

    def test_running_decides(self, variables, rng):
        x, port = rng.normal(size=SEQUENCE), Gates()
        mapping = weight_bridge.match(variables, port, **runs(FlaxGates(), x))
        assert {row.flax: row.torch for row in mapping.rows} == {
            'left/kernel': 'plain.weight',
            'left/bias': 'plain.bias',
            'right/kernel': 'squashed.weight',
            'right/bias': 'squashed.bias',
        }
        assert set(evidence(mapping).values()) == {'running'}
        weight_bridge.to_torch(variables, port, mapping=mapping)
        np.testing.assert_allclose(*outputs(FlaxGates(), variables, port, x), rtol=0, atol=1e-12)

    def test_an_edit_decides(self, variables, rng):
        x, port = rng.normal(size=SEQUENCE), Gates()
        text = weight_bridge.match(variables, port).to_toml()
        lines = [
            re.sub(
                r'\["squashed\.(\w+)", "plain\.\w+"\]',
                rf'"{"plain" if "left" in line else "squashed"}.\1"',
                line,
            )
            for line in text.split('\n')
        ]
        weight_bridge.to_torch(variables, port, mapping=Mapping.from_toml('\n'.join(lines)))
        np.testing.assert_allclose(*outputs(FlaxGates(), variables, port, x), rtol=0, atol=1e-12)

    def test_branches_that_are_added_stay_ambiguous_but_inputs_follow_outputs(self, rng):
        variables, x = random_variables(FlaxSum(), SEQUENCE, rng), rng.normal(size=SEQUENCE)
        mapping = weight_bridge.match(variables, Sum(), **runs(FlaxSum(), x))
        found = {row.flax: row.torch for row in mapping.ambiguous}
        assert {
            set(found[f'{name}_in/kernel']) == {'a.weight', 'b.weight'} for name in ('left', 'right')
        } == {True}
        assert {
            set(found[f'{name}_out/kernel']) == {'c.weight', 'd.weight'} for name in ('left', 'right')
        } == {True}


class TestRunning:
    """Running refutes what names and order say, and other functions altogether."""

    def test_lying_names_are_refused_and_the_truth_found(self, rng):
        class Liar(Transformer):
            def __init__(self):
                super().__init__()
                attention = self.blocks[1].attn
                attention.q_proj, attention.v_proj = attention.v_proj, attention.q_proj

            def forward(self, x):
                attention = self.blocks[1].attn
                attention.q_proj, attention.v_proj = attention.v_proj, attention.q_proj
                try:
                    return super().forward(x)
                finally:
                    attention.q_proj, attention.v_proj = attention.v_proj, attention.q_proj

        reference = FlaxTransformer()
        variables, x = random_variables(reference, SEQUENCE, rng), rng.normal(size=SEQUENCE)
        by_names = weight_bridge.match(variables, Liar())
        by_running = weight_bridge.match(variables, Liar(), **runs(reference, x))
        rows = [{row.flax: row.torch for row in mapping.rows} for mapping in (by_names, by_running)]
        assert [found['blocks_1/attention/query/kernel'] for found in rows] == [
            'blocks.1.attn.q_proj.weight',
            'blocks.1.attn.v_proj.weight',
        ]
        port = Liar()
        weight_bridge.to_torch(variables, port, mapping=by_running)
        np.testing.assert_allclose(*outputs(reference, variables, port, x), rtol=0, atol=1e-11)

    def test_blocks_in_another_order_are_found(self, rng):
        class Backwards(Transformer):
            def forward(self, x):
                x = self.inp(x) + self.positions
                for block in reversed(self.blocks):
                    x = block(x)
                return self.out(x)

        reference = FlaxTransformer()
        variables, x = random_variables(reference, SEQUENCE, rng), rng.normal(size=SEQUENCE)
        mapping = weight_bridge.match(variables, Backwards(), **runs(reference, x))
        found = {row.flax: row.torch for row in mapping.rows}
        assert found['blocks_0/Dense_0/kernel'] == 'blocks.2.mlp.0.weight'
        assert found['blocks_2/attention/out/kernel'] == 'blocks.0.attn.o_proj.weight'

    def test_other_functions_are_refused_whatever_the_mapping(self, rng):
        class Other(Gates):
            def forward(self, x):
                return super().forward(x) + 1e-3

        x = rng.normal(size=SEQUENCE)
        with pytest.raises(BridgeError, match='compute different outputs whatever the mapping'):
            weight_bridge.match(random_variables(FlaxGates(), SEQUENCE, rng), Other(), **runs(FlaxGates(), x))

    def test_the_search_says_when_it_stops(self, rng):
        x = rng.normal(size=SEQUENCE)
        with pytest.raises(BridgeError, match='expected 2 runs or fewer, found more needed'):
            weight_bridge.match(
                random_variables(FlaxGates(), SEQUENCE, rng), Gates(), **runs(FlaxGates(), x), most_runs=2
            )

    def test_both_functions_or_none(self, rng):
        with pytest.raises(TypeError, match='both'):
            weight_bridge.match(random_variables(FlaxGates(), SEQUENCE, rng), Gates(), reference=lambda p: p)


class FlaxRaw(fnn.Module):
    @fnn.compact
    def __call__(self, x):
        x = fnn.tanh(fnn.Dense(F)(x))
        return fnn.Dense(F, use_bias=False)(x)


class Raw(nn.Module):
    """Matrices without a layer: one is used as Flax does, one as torch does."""

    def __init__(self):
        super().__init__()
        self.first, self.shift = nn.Parameter(torch.zeros(F, F)), nn.Parameter(torch.zeros(F))
        self.second = nn.Parameter(torch.zeros(F, F))

    def forward(self, x):
        return nn.functional.linear((x @ self.first + self.shift).tanh(), self.second)


class TestLayouts:
    """No layer says how a bare square matrix is used."""

    def test_it_is_an_ambiguity(self, rng):
        mapping = weight_bridge.match(random_variables(FlaxRaw(), SEQUENCE, rng), Raw())
        assert {row.layout for row in mapping.ambiguous} == {('same', 'matrix')}

    def test_running_decides(self, rng):
        variables, x, port = random_variables(FlaxRaw(), SEQUENCE, rng), rng.normal(size=SEQUENCE), Raw()
        mapping = weight_bridge.match(variables, port, **runs(FlaxRaw(), x))
        found = {row.flax: (row.torch, row.layout) for row in mapping.rows}
        assert found == {
            'Dense_0/kernel': ('first', 'same'),
            'Dense_0/bias': ('shift', 'same'),
            'Dense_1/kernel': ('second', 'matrix'),
        }
        weight_bridge.to_torch(variables, port, mapping=mapping)
        np.testing.assert_allclose(*outputs(FlaxRaw(), variables, port, x), rtol=0, atol=1e-12)

    def test_a_shape_decides(self, rng):
        variables = random_variables(fnn.Dense(3, use_bias=False), SEQUENCE, rng)
        for shape, layout in {(3, F): 'matrix', (F, 3): 'same'}.items():
            port = nn.ParameterDict({'w': torch.zeros(shape)})
            (row,) = weight_bridge.match(variables, port).rows
            assert (row.torch, row.layout) == ('w', layout)


class TestStacks:
    def test_a_scanned_tree_is_a_list_in_the_port(self, rng):
        class Step(FlaxBlock):
            @fnn.compact
            def __call__(self, x, _):
                return FlaxBlock(name='inner')(x), None

        scan = fnn.scan(Step, variable_axes={'params': 0}, split_rngs={'params': True}, length=3)

        class Scanned(fnn.Module):
            @fnn.compact
            def __call__(self, x):
                return fnn.Dense(3, name='head')(scan(name='layers')(x, None)[0])

        class Port(nn.Module):
            def __init__(self):
                super().__init__()
                self.h, self.lm_head = nn.ModuleList(Block() for _ in range(3)), nn.Linear(F, 3)

            def forward(self, x):
                for block in self.h:
                    x = block(x)
                return self.lm_head(x)

        variables, x, port = random_variables(Scanned(), SEQUENCE, rng), rng.normal(size=SEQUENCE), Port()
        mapping = weight_bridge.match(variables, port)
        assert not mapping.ambiguous
        mapping = Mapping.from_toml(mapping.to_toml())
        weight_bridge.to_torch(variables, port, mapping=mapping)
        np.testing.assert_allclose(*outputs(Scanned(), variables, port, x), rtol=0, atol=1e-11)
        assert bits(weight_bridge.to_flax(port, form='variables', mapping=mapping)) == bits(variables)

    @pytest.mark.parametrize('cell', ['LSTM', 'GRU'])
    def test_gates_and_zeros_are_rows(self, cell, rng):
        flax = {'LSTM': fnn.LSTMCell, 'GRU': fnn.GRUCell}[cell]
        reference = fnn.RNN(flax(6, param_dtype=np.float64), name='encoder')
        variables, x = random_variables(reference, SEQUENCE, rng), rng.normal(size=SEQUENCE)
        port = nn.ModuleDict({'rnn': getattr(nn, cell)(F, 6, batch_first=True)})
        mapping = Mapping.from_toml(weight_bridge.match(variables, port).to_toml())
        weight_bridge.to_torch(variables, port, mapping=mapping)
        expected = np.asarray(reference.apply(variables, x))
        found = port['rnn'](torch.from_numpy(x))[0].detach().numpy()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
        assert bits(weight_bridge.to_flax(port, form='variables', mapping=mapping)) == bits(variables)
        assert len([row for row in mapping.rows if row.flax is None]) == {'LSTM': 1, 'GRU': 2}[cell]


class TestStrictness:
    """A table is used as it is written, or refused with all that is wrong with it."""

    @pytest.fixture
    def variables(self, rng):
        return random_variables(FlaxGates(), SEQUENCE, rng)['params']

    ROWS = (
        '{flax = "left/kernel", torch = "plain.weight", layout = "matrix"}',
        '{flax = "left/bias", torch = "plain.bias"}',
        '{flax = "right/kernel", torch = "squashed.weight", layout = "matrix"}',
        '{flax = "right/bias", torch = "squashed.bias"}',
    )

    def used(self, variables, *rows):
        port = Gates()
        before = {key: value.clone() for key, value in port.state_dict().items()}
        with pytest.raises(BridgeError) as error:
            weight_bridge.to_torch(variables, port, mapping=Mapping.from_toml(f'rows = [{", ".join(rows)}]'))
        assert all(torch.equal(value, before[key]) for key, value in port.state_dict().items())
        return [str(problem) for problem in error.value.problems]

    def test_the_rows_fit(self, variables):
        weight_bridge.to_torch(
            variables, Gates(), mapping=Mapping.from_toml(f'rows = [{", ".join(self.ROWS)}]')
        )

    def test_all_rows_that_do_not_fit_are_listed(self, variables):
        wrong = (
            '{flax = "middle/bias", torch = "plain.bias"}',
            '{flax = "right/bias", torch = "squashed.gain"}',
        )
        assert self.used(variables, *self.ROWS[:1], *wrong) == [
            'mapping: right/bias: expected a parameter of the module, found squashed.gain',
            'mapping: squashed.weight: expected a row, found none',
            'mapping: squashed.bias: expected a row, found none',
            'missing path: middle/bias: expected a leaf of the tree, found nothing (torch: plain.bias)',
            'unexpected path: left/bias: expected a row, found f64[8]',
            'unexpected path: right/kernel: expected a row, found f64[8,8]',
        ]

    def test_a_parameter_is_used_once(self, variables):
        (problem,) = self.used(variables, *self.ROWS, '{flax = "left/bias", torch = "squashed.bias"}')[:1]
        assert 'rows that cut axis -1 without gap or overlap, not right/bias all of it' in problem

    def test_a_leaf_is_used_once(self, variables):
        rows = (*self.ROWS[:3], '{flax = "left/bias", torch = "squashed.bias"}')
        problem = 'rule: left/bias: expected one parameter, found squashed.bias, plain.bias'
        assert problem in self.used(variables, *rows)[0]

    def test_a_wrong_layout_is_a_misfit(self, variables):
        rows = ('{flax = "left/kernel", torch = "plain.weight", layout = "filter"}', *self.ROWS[1:])
        assert 'mapping: plain.weight: expected 3 axes or more, found shape (8, 8)' in self.used(
            variables, *rows
        )

    @pytest.mark.parametrize(
        ('text', 'found'),
        [
            ('rows = [', 'expected TOML'),
            ('', 'one key, rows'),
            ('rows = []', 'one key, rows'),
            ('rows = [1, {torch = "a"}, {flax = "b"}]', 'row 1: expected a table, found int'),
            ('rows = [{flax = "a", torch = ""}]', "found torch = ''"),
            ('rows = [{flax = "a", torch = "b", layout = "swapped"}]', "found layout = 'swapped'"),
            ('rows = [{flax = "a", torch = "b", rows = [3, 3]}]', 'found rows = [3, 3]'),
            ('rows = [{flax = "a", torch = "b", index = [-1]}]', 'found index = [-1]'),
            ('rows = [{flax = "a", torch = "b", transpose = true}]', 'found transpose = True'),
        ],
    )
    def test_a_text_that_is_no_table(self, text, found):
        with pytest.raises(BridgeError) as error:
            Mapping.from_toml(text)
        assert found in str(error.value)

    def test_strings_are_escaped(self):
        name = 'quote " backslash \\ tab \t delete \x7f umlaut ü'
        mapping = Mapping((weight_bridge.table.Row(name, name, by=name),))
        assert Mapping.from_toml(mapping.to_toml()) == mapping

    @given(st.text() | st.text('rows=[]{},"abtorchflx0123\n .').map('rows = [{}]'.format))
    @settings(deadline=None, max_examples=100)
    def test_any_text_is_a_table_or_refused(self, text):
        try:
            mapping = Mapping.from_toml(text)
        except BridgeError:
            return
        assert Mapping.from_toml(mapping.to_toml()) == mapping

    @pytest.mark.parametrize(
        'text', ['rows = ' + '[' * 100_000, 'rows = [{torch = "plain.bias", index = [999999999]}]']
    )
    def test_a_hostile_table_is_refused(self, text, variables):
        with pytest.raises(BridgeError):
            weight_bridge.to_torch(variables, Gates(), mapping=Mapping.from_toml(text))

    def test_an_index_far_away_is_refused_before_memory_is_asked_for(self, variables):
        row = '{flax = "left/bias", torch = "plain.bias", index = [999999999999]}'
        assert (
            'one parameter for each of 1000000000000 members' in self.used(variables, row, *self.ROWS[2:])[1]
        )

    def test_a_fused_projection_is_cut_by_rows(self, rng):
        class Fused(nn.Module):
            def __init__(self):
                super().__init__()
                self.c_attn, self.c_proj = nn.Linear(F, 3 * F), nn.Linear(F, F)

            def forward(self, x):
                heads = (
                    part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in self.c_attn(x).chunk(3, -1)
                )
                attended = nn.functional.scaled_dot_product_attention(*heads)
                return self.c_proj(attended.transpose(1, 2).flatten(-2))

        size = F // HEADS
        rows = [
            row
            for place, name in enumerate(('query', 'key', 'value'))
            for row in (
                f'{{flax = "{name}/kernel", torch = "c_attn.weight", layout = "matrix", '
                f'rows = [{place * F}, {place * F + F}], shape = [{F}, {HEADS}, {size}]}}',
                f'{{flax = "{name}/bias", torch = "c_attn.bias", rows = [{place * F}, {place * F + F}], '
                f'shape = [{HEADS}, {size}]}}',
            )
        ]
        rows += [
            '{flax = "out/kernel", torch = "c_proj.weight", layout = "matrix", '
            f'shape = [{HEADS}, {size}, {F}]}}',
            '{flax = "out/bias", torch = "c_proj.bias"}',
        ]
        mapping = Mapping.from_toml(f'rows = [{", ".join(rows)}]')
        reference = fnn.MultiHeadDotProductAttention(HEADS)
        variables, x, port = random_variables(reference, SEQUENCE, rng), rng.normal(size=SEQUENCE), Fused()
        weight_bridge.to_torch(variables, port, mapping=mapping)
        np.testing.assert_allclose(*outputs(reference, variables, port, x), rtol=0, atol=1e-12)
        assert bits(weight_bridge.to_flax(port, form='variables', mapping=mapping)) == bits(variables)
        gap = Mapping.from_toml(f'rows = [{", ".join(rows).replace("rows = [0, 8]", "rows = [1, 8]")}]')
        with pytest.raises(BridgeError, match='rows that cut axis -2 without gap or overlap'):
            weight_bridge.to_torch(variables, port, mapping=gap)

    def test_what_has_no_counterpart_is_listed(self, variables):
        port = nn.Sequential(nn.Linear(F, F), nn.Linear(F, 3))
        with pytest.raises(BridgeError, match='have no counterpart') as error:
            weight_bridge.match(variables, port)
        assert {problem.kind for problem in error.value.problems} == {'missing path', 'unexpected path'}


names = st.lists(
    st.text('abcdefghijklmnopqrstuvwxyz', min_size=1, max_size=5), min_size=12, max_size=12, unique=True
)


class FlaxDeep(fnn.Module):
    @fnn.compact
    def __call__(self, x):
        for _ in range(6):
            x = fnn.LayerNorm()(fnn.tanh(fnn.Dense(F)(x)))
        return x


@given(names)
@settings(deadline=None, max_examples=25)
def test_modules_renamed_at_random_are_paired_in_order(names):
    """Eleven of twelve layers have a twin of the same shape; their order in both is all there is."""
    rng = np.random.default_rng(0)
    tree = {
        f'{layer}_{index}': {'bias': rng.normal(size=F), leaf: rng.normal(size=size)}
        for layer, leaf, size in (('Dense', 'kernel', (F, F)), ('LayerNorm', 'scale', (F,)))
        for index in range(6)
    }
    layers = [layer for _ in range(6) for layer in (nn.Linear(F, F), nn.LayerNorm(F))]
    module = nn.ModuleDict(dict(zip((f'm{name}' for name in names), layers, strict=True)))
    mapping = weight_bridge.match(tree, module)
    assert not mapping.ambiguous
    weight_bridge.to_torch(tree, module, mapping=mapping)
    for index in range(6):
        dense, norm = layers[2 * index : 2 * index + 2]
        np.testing.assert_array_equal(dense.weight.detach().numpy().T, tree[f'Dense_{index}']['kernel'])
        np.testing.assert_array_equal(norm.bias.detach().numpy(), tree[f'LayerNorm_{index}']['bias'])


def test_twin_layers_in_another_order_are_paired_wrongly_and_running_says_so(rng):
    class Shuffled(nn.Module):
        """Defined in another order than it is used: no name tells."""

        def __init__(self):
            super().__init__()
            self.last, self.then, self.start = nn.Linear(F, F), nn.Linear(F, F), nn.Linear(F, F)

        def forward(self, x):
            return self.last(self.then(self.start(x).tanh()).tanh())

    class Three(fnn.Module):
        @fnn.compact
        def __call__(self, x):
            for _ in range(2):
                x = fnn.tanh(fnn.Dense(F)(x))
            return fnn.Dense(F)(x)

    variables, x = random_variables(Three(), SEQUENCE, rng), rng.normal(size=SEQUENCE)
    by_order = weight_bridge.match(variables, Shuffled())
    by_running = weight_bridge.match(variables, Shuffled(), **runs(Three(), x))
    assert [row.torch for row in by_order.rows if 'kernel' in row.flax] == [
        'last.weight',
        'then.weight',
        'start.weight',
    ]
    found = {row.flax: row.torch for row in by_running.rows}
    assert [found[f'Dense_{index}/kernel'] for index in range(3)] == [
        'start.weight',
        'then.weight',
        'last.weight',
    ]
