"""JUnit XML: a test case for everything that was checked, and never green without a match."""

from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from parity.cli import app
from parity.report import junit
from parity.verdict import CaseResult, StageResult, Verdict


def parsed(*verdicts: Verdict) -> ElementTree.Element:
    return ElementTree.fromstring(junit.document(verdicts))


def test_a_suite_per_pair_and_a_test_case_per_stage(made: SimpleNamespace) -> None:
    root = parsed(
        made.verdict('match', 'mismatch', 'error', 'not_run'), Verdict('other', (made.case('match'),))
    )
    assert [suite.get('name') for suite in root] == ['toy', 'other']
    assert [case.get('name') for case in root[0].iter('testcase')] == [
        'loss float64 [seed 3]',
        'grads float64 [seed 3]',
        'update float32 [seed 3]',
        'actions float32 [seed 3]',
    ]
    assert {case.get('classname') for case in root[0].iter('testcase')} == {'parity.toy'}
    counts = {name: root[0].get(name) for name in ('tests', 'failures', 'errors', 'skipped', 'time')}
    assert counts == {'tests': '4', 'failures': '1', 'errors': '1', 'skipped': '1', 'time': '1.26'}
    assert root[0].find('properties/property').attrib == {'name': 'numpy', 'value': '2'}


def test_a_match_has_nothing_to_say(made: SimpleNamespace) -> None:
    (case,) = parsed(made.verdict('match')).iter('testcase')
    assert list(case) == []


def test_a_mismatch_is_a_failure_with_the_five_parts(made: SimpleNamespace) -> None:
    (failure,) = parsed(made.verdict('mismatch')).iter('failure')
    assert failure.get('message') == 'toy: grads differs in float64: missing path of b'
    assert failure.text.split('\n') == made.failure


def test_what_could_not_be_checked_is_an_error(made: SimpleNamespace) -> None:
    (error,) = parsed(made.verdict('error')).iter('error')
    assert error.get('message') == 'toy: could not check update'
    assert 'found ValueError: no' in error.text
    assert 'next: parity check toy --seed 3' in error.text


def test_what_was_not_run_is_skipped_with_its_reason(made: SimpleNamespace) -> None:
    (skipped,) = parsed(made.verdict('not_run')).iter('skipped')
    assert skipped.get('message') == 'no observations'


@pytest.mark.parametrize('cases', [(), (CaseResult('n', 'd', 'c', ()),)])
def test_nothing_is_not_green(cases: tuple[CaseResult, ...]) -> None:
    (suite,) = parsed(Verdict('toy', cases))
    assert (suite.get('tests'), suite.get('errors')) == ('1', '1')
    assert suite.find('testcase/error').get('message') == 'toy: could not check anything'


def test_a_mismatch_without_leaves_is_not_green() -> None:
    odd = StageResult('loss', 'float64', 'mismatch')
    (suite,) = parsed(Verdict('toy', (CaseResult('n', 'd', 'c', (odd,)),)))
    assert suite.get('errors') == '1'


HOSTILE = 'a\x00b\x1b[31m\ud800\uffff]]><x y="&'


def test_what_xml_cannot_hold_is_replaced(tmp_path: Path) -> None:
    broken = StageResult(HOSTILE, HOSTILE, 'error', (), HOSTILE)
    verdict = Verdict(HOSTILE, (CaseResult(HOSTILE, HOSTILE, HOSTILE, (broken,)),), {HOSTILE: HOSTILE})
    path = junit.write([verdict], tmp_path / 'new' / 'junit.xml')
    (suite,) = ElementTree.parse(path).getroot()
    assert suite.get('name') == 'a\ufffdb\ufffd[31m\ufffd\ufffd]]><x y="&'
    assert list(path.parent.iterdir()) == [path]


def test_twin_what_xml_cannot_hold_breaks_it() -> None:
    with pytest.raises(ElementTree.ParseError):
        ElementTree.fromstring('<a>\x00</a>')


def test_the_command_line_writes_it(tmp_path: Path) -> None:
    path = tmp_path / 'ci' / 'junit.xml'
    words = ['run', 'parity_tests.engine.broken_ports:OTHER_DEFAULT', '--stage', 'config', '--examples', '1']
    result = CliRunner().invoke(app, [*words, '--reports', str(tmp_path / 'reports'), '--junit', str(path)])
    assert result.exit_code == 1, result.output
    assert f'wrote {path}' in result.output
    (suite,) = ElementTree.parse(path).getroot()
    assert int(suite.get('failures')) == int(suite.get('tests')) > 0
    names = {file.name for file in (tmp_path / 'reports').iterdir()}
    pages = {f'{stem}.{kind}' for stem in ('other_default', 'index') for kind in ('html', 'json')}
    assert names == pages | {'other_default-locate.html', 'other_default-locate.json'}
