"""Trials hang, crash and eat memory without harm to the run; and a user's one-file port from end to end."""

import dataclasses
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from parity.cases import Case
from parity.checking import check_stage
from parity.errors import ParityError
from parity.mutating import mutate as mutating
from parity.mutating import plan, report, results, trial
from parity.mutating.answers import (
    Answers,
    Recorded,
    answer,
    questions_of,
    separating,
    structures,
    structures_of,
)
from parity.mutating.mutants import mutants_of
from parity.mutating.running import Ended, run
from parity.mutating.sources import Source, sources_of
from parity.mutating.trial import Found, Outcome, Task
from parity.pair import Pair, find, registered
from parity.runs import Runs
from parity_tests.engine.broken_ports import MEAN_FOR_MIN
from torch_agents.pairs import CRL_INFONCE, IQL

LIMIT = 2.0
NOTHING = Task({}, {})
Send = Callable[[Outcome | None], None]

# A user's pair: three plain files in a folder.
REFERENCE = """
import jax
import jax.numpy as jnp
import optax

from parity import JaxModel


def init(key):
    return {'w': jax.random.normal(key, (4,)), 'b': jnp.zeros(())}


def loss(params, batch):
    error = jax.nn.gelu(batch['x'] @ params['w'] + params['b']) - batch['y']
    return (error**2).mean()


MODEL = JaxModel(init=init, loss=loss, optimizer=optax.adam(1e-3))
"""
PORT = """
import torch
import torch.nn.functional as F

from parity import TorchModel


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(4))
        self.b = torch.nn.Parameter(torch.zeros(()))
        self.unused = -1.5


def loss(net, batch):
    error = F.gelu(batch['x'] @ net.w + net.b, approximate='tanh') - batch['y']
    return (error**2).mean()


MODEL = TorchModel(Net, loss=loss, optimizer=lambda params: torch.optim.Adam(params, lr=1e-3))
"""
PAIR = """
from parity import ModelPair

PAIR = ModelPair('mine', 'mine_jax:MODEL', 'mine_torch:MODEL', {'x': 'B 4', 'y': 'B'}, bridge=None)
"""


def hangs(task: Task, send: Send) -> None:
    """Never ends."""
    time.sleep(1000)


def crashes(task: Task, send: Send) -> None:
    """Ends as a segmentation fault does."""
    os.kill(os.getpid(), signal.SIGSEGV)


def works(task: Task, send: Send) -> None:
    """Tells twice that it is alive, for longer than the limit in all, and then finds something."""
    for _ in range(2):
        time.sleep(0.7 * LIMIT)
        send(None)
    send(Outcome(Found('mismatch')))


def starves(task: Task, send: Send) -> None:
    """Computes for less than the limit, in more time than that, as on a machine that others use."""
    while time.process_time() < 0.5 * LIMIT:
        time.sleep(0.01)
        end = time.process_time() + 0.004
        while time.process_time() < end:
            pass
    send(Outcome(Found('mismatch')))


def spins(task: Task, send: Send) -> None:
    """Computes for ever."""
    while True:
        pass


def by_name(task: Task, send: Send) -> None:
    """Whatever the task is called."""
    trials = {trial.__name__: trial for trial in (hangs, crashes, works, starves, spins)}
    trials[next(iter(task.answers))](task, send)


def ended(names: list[str], jobs: int = 2) -> dict[str, Ended]:
    """How these trials end."""
    tasks = [Task({}, {name: ()}) for name in names]
    return {names[end.task]: end for end in run(by_name, tasks, jobs, LIMIT)}


def test_a_trial_that_hangs_or_crashes_is_found_and_the_others_go_on() -> None:
    found = {name: end.outcome.found for name, end in ended(['hangs', 'crashes', 'works']).items()}
    assert {name: each.kind if each else None for name, each in found.items()} == {
        'hangs': 'timeout',
        'crashes': 'crash',
        'works': 'mismatch',
    }
    crash = found['crashes']
    assert crash is not None
    assert crash.what == f'the process ended with {-signal.SIGSEGV}'


def test_a_trial_that_others_keep_from_computing_gets_its_time() -> None:
    """Or a busy machine would kill survivors. One that computes for ever gets no more than that."""
    found = ended(['starves', 'spins'])
    kinds = {name: each.outcome.found.kind for name, each in found.items() if each.outcome.found}
    assert kinds == {'starves': 'mismatch', 'spins': 'timeout'}
    assert found['starves'].seconds > LIMIT


def test_no_process_is_left_of_trials_that_nobody_waits_for() -> None:
    trials = run(by_name, [Task({}, {'crashes': ()}), Task({}, {'hangs': ()})], 2, LIMIT)
    next(trials)
    trials.close()
    assert multiprocessing.active_children() == []


@pytest.fixture(scope='module')
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the user's files."""
    folder = tmp_path_factory.mktemp('mine')
    for name, text in {'mine_jax': REFERENCE, 'mine_torch': PORT, 'mine_pair': PAIR}.items():
        (folder / f'{name}.py').write_text(text)
    return folder


def mutate(folder: Path, *options: str) -> tuple[int, list[results.Result]]:
    """The exit code of `parity mutate` there, and its results."""
    command = [sys.executable, '-m', 'parity', 'mutate', 'mine_pair:PAIR', '--json', '--jobs', '2', *options]
    here = str(Path(__file__).parents[2])
    done = subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, 'PYTHONPATH': here},
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, [results.parse(json.loads(line)) for line in done.stdout.splitlines()]


@pytest.mark.slow  # compiles references
def test_a_user_s_port_is_mutated_resumed_and_left_alone(mine: Path) -> None:
    before = {path.name: path.read_bytes() for path in mine.glob('*.py')}
    chosen = [f'--operators={name}' for name in ('gelu_variant', 'power', 'weight_decay', 'sign')]
    code, found = mutate(mine, *chosen)
    assert {
        (result.operator, result.fate, result.found.stage if result.found else '') for result in found
    } == {
        ('gelu_variant', 'killed', 'loss'),
        ('power', 'killed', 'loss'),
        ('weight_decay', 'killed', 'update'),
        ('sign', 'survived', ''),
    }
    assert code == 1
    assert {path.name: path.read_bytes() for path in mine.glob('*.py')} == before

    file = mine / 'reports' / 'mutants.jsonl'
    lines = file.read_text().splitlines()
    file.write_text('\n'.join([*lines[:-1], lines[-1][:20]]))
    again, resumed = mutate(mine, *chosen)
    assert again == code
    assert sorted(result.id for result in resumed) == sorted(result.id for result in found)
    assert file.read_text().splitlines()[:-1] == lines[:-1]
    assert 'Survived: 1' in (mine / 'reports' / 'mutants.html').read_text()


EQUIVALENT = """
[[equivalent]]
file = 'mine_torch.py'
operators = ['sign']
before = 'self.unused = -1.5'
after = 'self.unused = 1.5'
reason = 'nobody reads it'
"""


@pytest.mark.slow  # compiles references
def test_a_survivor_with_a_reason_is_equivalent_and_comes_last(mine: Path) -> None:
    (mine / results.EQUIVALENT).write_text(EQUIVALENT)
    chosen = [f'--operators={name}' for name in ('sign', 'gelu_variant')]
    code, found = mutate(mine, *chosen, '--no-resume', '--reports', 'others', '--jobs', '1')
    *killed, last = found
    assert {(result.operator, result.fate) for result in killed} == {('gelu_variant', 'killed')}
    assert (last.operator, last.fate, last.reason) == ('sign', 'equivalent', 'nobody reads it')
    assert all(last.lines < result.lines for result in killed)
    assert code == 0


def test_a_reason_is_needed(tmp_path: Path) -> None:
    (tmp_path / results.EQUIVALENT).write_text(EQUIVALENT.replace('nobody reads it', ''))
    with pytest.raises(ParityError, match='an entry is not complete'):
        results.reasons_for([Source('mine_torch', tmp_path / 'mine_torch.py')])


@pytest.fixture(scope='module')
def answers(mine: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, ...]]:
    """The answers of the user's reference in its first case."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(mine)
        pair = find('mine_pair:PAIR')
        path = tmp_path_factory.mktemp('answers') / '0.pickle'
        path.write_bytes(pickle.dumps(answer(pair, questions_of(pair)[0])))
        yield (path,)


@pytest.mark.parametrize(
    ('loss', 'kind'),
    [
        ('(error**2).mean()', None),
        ('(error**2).sum()', 'mismatch'),
        ('(error**2).means()', 'error'),
        ('torch.ones(2**36).sum()', 'memory'),
        ('len(bytes(2**36))', 'memory'),
        ('exec("while True: pass")', 'timeout'),
        ('__import__("os").abort()', 'crash'),
    ],
)
def test_how_a_mutant_ends(loss: str, kind: str | None, answers: tuple[Path, ...]) -> None:
    text = PORT.replace('(error**2).mean()', loss)
    task = Task({'mine_torch': text}, {'mine_pair:PAIR': answers}, gigabytes=3.0)
    (end,) = run(trial.attempt, [task], 1, 10.0)
    assert (end.outcome.found.kind if end.outcome.found else None) == kind


def test_a_survivor_is_tried_again_where_there_are_other_pairs_and_a_killed_one_is_not() -> None:
    lines, found = (1, 1), Found('mismatch')
    survivor = results.Result(
        'a', 'f.py', 'sign', lines, '-x', 'x', '', 'survived', None, 1.0, pairs=('one',)
    )
    killed = results.Result('b', 'f.py', 'sign', lines, '-y', 'y', '', 'killed', found, 1.0, pairs=('one',))
    assert survivor.is_settled(['one'])
    assert not survivor.is_settled(['one', 'two'])
    assert killed.is_settled(['one', 'two'])


def test_a_survivor_becomes_equivalent_when_it_is_declared_and_a_killed_mutant_does_not() -> None:
    reasons = {('f.py', 'sign', '-x', 'x'): 'why'}
    survivor = results.Result('a', 'f.py', 'sign', (1, 1), '-x', 'x', '', 'survived', None, 1.0)
    assert (survivor.with_reason(reasons).fate, survivor.with_reason(reasons).reason) == ('equivalent', 'why')
    assert survivor.with_reason(reasons).with_reason({}) == survivor
    killed = results.Result('a', 'f.py', 'sign', (1, 1), '-x', 'x', '', 'killed', Found('error'), 1.0)
    assert killed.with_reason(reasons) == dataclasses.replace(killed, reason='why')


@pytest.mark.parametrize('declared', [True, False])
def test_a_killed_mutant_that_is_declared_equivalent_is_told(declared: bool, tmp_path: Path) -> None:
    reasons = {('f.py', 'sign', '-x', 'x'): 'nobody reads it'} if declared else {}
    killed = results.Result('a', 'f.py', 'sign', (7, 7), '-x', 'x', '', 'killed', Found('error'), 1.0)
    found = [killed.with_reason(reasons)]
    console = Console(record=True, width=160)
    report.show(found, console)
    told = 'killed, and declared equivalent in equivalent_mutants.toml: sign, f.py:7'
    assert (told in console.export_text()) is declared
    page = report.write(found, tmp_path).read_text()
    assert ('Declared equivalent, and killed: 1' in page) is declared


@pytest.mark.parametrize(('pair', 'outcome'), [(IQL, 'match'), (MEAN_FOR_MIN, 'mismatch')])
def test_an_agent_s_port_against_kept_answers(pair: Pair, outcome: str) -> None:
    """With nothing of the reference but its answers: it is not created."""
    case = Case(seed=3, sizes={'B': 16, 'O': 17, 'A': 6})
    runs = Runs(IQL, case)
    with runs.settings():
        expected = {(stage, 'float64'): runs.expected(stage, 'float64') for stage in ('forward', 'loss')}
    kept = Recorded(pair, Answers(case, runs.inputs, expected, {'float64': []}))
    outcomes = [check_stage(kept, stage, 'float64').outcome for stage in ('forward', 'loss')]
    assert outcomes == ['match', outcome]


def test_trials_of_a_run_write_into_its_folder() -> None:
    (source,) = [source for source in sources_of(IQL) if source.file.endswith('iql.py')]
    mutant = mutants_of(source)[0]
    every = set(range(1, 1000))
    task = plan.task(mutant, ['iql'], {'iql': [Path('0')]}, {'iql': [{mutant.module: every}]}, Path('run'))
    assert task.folder == Path('run')
    assert task.answers == {'iql': (Path('0'),)}


@pytest.mark.parametrize('name', sorted(registered()))
def test_any_two_switches_differ_somewhere(name: str) -> None:
    """Or a port that reads one for another would not be noticed."""
    pair = registered()[name]
    rows = [
        [values.index(question.case.config[key]) for key, values in pair.switches.items()]
        for question in questions_of(pair)
        if 'params' in question.doubles
    ]
    columns = list(zip(*rows, strict=True))
    assert len(set(columns)) == len(columns)
    assert all(len(set(column)) > 1 for column in columns)


def test_twin_without_what_separates_some_never_differ() -> None:
    columns = [
        tuple(values.index(row['config'][key]) for row in structures_of(CRL_INFONCE))
        for key, values in CRL_INFONCE.switches.items()
    ]
    assert len(set(columns)) < len(columns)


@pytest.mark.parametrize('margin_of_many', ['small', 'large'])
def test_a_port_that_differs_by_too_few_samples_is_asked_for_with_more(
    margin_of_many: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Four samples of the noise can be zero by luck; what differs with sixteen is no luck, and is refused."""
    careful_for: list[str] = []

    def answered(function: object, asked: list[tuple[Any, ...]], *_: object) -> list[list[Path]]:
        careful_for.extend(pair for pair, _, _, careful, _ in asked if careful)
        return [[folder] for _, _, folder, _, _ in asked]

    def traced(function: object, tasks: list[Task], *_: object) -> Iterator[Ended]:
        for i, task in enumerate(tasks):
            ((pair, (path,)),) = task.answers.items()
            lucky = path.is_relative_to(tmp_path / 'answers') or margin_of_many == 'large'
            found = Found('mismatch', pair, 'a case') if pair == 'hilp' and lucky else None
            yield Ended(i, Outcome(found, reached={} if found else {pair: [{}]}), 0.0)

    monkeypatch.setattr(mutating, 'structures', lambda questions: [[0]])
    monkeypatch.setattr(mutating, 'in_processes', answered)
    monkeypatch.setattr(mutating.running, 'run', traced)
    prepare = lambda: mutating._prepared(plan.Plan({}, {}, []), ['iql', 'hilp'], tmp_path, 1, 1.0, print)  # noqa: E731
    if margin_of_many == 'large':
        with pytest.raises(ParityError, match='hilp: the unmutated port does not match'):
            prepare()
    else:
        answers, reached = prepare()
        assert answers['hilp'] == [tmp_path / 'careful' / '0']
        assert reached == {'iql': [{}], 'hilp': [{}]}
    assert careful_for == ['hilp']


def test_each_structure_is_a_task_of_its_own() -> None:
    questions = questions_of(IQL)
    found = structures(questions)
    assert sorted(i for indices in found for i in indices) == list(range(len(questions)))
    for indices in found:
        assert len({repr((questions[i].case.sizes, questions[i].case.config)) for i in indices}) == 1
    assert len(found) == len(structures_of(IQL)) + len(separating(IQL))


def test_in_brief_less_is_asked_and_no_survivor_is_settled() -> None:
    whole, brief = (questions_of(IQL, brief=brief) for brief in (False, True))
    assert [question.case for question in brief] == [question.case for question in whole]
    assert all(
        {*b.doubles} <= {*w.doubles} and {*b.singles} <= {*w.singles}
        for b, w in zip(brief, whole, strict=True)
    )
    asked = [sum(len(q.doubles) + len(q.singles) for q in questions) for questions in (brief, whole)]
    assert asked[0] < 0.8 * asked[1]
    assert 'update' in brief[0].doubles
    mutant = plan.plan(['iql'], ['iql.py']).mutants[0]
    assert not results.result(mutant, None, 1.0, {}, pairs=()).is_settled(['iql'])
    assert results.result(mutant, None, 1.0, {}, pairs=['iql']).is_settled(['iql'])


def test_careful_answers_have_more_of_the_noise() -> None:
    question = dataclasses.replace(questions_of(IQL)[0], doubles=('loss',), singles=())
    few, many = (
        answer(IQL, question, careful=careful).expected['loss', 'float64'] for careful in (False, True)
    )
    allowed = [
        {path: float(np.max(one.allowed)) for path, one in each.tolerances.items()} for each in (few, many)
    ]
    assert all(allowed[1][path] >= allowed[0][path] for path in allowed[0])
    assert allowed[0] != allowed[1]
