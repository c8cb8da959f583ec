"""What the original code saves crosses to the port and back: parameters, Adam state, key and step."""

import json
import pickle

import flax.serialization
import jax
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import reference_jax
import torch_agents
from parity.bridge import bridge
from parity.cases import DEFAULT_SIZES
from parity.cli import app
from parity.errors import ParityError
from parity.pair import find
from reference_jax.checkpoints import state_dict
from weight_bridge import BridgeError
from weight_bridge.paths import flatten

OBSERVATIONS, ACTIONS = np.zeros((4, 6), np.float32), np.zeros((4, 3), np.float32)
# of the sizes that other tests have compiled
COMPILED = np.zeros((16, 17), np.float32), np.zeros((16, 6), np.float32)


def config_of(pair):
    return {**pair.sizes, **{key: DEFAULT_SIZES[letter] for key, letter in pair.sizes_from.items()}}


def trained(pair, rng, made=(OBSERVATIONS, ACTIONS)):
    """A reference in the middle of its training: every leaf of its state has a value of its own."""
    agent = pair.load('reference').create(3, *made, config_of(pair))
    adam, empty = agent.network.opt_state
    randomised = jax.tree.map(lambda leaf: rng.random(leaf.shape, np.float32), (adam.mu, adam.nu))
    adam = adam._replace(count=np.asarray(41, np.int32), mu=randomised[0], nu=randomised[1])
    return agent.replace(network=agent.network.replace(step=np.int32(41), opt_state=(adam, empty)))


def saved(agent, path):
    """As the original code saves it."""
    path.write_bytes(pickle.dumps({'agent': flax.serialization.to_state_dict(agent)}))
    return path


def flat(agent):
    return {path: np.asarray(leaf) for path, leaf in flatten(state_dict(agent)).items()}


def assert_equal_states(agent, other):
    ours, theirs = flat(agent), flat(other)
    assert ours.keys() == theirs.keys()
    for path, leaf in ours.items():
        np.testing.assert_array_equal(leaf, theirs[path], err_msg=path)
        assert leaf.dtype == theirs[path].dtype or path == 'network/step'


def test_every_agent_there_and_back(pair, tmp_path):
    rng = np.random.default_rng(0)
    with pair.creating('reference'), pair.creating('port'):
        agent = trained(pair, rng, COMPILED)
        source = saved(agent, tmp_path / 'params_500.pkl')
        path = bridge(source, pair, config_of(pair), {}).write(tmp_path / 'agent.safetensors')
        assert_equal_states(reference_jax.load(path), agent)
        port = torch_agents.load(path)
        port.network.step += 1
        back = reference_jax.load(
            torch_agents.save(port, tmp_path / 'back.safetensors', *map(torch.from_numpy, COMPILED))
        )
    assert back.network.step == 42
    assert_equal_states(back.replace(network=back.network.replace(step=41)), agent)


@pytest.fixture
def agent():
    return trained(find('iql'), np.random.default_rng(0))


@pytest.fixture
def words(agent, tmp_path):
    config = tmp_path / 'config.json'
    config.write_text(json.dumps(config_of(find('iql'))))
    source = saved(agent, tmp_path / 'params_500.pkl')
    return ['bridge', str(source), '--agent', 'iql', '--config', str(config)]


def run(*words):
    return CliRunner().invoke(app, list(map(str, words)))


def test_the_command_writes_what_acts_like_the_reference(agent, words, tmp_path):
    path = tmp_path / 'agent.safetensors'
    result = run(*words, '-o', path)
    assert (result.exit_code, result.output) == (0, f'wrote {path}\n')
    port = torch_agents.load(path)
    observations = np.random.default_rng(1).normal(size=(4, 6)).astype(np.float32)
    key = jax.random.PRNGKey(5)
    ours = port.sample_actions(torch.from_numpy(observations), seed=torch.from_numpy(np.array(key)))
    theirs = agent.sample_actions(observations, seed=key)
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-6)
    assert port.config == dict(agent.config)


def test_twin_another_checkpoint_acts_otherwise(words, tmp_path):
    run(*words, '-o', tmp_path / 'agent.safetensors')
    port = torch_agents.load(tmp_path / 'agent.safetensors')
    other = find('iql').load('reference').create(4, OBSERVATIONS, ACTIONS, config_of(find('iql')))
    observations, key = np.ones((4, 6), np.float32), jax.random.PRNGKey(5)
    ours = port.sample_actions(torch.from_numpy(observations), seed=torch.from_numpy(np.array(key)))
    assert np.abs(ours.numpy() - other.sample_actions(observations, seed=key)).max() > 1e-3


def test_both_sides_go_on_training_in_step(agent, words, tmp_path):
    rng = np.random.default_rng(1)
    batch = {
        'observations': rng.normal(size=(5, 6)),
        'next_observations': rng.normal(size=(5, 6)),
        'actions': rng.uniform(-0.9, 0.9, size=(5, 3)),
        'rewards': rng.normal(size=5),
        'masks': np.ones(5),
    }
    batch = {name: array.astype(np.float32) for name, array in batch.items()}
    run(*words, '-o', tmp_path / 'agent.safetensors')
    port, reference = torch_agents.load(tmp_path / 'agent.safetensors'), agent
    for _ in range(3):
        port, _ = port.finetune({name: torch.from_numpy(array) for name, array in batch.items()})
        reference, _ = reference.finetune(batch)
    example = torch.from_numpy(OBSERVATIONS), torch.from_numpy(ACTIONS)
    back = reference_jax.load(torch_agents.save(port, tmp_path / 'back', *example))
    ours, theirs = flat(back), flat(reference)
    assert (ours['network/step'], ours['network/opt_state/0/count']) == (44, 44)
    for path in ours:
        np.testing.assert_allclose(ours[path], theirs[path], atol=1e-5, err_msg=path)
    np.testing.assert_array_equal(ours['rng'], theirs['rng'])


def test_a_dry_run_shows_the_plan_and_writes_nothing(words, tmp_path):
    before = sorted(tmp_path.iterdir())
    result = run(*words, '-o', tmp_path / 'agent.safetensors', '--dry-run')
    assert result.exit_code == 0
    row = next(line for line in result.output.splitlines() if 'modules_actor/mean_net/kernel' in line)
    for part in ('network/params/', 'modules_actor.mean_net.weight', 'f32[12,3]', 'f32[3,12]', '144'):
        assert part in row
    assert sorted(tmp_path.iterdir()) == before


def test_a_bridged_file_can_be_bridged_again(words, tmp_path):
    """It has its configuration and its sizes with it."""
    run(*words, '-o', tmp_path / 'one')
    assert run('bridge', tmp_path / 'one', '--agent', 'iql', '-o', tmp_path / 'two').exit_code == 0
    assert (tmp_path / 'one').read_bytes() == (tmp_path / 'two').read_bytes()


def test_every_leaf_that_does_not_fit_is_listed(words, tmp_path):
    result = run(*words, '--set', 'actor_hidden_dims=10,9', '--size', 'O=7', '-o', tmp_path / 'out')
    assert isinstance(result.exception, BridgeError)
    lines = str(result.exception).splitlines()
    for path, expected, found in (
        ('modules_actor/actor_net/Dense_0/kernel', 'f32[7,10]', 'f32[6,10]'),
        ('modules_actor/actor_net/Dense_1/kernel', 'f32[10,9]', 'f32[10,12]'),
        ('modules_actor/mean_net/kernel', 'f32[9,3]', 'f32[12,3]'),
    ):
        assert any(
            f'shape: network/params/{path}: expected {expected}, found {found}' in line for line in lines
        )
        assert any(f'shape: network/opt_state/0/nu/{path}: expected' in line for line in lines)
    assert '--config FILE.json or --set key=value' in lines[-2]
    assert not (tmp_path / 'out').exists()


def test_a_state_with_missing_and_wrong_leaves(agent, tmp_path):
    state = flax.serialization.to_state_dict(agent)
    del state['network']['opt_state']['0']['count']
    state['rng'] = np.zeros(3, np.uint32)
    state['network']['step'] = np.float32(1)
    state['extra'] = np.ones(1)
    (tmp_path / 'x').write_bytes(pickle.dumps(state))
    with pytest.raises(BridgeError) as error:
        bridge(tmp_path / 'x', find('iql'), config_of(find('iql')), {})
    assert [str(problem) for problem in error.value.problems] == [
        'missing path: network/opt_state/0/count: expected a whole number, found nothing',
        'dtype: network/step: expected a whole number, found f32[]',
        'shape: rng: expected u32[2], found u32[3]',
        'unexpected path: extra: expected nothing, found f64[1]',
    ]


@pytest.mark.parametrize(
    ('content', 'text'),
    [
        ('{"alpha": 1, "beta": 2, "gamma": 3}', 'found beta, gamma'),
        ('[1]', 'a JSON object of config entries'),
        ('{', 'JSONDecodeError'),
        ('{"actor_loss": "ppo"}', "choose one of: 'awr', 'ddpgbc'"),
    ],
)
def test_a_configuration_that_cannot_be_used(content, text, words, tmp_path):
    (tmp_path / 'config.json').write_text(content)
    result = run(*words, '-o', tmp_path / 'out')
    assert isinstance(result.exception, ParityError)
    assert text in str(result.exception)
    assert not (tmp_path / 'out').exists()


def test_files_that_are_no_agents(tmp_path):
    from weight_bridge import checkpoints

    path = checkpoints.write(tmp_path / 'x', {'a': np.ones(1)}, {})
    other = checkpoints.write(tmp_path / 'y', {}, {'format': 'parity.agent', 'format_version': '9'})
    for load in (torch_agents.load, reference_jax.load):
        with pytest.raises(BridgeError, match=r'expected safetensors with format=parity\.agent'):
            load(path)
        with pytest.raises(BridgeError, match='found ValueError: format_version 9'):
            load(other)
