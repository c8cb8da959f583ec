"""Conditions of a port that are constants are named where no value tells which line is wrong."""

import pytest

from parity import Case, registered
from parity.locating.switches import never_asked
from parity.runs import Runs
from parity_tests.engine.planting import Substitution, planted

pytestmark = pytest.mark.xdist_group('iql')

CASE = Case(sizes={'B': 3})


@pytest.mark.parametrize(
    ('file', 'condition', 'constant', 'taken'),
    [
        ('networks.py', 'if self.num_ensembles > 1:', 'if True:', 'always'),
        ('layers.py', "if mode == 'fan_in' else", 'if False else', 'never'),
    ],
)
@pytest.mark.parametrize('stage', ['params', 'loss'])
def test_a_constant_condition_is_found(
    file: str, condition: str, constant: str, taken: str, stage: str
) -> None:
    """Whether or not the port gets as far as the stage."""
    with planted('iql', Substitution(file, condition, constant)) as made:
        (finding,) = never_asked(Runs(made.pair, CASE), stage)
    assert finding.port is not None
    assert (finding.port.file.rsplit('/')[-1], finding.port.line) in made.lines
    assert constant in finding.port.text
    assert finding.why == f'nothing is asked: the branch is {taken} taken'
    assert not finding.is_explained


def test_twin_conditions_that_ask_something_are_not_named() -> None:
    assert never_asked(Runs(registered()['iql'], CASE), 'loss') == []
