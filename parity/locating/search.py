"""One case, searched: what differs first, its places with their lines, modules and causes."""

import dataclasses
import functools
import itertools
import time
from collections.abc import Iterable, Iterator
from typing import Any

from parity.checking import known, versions
from parity.functions import FunctionRuns
from parity.locating.causes import UNKNOWN, Cause, Piece, find_cause
from parity.locating.construction import Makes, made_otherwise, watched
from parity.locating.counterfactuals import Counterfactual, applied
from parity.locating.defaults import config_finding, initial_findings, raised
from parity.locating.differing import Tell, first_differing, in_loss, in_order
from parity.locating.divergence import Divergence, Finding
from parity.locating.draws import DrawFinding, draw_findings, draws
from parity.locating.gaps import missing_values
from parity.locating.initial import drawn_otherwise
from parity.locating.keys import other_key
from parity.locating.layers import Layers
from parity.locating.looks import Look
from parity.locating.pieces import Judge
from parity.locating.places import merged, of_draw, of_text, of_update
from parity.locating.reach import reach_table
from parity.locating.reads import read_programs
from parity.locating.signatures import OtherDefault, defaults_of_modules, other_defaults
from parity.locating.unlike import Unlike
from parity.locating.updates import updates
from parity.locating.values import Values, call_of
from parity.runs import Runs
from parity.sides import LossCall, UpdateCall
from parity.verdict import StageResult

# For the causes of all losses together; each loss is given half of what is left.
SECONDS = 20.0
# So often a loss is looked into once more.
AGAIN = 2
_TOO_SMALL = 'leaves differ, but no value from which they were computed does by more than its rounding'


class Locating:
    """One case of a pair, looked into."""

    def __init__(self, runs: Runs, command: str, stage: str | None, loss: str | None, tell: Tell) -> None:
        self.runs, self.command, self.loss, self.tell = runs, command, loss, tell
        stages = in_order(runs)
        self.stages = known('stage', [stage], stages) if stage else stages
        if loss is not None:
            call_of(runs, loss)
            self.stages = [name for name in self.stages if name in ('loss', 'grads')]
        self.seconds = SECONDS
        self.makes: Makes = {}
        self.undone: list[Counterfactual] = []  # the causes that were found, loss by loss
        self.found = Divergence(runs.pair.name, self._described(), command, versions=versions())

    def _described(self) -> str:
        return self.runs.described if isinstance(self.runs, FunctionRuns) else self.runs.case.describe()

    def divergence(self) -> Divergence:
        """What differs in float64, located; or else what differs in float32 alone."""
        started = time.perf_counter()
        if not isinstance(self.runs, FunctionRuns):
            _ = self.runs.config  # a bad batch or configuration is refused before anything runs
        first_in = functools.partial(first_differing, self.runs, self.stages, self.loss)
        with watched() as self.makes:  # the port is made when it is first asked for something
            stages = first_in('float64', self.tell)
        if stages:
            self._add(stages=tuple(stages))
            with self.runs.settings():
                self._locate(stages)
        elif stages := first_in('float32', self.tell):
            self._add(stages=tuple(stages))
            self._note(
                'float64 agrees, so the port computes the same; float32 alone differs, by how it rounds: '
                'no line of it has a value of its own to part with'
            )
        ranked = tuple(dataclasses.replace(f, rank=i) for i, f in enumerate(self.found.findings, 1))
        self._add(findings=ranked, seconds=time.perf_counter() - started)
        return self.found

    def _add(self, **fields: Any) -> None:
        self.found = dataclasses.replace(self.found, **fields)

    def _note(self, *notes: str) -> None:
        self._add(notes=(*self.found.notes, *notes))

    def _locate(self, stages: list[StageResult]) -> None:
        first = stages[0]
        if first.outcome == 'error' and first.stage not in ('loss', 'grads', 'forward', 'actions'):
            self._raising(first)
        elif first.stage in ('loss', 'grads') or isinstance(self.runs, FunctionRuns):
            self._in_losses(stages)
        elif first.stage in ('forward', 'actions'):
            self._in_reads(first)
        else:
            getattr(self, f'_in_{first.stage}')(first)

    # --- losses, and functions

    def _in_losses(self, stages: list[StageResult]) -> None:
        causes: list[Finding] = []
        rest: list[Finding] = []
        elsewhere = missing_values(self.runs.pair, (leaf for stage in stages for leaf in stage.leaves))
        explained: list[bool | None] = []
        for look in self._looks(stages):
            elsewhere += self._made_otherwise(look) + self._called_otherwise(look)
            before = list(self.undone)
            explains = self._explained(look)
            by_text = self._by_text(look, before)
            if by_text:
                elsewhere.append(by_text)
                rest += look.findings()
                explained.append(True)
                continue
            causes, rest = causes + look.causes(), rest + look.others()
            for _ in range(AGAIN):
                if explains or not look.causes() or len(self.undone) == look.known:
                    break
                look = look.again()  # with one mistake undone another shows
                explains = self._explained(look)
                causes, rest = causes + look.causes(), rest + look.others()
            explained.append(explains)
        drawn = [of_draw(loss, finding) for loss, finding in self._draws(stages)]
        # what shows where it is used: certain, or at least likelier than a line without a cause
        elsewhere.sort(key=lambda finding: not finding.is_explained)
        known = [finding for finding in elsewhere if finding.is_explained]
        self._add(findings=tuple(merged([*known, *causes, *elsewhere[len(known) :]], rest, drawn)))
        if explained:
            self._add(explained=None if all(x is None for x in explained) else all(explained))
        self._reach(stages)
        if not self.found.findings:
            self._raising(stages[0]) if stages[0].outcome == 'error' else self._note(_TOO_SMALL)

    def _by_text(self, look: Look, known: list[Counterfactual]) -> Finding | None:
        """The line whose text alone is to blame; none if such a line is what the look has found.

        A cause at a line that says what the reference says can be a chance hit: another key in its place.
        known: what was undone before the look.
        """
        judge = look.judge
        with applied(known):
            if judge.agrees():
                return None
            unlike = Unlike(self.runs.pair, judge.leaves, functools.partial(_margin, judge))
        causes = look.causes() if look.agrees else []
        cause = unlike.cause(known, shown=causes[0].port if causes else None)
        if cause is None:
            return None
        self.undone[:] = [*known, cause[1]]
        return of_text(look.stage, look.loss, *cause)

    def _made_otherwise(self, look: Look) -> list[Finding]:
        """The lines that make modules with other settings, and defaults of modules' calls."""
        with applied(self.undone):
            rows = look.rows  # as they are now, not as they will be with a setting undone
        if look.layers is None or not rows:
            return []
        calls, modules = look.layers.reference, look.layers.loss.modules
        findings = []
        for other in made_otherwise(calls, modules, self.makes):
            keeps_it = hasattr(modules[other.paths[0]], other.name)
            cause = self._undone(look, other.undone(modules)) if keeps_it else None
            findings.append(other.finding(look.loss, cause))
        return findings + self._defaults(look, defaults_of_modules(calls, modules))

    def _called_otherwise(self, look: Look) -> list[Finding]:
        """Arguments that the loss is called without, whose defaults differ."""
        call = look.judge.call
        return self._defaults(look, self._defaults_of(call)) if call else []

    def _defaults(self, look: Look, found: Iterable[OtherDefault]) -> list[Finding]:
        return [other.finding('loss', look.loss, self._undone(look, other.undone())) for other in found]

    def _undone(self, look: Look, change: Counterfactual) -> Cause | None:
        """The cause, if a change makes all agree; it is undone from now on."""
        cause, found = find_cause(Piece(look.judge.margin, lambda: iter([change])), self.undone)
        self.undone += [found] if found else []
        return cause if found else None

    def _defaults_of(self, call: LossCall | UpdateCall) -> list[OtherDefault]:
        if self.runs.pair.losses:  # it has functions of its own in the place of methods
            return []
        return other_defaults(self.runs.pair, call.method, dict(call.options))

    def _explained(self, look: Look) -> bool | None:
        """Look for lines, modules and causes; whether all agrees with these undone."""
        name = look.loss or look.stage
        self.tell(f'{name}: lines and modules')
        with applied(self.undone):  # what is known must not hide the rest
            rows, frontiers = look.rows, look.frontiers
        if rows and look.loss not in self.found.modules:
            self._add(modules={**self.found.modules, look.loss: rows})
        self._note(*look.notes)
        if not (frontiers or rows):
            return None
        self.tell(f'{name}: causes')
        self.seconds /= 2
        return look.explain(self.seconds)

    def _looks(self, stages: list[StageResult]) -> Iterator[Look]:
        """One for each loss that differs in what no loss before it has, and that no cause explains."""
        if isinstance(self.runs, FunctionRuns):
            prefixes = {'grads': 'grads/'}
            wrong = [prefixes.get(s.stage, '') + leaf.path for s in stages for leaf in s.leaves]
            yield Look(stages[0].stage, '', Values(self.runs), Judge(self.runs), None, wrong, self.undone)
            return
        if stages[0].outcome == 'error':
            yield from itertools.islice(filter(_fails, self._looks_of(stages, self._calls())), 1)
            return
        seen: set[str] = set()
        for call in self._calls():
            wrong = _leaves_of(stages, call.name)
            new = set(wrong) - seen - ({'loss'} if seen else set())
            if new and not self._is_explained(call):
                yield from self._looks_of(stages, [call])
            seen |= new

    def _calls(self) -> list[LossCall]:
        return [call for call in self.runs.reference64.calls() if self.loss in (None, call.name)]

    def _looks_of(self, stages: list[StageResult], calls: list[LossCall]) -> Iterator[Look]:
        for call in calls:
            values, judge = Values(self.runs, call.name), Judge(self.runs, call)
            layers = None if call.frozen else Layers(self.runs, call)
            wrong = _leaves_of(stages, call.name)
            yield Look(stages[0].stage, call.name, values, judge, layers, wrong, self.undone)

    def _is_explained(self, call: LossCall) -> bool:
        """Whether the loss agrees with the causes undone that were found in others."""
        with applied(self.undone):
            return bool(self.undone) and Judge(self.runs, call).agrees()

    def _draws(self, stages: list[StageResult]) -> list[tuple[str, DrawFinding]]:
        """What differs in the draws of each loss that draws otherwise, each once."""
        found: dict[str, tuple[str, DrawFinding]] = {}
        if self.runs.pair.draws is not None:
            for call in self.runs.reference64.calls():
                if any(name.startswith('draws/') for name in _leaves_of(stages, call.name)):
                    for finding in draw_findings(*draws(self.runs, call)):
                        found.setdefault(finding.description, (call.name, finding))
        self._add(draws=tuple(finding for _, finding in found.values()))
        return list(found.values())

    def _reach(self, stages: list[StageResult]) -> None:
        """The table, where only gradients differ."""
        if isinstance(self.runs, FunctionRuns) or not all(stage.stage == 'grads' for stage in stages):
            return
        losses = {in_loss(leaf.path)[0] for stage in stages for leaf in stage.leaves}
        if losses:
            self.tell('which term reaches which network')
            self._add(reach=tuple(reach_table(self.runs, losses)))

    # --- other stages

    def _in_reads(self, stage: StageResult) -> None:
        name = stage.leaves[0].path if stage.leaves else 'batch/temperature 1.0'
        values = Values(self.runs, given=read_programs(self.runs, stage.stage, name))
        judge = Judge(self.runs, stage=stage.stage)
        look = Look(stage.stage, '', values, judge, None, [leaf.path for leaf in stage.leaves], [])
        explained = look.explain(SECONDS)
        by_text = self._by_text(look, [])
        explained = True if by_text else explained
        sampling = UpdateCall('sample_actions', (('seed', None),))
        defaults = self._defaults_of(sampling) if stage.stage == 'actions' else []
        found = [by_text] if by_text else []
        found += [*(one.finding('actions', '') for one in defaults), *look.findings()]
        self._add(findings=tuple(merged(found, [], [])), explained=explained)
        if not self.found.findings:
            self._note(_TOO_SMALL)

    def _in_update(self, stage: StageResult) -> None:
        self.tell('update: what was made of right gradients')
        found = updates(self.runs)
        worst = {leaf.path: leaf.margin for leaf in stage.leaves}
        findings = [of_update(self.runs, finding, worst) for finding in found]
        known_first = sorted(findings, key=lambda finding: not finding.is_explained)
        calls = [call for _, call in self.runs.port64.script()]
        defaults = [one.finding('update', '') for call in calls for one in self._defaults_of(call)]
        by_key = other_key(self.runs, stage.leaves)
        explained = all(finding.cause != UNKNOWN for finding in found) if found else None
        by_text = None if by_key else self._update_by_text(known_first[0] if explained else None)
        first = [finding for finding in (by_text, by_key) if finding]
        places = merged([*defaults, *first, *known_first], [], [])
        self._add(updates=tuple(found), findings=tuple(places), explained=True if by_text else explained)
        if not places:
            self._note('the steps differ, but no parameter after one does: compare the info values')

    def _update_by_text(self, explained: Finding | None) -> Finding | None:
        """The line of an update whose text alone is to blame; none if it is that of what is explained.

        explained: what has a cause already, at the line that shows it, if it all has: the cause stays.
        """
        judge = Judge(self.runs, stage='update')
        unlike = Unlike(self.runs.pair, judge.leaves, judge.margin)
        found = unlike.cause(shown=explained.port if explained else None)
        if found is None:
            return None
        cause = explained.cause if explained and explained.cause else found[0]
        return of_text('update', '', cause, found[1])

    def _in_rollout(self, stage: StageResult) -> None:
        self._note(
            "every update agrees from the reference's state, and a free run does not: the difference grows, "
            'no step makes it; see parity run --stage rollout --steps 100'
        )

    def _in_config(self, stage: StageResult) -> None:
        self._add(findings=tuple(config_finding(self.runs.pair, leaf) for leaf in stage.leaves))

    def _in_params(self, stage: StageResult) -> None:
        findings = list(initial_findings(self.runs, stage.leaves))
        if not any(finding.is_explained for finding in findings):
            self.tell('params: what draws them')
            drawn = drawn_otherwise(self.runs, stage.leaves)
            explained = any(finding.is_explained for finding in drawn)
            findings = [*drawn, *findings] if explained else [*findings, *drawn]
            self._add(explained=explained or None)
        self._add(findings=tuple(findings))

    def _raising(self, stage: StageResult) -> None:
        self._add(findings=(raised(self.runs, stage.stage),))


def _leaves_of(stages: Iterable[StageResult], loss: str) -> list[str]:
    """What differs in a loss, as `Judge` calls it."""
    found = []
    for stage in stages:
        prefix = 'grads/' if stage.stage == 'grads' else ''
        for leaf in stage.leaves:
            name, path = in_loss(leaf.path)
            found += [prefix + path] if name == loss else []
    return found


def _margin(judge: Judge) -> float:
    """Of all leaves; of the values, which are computed sooner, if these differ."""
    margin = judge.margin(judge.values())
    return margin if margin > 1 else judge.margin()


def _fails(look: Look) -> bool:
    return look.fails
