"""What does not fit is refused: all of it in one error, and the module stays as it was."""

import pickle

import numpy as np
import pytest
import torch
from torch import nn

import weight_bridge
from weight_bridge import BridgeError
from weight_bridge.paths import flatten, unflatten


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.Dense_0, self.LayerNorm_0, self.Dense_1 = nn.Linear(2, 3), nn.LayerNorm(3), nn.Linear(3, 1)
        self.log_stds = nn.Parameter(torch.zeros(1))


class Declared(nn.Module):
    def __init__(self, rule, *shape):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape))
        type(self).flax_rule = rule


@pytest.fixture
def module():
    return Net().float()


@pytest.fixture
def tree(module):
    return weight_bridge.to_flax(module)


def refusal(params, module):
    """The error of `to_torch`, which must leave the module's bits and its Parameter objects alone."""
    before = {name: (parameter, parameter.detach().clone()) for name, parameter in module.named_parameters()}
    with pytest.raises(BridgeError) as error:
        weight_bridge.to_torch(params, module)
    assert dict(module.named_parameters()).keys() == before.keys()
    for name, parameter in module.named_parameters():
        assert parameter is before[name][0]
        assert torch.equal(parameter, before[name][1])
    return error.value


def test_the_tree_fits_as_it_is(module, tree):
    doubled = unflatten({path: leaf * 2 for path, leaf in flatten(tree).items()})
    held = list(module.parameters())
    assert weight_bridge.to_torch(doubled, module) is module
    assert all(a is b for a, b in zip(held, module.parameters(), strict=True))
    np.testing.assert_array_equal(module.Dense_0.weight.detach().numpy().T, doubled['Dense_0']['kernel'])


def test_all_problems_are_listed_at_once(module, tree):
    tree['Dense_0'] = {
        'kernel': np.ones((3, 2), np.float32),
        'bias': np.full(3, 0.1),
        'gain': np.ones(3, np.float16),
    }
    tree['LayerNorm_0'] = {'scale': np.ones(3, np.int32), 'bias': [0.0, 0.0, 0.0]}
    del tree['Dense_1']['bias']
    assert str(refusal(tree, module)).split('\n') == [
        'to_torch: 6 of 8 paths do not fit Net; nothing was copied',
        '  shape: Dense_0/kernel: expected f32[2,3], found f32[3,2] (torch: Dense_0.weight)',
        '  value: Dense_0/bias: expected f32[3], found f64[3] with 3 of 3 values that float32 cannot hold '
        '(torch: Dense_0.bias)',
        '  dtype: LayerNorm_0/scale: expected f32[3], found i32[3] (torch: LayerNorm_0.weight)',
        '  dtype: LayerNorm_0/bias: expected f32[3], found no array but list (torch: LayerNorm_0.bias)',
        '  missing path: Dense_1/bias: expected f32[1], found nothing (torch: Dense_1.bias)',
        '  unexpected path: Dense_0/gain: expected nothing, found f16[3]',
        '  next: compare the paths with those of weight_bridge.to_flax(module); a layer class of your own '
        "names its rule with a class attribute, e.g. flax_rule = 'Dense'",
        '  next: give the module the parameters that it lacks, or pass only its part of the tree',
        '  next: create both sides from the same configuration and the same example inputs',
        '  next: cast the leaf on the side that made it; the bridge turns no kind of number into another',
        '  next: create the module with dtype=torch.float64; the bridge rounds nothing',
    ]


def test_the_error_is_data_too_and_can_be_pickled(module, tree):
    del tree['log_stds']
    error = refusal(tree, module)
    assert [(p.kind, p.path, p.expected, p.found) for p in error.problems] == [
        ('missing path', 'log_stds', 'f32[1]', 'nothing')
    ]
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert isinstance(error, ValueError)


@pytest.mark.parametrize('kind', ['bool', 'int64', 'uint8', 'complex64', 'U1', 'O'])
def test_another_kind_of_number_is_refused(kind, module, tree):
    tree['log_stds'] = np.zeros(1, kind)
    assert [problem.kind for problem in refusal(tree, module).problems] == ['dtype']


@pytest.mark.parametrize('leaf', [None, 0.0, [0.0], (0.0,), torch.zeros(1), np.zeros], ids=str)
def test_a_leaf_is_an_array(leaf, module, tree):
    tree['log_stds'] = leaf
    (problem,) = refusal(tree, module).problems
    assert (problem.kind, problem.found) == ('dtype', f'no array but {type(leaf).__name__}')


@pytest.mark.parametrize('shape', [(), (1, 1), (2,), (0,)])
def test_no_shape_is_broadcast(shape, module, tree):
    tree['log_stds'] = np.zeros(shape, np.float32)
    assert [problem.kind for problem in refusal(tree, module).problems] == ['shape']


def test_a_collection_that_the_module_lacks_is_unexpected(module, tree):
    error = refusal(
        {'params': tree, 'batch_stats': {'mean': np.zeros(1)}, 'cache': {'i': np.zeros(1)}}, module
    )
    assert [str(problem) for problem in error.problems] == [
        'unexpected path: batch_stats/mean: expected nothing, found f64[1]',
        'unexpected path: cache/i: expected nothing, found f64[1]',
    ]
    assert weight_bridge.to_torch({'params': tree}, module) is module


def test_a_module_may_be_called_params():
    module = nn.ModuleDict({'params': nn.Linear(1, 1)})
    weight_bridge.to_torch(weight_bridge.to_flax(module), module)


@pytest.mark.parametrize('key', ['', 'a/b', -3, True, ('a',)], ids=repr)
def test_keys_must_be_names(key, module, tree):
    tree['Dense_0'][key] = np.zeros(1)
    assert repr(('Dense_0', key)) in str(refusal(tree, module))


@pytest.mark.parametrize('no_tree', [None, [np.zeros(1)], np.zeros(1)], ids=['None', 'list', 'array'])
def test_a_tree_is_a_mapping(no_tree, module):
    assert 'expected a nested dict' in str(refusal(no_tree, module))


@pytest.mark.parametrize('empty', [{}, {'Dense_0': {}}])
def test_a_tree_without_leaves_lacks_every_path(empty, module):
    assert {problem.kind for problem in refusal(empty, module).problems} == {'missing path'}
    assert len(refusal(empty, module).problems) == 7


@pytest.mark.parametrize('bridge', [weight_bridge.to_flax, weight_bridge.grads_to_flax])
def test_a_module_without_parameters_is_refused(bridge):
    with pytest.raises(BridgeError, match='expected at least one parameter, found none'):
        bridge(nn.ReLU())
    assert 'found none' in str(refusal({}, nn.ReLU()))


def test_an_empty_subtree_holds_no_leaf(module, tree):
    weight_bridge.to_torch({**tree, 'gelu': {}}, module)


def test_buffers_are_no_parameters(module, tree):
    module.register_buffer('mean', torch.ones(2))
    assert weight_bridge.to_flax(module).keys() == tree.keys()
    assert [p.path for p in refusal({**tree, 'mean': np.ones(2, np.float32)}, module).problems] == ['mean']


class TestModules:
    """What a module must not have, whatever the tree."""

    def test_layers_of_torch_without_a_row_are_not_guessed(self):
        error = refusal(
            {}, nn.ModuleDict({'both': nn.Bilinear(1, 2, 3), 'unit': nn.MultiheadAttention(2, 1)})
        )
        assert [(problem.kind, problem.path, problem.found) for problem in error.problems] == [
            ('rule', 'both.weight', 'torch.nn.Bilinear'),
            ('rule', 'both.bias', 'torch.nn.Bilinear'),
        ]

    def test_containers_of_bare_parameters_are_bare(self):
        module = nn.ParameterDict({'value': torch.ones(2, 3)})
        assert weight_bridge.to_flax(module)['value'].shape == (2, 3)

    def test_a_declared_rule_must_be_a_row(self):
        assert "flax_rule = 'Dence'" in str(refusal({}, Declared('Dence', 2, 2)))

    @pytest.mark.parametrize(('rule', 'shape'), [('Dense', (2,)), ('Conv', (2, 2))])
    def test_a_declared_rule_needs_its_axes(self, rule, shape):
        assert f'axes or more, found shape {shape}' in str(refusal({}, Declared(rule, *shape)))

    def test_a_declared_rule_comes_before_the_class(self):
        class Rows(nn.Linear):
            flax_rule = 'Embed'

        assert weight_bridge.to_flax(Rows(2, 3))['embedding'].shape == (3, 2)

    def test_two_parameters_cannot_be_one_leaf(self):
        module = nn.Linear(2, 2)
        module.kernel = nn.Parameter(torch.ones(1))
        assert 'rule: kernel: expected one parameter, found weight, kernel' in str(refusal({}, module))

    def test_a_name_cannot_look_like_a_path(self):
        module = nn.Module()
        module.register_parameter('a/b', nn.Parameter(torch.ones(1)))
        assert "a name without '/'" in str(refusal({}, module))

    def test_a_path_cannot_be_a_leaf_and_a_subtree(self):
        module = nn.Linear(2, 2, bias=False)
        module.kernel = nn.Linear(2, 2, bias=False)
        with pytest.raises(BridgeError, match='rule: kernel: expected a leaf, found a leaf and a subtree'):
            weight_bridge.to_flax(module)

    def test_memory_that_two_parameters_share_is_refused(self):
        module = nn.ModuleDict({'critic': nn.Linear(2, 2), 'target': nn.Linear(2, 2)})
        tree = weight_bridge.to_flax(module)
        module['target'].bias.data = module['critic'].bias.data
        assert 'memory: target.bias: expected memory of its own, found that of critic.bias' in str(
            refusal(tree, module)
        )

    @pytest.mark.parametrize('make', [lambda: nn.LazyLinear(2), lambda: nn.Linear(2, 2, device='meta')])
    def test_parameters_without_values_are_refused(self, make):
        with pytest.raises(BridgeError, match='expected a parameter with values'):
            weight_bridge.to_torch({}, make())

    def test_a_tied_parameter_is_one_leaf_under_its_first_name(self):
        module = nn.ModuleDict({'embed': nn.Embedding(3, 2), 'head': nn.Linear(2, 3, bias=False)})
        untied = weight_bridge.to_flax(module)
        module['head'].weight = module['embed'].weight
        tied = weight_bridge.to_flax(module)
        assert list(tied) == ['embed']
        weight_bridge.to_torch(tied, module)
        (problem,) = refusal(untied, module).problems
        assert str(problem) == (
            'unexpected path: head/kernel: expected nothing, found f64[2,3] '
            '(in the module it is tied to embed/embedding)'
        )
