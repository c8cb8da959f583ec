"""The pytest plugin: the fixture `parity_check`, options, a summary of the worst margins, and reports.

    def test_my_port(parity_check):
        parity_check('my.module:PAIR')
        parity_check.functions(jax_function, torch_function, inputs={'x': x})

    pytest --parity-report reports
    pytest --pyargs parity_tests.agents --parity-pair my.module:PAIR    # the property suite, on your pair

Nothing has to be set before jax starts: the engine switches x64 on around each of its own computations, and
off again, whatever jax computed before and whatever the session's own setting is. `parity_check` makes sure
of that, and refuses to run where jax does not follow. Loading the plugin imports neither jax nor torch, and
changes nothing in a session that does not use it.
"""

import pickle
import sys
from argparse import ArgumentTypeError, BooleanOptionalAction
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from parity import backends
from parity.cases import Case
from parity.checking import DTYPES, check
from parity.errors import MismatchError, ParityError
from parity.functions import check_functions
from parity.locating.divergence import Divergence
from parity.locating.first import with_located
from parity.locating.locate import locate
from parity.pair import Pair, find
from parity.verdict import Verdict, merged

SHOWN = 5
# the options of `check_functions` that `locate` has as well
SHARED = ('grads', 'seed', 'device', 'jit')


@dataclass
class Session:
    """What the options say, and what has been found so far in this process.

    dtypes, examples, seed: of the checks, None where the option is not given; pairs: targets.
    locate: whether a check that fails says where.
    others: the tests that are not about these pairs; used: whether any test is; crashed: workers of xdist.
    """

    dtypes: tuple[str, ...] | None = None
    examples: int | None = None
    seed: int | None = None
    pairs: tuple[str, ...] = ()
    report: Path | None = None
    locate: bool = True
    verdicts: list[Verdict] = field(default_factory=list)
    others: int = 0
    used: bool = False
    crashed: int = 0

    def load(self) -> dict[str, Pair]:
        """The pairs of --parity-pair by their targets. Raises pytest.UsageError for what is none."""
        try:
            return {target: find(target) for target in self.pairs}
        except ParityError as error:
            raise pytest.UsageError(str(error)) from error

    def target(self, pair: Pair) -> Pair | str:
        """The target of one of its pairs, which commands can name; another pair as it is."""
        return next((target for target, known in self.load().items() if known is pair), pair)

    def record(self, node: pytest.Item, verdict: Verdict) -> None:
        """Keep a verdict for summary and report, and its worst margin as a property of the test."""
        self.verdicts.append(verdict)
        node.user_properties.append((f'parity {verdict.pair}', _described(verdict)))

    def found(self) -> bytes:
        """What a worker of xdist found, for `add`."""
        return pickle.dumps((self.verdicts, self.others, self.used))

    def add(self, found: bytes) -> None:
        """Add what a worker found: each has some of the verdicts and all of the tests."""
        verdicts, others, used = pickle.loads(found)
        self.verdicts += verdicts
        self.others, self.used = max(self.others, others), self.used or used


KEY = pytest.StashKey[Session]()


def session_of(config: pytest.Config) -> Session:
    """The session's state; one without options where the plugin is not loaded."""
    return config.stash.setdefault(KEY, Session())


class ParityCheck:
    """`parity.check`, asserted and recorded; the options give the defaults.

    The first mismatch of a test is located, in two lines that its error ends with.
    """

    def __init__(self, node: pytest.Item, session: Session) -> None:
        self.node, self.session, self.locates = node, session, session.locate

    def __call__(self, pair: Pair | str, **options: Any) -> Verdict:
        """As `parity.check`. Raises MismatchError where anything differs."""
        from parity.generated import generated_cases  # it loads hypothesis

        session, seed = self.session, self.session.seed or 0
        target, pair = pair, find(pair) if isinstance(pair, str) else pair
        cases = [Case(seed)] if session.examples is None else generated_cases(pair, session.examples, seed)
        cases = list(options.pop('cases', cases))
        verdict = check(pair, **{'cases': cases, **self._dtypes(), **options})
        device = {name: options[name] for name in ('device',) if name in options}
        return self._asserted(verdict, lambda i, stage: locate(target, case=cases[i], stage=stage, **device))

    def functions(self, reference: Any, port: Any, inputs: Any, **options: Any) -> Verdict:
        """As `parity.check_functions`. Raises MismatchError where anything differs."""
        seed = {'seed': self.session.seed or 0}
        verdict = check_functions(reference, port, inputs, **{**seed, **self._dtypes(), **options})
        chosen = {**seed, **{name: value for name, value in options.items() if name in SHARED}}
        given = inputs if isinstance(inputs, list) else [inputs]
        return self._asserted(
            verdict,
            lambda i, stage: locate(reference=reference, port=port, inputs=given[i], stage=stage, **chosen),
        )

    def _dtypes(self) -> dict[str, Any]:
        return {'dtypes': self.session.dtypes} if self.session.dtypes else {}

    def _asserted(self, verdict: Verdict, locate_in: Callable[[int, str], Divergence]) -> Verdict:
        self.session.record(self.node, verdict)
        try:
            verdict.raise_if_mismatch()
        except MismatchError as error:
            raise MismatchError('\n  '.join([str(error), *self._located(verdict, locate_in)])) from None
        return verdict

    def _located(self, verdict: Verdict, locate_in: Callable[[int, str], Divergence]) -> list[str]:
        from parity.report.locating import short

        locates, self.locates = self.locates, False
        located = with_located(verdict, locate_in).located if locates else None
        return short(located) if located is not None else []


@pytest.fixture
def parity_check(request: pytest.FixtureRequest) -> ParityCheck:
    """Call it like `parity.check`, or `parity_check.functions` like `parity.check_functions`."""
    backends.require_x64()
    return ParityCheck(request.node, session_of(request.config))


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options."""
    group = parser.getgroup('parity', 'does a PyTorch port compute what its JAX original computes?')
    group.addoption(
        '--parity-dtype',
        action='append',
        choices=DTYPES,
        help='Check in this precision only; repeat for both, which is the default.',
    )
    group.addoption('--parity-report', metavar='DIR', help='Write HTML and JSON reports of all checks there.')
    group.addoption(
        '--parity-examples',
        type=_at_least_one,
        metavar='N',
        help='Generated cases of each check of a pair that names none, and examples of each property.',
    )
    group.addoption('--parity-seed', type=int, metavar='S', help='The seed of cases and examples.')
    group.addoption(
        '--parity-pair',
        action='append',
        default=[],
        metavar='MODULE:PAIR',
        help='Run the properties of parity_tests.agents on this pair instead of the registered; repeatable.',
    )
    group.addoption(
        '--parity-locate',
        action=BooleanOptionalAction,
        default=True,
        help='Let the first mismatch of a test say at which lines the two sides part, and why.',
    )


def pytest_configure(config: pytest.Config) -> None:
    """Read the options; a pair's module may lie in the folder that pytest was started in."""
    option = config.option
    config.stash[KEY] = Session(
        tuple(dict.fromkeys(option.parity_dtype)) if option.parity_dtype else None,
        option.parity_examples,
        option.parity_seed,
        tuple(dict.fromkeys(option.parity_pair)),
        Path(option.parity_report).absolute() if option.parity_report else None,
        option.parity_locate,
    )
    here = str(config.invocation_params.dir)
    if option.parity_pair and here not in sys.path:
        sys.path.insert(0, here)
    # those of parity_tests, for --pyargs from a folder that does not know them
    config.addinivalue_line('markers', 'slow: minutes of compilation')
    config.addinivalue_line('markers', 'parity_stage(name): a property of pairs that have this stage')
    config.addinivalue_line('markers', 'xdist_group: tests that share compilations run on one worker')


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Workers hand over what they found; the controller, or the only process, writes the reports."""
    found = session_of(session.config)
    output = getattr(session.config, 'workeroutput', None)
    if output is not None:
        output['parity'] = found.found()
    elif found.report and found.verdicts:
        from parity.report.folder import Folder

        Folder(found.report).write(merged(found.verdicts))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker of xdist has ended; one that crashed has nothing to hand over."""
    output, found = getattr(node, 'workeroutput', None) or {}, session_of(node.config)
    if 'parity' in output:
        found.add(output['parity'])
    else:
        found.crashed += 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The worst margins of every pair, and what was not run."""
    found = session_of(config)
    lines = [*_worst_margins(merged(found.verdicts)), *_notes(found)]
    if lines:
        terminalreporter.section('parity: worst margin (error / allowed), above 1 is a mismatch')
    for line in lines:
        terminalreporter.write_line(line)


def _at_least_one(word: str) -> int:
    if not word.isdecimal() or int(word) < 1:
        raise ArgumentTypeError(f'expected a number of at least 1; found {word}')
    return int(word)


def _worst_margins(verdicts: Iterable[Verdict]) -> Iterable[str]:
    from parity.report.json import worst_of_stages

    for verdict in verdicts:
        yield f'{verdict.pair}: {verdict.outcome} in {len(verdict.cases)} cases'
        stages = sorted(worst_of_stages(verdict).items(), key=lambda item: -item[1]['margin'])
        for stage, entry in stages[:SHOWN]:
            what = f'{entry["margin"]:.2g}' if entry['outcome'] in ('match', 'mismatch') else entry['outcome']
            yield f'  {what:>8}  {stage}  {entry["path"]}'.rstrip()
        if len(stages) > SHOWN:
            yield f'            and {len(stages) - SHOWN} stages with smaller ones'


def _notes(found: Session) -> Iterable[str]:
    if found.others:
        yield f'{found.others} tests deselected: they are about the shipped agents, not about --parity-pair'
    if found.pairs and not found.used:
        yield '--parity-pair has no effect on these tests; next: pytest --pyargs parity_tests.agents'
    if found.verdicts and found.crashed:
        yield f'the checks of {found.crashed} crashed workers are missing here'
    if found.report:
        yield f'wrote {found.report / "index.html"}' if found.verdicts else 'no report: nothing was checked'


def _described(verdict: Verdict) -> str:
    """`match, worst margin 0.25 at grads float64 vjp/x`."""
    leaves = [(stage, stage.worst) for _, stage in verdict.stages() if stage.worst]
    if not leaves:
        return verdict.outcome
    stage, leaf = max(leaves, key=lambda pair: pair[1].margin)
    return f'{verdict.outcome}, worst margin {leaf.margin:.3g} at {stage.stage} {stage.dtype} {leaf.path}'
