"""What one side is asked for, on a side of numpy whose states and calls are known."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from parity import stages
from parity.cases import Inputs, key_of
from parity.comparison import compare
from parity.pair import Pair
from parity.sides import LITERALS, LossCall, Networks, State, UpdateCall
from parity.stages import LOSSES, REACH, Runner, config_leaves
from parity.tolerances import EXACT
from parity.trees import Arrays

PATH = 'modules_critic/Dense_0/kernel'
STEPS = [
    'step0 pretrain',
    'step1 pretrain',
    'step2 target_reset',
    'step3 finetune',
    'step4 finetune_partial',
    'step5 finetune_partial',
    'step6 finetune',
]


class Side:
    """Each update doubles the one parameter and adds 1, and `bias` where the port is wrong."""

    def __init__(self, dtype: str = 'float64', bias: float = 0.0) -> None:
        self.dtype, self.bias = dtype, bias
        self.weight = np.array([7.0], dtype)
        self.count = np.array(0, np.int32)
        self.log: list[str] = []
        self.restored: list[np.ndarray] = []
        self.seen: list[Any] = []
        self.sizes: dict[str, float] = {}

    def state(self) -> State:
        leaves = {PATH: self.weight.copy()}
        return State(leaves, leaves, leaves, {PATH: self.count.copy()}, key_of(1))

    def restore(self, state: State) -> None:
        self.restored.append(state.params[PATH])
        self.weight, self.count = state.params[PATH].copy(), state.opt_count[PATH].copy()

    def forward(self, networks: Networks, arrays: Arrays) -> Arrays:
        self.log.append('forward')
        self.seen.append((networks, arrays))
        return {
            name: self.weight * sum(arrays[word].sum() for word in words if word in arrays)
            for name, words in networks
        }

    def losses(self, calls: tuple[LossCall, ...], batch: Arrays, key: np.ndarray) -> tuple[Arrays, Arrays]:
        self.log.append('losses')
        self.seen.append(key)
        values = {f'{call.name}/loss': self.weight**2 for call in calls}
        return values, {f'{call.name}/{PATH}': 2 * self.weight for call in calls if not call.frozen}

    def reach(self, calls: tuple[LossCall, ...], batch: Arrays, key: np.ndarray) -> Arrays:
        self.log.append(f'reach {" ".join(call.name for call in calls)}')
        return {path: np.array(size) for path, size in self.sizes.items()}

    def update(self, call: UpdateCall, batch: Arrays) -> Arrays:
        self.log.append(call.name)
        self.weight = self.weight * 2 + 1 + self.bias
        self.count = self.count + 1
        return {'weight': self.weight.copy()}

    def counted(self) -> int:
        return int(self.count)

    def actions(
        self, observations: np.ndarray, latents: np.ndarray | None, key: np.ndarray, temperature: float | None
    ) -> np.ndarray:
        self.seen.append((observations.shape, None if latents is None else latents.shape, temperature))
        return observations * (2.0 if temperature is None else temperature)


def inputs(batch: Arrays | None = None) -> Inputs:
    batch = batch or {'observations': np.ones((3, 2), np.float32), 'actions': np.ones((3, 1), np.float32)}
    leaves = {PATH: np.array([1.0], np.float32)}
    state = State(leaves, leaves, leaves, {PATH: np.array(0, np.int32)}, key_of(2))
    return Inputs(0, {}, batch, {'latents': np.ones((3, 4), np.float32)}, key_of(0), state)


@pytest.fixture
def runner(toy: Pair) -> Callable[..., Runner]:
    def make(side: Side | None = None, **options: Any) -> Runner:
        return Runner(side or Side(), options.pop('pair', toy), options.pop('inputs', inputs()), **options)

    return make


Make = Callable[..., Runner]


def weights(leaves: Arrays) -> list[float]:
    return [float(leaf[0]) for path, leaf in leaves.items() if path.endswith(f'/params/{PATH}')]


# --- the script of updates


def test_the_script(runner: Make) -> None:
    made = runner()
    leaves = made.stage('update')
    assert made.side.log == [step.split()[1] for step in STEPS]
    assert list(dict.fromkeys(path.split('/')[0] for path in leaves)) == STEPS


def test_the_script_has_what_hides_bugs_elsewhere() -> None:
    names = [call.name for call in stages.SCRIPT]
    assert len(names) >= 5
    assert names.index('target_reset') > names.index('pretrain')
    assert 'finetune' in names[names.index('finetune_partial') :]  # full again after a skipped actor step


def test_methods_that_the_reference_lacks_are_left_out(toy: Pair, runner: Make) -> None:
    agent = type('Agent', (), {'pretrain': None})
    made = runner(pair=Pair('own', agent, agent, batch=toy.batch))
    made.stage('update')
    assert made.side.log == ['pretrain', 'pretrain']


def test_every_step_has_its_info_and_all_of_the_state(runner: Make) -> None:
    leaves = runner().stage('update')
    assert [path for path in leaves if path.startswith('step4')] == [
        'step4 finetune_partial/info/weight',
        'step4 finetune_partial/counted',
        f'step4 finetune_partial/params/{PATH}',
        f'step4 finetune_partial/opt_mu/{PATH}',
        f'step4 finetune_partial/opt_nu/{PATH}',
        f'step4 finetune_partial/opt_count/{PATH}',
        'step4 finetune_partial/key',
    ]


FREE = [3, 7, 15, 31, 63, 127, 255]


def test_without_a_leader_the_steps_follow_each_other(runner: Make) -> None:
    assert weights(runner().stage('update')) == FREE


def test_with_a_leader_each_step_starts_at_the_leaders_state(runner: Make) -> None:
    leader = runner()
    port = runner(Side(bias=0.5), leader=leader)
    assert weights(port.stage('update')) == [value + 0.5 for value in FREE]
    assert [float(state.params[PATH][0]) for state in leader.states] == [1, *FREE[:-1]]


def test_twin_in_the_rollout_the_differences_grow(runner: Make) -> None:
    port = runner(Side(bias=0.5), leader=runner())
    errors = np.array(weights(port.stage('rollout'))) - FREE
    assert errors.tolist() == [0.5 * (2**i - 1) for i in range(1, 8)]


def test_the_leaders_states_arrive_in_the_followers_precision(runner: Make) -> None:
    wide = Side('float64')
    runner(wide, leader=runner(Side('float32'))).stage('update')
    assert {array.dtype.name for array in wide.restored} == {'float64'}


@pytest.mark.parametrize('order', [['update', 'rollout'], ['rollout', 'update'], ['rollout']])
def test_rollout_and_update_of_a_leader_agree(order: list[str], runner: Make) -> None:
    leader = runner()
    for name in order:
        leader.stage(name)
    assert weights(leader.stage('rollout')) == FREE
    follower = runner(leader=leader)
    assert weights(follower.stage('update')) == FREE
    assert len(leader.states) == len(STEPS)


# --- where stages start


@pytest.mark.parametrize('first', ['update', 'rollout', 'actions', 'loss', 'grads'])
def test_every_stage_starts_at_the_given_state(first: str, runner: Make) -> None:
    alone, after = runner(), runner()
    after.stage(first)
    for name in ('forward', 'loss', 'update', 'rollout'):
        one, two = alone.stage(name), after.stage(name)
        assert all(leaf.matches for leaf in compare(one, two, one, dict.fromkeys(one, EXACT)))


def test_the_state_is_given_in_the_sides_precision(runner: Make) -> None:
    for dtype in ('float32', 'float64'):
        side = Side(dtype)
        runner(side).stage('forward')
        assert [array.dtype.name for array in side.restored] == [dtype]


def test_the_move_is_applied_before_every_restore(runner: Make) -> None:
    def move(state: State) -> State:
        return State({PATH: state.params[PATH] + 10}, *list(vars(state).values())[1:])

    side = Side()
    runner(side, leader=runner(), move=move).stage('update')
    assert [float(array[0]) for array in side.restored] == [11, 11, *(value + 10 for value in FREE[:-1])]


def test_initial_values_are_those_of_creation(runner: Make) -> None:
    made = runner()
    made.stage('update')
    leaves = made.stage('params')
    assert list(leaves) == [PATH, 'key']
    assert leaves[PATH].tolist() == [7]
    assert leaves['key'].tolist() == key_of(1).tolist()


def test_each_stage_is_computed_once(runner: Make) -> None:
    made = runner()
    for name in ('loss', 'grads', 'forward', 'grads', 'loss', 'forward'):
        made.stage(name)
    assert made.side.log == ['losses', 'forward']


# --- what goes in


def test_networks_get_their_inputs_by_name(runner: Make) -> None:
    side = Side('float64')
    runner(side).stage('forward')
    ((networks, arrays),) = side.seen
    shapes = {name: [arrays[word].shape for word in words] for name, words in networks}
    assert shapes == {'critic': [(3, 2), (3, 1)], 'actor': [(3, 4)]}
    assert {array.dtype.name for array in arrays.values()} == {'float64'}


def test_none_true_and_false_stand_for_themselves(runner: Make) -> None:
    side = Side('float64')
    made = runner(side)
    made.pair = dataclasses.replace(made.pair, forward={'critic': 'observations None True'})
    made.stage('forward')
    ((networks, arrays),) = side.seen
    assert networks == (('critic', ('observations', 'None', 'True')),)
    assert list(arrays) == ['observations']
    assert LITERALS == {'None': None, 'True': True, 'False': False}


def test_losses_are_full_partial_and_frozen_with_the_given_key(runner: Make) -> None:
    made = runner()
    assert list(made.stage('loss')) == [f'{call.name}/loss' for call in LOSSES]
    assert [path.split('/')[0] for path in made.stage('grads')] == [
        'pretraining',
        'finetuning_full',
        'finetuning_partial',
    ]
    assert made.side.seen[0].tolist() == key_of(0).tolist()


@pytest.mark.parametrize('latents', [False, True])
def test_actions_of_a_batch_and_of_one_at_each_temperature(latents: bool, runner: Make) -> None:
    batch = {'observations': np.arange(6, dtype=np.float32).reshape(3, 2)}
    batch |= {'latents': np.ones((3, 4), np.float32)} if latents else {}
    made = runner(inputs=inputs(batch))
    leaves = made.stage('actions')
    assert {path: leaf.shape for path, leaf in leaves.items()} == {
        'batch/default temperature': (3, 2),
        **{
            f'{what}/temperature {temperature}': shape
            for temperature in (0.0, 0.7, 1.0)
            for what, shape in (('batch', (3, 2)), ('single', (2,)))
        },
    }
    assert made.side.seen[:3] == [
        ((3, 2), (3, 4) if latents else None, None),
        ((3, 2), (3, 4) if latents else None, 0.0),
        ((2,), (4,) if latents else None, 0.0),
    ]


# --- reach


def arrives(sizes: dict[str, float], runner: Make) -> dict[str, bool]:
    side = Side()
    side.sizes = sizes
    return {path: bool(leaf) for path, leaf in runner(side).reach().items()}


@pytest.mark.parametrize(
    ('size', 'arrived'), [(0.0, False), (REACH, False), (REACH * 1.001, True), (1.0, True), (2.0, True)]
)
def test_a_term_reaches_what_gets_more_than_rounding(size: float, arrived: bool, runner: Make) -> None:
    found = arrives({'pretraining/actor_loss/actor': 1.0, 'pretraining/actor_loss/critic': size}, runner)
    assert found == {
        'reach/pretraining/actor_loss/actor': True,
        'reach/pretraining/actor_loss/critic': arrived,
    }


def test_reach_lies_between_rounding_and_any_real_gradient() -> None:
    assert 10 * np.finfo(np.float64).eps < REACH < 1e-11


def test_each_loss_has_its_own_scale(runner: Make) -> None:
    sizes = {'a/x_loss/n': 1e9, 'a/y_loss/n': 1e-3, 'b/x_loss/n': 1e-20, 'a/z_loss/n': 0.0, 'a/z_loss/m': 0.0}
    assert list(arrives(sizes, runner).values()) == [True, True, True, False, False]


def test_what_a_saturated_tanh_lets_through_is_rounding(runner: Make) -> None:
    assert list(arrives({'a/x_loss/n': 1e8, 'a/y_loss/n': 1e-13}, runner).values()) == [True, False]


@pytest.mark.parametrize('size', [np.inf, np.nan])
def test_a_gradient_that_is_not_finite_arrives(size: float, runner: Make) -> None:
    assert arrives({'a/x_loss/n': size, 'a/x_loss/m': 1.0}, runner)['reach/a/x_loss/n']


def test_reach_asks_for_trained_losses_from_the_given_state(runner: Make) -> None:
    made = runner()
    made.stage('update')
    made.reach()
    assert made.side.log[-1] == 'reach pretraining finetuning_full finetuning_partial'
    assert made.side.restored[-1].tolist() == [1]


# --- configurations


def differing(reference: dict[str, Any], port: dict[str, Any]) -> dict[str, str]:
    leaves = config_leaves(reference)
    results = compare(leaves, config_leaves(port), leaves, dict.fromkeys(leaves, EXACT))
    return {leaf.path: str(leaf.kind) for leaf in results if not leaf.matches}


@pytest.mark.parametrize(
    'value', [1, 0.5, True, 'awr', None, (512, 512), (), float('inf'), float('nan'), {'a': (1,)}], ids=repr
)
def test_equal_configurations_match(value: object) -> None:
    assert differing({'a': value}, {'a': value}) == {}


def test_lists_and_tuples_are_the_same() -> None:
    assert differing({'a': [1, 2]}, {'a': (1, 2)}) == {}


@pytest.mark.parametrize(
    ('reference', 'port'),
    [(1, 2), (1, True), ('awr', 'ddpgbc'), (None, 'None'), ((512,), (512, 512)), (0.1, 0.1 + 2**-56)],
    ids=repr,
)
def test_twin_another_value_is_a_mismatch_of_value(reference: object, port: object) -> None:
    assert differing({'a': reference, 'b': 1}, {'a': port, 'b': 1}) == {'a': 'value'}


def test_a_mismatch_of_configurations_shows_both_values() -> None:
    reference, port = config_leaves({'a': 'awr'}), config_leaves({'a': (512, 512)})
    (leaf,) = compare(reference, port, reference, {'a': EXACT})
    assert "'awr'" in leaf.reference
    assert '(512, 512)' in leaf.port


def test_keys_of_one_side_only() -> None:
    assert differing({'a': 1, 'b': 2}, {'a': 1, 'c': 2}) == {'b': 'missing path', 'c': 'unexpected path'}
