"""Generated cases use every value of every switch, a batch of one and every style, and are reproducible."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from parity import generated, strategies
from parity.batches import STYLES
from parity.cases import Case
from parity.pair import Pair, registered

SWITCHES: list[Mapping[str, tuple[Any, ...]]] = [
    {},
    {'a': (1,)},
    {'a': (True, False)},
    {'a': (True, False), 'b': ('x', 'y'), 'c': (1, 2)},
    {'a': (1, 2, 3, 4, 5), 'b': (True, False)},
]


def pair_with(switches: Mapping[str, tuple[Any, ...]]) -> Pair:
    return Pair('own', 'm:A', 'm:B', batch={'observations': 'B O'}, switches=switches)


def uncovered(pair: Pair, structures: list[dict[str, Any]]) -> set[tuple[str, Any]]:
    """The values of switches that no structure has, and a batch of one if none has it."""
    needed = {(key, value) for key, values in pair.switches.items() for value in values}
    used = {entry for structure in structures for entry in structure['config'].items()}
    sizes = {('B', structure['sizes'].get('B')) for structure in structures}
    return (needed - used) | ({('B', pair.smallest.get('B', 1))} - sizes)


@pytest.mark.parametrize('switches', SWITCHES, ids=str)
def test_structures_cover_every_switch_and_a_batch_of_one(switches: Mapping[str, tuple[Any, ...]]) -> None:
    pair = pair_with(switches)
    assert uncovered(pair, strategies.structures(pair)) == set()


@pytest.mark.parametrize('name', list(registered()))
def test_structures_of_the_shipped_pairs(name: str) -> None:
    pair = registered()[name]
    structures = strategies.structures(pair)
    assert uncovered(pair, structures) == set()
    assert len(structures) <= 4, 'each structure costs a compilation'


def test_twin_what_a_structure_less_leaves_out_is_seen() -> None:
    pair = pair_with(SWITCHES[4])
    structures = strategies.structures(pair)
    assert uncovered(pair, structures[:3]) == {('a', 4), ('a', 5)}
    assert uncovered(pair, structures[:1] + structures[2:]) == {('a', 2), ('B', 1)}


def test_the_first_structure_is_the_default() -> None:
    first = strategies.structures(pair_with(SWITCHES[3]))[0]
    assert first == {'sizes': {'B': 16, 'O': 17}, 'config': {'a': True, 'b': 'x', 'c': 1}}


def test_structures_have_the_letters_of_the_pair_and_no_square_images() -> None:
    pair = replace(pair_with(SWITCHES[4]), batch={'observations': 'B H W C | image', 'actions': 'B A'})
    sizes = [structure['sizes'] for structure in strategies.structures(pair)]
    assert all(list(size) == ['B', 'A', 'H', 'W'] for size in sizes)
    assert all(size['H'] != size['W'] for size in sizes)
    assert {size['H'] % 2 for size in sizes} == {size['W'] % 2 for size in sizes} == {0, 1}


def test_no_structure_is_smaller_than_the_agent_is_defined_for() -> None:
    pair = replace(pair_with(SWITCHES[3]), smallest={'B': 2})
    assert min(structure['sizes']['B'] for structure in strategies.structures(pair)) == 2
    assert find_smallest(pair) == 2
    assert find_smallest(pair_with(SWITCHES[3])) == 1


def find_smallest(pair: Pair) -> int:
    case = find(strategies.any_cases(pair), lambda case: case.sizes['B'] < 3)
    return case.sizes['B']


def test_every_structure_makes_a_case(toy: Pair) -> None:
    assert all(Case(**structure).sizes == structure['sizes'] for structure in strategies.structures(toy))


# --- hypothesis

QUIET = settings(
    deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)


@QUIET
@given(st.data())
def test_cases_have_a_structure_of_the_few(toy: Pair, data: st.DataObject) -> None:
    case = data.draw(strategies.cases(toy))
    assert {'sizes': case.sizes, 'config': case.config} in strategies.structures(toy)
    assert case.values in STYLES


def test_cases_shrink_to_the_default(toy: Pair) -> None:
    smallest = find(strategies.cases(toy), lambda _: True, settings=settings(QUIET, database=None))
    assert smallest == Case(**strategies.structures(toy)[0])


@QUIET
@given(st.data())
def test_any_cases_have_any_sizes_and_switches(toy: Pair, data: st.DataObject) -> None:
    case = data.draw(strategies.any_cases(toy))
    assert set(case.sizes) == set('ABLO')
    assert set(case.sizes.values()) <= set(strategies.SIZES)
    assert case.config.keys() == toy.switches.keys()
    assert all(value in toy.switches[key] for key, value in case.config.items())


@pytest.mark.parametrize('wanted', [{'actor_loss': 'ddpgbc', 'const_std': True}, {'actor_loss': 'bc'}])
def test_any_cases_reach_combinations_that_no_structure_has(wanted: dict[str, Any], toy: Pair) -> None:
    first = settings(QUIET, phases=[Phase.generate], max_examples=500)
    find(strategies.any_cases(toy), lambda case: wanted.items() <= case.config.items(), settings=first)


# --- generated cases


def test_generated_cases_are_the_same_again(toy: Pair) -> None:
    made = generated.generated_cases(toy, 12, seed=3)
    assert made == generated.generated_cases(toy, 12, seed=3)
    assert made[:4] == generated.generated_cases(toy, 4, seed=3)


def test_twin_another_seed_gives_other_values_of_the_same_structures(toy: Pair) -> None:
    one, two = (generated.generated_cases(toy, 12, seed) for seed in (3, 4))
    assert all(a.seed != b.seed for a, b in zip(one, two, strict=True))
    assert [replace(case, seed=0) for case in one] == [replace(case, seed=0) for case in two]


def test_each_case_has_its_own_seed(toy: Pair) -> None:
    assert len({case.seed for case in generated.generated_cases(toy, 50, 0)}) == 50


@pytest.mark.parametrize('switches', SWITCHES, ids=str)
def test_generated_cases_go_round_structures_and_styles(switches: Mapping[str, tuple[Any, ...]]) -> None:
    pair = pair_with(switches)
    structures = strategies.structures(pair)
    made = generated.generated_cases(pair, len(structures) * len(STYLES), 0)
    used = [(structures.index({'sizes': case.sizes, 'config': case.config}), case.values) for case in made]
    assert {index for index, _ in used} == set(range(len(structures)))
    assert {style for _, style in used} == set(STYLES)
    assert len(set(used)) == len(used), 'the same structure again with the same style'


def test_all_cases_are_the_recorded_and_the_generated(toy: Pair) -> None:
    made = generated.all_cases(toy, 2, seed=5)
    recorded = [case for case in made if case.source != 'generated']
    assert [(case.source, case.seed, case.sizes) for case in recorded] == [
        ('halfcheetah', 5, {'B': 16}),
        ('walker2d', 5, {'B': 16}),
    ]
    assert made[2:] == generated.generated_cases(toy, 2, 5)


def test_many_generated_cases_meet_structures_of_any_size_and_switch(toy: Pair) -> None:
    count = generated.PER_STRUCTURE
    made = generated.generated_cases(toy, 3 * count, 0)
    structures = [{'sizes': case.sizes, 'config': case.config} for case in made]
    known = strategies.structures(toy)
    assert all(structure in known for structure in structures[:count])
    for first in (count, 2 * count):
        block = structures[first : first + count]
        assert all(structure == block[0] for structure in block)
        assert block[0] not in known
        assert set(block[0]['sizes']) == set('ABLO')
        assert {case.values for case in made[first : first + count]} == set(STYLES)
    assert structures[count] != structures[2 * count]


def test_a_pair_of_images_has_no_recorded_cases(toy: Pair) -> None:
    pair = replace(toy, batch={**toy.batch, 'observations': 'B H W C | image'})
    assert generated.all_cases(pair, 2, seed=5) == generated.generated_cases(pair, 2, 5)
