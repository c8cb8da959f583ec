"""Pairs in processes of their own give the verdicts that one process gives, in the order asked for."""

import subprocess
import sys
from pathlib import Path

import pytest

from parity import Case, Verdict, check
from parity.errors import ParityError
from parity.generated import all_cases
from parity.pair import find
from parity.parallel import check_pairs

CHOICE = {'stages': ['config'], 'dtypes': ('float64',), 'device': 'cpu'}
NAMES = ['td_infonce', 'iql', 'hilp']
CASES = {name: all_cases(find(name), 1, 0) for name in NAMES}


def test_processes_change_nothing() -> None:
    lines: list[str] = []
    alone = check_pairs(CASES, CHOICE, 1, lines.append)
    together = check_pairs(CASES, CHOICE, 2, lines.append)
    assert [verdict.pair for verdict in together] == NAMES
    assert [[case.command for case in verdict.cases] for verdict in together] == [
        [case.command for case in verdict.cases] for verdict in alone
    ]
    assert {verdict.outcome for verdict in together} == {'match'}
    assert sorted(lines[: len(lines) // 2]) == sorted(lines[len(lines) // 2 :])


def test_shares_of_the_stages_change_nothing() -> None:
    """With more processes than pairs, updates run beside the rest."""
    cases = {'parity_tests.engine.model_pairs:LINEN_EPSILON': [Case(seed=3), Case(seed=4)]}
    choice = {'stages': ['forward', 'loss', 'update'], 'dtypes': ('float64',), 'device': 'cpu'}
    (alone,), (shared,) = (check_pairs(cases, choice, jobs, lambda line: None) for jobs in (1, 2))
    assert alone.outcome == shared.outcome == 'mismatch'
    assert margins_of(shared) == margins_of(alone)


def margins_of(verdict: Verdict) -> list[tuple[str, str, float]]:
    return [(stage.stage, leaf.path, leaf.margin) for _, stage in verdict.stages() for leaf in stage.leaves]


def test_an_error_of_a_process_arrives_whole() -> None:
    with pytest.raises(ParityError, match='unknown stage: losss') as error:
        check_pairs(CASES, {**CHOICE, 'stages': ['losss']}, 2, lambda line: None)
    assert len(str(error.value).splitlines()) == 5


def test_a_run_asks_a_pair_for_the_stages_that_it_has() -> None:
    stages = {**CHOICE, 'stages': ['config', 'contractions']}
    (verdict,) = check_pairs({'iql': CASES['iql']}, stages, 1, lambda line: None)
    assert {stage.stage for _, stage in verdict.stages()} == {'config'}


def test_later_cases_keep_their_worst_leaf() -> None:
    whole, brief = check('iql', cases=[Case(), Case()], stages=['config'], keep=1).cases
    assert (whole.stages[0].hidden, len(brief.stages[0].leaves)) == (0, 1)
    assert brief.stages[0].total == whole.stages[0].total > 1


ENDED = """
import os, sys, time
from parity.parallel import in_processes

def wait(progress):
    progress(str(os.getpid()))
    time.sleep(600)

if __name__ == '__main__':
    in_processes(wait, [()], 1, lambda line: print(line, flush=True))
"""


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / 'ended.py'
    script.write_text(ENDED)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()  # the worker has begun
        parent.kill()
        parent.communicate(timeout=20)  # until nobody can write to it any more, the worker included
