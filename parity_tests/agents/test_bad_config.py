"""Bad input is refused in the same words by the reference and the port, and names what would be accepted."""

import importlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
import torch

import reference_jax
import torch_agents

PACKAGES = (reference_jax, torch_agents)
AGENTS = sorted(reference_jax.agents)
B, A, L = 3, 2, 4
VECTORS, IMAGES = np.zeros((B, 5), np.float32), np.zeros((B, 8, 8, 3), np.uint8)
ACTIONS = np.zeros((B, A), np.float32)

# one wrong value for each way in which a key can be wrong, and what its message ends with
WRONG = [
    ('lr', 0.0, 'a number above 0'),
    ('lr', float('nan'), 'a number above 0'),
    ('lr', '1e-3', 'a number above 0'),
    ('batch_size', 0, 'an integer of at least 1'),
    ('batch_size', 2.5, 'an integer of at least 1'),
    ('batch_size', True, 'an integer of at least 1'),
    ('discount', 1.01, 'a number from 0 to 1'),
    ('tau', 0.0, 'a number above 0 and at most 1'),
    ('expectile', 1.0, 'a number above 0 and below 1'),
    ('alpha', -0.1, 'a number of at least 0'),
    ('const_std', 1, 'one of: True, False'),
    ('tanh_squash', 'yes', 'one of: True, False'),
    ('actor_hidden_dims', (), 'a tuple of integers of at least 1, with one or more of them'),
    ('actor_hidden_dims', (12, 0), 'a tuple of integers of at least 1, with one or more of them'),
    ('value_hidden_dims', 12, 'a tuple of integers of at least 1, with one or more of them'),
    ('actor_loss', 'bc', "one of: 'awr', 'ddpgbc'"),
    ('q_agg', 'median', "one of: 'mean', 'min'"),
    ('critic_latent_type', 'posterior', "one of: 'prior', 'encoding'"),
    ('contrastive_loss', 'infonce', "one of: 'forward_infonce', 'symmetric_infonce'"),
    ('logit_agg', 'max', "one of: 'mean', 'min'"),
    ('repr_agg', None, "one of: 'mean', 'min'"),
    ('latent_mix_prob', -0.5, 'a number from 0 to 1'),
    ('value_p_trajgoal', 2, 'a number from 0 to 1'),
    ('value_geom_start_offset', -1, 'an integer of at least 0'),
    ('repr_temp', 0, 'a number above 0'),
    ('target_repr_center_tau', 1.5, 'a number above 0 and at most 1'),
    ('actor_fc_scale', 0.0, 'a number above 0'),
]
REGISTERED = "'mlp', 'impala', 'impala_debug', 'impala_small', 'impala_large', 'resnet_34'"


def small_config(name: str) -> dict[str, Any]:
    """The defaults with small networks, and the encoder that dino_rebrac needs."""
    config = importlib.import_module(f'reference_jax.{name}').get_config()
    config |= {key: (6,) for key in config if key.endswith('_hidden_dims')}
    small = {'latent_dim': L, 'num_flow_goals': 2, 'num_flow_steps': 2, 'batch_size': B}
    config |= {key: value for key, value in small.items() if key in config}
    return config | ({'encoder': 'mlp'} if name == 'dino_rebrac' else {})


def messages(call: Callable[[Any], Any]) -> set[str]:
    """What both packages say to a call."""
    found = set()
    for package in PACKAGES:
        with pytest.raises(ValueError) as error:  # noqa: PT011 - the callers compare the whole text
            call(package)
        found.add(str(error.value))
    return found


def completed(package: Any, name: str, config: dict[str, Any]) -> Any:
    """What an agent makes of a configuration, through the module's own function."""
    module = importlib.import_module(f'{package.__name__}.{name}')
    return module.complete_config(config, module.get_config(), needs_encoder=name == 'dino_rebrac')


@pytest.mark.parametrize('name', AGENTS)
def test_every_wrong_value_names_the_key_the_value_and_the_allowed_ones(name: str) -> None:
    defaults = importlib.import_module(f'reference_jax.{name}').get_config()
    cases = [case for case in WRONG if case[0] in defaults]
    assert len(cases) >= 10
    for key, value, allowed in cases:
        found = messages(lambda package, c={key: value}: package.agents[name].create(0, VECTORS, ACTIONS, c))
        assert found == {f'{key}={value!r}; choose {allowed}'}


def test_every_kind_of_wrong_value_has_an_agent() -> None:
    known = {key for name in AGENTS for key in importlib.import_module(f'reference_jax.{name}').get_config()}
    assert {key for key, _, _ in WRONG} <= known


@pytest.mark.parametrize('name', AGENTS)
@pytest.mark.parametrize('wrong', [object(), -1])
def test_no_key_takes_any_value(name: str, wrong: Any) -> None:
    for key in importlib.import_module(f'reference_jax.{name}').get_config():
        config = {**small_config(name), key: wrong}
        (found,) = messages(lambda package, c=config: package.agents[name].create(0, VECTORS, ACTIONS, c))
        assert found.startswith(f'{key}={wrong!r}; choose ')


@pytest.mark.parametrize('name', AGENTS)
def test_twin_the_defaults_and_small_networks_pass(name: str) -> None:
    for package in PACKAGES:
        assert dict(completed(package, name, small_config(name))) == small_config(name)


@pytest.mark.parametrize('name', AGENTS)
def test_an_encoder_must_be_registered(name: str) -> None:
    found = messages(lambda package: package.agents[name].create(0, VECTORS, ACTIONS, {'encoder': 'cnn'}))
    none = '' if name == 'dino_rebrac' else 'None, '
    assert found == {f"encoder='cnn'; choose one of: {none}{REGISTERED}"}


@pytest.mark.parametrize('name', AGENTS)
def test_an_unknown_key_is_refused_with_those_that_there_are(name: str) -> None:
    found = messages(lambda package: package.agents[name].create(0, VECTORS, ACTIONS, {'alhpa': 1.0}))
    (text,) = found
    assert text.startswith(f"unknown config keys ['alhpa']; {name} has [")


@pytest.mark.parametrize('bounds', [('discount', 0), ('discount', 1), ('tau', 1), ('alpha', 0)])
def test_twin_values_at_their_bounds_pass(bounds: tuple[str, float]) -> None:
    for package in PACKAGES:
        assert completed(package, 'iql', dict([bounds]))[bounds[0]] == bounds[1]


def test_twin_lists_and_numpys_numbers_pass() -> None:
    config = {'actor_hidden_dims': [7, 8], 'lr': np.float32(0.5), 'batch_size': np.int64(3)}
    for package in PACKAGES:
        assert completed(package, 'iql', config)['actor_hidden_dims'] == (7, 8)


def batch_of(size: int) -> dict[str, np.ndarray]:
    """A batch of fb_repr and iql."""
    vectors, actions, ones = np.ones((size, 5)), np.zeros((size, A)), np.ones(size)
    return {
        'observations': vectors.astype(np.float32),
        'next_observations': vectors.astype(np.float32),
        'actions': actions.astype(np.float32),
        'rewards': ones.astype(np.float32),
        'masks': ones.astype(np.float32),
        'latents': np.ones((size, L), np.float32),
    }


def pretraining_loss(package: Any, agent: Any, batch: dict[str, np.ndarray]) -> Any:
    """The pre-training loss, of the reference without compiling it."""
    if package is reference_jax:
        with jax.disable_jit():
            return agent.pretraining_loss(batch, agent.network.params)
    tensors = {key: torch.tensor(array) for key, array in batch.items()}
    loss, info = agent.pretraining_loss(tensors, agent.network.params)
    return loss.detach(), info


def test_fb_repr_needs_batches_of_the_configured_size() -> None:
    agents = {p: p.agents['fb_repr'].create(0, VECTORS, ACTIONS, small_config('fb_repr')) for p in PACKAGES}
    found = messages(lambda package: pretraining_loss(package, agents[package], batch_of(4)))
    assert found == {
        'batch_size=3, but the batch has 4 transitions; create the agent with batch_size=4, '
        'or pass batches of 3'
    }
    for package, agent in agents.items():
        loss, _ = pretraining_loss(package, agent, batch_of(B))
        assert np.isfinite(float(loss))


# --- images and vectors


@pytest.mark.parametrize('name', AGENTS)
def test_an_encoder_of_images_refuses_vectors(name: str) -> None:
    config = {**small_config(name), 'encoder': 'impala_debug'}
    assert messages(lambda package: package.agents[name].create(0, VECTORS, ACTIONS, config)) == {
        "encoder='impala_debug' takes images (..., H, W, C), but the observations are float32[3,5] with "
        'actions float32[3,2]; choose mlp, or None if the agent can do without'
    }


@pytest.mark.parametrize('name', AGENTS)
def test_images_need_an_encoder_of_images(name: str) -> None:
    config = small_config(name)
    assert messages(lambda package: package.agents[name].create(0, IMAGES, ACTIONS, config)) == {
        f'encoder={config["encoder"]!r} takes vectors (..., O), but the observations are uint8[3,8,8,3] with '
        'actions float32[3,2]; choose one of images, such as impala_small'
    }


def acting_agents(observations: np.ndarray, encoder: str | None) -> dict[Any, Any]:
    """An IQL agent of each package for such observations."""
    config = {**small_config('iql'), 'encoder': encoder}
    return {p: p.agents['iql'].create(0, observations, ACTIONS, config) for p in PACKAGES}


def acted(package: Any, agent: Any, observations: np.ndarray) -> np.ndarray:
    if package is reference_jax:
        return np.asarray(agent.sample_actions(observations, seed=jax.random.PRNGKey(0)))
    key = torch_agents.random.PRNGKey(0)
    return agent.sample_actions(torch.tensor(observations), seed=key).numpy()


EXPECTED_IMAGES = (
    "expected images (..., H, W, C), found float32[3,5]; pass images, or create the agent with encoder='mlp' "
    'or None'
)
EXPECTED_VECTORS = (
    'expected vectors (..., O), found images uint8[3,8,8,3]; pass vectors, or create the agent with an '
    'encoder of images, such as impala_small'
)


def test_an_agent_of_images_refuses_vectors() -> None:
    agents = acting_agents(IMAGES, 'impala_debug')
    assert messages(lambda package: acted(package, agents[package], VECTORS)) == {EXPECTED_IMAGES}
    found = messages(lambda package: pretraining_loss(package, agents[package], batch_of(B)))
    assert found == {EXPECTED_IMAGES}
    for package, agent in agents.items():
        assert acted(package, agent, IMAGES).shape == (B, A)
        assert acted(package, agent, IMAGES[0]).shape == (A,)


def test_an_agent_of_vectors_refuses_images() -> None:
    agents = acting_agents(VECTORS, None)
    images = {**batch_of(B), 'observations': IMAGES}
    assert messages(lambda package: acted(package, agents[package], IMAGES)) == {EXPECTED_VECTORS}
    found = messages(lambda package: pretraining_loss(package, agents[package], images))
    assert found == {EXPECTED_VECTORS}
    for package, agent in agents.items():
        assert acted(package, agent, VECTORS).shape == (B, A)
        assert acted(package, agent, VECTORS[0]).shape == (A,)


def test_an_mlp_as_encoder_refuses_images() -> None:
    agents = acting_agents(VECTORS, 'mlp')
    assert messages(lambda package: acted(package, agents[package], IMAGES)) == {EXPECTED_VECTORS}
