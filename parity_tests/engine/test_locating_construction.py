"""A setting that differs is found at the line that chose it, not where it is passed on or takes effect."""

import inspect
from functools import partial
from typing import Any

import pytest
from torch import nn

from parity.locating.construction import made_otherwise, watched
from parity.locating.divergence import Finding
from parity.locating.interception import ModuleCall
from parity.locating.signatures import other_numbers


class Inner(nn.Module):
    def __init__(self, size: int, scaled: bool = True) -> None:
        super().__init__()
        self.size = size


class Special(Inner):
    def __init__(self, **kwargs: bool) -> None:
        super().__init__(3, **kwargs)


class Outer(nn.Module):
    def __init__(self, scaled: bool = True, depth: int = 2) -> None:
        super().__init__()
        self.inner = partial(Inner, 3)(scaled=scaled)


def built(scaled: bool) -> nn.Module:
    return Outer(
        depth=2,
        scaled=scaled,
    )


def call(path: str, **settings: Any) -> ModuleCall:
    return ModuleCall(path, 0, None, {}, {}, frozenset(), frozenset(), settings)


def located(module: nn.Module, makes: Any, *calls: ModuleCall) -> list[Finding]:
    modules = {'net': module, 'net/inner': module.inner if isinstance(module, Outer) else module}
    return [other.finding('loss', None) for other in made_otherwise(calls, modules, makes)]


def line_of(function: Any, text: str) -> int:
    lines, first = inspect.getsourcelines(function)
    return first + next(i for i, line in enumerate(lines) if text in line)


def test_the_line_that_chose_it() -> None:
    with watched() as makes:
        module = built(scaled=False)  # here
    (finding,) = located(
        module, makes, call('net', scaled=True, depth=2), call('net/inner', scaled=True, size=3)
    )
    assert finding.port is not None
    assert finding.port.line == line_of(test_the_line_that_chose_it, '# here')
    assert finding.why == 'made with scaled False, in the reference with True'
    assert finding.modules == ('net',)  # it has passed it on to the inner one


def test_the_keyword_of_a_call_of_several_lines() -> None:
    with watched() as makes:
        module = built(True)
    (finding,) = located(module, makes, call('net', depth=3))
    assert finding.port is not None
    assert finding.port.line == line_of(built, 'depth=2')


def test_a_subclass_passes_arguments_on_or_chooses_them() -> None:
    with watched() as makes:
        module = Special(scaled=False)  # here
    given, chosen = located(module, makes, call('net', scaled=True, size=4))
    assert (given.port and given.port.line) == line_of(
        test_a_subclass_passes_arguments_on_or_chooses_them, '# here'
    )
    assert (chosen.port and chosen.port.line) == line_of(Special, 'super().__init__')
    assert chosen.why == 'made with size 3, in the reference with 4'


class Further(Special):
    pass


@pytest.mark.parametrize('cls', [Special, Further])
def test_the_default_of_a_class_before_it(cls: type[Special]) -> None:
    with watched() as makes:
        module = cls()
    (finding,) = located(module, makes, call('net', scaled=False))
    assert (finding.port and finding.port.line) == line_of(Inner, 'scaled: bool')


def test_twin_the_same_value_given_is_no_default() -> None:
    options = {'scaled': True}
    with watched() as makes:
        by_name, within = Special(scaled=True), Special(**options)  # here
    for module in (by_name, within):
        (finding,) = located(module, makes, call('net', scaled=False))
        here = line_of(test_twin_the_same_value_given_is_no_default, '# here')
        assert (finding.port and finding.port.line) == here


@pytest.mark.parametrize(
    'settings', [{'scaled': False}, {'width': 3, 'name': 'x'}], ids=['equal', 'of other names']
)
def test_twin_nothing_is_said_of_settings(settings: dict[str, Any]) -> None:
    with watched() as makes:
        module = built(scaled=False)
    assert located(module, makes, call('net', **settings)) == []


def test_modules_are_forgotten_and_torch_is_as_before() -> None:
    initialise = nn.Module.__init__
    with watched() as makes:
        module = built(scaled=False)
    assert nn.Module.__init__ is initialise
    del module
    assert len(makes) == 0


def members(members: int = 2, scale: float = 2.0, *, deep: bool = True, width: int = 1) -> tuple[int, int]:
    return members, width


def test_the_whole_numbers_of_defaults_are_tried_otherwise() -> None:
    found = {}
    for change in other_numbers([members]):
        with change.apply():
            found[change.description] = members()
    assert found == {
        'members=1 instead of 2 by default': (1, 1),
        'members=3 instead of 2 by default': (3, 1),
        'members=4 instead of 2 by default': (4, 1),
        'width=0 instead of 1 by default': (2, 0),
        'width=2 instead of 1 by default': (2, 2),
    }
    assert members() == (2, 1)
