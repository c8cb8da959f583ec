"""A port reads like its reference: the same definitions in the same order, the same keys, the same lines."""

from dataclasses import dataclass
from pathlib import Path

import pytest

import reference_jax
import torch_agents
from parity.twins import Twins

FOLDERS = Path(reference_jax.__file__).parent, Path(torch_agents.__file__).parent
NAMES = [{path.name for path in folder.glob('*.py')} for folder in FOLDERS]
SHARED = sorted(NAMES[0] & NAMES[1])
AGENTS = [f'{name}.py' for name in reference_jax.agents]
# The least share of identical lines; what wraps a framework has less than what uses the wrapping.
SHARE, SHARE_OF_WRAPPERS = 0.6, 0.3
WRAPPERS = ('train_state.py', '__init__.py')


@dataclass(frozen=True)
class Deviation:
    """Why a twin differs, and in exactly what; keys=False: the keys are not compared."""

    reason: str
    differences: tuple[str, ...] = ()
    keys: bool = True


DEVIATIONS = {
    'agent.py': Deviation(
        'flax.struct gives a dataclass its replace, a plain class defines it; references are always jitted',
        (
            'definition + for_loss_alone',
            'definition + for_loss_alone.compiled',
            'definition + Agent.replace',
            'definition + Agent.compile',
        ),
    ),
    'checkpoints.py': Deviation(
        'the shape of a Param is found in a tree there and in a module here', keys=False
    ),
    'networks.py': Deviation(
        'linen names parameters and intermediates by text; torch has attributes', keys=False
    ),
    'train_state.py': Deviation(
        'optax and linen need a chain and a ModuleDict, torch.optim and nn.Module bring theirs; '
        'updates happen in place, and torch leaves out gradients',
        (
            'definition - adam',
            'definition - ModuleDict',
            'definition - ModuleDict.forward',
            'definition + TrainState.params',
            'definition + TrainState.subtree',
            'definition - init_params',
            'definition + slots_of',
            'definition + gradients',
        ),
        keys=False,
    ),
}


def of(name: str) -> Twins:
    reference, port = (folder / name for folder in FOLDERS)
    return Twins(reference, port, (reference.read_text(), port.read_text()))


def unexplained(name: str, found: Twins) -> set[str]:
    """The differences beyond the declared ones, and the declared ones that are not there."""
    deviation = DEVIATIONS.get(name, Deviation(''))
    differences = {line for line in found.differences() if deviation.keys or not line.startswith('key ')}
    return differences ^ set(deviation.differences)


def test_every_agent_has_a_twin() -> None:
    assert len(AGENTS) >= 9
    assert set(AGENTS) <= set(SHARED)
    assert {'agent.py', 'implicit_q.py', 'infonce.py', 'networks.py', 'encoders.py'} <= set(SHARED)
    assert set(DEVIATIONS) <= set(SHARED)


@pytest.mark.parametrize('name', SHARED)
def test_the_same_definitions_and_keys_in_the_same_order(name: str) -> None:
    assert unexplained(name, of(name)) == set()


@pytest.mark.parametrize('name', SHARED)
def test_most_lines_are_identical(name: str) -> None:
    assert of(name).share >= (SHARE_OF_WRAPPERS if name in WRAPPERS else SHARE)


# --- twins: the check fails


def changed(name: str, old: str, new: str) -> set[str]:
    found = of(name)
    assert old in found.texts[1]
    return unexplained(
        name, Twins(found.reference, found.port, (found.texts[0], found.texts[1].replace(old, new)))
    )


def method(source: str, name: str) -> str:
    """The text of a method of an agent, up to the next definition or decorator."""
    start = source.index(f'    def {name}(')
    ends = [source.find(mark, start + 1) for mark in ('\n    def ', '\n    @')]
    return source[start : min(end for end in ends if end > 0) + 1]


def test_twin_a_renamed_definition() -> None:
    assert changed('iql.py', 'def finetune(', 'def finetunes(') == {
        'definition - IQLAgent.finetune',
        'definition + IQLAgent.finetunes',
    }


def test_twin_a_missing_definition() -> None:
    source = of('iql.py').texts[1]
    assert 'definition - IQLAgent.pretrain' in changed('iql.py', method(source, 'pretrain'), '')


def test_twin_definitions_in_another_order() -> None:
    source = of('iql.py').texts[1]
    first, second = method(source, 'pretrain'), method(source, 'finetune')
    swapped = changed('iql.py', first + second, second + first)
    assert {line.split()[-1] for line in swapped} <= {'IQLAgent.pretrain', 'IQLAgent.finetune'}
    assert swapped


def test_twin_an_added_definition() -> None:
    assert changed('iql.py', 'def get_config(', 'def helper(): ...\n\n\ndef get_config(') == {
        'definition + helper'
    }


@pytest.mark.parametrize(
    ('name', 'old', 'new'),
    [
        ('implicit_q.py', "'v_mean'", "'v_avg'"),
        ('implicit_q.py', "'v_mean'", "'v_max'"),
        ('iql.py', "prefixed('value'", "prefixed('v'"),
        ('iql.py', "'expectile':", "'expectiles':"),
        ('iql.py', "batch['actions']", "batch['next_actions']"),
    ],
)
def test_twin_a_renamed_key(name: str, old: str, new: str) -> None:
    assert any(line.startswith('key +') for line in changed(name, old, new))


def test_twin_a_deviation_that_is_gone() -> None:
    assert changed('agent.py', 'def replace(', 'def __init__(') == {'definition + Agent.replace'}


def test_twin_other_lines() -> None:
    found = of('iql.py')
    other = '\n'.join(f'    {line}' if i % 2 else line for i, line in enumerate(found.texts[1].splitlines()))
    assert Twins(found.reference, found.port, (found.texts[0], other)).share < SHARE
