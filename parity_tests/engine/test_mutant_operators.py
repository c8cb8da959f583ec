"""Each operator makes the change that it is for, and leaves alone what only looks like it."""

import ast
from pathlib import Path

import pytest

from parity.errors import ParityError
from parity.mutating.mutants import Mutant, mutants_of, operators_of
from parity.mutating.plan import sample
from parity.mutating.results import reasons_for
from parity.mutating.sources import Source, sources_of
from parity.pair import find, registered
from parity_tests.engine.mutations import MUTATIONS


def mutants(folder: Path, text: str, *operators: str) -> list[Mutant]:
    """The mutants of a file with this text."""
    path = folder / 'port.py'
    path.write_text(f'{text}\n')
    return mutants_of(Source('port', path), operators)


def lines_of(text: str) -> list[str]:
    """Its lines, without indentation."""
    return [line.strip() for line in text.splitlines()]


def test_every_operator_has_an_example_and_says_what_it_stands_for() -> None:
    assert {operator.name for operator in operators_of()} == set(MUTATIONS)
    assert all(len(operator.mistake) > 20 for operator in operators_of())


@pytest.mark.parametrize('name', MUTATIONS)
def test_the_operator_makes_its_change(name: str, tmp_path: Path) -> None:
    before, line, _ = MUTATIONS[name]
    found = mutants(tmp_path, before, name)
    assert any(line in lines_of(mutant.text) for mutant in found), [mutant.text for mutant in found]
    assert all(mutant.operator == name and mutant.text != f'{before}\n' for mutant in found)


@pytest.mark.parametrize('name', MUTATIONS)
def test_the_operator_leaves_its_twin_alone(name: str, tmp_path: Path) -> None:
    assert mutants(tmp_path, MUTATIONS[name][2], name) == []


@pytest.mark.parametrize('name', MUTATIONS)
def test_mutants_are_python(name: str, tmp_path: Path) -> None:
    for mutant in mutants(tmp_path, MUTATIONS[name][0]):
        ast.parse(mutant.text)


def test_two_operators_that_make_one_change_make_one_mutant(tmp_path: Path) -> None:
    found = mutants(tmp_path, 'a = clip(a, -1, 1)\nx = gelu(x)')
    assert len({mutant.text for mutant in found}) == len(found)


def test_what_is_only_said_is_left_alone(tmp_path: Path) -> None:
    said = '"""-x."""\nimport torch\nassert x - y\nif x - y:\n    raise ValueError(-x.mean())\n'
    assert mutants(tmp_path, said) == []


def test_a_mutant_tells_what_it_changes(tmp_path: Path) -> None:
    (mutant,) = mutants(tmp_path, 'a = 1\nloss = f(\n    -q,\n)\nb = 2', 'sign')
    assert (mutant.before, mutant.after, mutant.lines) == ('-q,', 'q,', (2, 4))
    assert (mutant.file, mutant.module, mutant.operator) == ('port.py', 'port', 'sign')
    assert '-    -q,' in mutant.diff.splitlines()
    assert '+    q,' in mutant.diff.splitlines()


def test_the_same_mutant_has_the_same_id_and_another_one_another(tmp_path: Path) -> None:
    first, again = (mutants(tmp_path, 'x = -a\ny = -a', 'sign') for _ in range(2))
    assert [mutant.id for mutant in first] == [mutant.id for mutant in again]
    assert len({mutant.id for mutant in first}) == 2


def test_formatting_and_comments_stay(tmp_path: Path) -> None:
    text = 'x = f( a,b )  # why\nloss = -q  # because'
    (mutant,) = mutants(tmp_path, text, 'sign')
    assert mutant.text == 'x = f( a,b )  # why\nloss = q  # because\n'


def test_an_unknown_operator_is_refused() -> None:
    with pytest.raises(ParityError, match='unknown operator: none_such'):
        operators_of(['none_such'])


def test_a_file_that_is_not_python_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParityError, match=r'cannot read port\.py'):
        mutants(tmp_path, 'x = (')


def test_every_declared_equivalent_is_a_mutant_of_the_port() -> None:
    sources = {source.file: source for name in registered() for source in sources_of(find(name))}
    declared = reasons_for(sources.values())
    operators: dict[str, set[str]] = {}  # of each file
    for file, operator, *_ in declared:
        operators.setdefault(file, set()).add(operator)
    made = {mutant.key for file in operators for mutant in mutants_of(sources[file], operators[file])}
    assert set(declared) <= made


def test_a_sample_is_of_all_operators_and_without_what_is_declared_equivalent(tmp_path: Path) -> None:
    every = mutants(tmp_path, 'a = -x\nb = -y\nc = -z\nq = torch.minimum(q1, q2)')
    operators = {mutant.operator for mutant in every}
    assert {mutant.operator for mutant in sample(every, len(operators), 0)} == operators
    assert sample(every, 1000, 0, {every[0].key}).count(every[0]) == 0
    assert len(sample(every, 1000, 0, {every[0].key})) == len(every) - 1 == len(sample(every, 1000, 0)) - 1
