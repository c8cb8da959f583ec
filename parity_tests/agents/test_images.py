"""The pairs on images, every agent with an encoder and every kind of encoder, agree in float64.

Convolutions take long to compile, so the suite keeps to one structure for each agent, so chosen that all
encoders occur; a soak (PARITY_PROFILE=soak) draws from all of them, all stages in both precisions.
"""

import os
from collections.abc import Callable

import pytest
import torch

import parity
from parity import Case, MismatchError, registered
from parity.batches import Style
from parity.checking import DTYPES, check_stage
from parity.pair import find
from parity.runs import Runs
from parity.stages import stages_of
from parity.strategies import structures
from parity_tests.agents import test_traps as traps
from parity_tests.agents.properties import assert_parity, for_all_cases
from torch_agents import encoders, layers
from torch_agents.pairs import IMAGE_ENCODERS, SMALL_ENCODERS, small_encoders

TARGET = 'torch_agents.pairs:{}_IMAGES'
# the structure that the suite compiles for each agent: its number is also that of the encoder
STRUCTURES = {
    'IQL': 0,
    'REBRAC': 1,
    'DINO_REBRAC': 2,
    'MBPO_REBRAC': 3,
    'CRL_INFONCE': 4,
    'TD_INFONCE': 0,
    'HILP': 2,
    'FB_REPR': 0,
    'INFOM': 1,
}
# Two of them are compared with golden files on images as well, td_infonce has crl_infonce's networks, and the
# encoder of fb_repr is that of iql.
SLOW = ('HILP', 'INFOM', 'TD_INFONCE', 'FB_REPR')
# The gradients of convolutions are what takes longest to compile: of these, make test has the networks alone.
SLOW_LOSSES = (*SLOW, 'REBRAC', 'CRL_INFONCE')
STYLES: tuple[Style, ...] = ('plain', 'constant')
Patch = pytest.MonkeyPatch


def params(*names: str, slow: tuple[str, ...]) -> list[object]:
    """Agents for parametrize, each on one worker."""
    marks = {name: [pytest.mark.slow] if name in slow else [] for name in names}
    return [
        pytest.param(name, marks=[pytest.mark.xdist_group(f'{name} images'), *marks[name]]) for name in names
    ]


def check(name: str, *stages: str, values: tuple[Style, ...] = ('plain',)) -> None:
    """Raise unless the stages match in float64 at the agent's structure."""
    target = TARGET.format(name)
    structure = structures(find(target))[STRUCTURES[name]]
    cases = [Case(seed=seed, values=style, **structure) for seed, style in enumerate(values)]
    parity.check(target, cases=cases, stages=stages, dtypes=['float64']).raise_if_mismatch()


@pytest.mark.parametrize('name', params(*STRUCTURES, slow=SLOW))
def test_networks(name: str) -> None:
    check(name, 'params', 'forward', values=STYLES)


@pytest.mark.parametrize('name', params(*STRUCTURES, slow=SLOW_LOSSES))
def test_losses_and_actions(name: str) -> None:
    check(name, 'loss', 'actions', values=STYLES)


@pytest.mark.parametrize('name', params(*STRUCTURES, slow=SLOW_LOSSES))
def test_gradients(name: str) -> None:
    """Those that the program of the losses computes, without the table of reach, whose program is another."""
    target = find(TARGET.format(name))
    runs = Runs(target, Case(values=STYLES[0], **structures(target)[STRUCTURES[name]]))
    result = check_stage(runs, 'grads', 'float64', reach=False)
    assert result.outcome == 'match', result.worst


@pytest.mark.xdist_group('IQL images')
def test_which_term_reaches_which_network() -> None:
    check('IQL', 'grads')


@pytest.mark.skipif(os.environ.get('PARITY_PROFILE') != 'soak', reason='minutes of compilation; make soak')
@pytest.mark.parametrize('name', params(*STRUCTURES, slow=SLOW))
def test_all_of_it(name: str) -> None:
    pair = find(TARGET.format(name))
    for_all_cases(
        pair, lambda case: assert_parity(pair, case, *stages_of(pair), dtypes=DTYPES), share=0.1, few=True
    )


def test_every_agent_has_a_pair_of_images_and_every_encoder_occurs() -> None:
    names = {find(TARGET.format(name)).name for name in STRUCTURES}
    assert names == {f'{name}_images' for name in registered()}
    assert set(STRUCTURES.values()) == set(range(len(IMAGE_ENCODERS)))


@pytest.mark.parametrize('side', ['reference', 'port'])
def test_small_encoders_have_the_registered_kinds_and_the_features_of_the_description(side: str) -> None:
    from reference_jax import encoders as reference

    module = {'reference': reference, 'port': encoders}[side]
    registered_encoders = {name: make() for name, make in module.encoder_modules.items()}
    with small_encoders(side):
        small = {name: make() for name, make in module.encoder_modules.items()}
    assert {*SMALL_ENCODERS} == {*small} == {'mlp', *IMAGE_ENCODERS}
    assert all(type(small[name]) is type(encoder) for name, encoder in registered_encoders.items())
    assert {module.encoder_features(encoder) for encoder in small.values()} == {
        parity.cases.DEFAULT_SIZES['F']
    }


# --- twins: encoders with a mistake


def pixels_are_not_scaled(patch: Patch) -> None:
    forward = encoders.ImpalaEncoder.forward
    patch.setattr(encoders.ImpalaEncoder, 'forward', lambda self, x: forward(self, x.to(torch.float32) * 255))


def pixels_are_divided_in_float64(patch: Patch) -> None:
    """x / 255 without the original's rounding of 1 / 255: 3e-8 off, in float32 a rounding error."""
    forward = encoders.ImpalaEncoder.forward

    class Pixels:
        def __init__(self, x: torch.Tensor) -> None:
            self.x, self.ndim = x, x.ndim

        def to(self, dtype: torch.dtype) -> 'Pixels':
            return self

        def __mul__(self, factor: float) -> torch.Tensor:
            return self.x.double() / 255

    patch.setattr(encoders.ImpalaEncoder, 'forward', lambda self, x: forward(self, Pixels(x)))


def coordinates_are_columns_first(patch: Patch) -> None:
    coordinates = encoders.spatial_coordinates
    patch.setattr(encoders, 'spatial_coordinates', lambda images: coordinates(images).flip(-1))


def group_norm_epsilon(patch: Patch) -> None:
    patch.setattr(encoders, 'group_norm', lambda: layers.GroupNorm(num_groups=4, eps=1e-6))


def integers_are_subtracted_as_numbers(patch: Patch) -> None:
    from torch_agents import MBPOReBRACAgent

    loss = MBPOReBRACAgent.transition_loss
    keys = ('observations', 'next_observations')
    patch.setattr(
        MBPOReBRACAgent,
        'transition_loss',
        lambda self, batch, grad_params: loss(
            self, {**batch, **{key: batch[key].to(torch.float32) for key in keys}}, grad_params
        ),
    )


MISTAKES = [
    ('IQL', 'forward', pixels_are_not_scaled),
    ('IQL', 'forward', pixels_are_divided_in_float64),
    ('IQL', 'forward', traps.padding_is_the_same_on_both_sides),
    ('IQL', 'forward', traps.images_are_flattened_channels_first),
    ('REBRAC', 'forward', traps.padding_is_the_same_on_both_sides),
    ('REBRAC', 'forward', coordinates_are_columns_first),
    ('REBRAC', 'forward', group_norm_epsilon),
    ('DINO_REBRAC', 'loss', traps.views_are_crossed),
    ('MBPO_REBRAC', 'loss', integers_are_subtracted_as_numbers),
]


@pytest.mark.parametrize(
    ('name', 'stage', 'mistake'),
    [
        pytest.param(
            *row, id=f'{row[0]}-{row[2].__name__}', marks=pytest.mark.xdist_group(f'{row[0]} images')
        )
        for row in MISTAKES
    ],
)
def test_twin_an_encoder_with_a_mistake_is_red(
    name: str, stage: str, mistake: Callable[[Patch], None], monkeypatch: Patch
) -> None:
    check(name, stage)
    mistake(monkeypatch)
    with pytest.raises(MismatchError, match=f'{stage} differs in float64'):
        check(name, stage)
