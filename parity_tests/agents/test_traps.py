"""What ports of these agents usually get wrong, trap by trap.

Most traps are laid by the golden files: the reference and the port agree with a file (test_goldens.py), so
that neither is in a trap which moves its values. Here each trap is sprung in the port, which must then
disagree with the file where it agreed before. What no file holds is compared directly, reference with port.
"""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import fixtures
import reference_jax
import torch_agents
from parity.trees import Arrays
from parity_tests.agents import test_goldens as goldens
from reference_jax.distributions import TanhDiagonalGaussian
from reference_jax.encoders import bias_free_conv
from torch_agents import dino_rebrac, encoders, layers, td_infonce, train_state
from torch_agents.distributions import TanhDiagonalGaussian as TorchTanhDiagonalGaussian
from torch_agents.layers import clip
from torch_agents.train_state import TrainState

PORT = 'torch_agents'
Patch = pytest.MonkeyPatch


# --- the traps, each sprung in the port


def parameters_without_a_gradient_rest(patch: Patch) -> None:
    """As if a gradient of zero were none: neither moments nor left-over momentum move."""
    step = torch.optim.Adam.step

    def resting(self: torch.optim.Adam) -> None:
        held = [p for group in self.param_groups for p in group['params'] if p.grad is not None]
        params = [p for p in held if not p.grad.any()]
        tensors = [p for p in params if p in self.state]
        moments = [self.state[p][name] for p in tensors for name in ('exp_avg', 'exp_avg_sq')]
        kept = [(tensor, tensor.detach().clone()) for tensor in (*tensors, *moments)]
        step(self)
        with torch.no_grad():
            for tensor, value in kept:
                tensor.copy_(value)

    patch.setattr(torch.optim.Adam, 'step', resting)


def targets_follow_the_values_after_the_step(patch: Patch) -> None:
    step, average, later = train_state.step_all, TrainState.moving_average, []

    def stepped(*args: Any) -> None:
        step(*args)
        while later:
            average(*later.pop())

    patch.setattr(TrainState, 'moving_average', lambda *args: later.append(args))
    patch.setattr(train_state, 'step_all', stepped)


def patch_flow_goals(patch: Patch, change: Callable[..., Any]) -> None:
    flow_goals = torch_agents.InFOMAgent.flow_goals
    patch.setattr(
        torch_agents.InFOMAgent,
        'flow_goals',
        lambda self, *args, **kwargs: change(self, flow_goals, *args, **kwargs),
    )


def flow_goals_have_latents_of_their_own(patch: Patch) -> None:
    def change(
        self: Any, flow_goals: Any, noises: Any, s: Any, a: Any, latents: Any, *args: Any, **kw: Any
    ) -> Any:
        if latents.ndim == 3:
            latents = torch.stack([latents[0].roll(i, 0) for i in range(len(latents))])
        return flow_goals(self, noises, s, a, latents, *args, **kw)

    patch_flow_goals(patch, change)


def flow_goals_are_clipped_at_the_end_only(patch: Patch) -> None:
    def change(self: Any, flow_goals: Any, *args: Any, **kwargs: Any) -> Any:
        config, (*_, low, high) = self.config, args
        self.config = {**config, 'clip_flow_goals': False}
        goals = flow_goals(self, *args, **kwargs)
        self.config = config
        return clip(goals, low + 1e-5, high - 1e-5)

    patch_flow_goals(patch, change)


def labels_are_hard(patch: Patch) -> None:
    patch.setattr(
        td_infonce.TDInfoNCEAgent,
        'goal_weights',
        lambda self, batch, next_actions: torch.eye(len(next_actions), dtype=next_actions.dtype),
    )


def soft_labels_are_for_the_mixed_logits(patch: Patch) -> None:
    cross_entropy, mixed = td_infonce.cross_entropy, []

    def on_the_first(logits: Any, labels: Any) -> Any:
        mixed.append(logits)
        return cross_entropy(mixed[-2] if len(mixed) % 2 == 0 else logits, labels)

    patch.setattr(td_infonce, 'cross_entropy', on_the_first)


def hard_labels_are_for_the_next_logits(patch: Patch) -> None:
    """As if the other next states were the negatives: the logits are not mixed."""
    pair_logits, cross_entropy, made = td_infonce.pair_logits, td_infonce.cross_entropy, []

    def remembered(phi: Any, psi: Any) -> Any:
        made.append(pair_logits(phi, psi))
        return made[-1]

    def on_the_next(logits: Any, labels: Any) -> Any:
        next_logits = made.pop(0) if made else logits
        made.clear()
        return cross_entropy(next_logits, labels)

    patch.setattr(td_infonce, 'pair_logits', remembered)
    patch.setattr(td_infonce, 'cross_entropy', on_the_next)


class Undiminished(int):
    """A batch size that stays B where the loss divides by B - 1."""

    def __sub__(self, other: int) -> int:
        return int(self)


def means_are_over_all_pairs(patch: Patch) -> None:
    patch.setattr(
        torch_agents.FBReprAgent,
        'check_batch_size',
        lambda self, batch: Undiminished(len(batch['actions'])),
    )


def the_target_critic_is_a_copy(patch: Patch) -> None:
    copy_params = TrainState.copy_params

    def copying(self: TrainState, source: str, target: str) -> TrainState:
        copy_params(self, 'critic', 'target_critic')
        return copy_params(self, source, target)

    patch.setattr(TrainState, 'copy_params', copying)


def skills_go_by_all_members(patch: Patch) -> None:
    def steps(self: Any, batch: Any) -> Any:
        inputs = batch['observations'], batch['next_observations']
        _, phis, next_phis = self.network.select('value')(*inputs, info=True)
        return (next_phis - phis).mean(axis=0)

    patch.setattr(torch_agents.HILPAgent, 'phi_steps', steps)


def views_are_crossed(patch: Patch) -> None:
    """As DINO has it: the student sees the other view than the teacher."""
    softmax, teacher = dino_rebrac.softmax, []
    views = torch_agents.DINOReBRACAgent.views

    def crossed(self: Any, batch: Any, rng: Any) -> Any:
        view1, view2 = views(self, batch, rng)
        encoder, center = self.network.select('target_encoder'), self.network.select('target_repr_center')()
        temperature = self.config['target_repr_temp']
        teacher[:] = [softmax((encoder(view) - center) / temperature, -1) for view in (view2, view1)]
        return view1, view2

    patch.setattr(torch_agents.DINOReBRACAgent, 'views', crossed)
    patch.setattr(dino_rebrac, 'softmax', lambda logits, axis: teacher.pop(0))


def the_teacher_has_the_students_temperature(patch: Patch) -> None:
    softmax = dino_rebrac.softmax
    patch.setattr(dino_rebrac, 'softmax', lambda logits, axis: softmax(logits * 0.04 / 0.1, axis))


def the_centre_is_one_per_feature(patch: Patch) -> None:
    patch.setattr(torch_agents.DINOReBRACAgent, 'center_per_feature', True)


def the_model_batch_is_not_used(patch: Patch) -> None:
    patch.setattr(torch_agents.MBPOReBRACAgent, 'model_batch', lambda self, batch: batch)


def padding_is_the_same_on_both_sides(patch: Patch) -> None:
    def symmetric(sizes: Any, window_shape: Any, strides: Any) -> Any:
        return tuple((window // 2, window // 2) for window in window_shape)

    patch.setattr(layers, 'same_padding', symmetric)


def images_are_flattened_channels_first(patch: Patch) -> None:
    forward = encoders.ImpalaEncoder.forward

    def channels_first(self: Any, observations: Any) -> Any:
        def reorder(_: Any, args: tuple[torch.Tensor]) -> torch.Tensor:
            (x,) = args
            pixels = x.reshape(*x.shape[:-1], x.shape[-1] // self.stack_sizes[-1], self.stack_sizes[-1])
            return pixels.mT.reshape(x.shape)

        hook = self.MLP_0.register_forward_pre_hook(reorder)
        try:
            return forward(self, observations)
        finally:
            hook.remove()

    patch.setattr(encoders.ImpalaEncoder, 'forward', channels_first)


# --- where each trap shows: the golden file, the group of its keys


TRAPS = [
    (parameters_without_a_gradient_rest, 'iql-awr-f64', 'finetune'),
    (parameters_without_a_gradient_rest, 'td_infonce-mean-f64', 'finetune'),
    (targets_follow_the_values_after_the_step, 'iql-awr-f64', 'finetune'),
    (targets_follow_the_values_after_the_step, 'infom-default-f64', 'pretrain'),
    (flow_goals_have_latents_of_their_own, 'infom-default-f64', 'finetuning_loss_full'),
    (flow_goals_have_latents_of_their_own, 'infom-encoding_mean-f64', 'finetuning_loss_full'),
    (flow_goals_are_clipped_at_the_end_only, 'infom-default-f64', 'finetuning_loss_full'),
    (labels_are_hard, 'td_infonce-mean-f64', 'pretraining_loss'),
    (soft_labels_are_for_the_mixed_logits, 'td_infonce-mean-f64', 'pretraining_loss'),
    (hard_labels_are_for_the_next_logits, 'td_infonce-min-f64', 'pretraining_loss'),
    (means_are_over_all_pairs, 'fb_repr-mean-f64', 'pretraining_loss'),
    (the_target_critic_is_a_copy, 'fb_repr-mean-f64', 'init_params'),
    (skills_go_by_all_members, 'hilp-default-f64', 'pretraining_loss'),
    (views_are_crossed, 'dino_rebrac-mlp-f64', 'pretraining_loss'),
    (the_teacher_has_the_students_temperature, 'dino_rebrac-mlp-f64', 'pretraining_loss'),
    (the_centre_is_one_per_feature, 'dino_rebrac-mlp-f64', 'finetune'),
    (the_model_batch_is_not_used, 'mbpo_rebrac-model_batch-f64', 'finetuning_loss_full'),
    (padding_is_the_same_on_both_sides, 'iql-impala-f64', 'pretraining_loss'),
    (images_are_flattened_channels_first, 'iql-impala-f64', 'pretraining_loss'),
]


def found_in(name: str, group: str) -> Arrays:
    """What the port computes now, past all caches."""
    for cached in (goldens.created, goldens.all_losses, goldens.pretraining, goldens.finetuning):
        cached.cache_clear()
    return goldens.OUTPUTS[group](name, PORT)


@pytest.mark.parametrize(
    ('trap', 'name', 'group'), [pytest.param(*row, id=f'{row[0].__name__}-{row[1]}') for row in TRAPS]
)
def test_a_port_in_the_trap_differs(
    trap: Callable[[Patch], None], name: str, group: str, monkeypatch: Patch
) -> None:
    expected = goldens.keys_of(fixtures.load_golden(name), group)
    allowed = goldens.allowed_errors(name, PORT, group)
    goldens.assert_golden(found_in(name, group), expected, allowed)
    with monkeypatch.context() as patch:
        trap(patch)
        found = found_in(name, group)
    found_in(name, group)  # leave no mutant's values in the caches
    with pytest.raises(AssertionError):
        goldens.assert_golden(found, expected, allowed)


# --- what no golden file holds


def test_zero_gradients_decay_the_moments_and_left_over_momentum_moves_the_parameter() -> None:
    golden = fixtures.load_golden('iql-awr-f64')
    path = 'modules_actor/mean_net/bias'
    actor, last = golden.flat('params')[path], golden.flat('finetune')
    assert not golden.flat('finetuning_loss_partial')[f'grads/{path}'].any()
    assert np.abs(last[f'params/{path}'] - actor).min() > 0
    target = 'modules_target_critic/value_net/Dense_0/kernel'
    assert not last[f'opt_mu/{target}'].any()


@pytest.mark.parametrize('values', [[-1.0, 0.3], [1.0, 0.3], [1.0, -1.0], [0.5, -0.9], [1 - 1e-16, 0.0]])
def test_tanh_squashed_log_probabilities_are_not_finite_in_the_same_places(values: list[float]) -> None:
    reference, port = tanh_log_probs(np.array(values))
    np.testing.assert_allclose(port, reference, rtol=1e-13)
    assert np.isfinite(reference).all() == (max(map(abs, values)) < 1)


def test_twin_clamped_actions_are_finite_where_the_original_is_not() -> None:
    reference, _ = tanh_log_probs(np.array([1.0, 0.3]))
    _, port = tanh_log_probs(np.clip([1.0, 0.3], -1 + 1e-6, 1 - 1e-6))
    assert np.isfinite(port)
    assert not np.isfinite(reference)


def tanh_log_probs(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    loc, scale = np.array([0.1, -0.2]), np.array([0.7, 1.3])
    with jax.enable_x64(True):
        reference = TanhDiagonalGaussian(jnp.asarray(loc), jnp.asarray(scale)).log_prob(jnp.asarray(values))
        found = np.asarray(reference)
    port = TorchTanhDiagonalGaussian(torch.tensor(loc), torch.tensor(scale)).log_prob(torch.tensor(values))
    return found, port.numpy()


IMAGES = np.random.default_rng(0).normal(size=(2, 4, 6, 8))


def group_norms(num_groups: int = 4, eps: float = 1e-5, images: np.ndarray = IMAGES) -> float:
    """The largest difference between Flax's layer, as the encoders use it, and the port's."""
    scale = np.random.default_rng(1).normal(size=images.shape[-1])
    with jax.enable_x64(True):
        module = linen.GroupNorm(num_groups=4, epsilon=1e-5, reduction_axes=(-3, -2, -1))
        expected = np.asarray(module.apply({'params': {'scale': scale, 'bias': 2 * scale}}, images))
    layer = layers.GroupNorm(num_groups, eps)
    layer.materialize(images.shape[-1])
    with torch.no_grad():
        layer.double().weight.copy_(torch.tensor(scale))
        layer.bias.copy_(torch.tensor(2 * scale))
        return float(np.abs(layer(torch.tensor(images)).numpy() - expected).max())


def test_group_norm_is_over_the_pixels_and_channels_of_a_group() -> None:
    assert group_norms() < 1e-13
    assert group_norms(images=IMAGES[0]) < 1e-13


@pytest.mark.parametrize('wrong', [{'num_groups': 2}, {'num_groups': 8}, {'eps': 1e-6}])
def test_twin_other_groups_or_another_epsilon_differ(wrong: dict[str, Any]) -> None:
    assert group_norms(**wrong) > 1e-7


@pytest.mark.parametrize('size', [(6, 8), (5, 7), (8, 5)])
@pytest.mark.parametrize('window', [1, 3])
def test_same_padding_at_stride_2_lies_as_in_jax(size: tuple[int, int], window: int) -> None:
    assert strided_convolutions(size, window) < 1e-13


def test_twin_symmetric_padding_differs_at_even_sizes(monkeypatch: Patch) -> None:
    padding_is_the_same_on_both_sides(monkeypatch)
    assert strided_convolutions((6, 8), 3) > 0.1
    assert strided_convolutions((5, 7), 3) < 1e-13


def strided_convolutions(size: tuple[int, int], window: int) -> float:
    """The largest difference between a convolution of stride 2 in Flax and in the port."""
    rng = np.random.default_rng(2)
    images, kernel = rng.normal(size=(2, *size, 3)), rng.normal(size=(window, window, 3, 4))
    with jax.enable_x64(True):
        module = bias_free_conv(4, (window, window), 2)
        expected = np.asarray(module.apply({'params': {'kernel': kernel}}, images))
    layer = encoders.bias_free_conv(4, (window, window), 2)
    layer.materialize(3)
    with torch.no_grad():
        layer.double().weight.copy_(torch.tensor(kernel).permute(3, 2, 0, 1))
        return float(np.abs(layer(torch.tensor(images)).numpy() - expected).max())


def test_integer_images_wrap_around_in_transitions() -> None:
    reference, port, _ = transition_residuals()
    assert math.isclose(port, reference, rel_tol=1e-6)


def test_twin_images_subtracted_as_numbers_differ() -> None:
    reference, _, mutant = transition_residuals()
    assert abs(mutant - reference) > 1


def transition_residuals() -> tuple[float, float, float]:
    """The mean of s' - s in mbpo's info: of the reference, the port, the port with floats."""
    rng = np.random.default_rng(3)
    batch = {
        'observations': rng.integers(0, 256, (8, 8, 8, 3)).astype(np.uint8),
        'next_observations': rng.integers(0, 256, (8, 8, 8, 3)).astype(np.uint8),
        'actions': rng.uniform(-1, 1, (8, 2)).astype(np.float32),
    }
    keys = ('transition_hidden_dims', 'reward_hidden_dims', 'actor_hidden_dims', 'value_hidden_dims')
    config = {**dict.fromkeys(keys, (6,)), 'encoder': 'impala_debug'}
    examples = (0, batch['observations'], batch['actions'], config)
    reference = reference_jax.MBPOReBRACAgent.create(*examples)
    port = torch_agents.MBPOReBRACAgent.create(*examples)
    _, info = reference.transition_loss({key: jnp.asarray(x) for key, x in batch.items()}, None)
    tensors = {key: torch.tensor(x) for key, x in batch.items()}
    _, found = port.transition_loss(tensors, None)
    _, mutant = port.transition_loss({key: x.float() for key, x in tensors.items()}, None)
    return tuple(float(values['obs_res']) for values in (info, found, mutant))
