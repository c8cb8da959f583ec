"""`parity.locate` from end to end: bugs planted in the ports are found with file, line and cause."""

from collections.abc import Iterator

import pytest

import parity
from parity import Case, Divergence, registered
from parity.locating.causes import UNKNOWN
from parity.locating.divergence import Finding
from parity_tests.engine.bugs import BUGS, Bug
from parity_tests.engine.planting import Planted, planted
from parity_tests.engine.test_examples import FOLDER, NAMES

pytestmark = pytest.mark.slow

CHECKED = [bug for bug in BUGS if bug.cause]
NAMED = {bug.name: bug for bug in BUGS}
# Bugs that are planted together: in one file, and in several.
SEVERAL = [
    ('mask left out', 'temperature dropped'),
    ('sum for mean', 'clip dropped'),
    ('exact gelu', "s for s' in the target"),
    ('LayerNorm epsilon of torch', 'log-probability of the wrong sign'),
    ('exact gelu', 'maximum for minimum', 'next actions cloned'),
]


def places(finding: Finding) -> tuple[str, int, str]:
    """(file, line, text) of the port; nowhere if none is known."""
    port = finding.port
    return (port.file.rsplit('/', 1)[-1], port.line, port.text) if port else ('', 0, '')


def found_of(bug: Bug, lines: frozenset[tuple[str, int]], found: Divergence) -> Finding | None:
    """The first finding at one of the changed lines, or at one that is as right an answer."""
    for finding in found.findings:
        file, line, text = places(finding)
        if (file, line) in lines or any(other in text for other in bug.lines):
            return finding
    return None


def cause_of(finding: Finding) -> str:
    return finding.cause.name if finding.cause else UNKNOWN


@pytest.fixture
def planted_bugs(request: pytest.FixtureRequest) -> Iterator[tuple[list[Bug], Planted]]:
    """The bugs of these names, all in one copy of the port."""
    bugs = [NAMED[name] for name in request.param]
    with planted(bugs[0].agent, *(bug.substitution for bug in bugs)) as made:
        yield bugs, made


def test_there_are_enough_bugs_of_every_kind() -> None:
    assert len(CHECKED) >= 40
    assert len({bug.agent for bug in CHECKED}) >= 4
    assert {bug.kind for bug in CHECKED} == {'forward', 'backward', 'draw', 'update'}


@pytest.mark.parametrize('bug', CHECKED, ids=str)
def test_a_bug_is_found_with_its_line_and_its_cause(bug: Bug) -> None:
    with planted(bug.agent, bug.substitution) as made:
        found = parity.locate(made.pair, case=bug.case)
    finding = found_of(bug, made.lines, found)
    shown = [(*places(one), cause_of(one)) for one in found.findings]
    assert finding is not None, shown
    assert (finding.rank <= bug.rank, cause_of(finding)) == (True, bug.cause), shown


@pytest.mark.parametrize('planted_bugs', SEVERAL, indirect=True, ids=' and '.join)
def test_several_bugs_are_found_at_once(planted_bugs: tuple[list[Bug], Planted]) -> None:
    """Each line among as many first places as there are bugs, and each with its cause."""
    bugs, made = planted_bugs
    found = parity.locate(made.pair, case=bugs[0].case)
    for bug in bugs:
        with planted(bug.agent, bug.substitution) as alone:
            finding = found_of(bug, alone.lines, found)
        shown = [(*places(one), cause_of(one)) for one in found.findings]
        assert finding is not None, (bug.name, shown)
        assert (finding.rank <= len(bugs), cause_of(finding)) == (True, bug.cause), (bug.name, shown)


def test_twin_a_line_that_was_not_changed_is_not_found() -> None:
    bug, other = NAMED['maximum for minimum'], NAMED['sum for mean']
    with planted(bug.agent, bug.substitution) as made:
        found = parity.locate(made.pair, case=bug.case)
    with planted(other.agent, other.substitution) as unlike:
        assert found_of(other, unlike.lines, found) is None
    assert found_of(bug, made.lines, found) is not None


@pytest.mark.parametrize('name', sorted(registered()))
def test_a_correct_agent_has_no_findings(name: str) -> None:
    found = parity.locate(name, case=Case(seed=1))
    assert (found.outcome, found.stages, found.findings, found.notes) == ('match', (), (), ())


@pytest.mark.skipif(not FOLDER.exists(), reason='not in a source tree')
@pytest.mark.parametrize('name', NAMES)
def test_a_correct_example_has_no_findings(name: str) -> None:
    found = parity.locate(f'examples.{name}.pair:PAIR', case=Case(seed=1))
    assert (found.outcome, found.stages, found.findings, found.notes) == ('match', (), (), ())
