"""The differences of docs/porting.md: each wrong translation is caught, each right one matches."""

import re
from pathlib import Path

import pytest

import parity
from parity_tests.engine.differences import DIFFERENCES, Difference

EVERY = pytest.mark.parametrize('row', DIFFERENCES, ids=lambda row: row.name)


def verdict(row: Difference, port: object) -> parity.Verdict:
    return parity.check_functions(row.reference, port, row.inputs, grads=row.grads, name=row.name)


@EVERY
def test_the_wrong_translation_is_caught(row: Difference) -> None:
    outcomes = {
        stage.stage: stage.outcome
        for _, stage in verdict(row, row.wrong).stages()
        if stage.dtype == 'float64'
    }
    first = next(stage for stage, outcome in outcomes.items() if outcome != 'match')
    found = 'error' if outcomes[first] == 'error' else first
    assert found == row.caught


@EVERY
def test_the_right_translation_matches(row: Difference) -> None:
    verdict(row, row.right).raise_if_mismatch()


# --- the guide and the rows name the same differences

GUIDE = Path(parity.__file__).parents[1] / 'docs' / 'porting.md'
OPTIMISERS = 'Optimisers'  # their parameters are what check_functions sees as outputs


def table() -> dict[str, tuple[str, str]]:
    """The rows of the guide: {name: (the title above it, what catches it)}."""
    rows, title = {}, ''
    for line in GUIDE.read_text().splitlines():
        title = line.removeprefix('## ') if line.startswith('## ') else title
        if match := re.fullmatch(r'\| ([^|]+?) \|.*\| ([^|]+?) \|', line):
            rows[match[1]] = title, match[2].split(',')[0]
    return {name: row for name, row in rows.items() if name != 'difference'}


def test_the_guide_has_exactly_the_rows_that_are_tested() -> None:
    assert sorted(table()) == sorted(row.name for row in DIFFERENCES)


@EVERY
def test_the_guide_names_the_stage(row: Difference) -> None:
    title, caught = table()[row.name]
    assert caught == ('update' if title == OPTIMISERS else row.caught)
