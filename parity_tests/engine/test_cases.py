"""A case from its fields: its command line brings it back, its inputs follow from it alone."""

import dataclasses
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from parity import batches, cases
from parity.cases import Case
from parity.computations import SCALES
from parity.generated import parse_settings, parse_sizes, parse_style
from parity.pair import Pair
from parity.sides import State
from parity_tests.engine.conftest import CONFIG

Lines = Callable[[Callable[[], object]], list[str]]

# --- the command line


def parsed(command: str) -> Case:
    """The case of a command line, read with the option names and defaults of `parity check`."""
    words = shlex.split(command)
    assert words[:3] == ['parity', 'check', 'toy']
    options: dict[str, list[str]] = {}
    for name, value in zip(words[3::2], words[4::2], strict=True):
        options.setdefault(name, []).append(value)
    assert set(options) <= {'--seed', '--source', '--values', '--size', '--set'}
    return Case(
        seed=int(options.get('--seed', ['0'])[-1]),
        sizes=parse_sizes(options.get('--size', [])),
        config=parse_settings(options.get('--set', []), CONFIG),
        values=parse_style(options.get('--values', ['plain'])[-1]),
        source=options.get('--source', ['generated'])[-1],
    )


VALUES: dict[str, st.SearchStrategy[Any]] = {
    'alpha': st.floats(allow_nan=False),
    'const_std': st.booleans(),
    'actor_loss': st.text('aé =,-\'"$\n', max_size=5),
    'steps': st.integers(-9, 9),
    'hidden_dims': st.lists(st.integers(1, 512), max_size=3).map(tuple),
    'encoder': st.none() | st.sampled_from(['impala', 'a b', "it's", '--set', 'x=y']),
}
CASES = st.builds(
    Case,
    seed=st.integers(0, 2**31 - 1),
    sizes=st.dictionaries(st.sampled_from('BOAL'), st.integers(1, 300)),
    config=st.fixed_dictionaries({}, optional=VALUES),
    values=st.sampled_from(batches.STYLES),
    source=st.sampled_from(['generated', 'walker2d', 'my batch.safetensors']),
)


@given(CASES)
@settings(deadline=None, max_examples=100)
def test_the_command_line_of_a_case_brings_it_back(case: Case) -> None:
    assert parsed(case.command('toy')) == case


def test_the_command_line_of_a_styled_recorded_case_names_its_style() -> None:
    # the style also decides the parameters: tied and zero
    case = Case(source='walker2d', values='tied')
    assert '--values tied' in case.command('toy')
    assert 'tied' in case.describe()


def test_twin_another_case_has_another_command_line() -> None:
    several = [
        Case(),
        Case(seed=1),
        Case(sizes={'B': 1}),
        Case(config={'steps': 1}),
        Case(values='zero'),
        Case(source='walker2d'),
    ]
    assert len({case.command('toy') for case in several}) == len(several)


def test_a_case_with_the_callers_arrays_does_not_claim_to_be_generated() -> None:
    case = Case(batch={'rewards': np.zeros(3)})
    assert case.command('toy') != Case().command('toy')
    assert case.describe() != Case().describe()


def test_command() -> None:
    case = Case(3, {'B': 1}, {'const_std': False, 'hidden_dims': (4, 2), 'encoder': None, 'alpha': 0.5})
    assert case.command('a:b c') == (
        "parity check 'a:b c' --seed 3 --values plain --size B=1 "
        '--set const_std=false --set hidden_dims=4,2 --set encoder=None --set alpha=0.5'
    )


@pytest.mark.parametrize(
    ('case', 'text'),
    [
        (Case(), 'seed 0 plain values'),
        (Case(4, {'B': 1, 'O': 2}, {'const_std': True}), 'seed 4 plain values B=1 O=2 const_std=true'),
        (Case(sizes={'B': 32}, source='walker2d'), 'seed 0 walker2d B=32'),
    ],
)
def test_describe(case: Case, text: str) -> None:
    assert case.describe() == text


# --- words of the command line


@pytest.mark.parametrize(
    ('call', 'subject', 'values'),
    [
        (lambda: parse_sizes(['B']), 'cannot use --size B', 'expected key=value, as in B=8; found B'),
        (
            lambda: parse_sizes(['B=x']),
            "cannot use --size {'B': 'x'}",
            "expected whole numbers; found {'B': 'x'}",
        ),
        (
            lambda: parse_sizes(['B=0']),
            "cannot use --size {'B': 0}",
            "expected sizes of at least 1; found {'B': 0}",
        ),
        (
            lambda: parse_settings(['alpha'], CONFIG),
            'cannot use --set alpha',
            'expected key=value, as in alpha=3; found alpha',
        ),
        (
            lambda: parse_settings(['alpha=x'], CONFIG),
            'cannot use --set alpha=x',
            'expected a float like 10.0; found alpha=x',
        ),
        (
            lambda: parse_settings(['steps=1.5'], CONFIG),
            'cannot use --set steps=1.5',
            'expected a int like 10; found steps=1.5',
        ),
        (
            lambda: parse_settings(['const_std=1'], CONFIG),
            'cannot use --set const_std=1',
            'expected true or false; found const_std=1',
        ),
        (
            lambda: parse_settings(['hidden_dims=4,x'], CONFIG),
            'cannot use --set hidden_dims=4,x',
            'expected a tuple like (512, 512); found hidden_dims=4,x',
        ),
        (
            lambda: parse_settings(['alfa=1'], {'alpha': 1.0, 'a': 2}),
            'unknown config key: alfa',
            "expected one of a, alpha; found 'alfa'",
        ),
        (
            lambda: parse_style('wild'),
            'unknown style: wild',
            f"expected one of {', '.join(batches.STYLES)}; found 'wild'",
        ),
    ],
)
def test_words_without_meaning(call: Callable[[], object], subject: str, values: str, raised: Lines) -> None:
    lines = raised(call)
    assert lines[:2] == [subject, f'  {values}']
    assert len(lines) == 5


# --- the batch


def test_a_generated_batch_has_the_cases_sizes(toy: Pair) -> None:
    batch = cases.batch_of(toy, Case(sizes={'B': 3, 'A': 7}))
    assert {name: array.shape for name, array in batch.items()} == {
        'observations': (3, cases.DEFAULT_SIZES['O']),
        'actions': (3, 7),
        'rewards': (3,),
    }


def toy_batch(size: int = 3) -> dict[str, np.ndarray]:
    return {'observations': np.ones((size, 2)), 'actions': np.ones((size, 1)), 'rewards': np.arange(size)}


def test_the_callers_batch_is_validated_and_single(toy: Pair) -> None:
    batch = cases.batch_of(toy, Case(batch=toy_batch()))
    assert [array.dtype.name for array in batch.values()] == ['float32', 'float32', 'int64']


def test_the_callers_bad_batch_is_refused(toy: Pair, raised: Lines) -> None:
    lines = raised(
        lambda: cases.batch_of(
            toy, Case(batch={**toy_batch(), 'rewards': np.array([1.0, np.nan], np.float32)})
        )
    )
    assert lines[1] == (
        '  rewards: expected shape (3,), found f32[2]; '
        'rewards: expected finite values, found 1 NaN or infinite of 2'
    )


def test_a_value_beyond_float32_is_refused(toy: Pair, raised: Lines) -> None:
    batch = {**toy_batch(), 'rewards': np.array([1.0, 1e300, 1.0])}
    assert raised(lambda: cases.batch_of(toy, Case(batch=batch)))[0] == 'the batch cannot be used'


def test_a_batch_from_a_file(toy: Pair, tmp_path: Path) -> None:
    path = tmp_path / 'batch.safetensors'
    save_file(toy_batch(), path)
    batch = cases.batch_of(toy, Case(source=str(path)))
    assert all(np.array_equal(batch[name], array) for name, array in toy_batch().items())


@pytest.mark.parametrize(
    ('content', 'cause'), [(None, 'FileNotFoundError'), (b'not tensors', 'SafetensorError')]
)
def test_an_unreadable_file(
    toy: Pair, tmp_path: Path, content: bytes | None, cause: str, raised: Lines
) -> None:
    path = tmp_path / 'batch.safetensors'
    if content is not None:
        path.write_bytes(content)
    lines = raised(lambda: cases.batch_of(toy, Case(source=str(path))))
    assert lines[0] == f'cannot read the batch {path}'
    assert lines[1].startswith(f'  expected a safetensors file; found {cause}: ')
    assert lines[2:] == [
        '  error: unreadable',
        f'  at: {path}',
        '  next: write it with safetensors.numpy.save_file({...}, path)',
    ]


def test_a_letter_of_unknown_size_is_named(toy: Pair, raised: Lines) -> None:
    other = Pair('other', 'toy_agents:Agent', 'toy_agents:Agent', batch={'goals': 'B G'})
    assert 'G' in raised(lambda: cases.batch_of(other, Case()))[1]
    assert cases.batch_of(other, Case(sizes={'G': 2}))['goals'].shape == (5, 2)  # twin


# --- the configuration


def test_the_configuration_has_the_last_word_from_the_case(toy: Pair) -> None:
    case = Case(sizes={'B': 3, 'L': 6}, config={'hidden_dims': (5,), 'const_std': False})
    assert cases.config_of(toy, case, cases.batch_of(toy, case)) == {
        **CONFIG,
        'hidden_dims': (5,),
        'const_std': False,
        'batch_size': 3,
        'latent_dim': 6,
    }
    plain = cases.config_of(toy, Case(), cases.batch_of(toy, Case()))
    assert (plain['hidden_dims'], plain['latent_dim']) == ((12, 10), cases.DEFAULT_SIZES['L'])


def test_unknown_config_key(toy: Pair, raised: Lines) -> None:
    case = Case(config={'alfa': 1})
    assert raised(lambda: cases.config_of(toy, case, cases.batch_of(toy, case))) == [
        'unknown config key: alfa',
        f"  expected one of {', '.join(sorted(CONFIG))}; found 'alfa'",
        '  error: 1 unknown; allowed: 0',
        '  at: pair toy',
        '  next: parity list toy',
    ]


def test_extra_inputs_follow_the_configuration(toy: Pair) -> None:
    case = Case(config={'latent_dim': 9})
    batch = cases.batch_of(toy, case)
    extra = cases.extra_of(toy, case, cases.config_of(toy, case, batch), batch)
    assert extra['latents'].shape == (5, 9)


# --- parameters and keys


def state() -> State:
    params = {
        f'modules_{name}/Dense_0/kernel': np.zeros((2, 3), np.float32)
        for name in ('critic', 'target', 'actor')
    }
    counts = dict.fromkeys(params, np.array(0, np.int32))
    return State(params, params, params, counts, np.array([0, 1], np.uint32))


def kernels(pair: Pair, **fields: Any) -> dict[str, np.ndarray]:
    params = cases.perturbed(state(), pair, Case(**fields)).params
    return {path.split('/')[0].removeprefix('modules_'): leaf for path, leaf in params.items()}


def test_every_parameter_gets_its_own_noise(toy: Pair) -> None:
    values = np.concatenate([leaf.ravel() for leaf in kernels(toy).values()])
    assert len(set(values.tolist())) == 18
    assert values.dtype == np.float32
    assert 0.02 < values.std() < 0.5


def test_the_seed_decides_the_noise(toy: Pair) -> None:
    assert np.array_equal(kernels(toy, seed=1)['actor'], kernels(toy, seed=1)['actor'])
    assert not np.array_equal(kernels(toy, seed=1)['actor'], kernels(toy, seed=2)['actor'])


def test_tied_makes_the_members_of_ensembles_equal(toy: Pair) -> None:
    tied = {name: bool((leaf[0] == leaf[1]).all()) for name, leaf in kernels(toy, values='tied').items()}
    assert tied == {'critic': True, 'target': False, 'actor': False}


def test_zero_makes_all_parameters_zero(toy: Pair) -> None:
    assert not any(leaf.any() for leaf in kernels(toy, values='zero').values())


def test_keys_differ_by_seed() -> None:
    keys = [cases.key_of(seed) for seed in (0, 1, 2**32 - 1)]
    assert {(key.dtype.name, key.shape) for key in keys} == {('uint32', (2,))}
    assert len({tuple(key.tolist()) for key in keys}) == 3


@pytest.mark.parametrize(
    ('batch', 'reduction'),
    [
        ({}, 3),
        ({'rewards': np.zeros(32)}, 32),
        ({'images': np.zeros((4, 5, 6, 3))}, 120),
        ({'low': np.zeros(())}, 3),
    ],
)
def test_the_longest_sum(batch: dict[str, np.ndarray], reduction: int) -> None:
    assert cases.Inputs(0, {}, batch, {}, cases.key_of(0), state()).reduction == reduction


def test_all_pairs_of_rows_are_a_longer_sum() -> None:
    inputs = cases.Inputs(0, {}, {'x': np.zeros((16, 3))}, {}, cases.key_of(0), state())
    assert dataclasses.replace(inputs, pairwise=True).reduction == 256 > inputs.reduction


# --- a batch that is rounded differently


@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_a_nudged_batch_moves_by_roundings_and_keeps_bounds_and_ties(dtype: str) -> None:
    actions = np.array([[-1.0, 0.3], [1.0, np.nextafter(np.float32(1), np.float32(0))]], np.float32)
    batch = {'actions': actions, 'next_actions': actions, 'labels': np.array([3, 0], np.int32)}
    step = SCALES[dtype]
    moved = cases.nudged(batch, 0, step, dtype)
    assert moved['actions'].dtype == dtype
    assert np.array_equal(moved['actions'][:, 0], [-1, 1])
    assert np.array_equal(moved['actions'], moved['next_actions'])
    off = 1 - moved['actions'][:, 1] / actions[:, 1].astype(np.float64)
    assert (off > 0.4 * step).all()
    assert (off <= 1.1 * step).all()
    assert moved['labels'] is batch['labels']
    assert not np.array_equal(moved['actions'], cases.nudged(batch, 1, step, dtype)['actions'])


def test_bounds_puts_bare_vectors_past_the_bounds_of_a_log_sigma_and_other_styles_do_not(toy: Pair) -> None:
    leaves = {
        'modules_actor/log_stds': np.zeros(3, np.float32),
        'modules_actor/kernel': np.zeros((3, 2), np.float32),
    }
    state = State(leaves, {}, {}, {}, cases.key_of(0))
    spread, plain = (cases.perturbed(state, toy, Case(values=style)).params for style in ('bounds', 'plain'))
    log_stds = spread['modules_actor/log_stds']
    assert log_stds.min() < -5
    assert log_stds.max() > 2
    assert log_stds.dtype == np.float32
    assert np.abs(plain['modules_actor/log_stds']).max() < 1
    np.testing.assert_array_equal(spread['modules_actor/kernel'], plain['modules_actor/kernel'])
