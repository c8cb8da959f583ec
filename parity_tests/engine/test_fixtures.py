"""The recorded data: verified when loaded, real, batched by the rules. Each check has a twin that fails."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import count, pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fixtures
from fixtures import batches, collecting, goals, manifest, recheck, record, store
from fixtures.files import Arrays, sha256
from fixtures.goals import GoalLaw

CONFIG = {f'{role}_p_{kind}goal': 0.0 for role in ('value', 'actor') for kind in ('cur', 'random')} | {
    'value_p_trajgoal': 1.0,
    'actor_p_trajgoal': 1.0,
    'value_geom_sample': True,
    'actor_geom_sample': False,
    'value_geom_start_offset': 0,
    'actor_geom_start_offset': 0,
    'gc_negative': True,
    'relabel_reward': False,
    'discount': 0.99,
    'latent_dim': 7,
}
FILES = [('transitions', name) for name in fixtures.names()] + [
    ('goldens', name) for name in fixtures.goldens()
]
WALKER = 'walker2d.safetensors'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small copy of the package's data which a test may damage."""
    for path in (manifest.FILE, WALKER, 'halfcheetah.safetensors', 'goldens/iql-awr-f32.safetensors'):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        shutil.copy(manifest.ROOT / path, tmp_path / path)
    edit_manifest(tmp_path, lambda m: m.update(goldens={'iql-awr-f32': m['goldens']['iql-awr-f32']}))
    return tmp_path


def edit_manifest(root: Path, change: Callable[[dict], object]) -> None:
    content = json.loads((root / manifest.FILE).read_text())
    change(content)
    (root / manifest.FILE).write_text(json.dumps(content))


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def raised(call: Callable[[], object]) -> list[str]:
    with pytest.raises(fixtures.FixtureError) as caught:
        call()
    return str(caught.value).split('\n')


# --- loading


@pytest.mark.parametrize(('kind', 'name'), FILES)
def test_every_listed_file_is_the_recorded_one(kind: manifest.Kind, name: str) -> None:
    arrays, _ = store.load(manifest.ROOT, kind, name)
    entry = store.find(manifest.ROOT, kind, name)
    assert len(arrays) == entry['tensors'] > 0
    assert entry['versions']['numpy']
    assert entry['command']


def unlisted_and_absent(root: Path) -> set[str]:
    on_disk = {str(path.relative_to(root)) for path in root.rglob('*.safetensors')}
    content = manifest.read(root)
    return on_disk ^ {
        entry['path'] for kind in ('transitions', 'goldens') for entry in content[kind].values()
    }


def test_manifest_and_folder_agree() -> None:
    assert unlisted_and_absent(manifest.ROOT) == set()


def test_twin_an_unlisted_and_an_absent_file_are_seen(root: Path) -> None:
    (root / WALKER).rename(root / 'goldens/other.safetensors')
    assert unlisted_and_absent(root) == {WALKER, 'goldens/other.safetensors'}


def test_flipped_byte(root: Path) -> None:
    recorded = sha256((root / WALKER).read_bytes())
    flip_a_byte(root / WALKER)
    assert raised(lambda: fixtures.load_transitions('walker2d', root)) == [
        'fixture walker2d is not the recorded file',
        f'  expected sha256 {recorded}, found sha256 {sha256((root / WALKER).read_bytes())}',
        '  error: the content differs; allowed: no difference',
        f'  at: {root / WALKER}',
        '  next: parity record',
    ]


def test_flipped_byte_of_a_golden(root: Path) -> None:
    flip_a_byte(root / 'goldens/iql-awr-f32.safetensors')
    lines = raised(lambda: fixtures.load_golden('iql-awr-f32', root))
    assert lines[0] == 'fixture iql-awr-f32 is not the recorded file'
    assert lines[4] == '  next: copy fixtures/goldens/iql-awr-f32.safetensors again'


def test_the_packages_own_files_come_back_from_git() -> None:
    assert manifest.restore(manifest.ROOT, WALKER, 'transitions') == f'git checkout -- fixtures/{WALKER}'


def test_truncated_file(root: Path) -> None:
    data = (root / WALKER).read_bytes()
    (root / WALKER).write_bytes(data[:1000])
    assert raised(lambda: fixtures.load_transitions('walker2d', root))[1:3] == [
        f'  expected {len(data)} bytes, found 1000 bytes',
        f'  error: {1000 - len(data)} bytes; allowed: 0',
    ]


def test_missing_file(root: Path) -> None:
    size = (root / WALKER).stat().st_size
    (root / WALKER).unlink()
    assert raised(lambda: fixtures.load_transitions('walker2d', root)) == [
        'fixture walker2d is not the recorded file',
        f'  expected {size} bytes, found: No such file or directory',
        '  error: unreadable; allowed: readable',
        f'  at: {root / WALKER}',
        '  next: parity record',
    ]


def test_missing_entry(root: Path) -> None:
    edit_manifest(root, lambda m: m['transitions'].pop('walker2d'))
    assert raised(lambda: fixtures.load_transitions('walker2d', root)) == [
        'fixture walker2d is not listed',
        f'  expected an entry transitions/walker2d, found only the file {root / WALKER}',
        '  error: 1 missing; allowed: 0',
        f'  at: {root / "manifest.json"}',
        '  next: parity record',
    ]


def test_unknown_name() -> None:
    assert raised(lambda: fixtures.load_transitions('hopper')) == [
        'unknown fixture: hopper',
        "  expected one of halfcheetah, walker2d; found 'hopper'",
        '  error: 1 unknown; allowed: 0',
        '  at: fixtures/manifest.json',
        '  next: parity record',
    ]


def test_undecodable_file_with_the_right_hash(root: Path) -> None:
    (root / WALKER).write_bytes(b'no tensors')
    edit_manifest(root, lambda m: m['transitions']['walker2d'].update(bytes=10, sha256=sha256(b'no tensors')))
    assert (
        raised(lambda: fixtures.load_transitions('walker2d', root))[0] == f'{root / WALKER} cannot be decoded'
    )


def test_another_shape_than_listed(root: Path) -> None:
    edit_manifest(root, lambda m: m['transitions']['walker2d']['shapes'].update(rewards='f64[3]'))
    rows = len(fixtures.load_transitions('walker2d')['rewards'])
    expected = f'  expected rewards f64[3]; found rewards f32[{rows}]'
    assert raised(lambda: fixtures.load_transitions('walker2d', root))[1] == expected


@pytest.mark.parametrize(
    ('text', 'found'),
    [
        (None, '  expected manifest.json, found no such file'),
        ('{', '  expected JSON, found Expecting property name enclosed in double quotes'),
        ('[]', '  expected format 1, found list'),
        ('{"format": 2}', '  expected format 1, found 2'),
        ('{"format": 1}', '  expected a table transitions, found None'),
        ('{"format": 1, "transitions": {"a": {}}}', '  expected path, sha256, bytes, tensors'),
    ],
)
def test_broken_manifest(tmp_path: Path, text: str | None, found: str) -> None:
    if text is not None:
        (tmp_path / manifest.FILE).write_text(text)
    lines = raised(lambda: fixtures.names(tmp_path))
    assert lines[0] == 'the fixture manifest cannot be used'
    assert lines[1].startswith(found)
    assert lines[4] == f'  next: rm -f {tmp_path / manifest.FILE} && parity record'


def run_without_simulator(code: str) -> subprocess.CompletedProcess[str]:
    block = 'import sys; sys.modules["gymnasium"] = sys.modules["mujoco"] = None; import fixtures; '
    return subprocess.run(
        [sys.executable, '-c', block + code], cwd=manifest.ROOT.parent, capture_output=True, text=True
    )


def test_loading_needs_no_simulator_and_no_framework() -> None:
    code = (
        '[fixtures.load_transitions(n) for n in fixtures.names()]; print({"torch", "jax"} & set(sys.modules))'
    )
    assert run_without_simulator(code).stdout == 'set()\n'


def test_twin_recording_needs_it_and_says_how_to_get_it() -> None:
    lines = (
        run_without_simulator('import fixtures.record as r; r.record("nowhere")').stderr.rstrip().split('\n')
    )
    assert lines[-5].endswith('FixtureError: recording needs gymnasium with MuJoCo')
    assert lines[-1] == "  next: pip install 'parity[record]'"


def test_the_caller_owns_what_it_loads() -> None:
    fixtures.load_transitions('walker2d')['rewards'][:] = 7
    assert not (fixtures.load_transitions('walker2d')['rewards'] == 7).any()


# --- golden values


def test_golden_views_hold_the_same_tensors() -> None:
    golden = fixtures.load_golden('iql-awr-f64')
    assert golden.meta['agent'] == 'iql'
    assert list(golden.flat('batch')) == sorted(golden.tree('batch')) == sorted(fixtures.TRANSITION_KEYS)
    kernel = golden.tree('params')['modules_critic']['value_net']['Dense_0']['kernel']
    np.testing.assert_array_equal(kernel, golden.tensors['params/modules_critic/value_net/Dense_0/kernel'])


def test_twin_an_unknown_group_is_an_error_not_an_empty_tree() -> None:
    lines = raised(lambda: fixtures.load_golden('iql-awr-f64').tree('parms'))
    assert lines[0] == 'unknown group of golden values: parms'
    assert 'params' in lines[1]


def mask_pairs(batch: Arrays) -> set[tuple[float, float]]:
    return set(zip(batch['relabeled_rewards'].tolist(), batch['relabeled_masks'].tolist(), strict=True))


@pytest.mark.parametrize('name', fixtures.goldens())
def test_golden_batches_follow_the_rules_of_ours(name: str) -> None:
    batch = fixtures.load_golden(name).tree('batch')
    np.testing.assert_array_equal(batch['masks'], 1 - batch['terminals'])
    if 'relabeled_masks' in batch:
        assert mask_pairs(batch) == {(0.0, 0.0), (-1.0, 1.0)}


# --- what was recorded


def shortcomings(data: dict[str, Arrays]) -> list[str]:
    """Which demands on the recorded data as a whole are not met."""
    ends = [t['trajectory_ends'] for t in data.values()]
    terminals = [t['terminals'] for t in data.values()]
    met = {
        'steps': sum(map(len, ends)) >= 4000,
        'trajectories': all(e.sum() >= 10 for e in ends),
        'terminations': any(t.sum() >= 100 for t in terminals),
        'truncations': all((e & (t == 0)).sum() >= 10 for e, t in zip(ends, terminals, strict=True)),
        'terminal is an end': all(e[t == 1].all() for e, t in zip(ends, terminals, strict=True)),
        'actions at both bounds': all({-1, 1} <= set(t['actions'].ravel().tolist()) for t in data.values()),
        'actions inside': all(np.abs(t['actions']).max() <= 1 for t in data.values()),
        'finite': all(np.isfinite(a).all() for t in data.values() for a in t.values()),
        'float32': all(
            a.dtype == (bool if k == 'trajectory_ends' else np.float32)
            for t in data.values()
            for k, a in t.items()
        ),
        'next observations': not any(breaks(t) for t in data.values()),
        'next actions': not any(breaks(t, 'actions') for t in data.values()),
    }
    return [demand for demand, fine in met.items() if not fine]


def breaks(transitions: Arrays, key: str = 'observations') -> int:
    """Rows inside a trajectory whose next value is not the following row's."""
    inside = ~transitions['trajectory_ends'][:-1]
    return int((transitions[f'next_{key}'][:-1] != transitions[key][1:]).any(axis=1)[inside].sum())


def everything() -> dict[str, Arrays]:
    return {name: fixtures.load_transitions(name) for name in fixtures.names()}


def test_the_data_meets_its_demands() -> None:
    assert shortcomings(everything()) == []


def shift(t: Arrays, key: str) -> None:
    t[key] = np.roll(t[key], 1, axis=0)


TWINS: dict[str, Callable[[Arrays], object]] = {
    'steps': lambda t: t.update({key: array[-90:] for key, array in t.items()}),
    'trajectories': lambda t: t['trajectory_ends'][:-1].fill(False),
    'terminations': lambda t: t['terminals'].fill(0),
    'truncations': lambda t: t.update(terminals=t['trajectory_ends'].astype(np.float32)),
    'terminal is an end': lambda t: t['terminals'].fill(1),
    'actions at both bounds': lambda t: np.multiply(t['actions'], 0.9, out=t['actions']),
    'actions inside': lambda t: np.multiply(t['actions'], 1.1, out=t['actions']),
    'finite': lambda t: t['rewards'].__setitem__(3, np.nan),
    'float32': lambda t: t.update(rewards=t['rewards'].astype(np.float64)),
    'next observations': lambda t: shift(t, 'next_observations'),
    'next actions': lambda t: shift(t, 'actions'),
}


@pytest.mark.parametrize('demand', TWINS)
def test_twin_each_demand_can_fail(demand: str) -> None:
    data = everything()
    for transitions in data.values():
        TWINS[demand](transitions)
    assert demand in shortcomings(data)


@pytest.mark.parametrize('name', fixtures.names())
def test_the_last_row_has_the_real_final_observation_and_its_own_action(name: str) -> None:
    t = fixtures.load_transitions(name)
    last = np.flatnonzero(t['trajectory_ends'])
    np.testing.assert_array_equal(t['next_actions'][last], t['actions'][last])
    assert (t['next_observations'][last[:-1]] != t['observations'][last[:-1] + 1]).any(axis=1).all()
    assert (manifest.ROOT / f'{name}.safetensors').stat().st_size < 1_000_000


# --- goals


def trajectories(lengths: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """All rows, and which are ends, of trajectories with these lengths."""
    ends = np.zeros(sum(lengths), bool)
    ends[np.cumsum(lengths) - 1] = True
    return np.arange(len(ends)), ends


def misplaced(rows: np.ndarray, chosen: np.ndarray, ends: np.ndarray, law: GoalLaw) -> int:
    """Trajectory goals which are not later rows (or where allowed the same) of the own trajectory."""
    number = np.concatenate([[0], np.cumsum(ends)[:-1]])
    inside = (chosen >= 0) & (chosen < len(ends))
    same = inside & (number[np.where(inside, chosen, 0)] == number[rows])
    least = law.geom_start_offset if law.geom_sample else 1
    return int(
        (~(same & (chosen >= rows) & ((chosen >= rows + least) | ends[chosen.clip(0, len(ends) - 1)]))).sum()
    )


@settings(deadline=None, max_examples=60)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    geometric=st.booleans(),
    offset=st.integers(0, 4),
    discount=st.sampled_from([0.0, 0.5, 0.99, 1 - 1e-15]),
    seed=st.integers(0, 99),
)
def test_trajectory_goals_stay_in_the_trajectory(
    lengths: list[int], geometric: bool, offset: int, discount: float, seed: int
) -> None:
    rows, ends = trajectories(lengths)
    law = GoalLaw(0, 1, 0, geometric, offset, discount)
    chosen = goals.sample_goals(rows, ends, law, np.random.default_rng(seed))
    assert misplaced(rows, chosen, ends, law) == 0
    assert (chosen[ends] == rows[ends]).all()  # at the last row there is no later one
    assert misplaced(rows, chosen + 1, ends, law) > 0  # twin: one row too far
    assert misplaced(rows, chosen - len(rows), ends, law) > 0  # twin: another trajectory, or none


def excess_over_bound(draws: np.ndarray, expected: dict[int, float]) -> float:
    """Largest |share - probability| over Hoeffding's bound: above 1 with P < 2e-9 per entry."""
    bound = np.sqrt(np.log(1e9) / (2 * len(draws)))
    return max(abs((draws == value).mean() - p) / bound for value, p in expected.items())


def drawn(law: GoalLaw, row: int, lengths: list[int]) -> np.ndarray:
    _, ends = trajectories(lengths)
    return goals.sample_goals(np.full(100_000, row), ends, law, np.random.default_rng(0))


# Row 0 of 5 rows, in a data set of 20. A random goal is each row with 1/20, also the row and its later ones.
UNIFORM = GoalLaw(0.2, 0.5, 0.3, False, 0, 0.5)
UNIFORM_EXPECTED = {
    0: 0.2 + 0.3 / 20,
    **dict.fromkeys(range(1, 5), 0.5 / 4 + 0.3 / 20),
    5: 0.3 / 20,
    19: 0.3 / 20,
}
GEOMETRIC = {offset: GoalLaw(0, 1, 0, True, offset, 0.5) for offset in (0, 1, 2)}
GEOMETRIC_EXPECTED = {
    0: 0.0,
    1: 0.5,
    2: 0.25,
    3: 0.125,
    4: 0.125,
    5: 0.0,
}  # offset 1; row 4, the last, gets the rest


def test_shares_of_the_kinds_and_a_uniform_later_row() -> None:
    assert excess_over_bound(drawn(UNIFORM, 0, [5, 15]), UNIFORM_EXPECTED) < 1


def test_geometric_distance_cut_at_the_end() -> None:
    assert excess_over_bound(drawn(GEOMETRIC[1], 0, [5, 15]), GEOMETRIC_EXPECTED) < 1
    shifted = {0: 0.5, 1: 0.25, 2: 0.125, 3: 0.0625, 4: 0.0625, 5: 0.0}
    assert excess_over_bound(drawn(GEOMETRIC[0], 0, [5, 15]), shifted) < 1


@pytest.mark.parametrize(
    'law', [GEOMETRIC[0], GEOMETRIC[2], GoalLaw(0, 1, 0, True, 1, 0.48), GoalLaw(0.02, 0.98, 0, True, 1, 0.5)]
)
def test_twin_a_slightly_different_geometric_law_is_seen(law: GoalLaw) -> None:
    assert excess_over_bound(drawn(law, 0, [5, 15]), GEOMETRIC_EXPECTED) > 1


@pytest.mark.parametrize(
    'law', [GoalLaw(0.2, 0.4, 0.4, False, 0, 0.5), GoalLaw(0.25, 0.5, 0.25, False, 0, 0.5)]
)
def test_twin_slightly_different_shares_are_seen(law: GoalLaw) -> None:
    assert excess_over_bound(drawn(law, 0, [5, 15]), UNIFORM_EXPECTED) > 1


def test_every_goal_the_row_itself_divides_by_nothing() -> None:
    rows, ends = trajectories([3, 4])
    chosen = goals.sample_goals(rows, ends, GoalLaw(1, 0, 0, True, 1, 0.9), np.random.default_rng(0))
    np.testing.assert_array_equal(chosen, rows)


def test_without_random_goals_none_can_slip_through() -> None:
    assert goals.trajectory_share(GoalLaw(0.7, 0.3, 0, True, 1, 0.9)) == 1
    assert 0.3 / (1 - 0.7) != 1  # twin: the plain quotient does not do it
    assert goals.trajectory_share(GoalLaw(0.5, 0.25, 0.25, True, 1, 0.9)) == 0.5


@pytest.mark.parametrize(
    ('change', 'expected', 'error'),
    [
        ({'value_p_curgoal': 0.2}, 'sum 1, found (0.2, 1.0, 0.0)', '0.2; allowed: 1e-09'),
        ({'value_p_curgoal': -0.1}, 'shares p_* >= 0, found (-0.1, 1.0, 0.0)', '-0.1; allowed: 0 or more'),
        ({'discount': 1.0}, 'discount in [0,1), found 1.0', 'outside; allowed: inside'),
        ({'actor_geom_start_offset': -1}, 'geom_start_offset >= 0, found -1', '-1; allowed: 0 or more'),
    ],
)
def test_goal_settings_without_meaning(change: dict[str, float], expected: str, error: str) -> None:
    lines = raised(lambda: batch_of(fixtures.GOAL_KEYS, config=CONFIG | change))
    assert lines[1:3] == [f'  expected {expected}', f'  error: {error}']


def test_relabelled_rewards_and_masks() -> None:
    same, other = np.array([3, 3]), np.array([3, 4])
    for negative, expected in ((True, [0, -1]), (False, [1, 0])):
        rewards, masks = goals.relabel(same, other, negative)
        assert (rewards.tolist(), masks.tolist()) == (expected, [0, 1])
        assert rewards.dtype == masks.dtype == np.float32


# --- batches


def batch_of(keys: tuple[str, ...], size: int = 32, seed: int = 0, config: dict | None = None) -> Arrays:
    return fixtures.make_batch(fixtures.load_transitions('walker2d'), keys, size, seed, config or CONFIG)


def same(one: Arrays, other: Arrays) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


@settings(deadline=None, max_examples=25)
@given(
    keys=st.lists(st.sampled_from(fixtures.ALL_KEYS), min_size=1, unique=True).map(tuple),
    size=st.integers(1, 40),
    seed=st.integers(0, 2**32),
)
def test_batch_keys_shapes_and_determinism(keys: tuple[str, ...], size: int, seed: int) -> None:
    batch = batch_of(keys, size, seed)
    assert tuple(batch) == keys
    assert all(array.dtype == np.float32 and array.flags.writeable for array in batch.values())
    assert all(len(batch[key]) == (17 if key in fixtures.RANGE_KEYS else size) for key in keys)
    assert same(batch, batch_of(keys, size, seed))
    assert same(
        batch, {key: batch_of(fixtures.ALL_KEYS, size, seed)[key] for key in keys}
    )  # others do not matter


def test_twin_another_seed_gives_another_batch() -> None:
    for keys in (fixtures.TRANSITION_KEYS, fixtures.GOAL_KEYS, fixtures.LATENT_KEYS, fixtures.MODEL_KEYS):
        assert not same(batch_of(keys), batch_of(keys, seed=1))


def strangers(batch: Arrays, transitions: Arrays, keys: tuple[str, ...], prefix: str = '') -> int:
    """Rows of the batch which are no recorded row, all columns together."""
    table = {row.tobytes() for row in np.column_stack([transitions[key] for key in keys])}
    return sum(row.tobytes() not in table for row in np.column_stack([batch[prefix + key] for key in keys]))


def test_rows_are_recorded_rows() -> None:
    batch, transitions = batch_of(fixtures.ALL_KEYS), fixtures.load_transitions('walker2d')
    keys = tuple(key for key in fixtures.TRANSITION_KEYS if key != 'masks')
    assert strangers(batch, transitions, keys) == strangers(batch, transitions, keys, 'model_') == 0
    assert strangers({'observations': batch['value_goals']}, transitions, ('observations',)) == 0
    np.testing.assert_array_equal(batch['masks'] + batch['terminals'], 1)
    assert 0 < batch['terminals'].sum() < 32
    shift(batch, 'rewards')
    assert strangers(batch, transitions, keys) > 0  # twin: columns of different rows


def test_goal_columns_belong_together() -> None:
    shares = {
        'value_p_curgoal': 0.3,
        'value_p_trajgoal': 0.7,
        'actor_p_curgoal': 1.0,
        'actor_p_trajgoal': 0.0,
    }
    batch = batch_of(fixtures.ALL_KEYS, size=512, config=CONFIG | shares)
    np.testing.assert_array_equal(batch['actor_goals'], batch['observations'])
    success = (batch['value_goals'] == batch['observations']).all(axis=1)
    np.testing.assert_array_equal(batch['relabeled_rewards'], success - np.float32(1))
    np.testing.assert_array_equal(batch['relabeled_masks'], 1 - success)
    assert mask_pairs(batch) == {
        (0.0, 0.0),
        (-1.0, 1.0),
    }  # neither all nor none: the actor's goals would differ
    assert (batch['relabeled_masks'] != batch['masks']).any()  # a state may be reached without falling


def test_each_purpose_has_its_own_stream() -> None:
    transitions, rows = fixtures.load_transitions('halfcheetah'), np.arange(0, 2500, 10)
    config = CONFIG | {'actor_geom_sample': True}
    value, again, actor = (
        batches.goal_rows(transitions, rows, 0, config, role) for role in ('value', 'value', 'actor')
    )
    assert np.array_equal(value, again)
    assert not np.array_equal(value, actor)
    batch = batch_of(fixtures.ALL_KEYS)
    assert not np.array_equal(batch['observations'], batch['model_observations'])


def test_relabel_reward_replaces_the_plain_rewards_and_masks() -> None:
    configs = [CONFIG | {'relabel_reward': on} for on in (False, True)]
    plain, relabelled = (batch_of(fixtures.ALL_KEYS, size=512, config=config) for config in configs)
    np.testing.assert_array_equal(relabelled['rewards'], plain['relabeled_rewards'])
    np.testing.assert_array_equal(relabelled['masks'], plain['relabeled_masks'])
    assert {key for key in plain if not np.array_equal(plain[key], relabelled[key])} == {'rewards', 'masks'}


def test_latents_and_range() -> None:
    batch, observations = batch_of(fixtures.ALL_KEYS), fixtures.load_transitions('walker2d')['observations']
    # Rounding to float32 changes each entry, hence the norm, by at most eps/2 relative.
    norms = np.linalg.norm(batch['latents'].astype(np.float64), axis=1)
    np.testing.assert_allclose(norms, np.sqrt(7), rtol=np.finfo(np.float32).eps / 2)
    np.testing.assert_array_equal(batch['observation_min'], observations.min(axis=0))
    np.testing.assert_array_equal(batch['observation_max'], observations.max(axis=0))
    assert (batch['observation_min'] < batch['observations'].min(axis=0)).any()  # twin: the batch's own range


@pytest.mark.parametrize(
    ('call', 'subject'),
    [
        (lambda: batch_of(('goals',)), 'unknown batch key: goals'),
        (lambda: batch_of(()), 'an empty batch proves nothing'),
        (lambda: batch_of(('rewards',), size=0), 'an empty batch proves nothing'),
        (lambda: batch_of(('latents',), config={'discount': 0.9}), 'unknown setting: latent_dim'),
        (lambda: batch_of(('value_goals',), config={'discount': 0.9}), 'unknown setting: value_p_curgoal'),
        (lambda: fixtures.make_batch({}, ('rewards',), 1, 0), 'transitions are incomplete'),
        (lambda: fixtures.make_batch(unfinished(), ('rewards',), 1, 0), 'transitions are incomplete'),
    ],
)
def test_requests_without_meaning(call: Callable[[], object], subject: str) -> None:
    lines = raised(call)
    assert lines[0] == subject
    assert len(lines) == 5


def unfinished() -> Arrays:
    return {key: array[:-1] for key, array in fixtures.load_transitions('halfcheetah').items()}


# --- recording


class Box:
    shape, low, high = (2,), -1.0, 1.0


class Counting:
    """An environment which counts steps: episodes of 3 (terminated), 4 (truncated), 3, 4, ... steps."""

    action_space = Box

    def __init__(self) -> None:
        self.episode = self.count = 0

    def reset(self, *, seed: int | None = None) -> tuple[np.ndarray, dict]:
        self.episode, self.count = self.episode + 1, 0
        return np.array([100.0 * self.episode]), {'seed': seed}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.count += 1
        falls, ends = self.episode % 2 == 1 and self.count == 3, self.count == 4
        return np.array([100.0 * self.episode + self.count]), 0.5, falls, ends, {}

    def close(self) -> None: ...


def test_collecting_separates_falling_from_the_time_limit() -> None:
    made = collecting.collect(Counting(), collecting.Gait(), steps=8, seed=0)
    assert made['observations'].ravel().tolist() == [100, 101, 102, 200, 201, 202, 203, 300, 301, 302]
    assert made['next_observations'].ravel().tolist() == [101, 102, 103, 201, 202, 203, 204, 301, 302, 303]
    assert np.flatnonzero(made['terminals']).tolist() == [2, 9]
    assert np.flatnonzero(made['trajectory_ends']).tolist() == [2, 6, 9]
    for row, following in pairwise(range(10)):
        expected = row if made['trajectory_ends'][row] else following
        np.testing.assert_array_equal(made['next_actions'][row], made['actions'][expected])


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recording without a simulator: steps are counted instead."""
    monkeypatch.setattr(record, 'transitions', lambda s: collecting.collect(Counting(), s.gait, 8, s.seed))
    for module in (record, recheck):
        monkeypatch.setattr(module, 'versions', lambda: {'numpy': np.__version__})
    monkeypatch.setattr(recheck, 'transitions', lambda source: record.transitions(source))


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob('*') if path.is_file()}


@pytest.mark.usefixtures('simulated')
def test_recording_makes_what_loading_verifies(tmp_path: Path) -> None:
    written = record.record(tmp_path / 'new')
    assert [path.name for path in written] == ['halfcheetah.safetensors', WALKER, manifest.FILE]
    assert len(fixtures.load_transitions('walker2d', tmp_path / 'new')['rewards']) == 10
    assert {path.name for path in (tmp_path / 'new').iterdir()} == {path.name for path in written}
    entry = store.find(tmp_path / 'new', 'transitions', 'walker2d')
    assert (entry['steps'], entry['trajectories'], entry['terminations']) == (10, 3, 2)
    assert entry['command'] == 'parity record --only walker2d'


@pytest.mark.usefixtures('simulated')
def test_recording_one_leaves_the_others_alone(root: Path) -> None:
    before = contents(root)
    fixtures.load_transitions('walker2d', root)  # in the cache, which recording must drop
    record.record(root, only=['walker2d'])
    assert {key for key, data in contents(root).items() if data != before[key]} == {WALKER, manifest.FILE}
    assert len(fixtures.load_transitions('walker2d', root)['rewards']) == 10
    assert fixtures.goldens(root) == ['iql-awr-f32']


def fail(*_: object, **__: object) -> None:
    raise OSError('no space left')


def fails_after(monkeypatch: pytest.MonkeyPatch, holder: object, name: str, good_calls: int) -> None:
    """Let `holder.name` work that often, and then run out of space."""
    real, calls = getattr(holder, name), count()

    def limited(*args: object) -> object:
        if next(calls) >= good_calls:
            raise OSError('no space left')
        return real(*args)

    monkeypatch.setattr(holder, name, limited)


@pytest.mark.usefixtures('simulated')
@pytest.mark.parametrize(
    ('holder', 'name', 'good_calls'),
    [(record, 'transitions', 1), (Path, 'write_bytes', 2), (os, 'replace', 0)],
)
def test_failed_recording_changes_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch, holder: object, name: str, good_calls: int
) -> None:
    before = contents(root)
    fails_after(monkeypatch, holder, name, good_calls)
    with pytest.raises(OSError, match='no space left'):
        record.record(root)
    assert contents(root) == before


@pytest.mark.usefixtures('simulated')
def test_twin_an_interruption_between_files_is_seen(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fails_after(monkeypatch, os, 'replace', 2)
    with pytest.raises(OSError, match='no space left'):
        record.record(root)
    store.forget()
    assert raised(lambda: fixtures.load_transitions('walker2d', root))[0].endswith('is not the recorded file')
    assert not [name for name in contents(root) if name.endswith('.tmp')]


def test_new_goldens_are_listed_and_changed_ones_never_blessed(root: Path) -> None:
    shutil.copy(manifest.ROOT / 'goldens/iql-awr-f64.safetensors', root / 'goldens')
    flip_a_byte(root / 'goldens/iql-awr-f32.safetensors')
    record.record(root, only=['goldens'])
    assert fixtures.goldens(root) == ['iql-awr-f32', 'iql-awr-f64']
    assert fixtures.load_golden('iql-awr-f64', root).meta['dtype'] == 'float64'
    assert raised(lambda: fixtures.load_golden('iql-awr-f32', root))[0].endswith('is not the recorded file')


def test_unknown_source(tmp_path: Path) -> None:
    lines = raised(lambda: record.record(tmp_path, only=['hopper']))
    assert lines[:2] == [
        'unknown source: hopper',
        "  expected one of halfcheetah, walker2d, goldens; found 'hopper'",
    ]
    assert contents(tmp_path) == {}


@pytest.mark.usefixtures('simulated')
def test_recheck_tells_identical_from_different(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record.record(tmp_path)
    assert [str(result) for result in recheck.recheck(tmp_path, only=['walker2d'])] == [
        f'walker2d: bit-identical to {tmp_path / WALKER}'
    ]
    made = fixtures.load_transitions('walker2d', tmp_path)
    monkeypatch.setattr(record, 'transitions', lambda _: made)
    made['actions'] = made['actions'][:9]
    assert not recheck.recheck(tmp_path, only=['walker2d'])[0].identical
    made['rewards'][2] += 0.25
    numpy_version = {'numpy': np.__version__}
    assert [str(result).split('\n') for result in recheck.recheck(tmp_path, only=['walker2d'])] == [
        [
            'walker2d: another recording',
            f'  committed with {numpy_version}, found here {numpy_version}',
            '  error: largest difference actions f32[10,2] -> f32[9,2], rewards 0.25; allowed: 0',
            f'  at: {tmp_path / WALKER}',
            '  next: parity record --only walker2d  (replaces the committed file)',
        ]
    ]


def test_a_diverged_simulation_is_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    simulator = SimpleNamespace(make=lambda *_, **__: Counting())
    monkeypatch.setattr(record, 'gymnasium', lambda: simulator)
    assert len(record.transitions(record.SOURCES[0])['rewards']) >= 2500
    monkeypatch.setattr(Counting, 'reset', lambda self, **_: (np.array([np.nan]), vars(self).update(count=0)))
    lines = raised(lambda: record.transitions(record.SOURCES[0]))
    assert lines[:2] == [
        'HalfCheetah-v5 diverged',
        '  expected finite values, found others in observations',
    ]


@pytest.mark.skipif(importlib.util.find_spec('mujoco') is None, reason='recording needs parity[record]')
def test_real_recording_is_deterministic(tmp_path: Path) -> None:
    for folder in ('one', 'two'):
        record.record(tmp_path / folder)
    assert contents(tmp_path / 'one') == contents(tmp_path / 'two')
    assert (
        shortcomings({name: fixtures.load_transitions(name, tmp_path / 'one') for name in fixtures.names()})
        == []
    )
    assert all(len(str(result)) > 0 for result in recheck.recheck())
