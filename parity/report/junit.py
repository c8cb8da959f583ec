"""Verdicts as JUnit XML, for CI: a test suite per pair, a test case per case, stage and precision."""

import re
from collections.abc import Sequence
from pathlib import Path

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from parity.report import files
from parity.verdict import CaseResult, StageResult, Verdict, could_not_check, describe

# What XML 1.0 has no way to write, not even escaped: a side's message can hold anything.
_FORBIDDEN = re.compile('[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]')


def write(verdicts: Sequence[Verdict], path: Path) -> Path:
    """Write one XML file for all verdicts, whole or not at all."""
    return files.write(path, document(verdicts))


def document(verdicts: Sequence[Verdict]) -> str:
    """The XML text."""
    xml = JUnitXml('parity')
    for verdict in verdicts:
        xml.add_testsuite(_suite(verdict))
    return str(xml.tostring().decode())  # type: ignore[no-untyped-call]  # junitparser has no hint here


def _suite(verdict: Verdict) -> TestSuite:
    suite = TestSuite(_legal(verdict.pair))
    for name, version in verdict.versions.items():
        suite.add_property(_legal(name), _legal(version))
    for case, stage in verdict.stages():
        suite.add_testcase(_testcase(verdict.pair, case, stage))
    for case in verdict.cases:
        if not case.stages:
            suite.add_testcase(_nothing(verdict.pair, case))
    if not verdict.cases:
        suite.add_testcase(_nothing(verdict.pair, None))
    suite.time = round(verdict.seconds, 3)
    return suite


def _testcase(pair: str, case: CaseResult, stage: StageResult) -> TestCase:
    name = f'{stage.stage} {stage.dtype} [{case.description}]'
    testcase = TestCase(_legal(name), _legal(f'parity.{pair}'), round(stage.seconds, 3))
    result = _result(pair, case, stage)
    if result is not None:
        testcase.result = [result]
    return testcase


def _result(pair: str, case: CaseResult, stage: StageResult) -> Failure | Error | Skipped | None:
    if stage.outcome == 'match':
        return None
    if stage.outcome == 'not_run':
        return Skipped(_legal(stage.reason))
    if stage.outcome == 'mismatch' and stage.leaves:
        return _with_text(Failure, describe(pair, case, stage), 'mismatch')
    return _with_text(Error, str(could_not_check(pair, case, stage)), 'error')


def _nothing(pair: str, case: CaseResult | None) -> TestCase:
    """A suite without test cases would look green: what checked nothing is an error."""
    testcase = TestCase('nothing was checked', _legal(f'parity.{pair}'))
    testcase.result = [_with_text(Error, str(could_not_check(pair, case, None)), 'error')]
    return testcase


def _with_text(kind: type[Failure] | type[Error], text: str, name: str) -> Failure | Error:
    """The first line as the message, all of them as the text."""
    result = kind(_legal(text.split('\n')[0]), name)
    result.text = _legal(text)
    return result


def _legal(text: str) -> str:
    return _FORBIDDEN.sub('\N{REPLACEMENT CHARACTER}', text)
