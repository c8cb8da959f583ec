"""Losses that differ, and functions: looked into one by one, what explains one undone for the next."""

import itertools
from collections.abc import Iterable, Iterator

from parity.functions import FunctionRuns
from parity.locating import by_text
from parity.locating.causes import Cause, Piece, find_cause
from parity.locating.construction import Makes, made_otherwise
from parity.locating.counterfactuals import Counterfactual, applied
from parity.locating.differing import Tell, in_loss
from parity.locating.divergence import Finding
from parity.locating.draws import DrawFinding, draw_findings, draws
from parity.locating.gaps import missing_values
from parity.locating.in_stages import raising
from parity.locating.layers import Layers
from parity.locating.looks import SECONDS, Look
from parity.locating.pieces import Judge
from parity.locating.places import merged, of_draw
from parity.locating.reach import reach_table
from parity.locating.record import TOO_SMALL, Record
from parity.locating.signatures import OtherDefault, defaults_of_call, defaults_of_modules
from parity.locating.values import Values
from parity.runs import Runs
from parity.sides import LossCall
from parity.verdict import StageResult

# So often a loss is looked into once more.
AGAIN = 2


class InLosses:
    """The losses of one case. loss: the name of the only one to look at; makes: see `construction`."""

    def __init__(self, runs: Runs, record: Record, loss: str | None, makes: Makes, tell: Tell) -> None:
        self.runs, self.record, self.loss, self.makes, self.tell = runs, record, loss, makes, tell
        self.seconds = SECONDS  # each loss is given half of what is left
        self.undone: list[Counterfactual] = []  # the causes that were found, loss by loss
        self.causes: list[Finding] = []  # the places that they are undone at
        self.rest: list[Finding] = []  # those without
        self.elsewhere: list[Finding] = []  # what is wrong at no line that computes a wrong value
        self.explained: list[bool | None] = []  # for each loss

    def search(self, stages: list[StageResult]) -> None:
        """Record the places of all losses that differ, and whether they agree with the causes undone."""
        self.elsewhere += missing_values(self.runs.pair, (leaf for stage in stages for leaf in stage.leaves))
        for look in self._looks(stages):
            self.elsewhere += self._made_otherwise(look) + self._called_otherwise(look)
            self.explained.append(self._look_into(look))
        drawn = [of_draw(loss, finding) for loss, finding in self._draws(stages)]
        # what shows where it is used: certain, or at least likelier than a line without a cause
        known = [finding for finding in self.elsewhere if finding.is_explained]
        others = [finding for finding in self.elsewhere if not finding.is_explained]
        places = merged([*known, *self.causes, *others], self.rest, drawn)
        self.record.add(findings=tuple(places))
        if self.explained:
            unknown = all(explains is None for explains in self.explained)
            self.record.add(explained=None if unknown else all(self.explained))
        self._reach(stages)
        if not places:
            self._without_place(stages[0])

    def _look_into(self, look: Look) -> bool | None:
        """Find the places and causes of one loss; whether it agrees with the causes undone."""
        before = list(self.undone)
        explains = self._explained(look)
        unlike = by_text.in_look(self.runs, look, before)
        if unlike:
            self.elsewhere.append(unlike[0])
            self.undone[:] = [*before, unlike[1]]
            self.rest += look.findings()
            return True
        self._keep(look)
        for _ in range(AGAIN):
            if explains or not look.causes() or len(self.undone) == look.known:
                break
            look = look.again()  # with one mistake undone another shows
            explains = self._explained(look)
            self._keep(look)
        one = look.in_one(len(before)) if explains else look.in_common(len(before))
        if one:
            explains = True
            self.elsewhere.append(one[0])
            self.undone[:] = [*before, one[1]]
        return explains

    def _keep(self, look: Look) -> None:
        self.causes += look.causes()
        self.rest += look.others()

    def _without_place(self, stage: StageResult) -> None:
        if stage.outcome == 'error':
            raising(self.runs, self.record, stage)
        else:
            self.record.note(TOO_SMALL)

    def _made_otherwise(self, look: Look) -> list[Finding]:
        """The lines that make modules with other settings, and defaults of modules' calls."""
        with applied(self.undone):
            rows = look.rows  # as they are now, not as they will be with a setting undone
        if look.layers is None or not (rows or look.fails):
            return []
        calls, modules = look.layers.reference, look.layers.loss.modules
        findings = []
        for other in made_otherwise(calls, modules, self.makes):
            keeps_it = hasattr(modules[other.paths[0]], other.name)
            cause = self._undone(look, other.undone(modules)) if keeps_it else None
            findings.append(other.finding('loss', look.loss, cause))
        return findings + self._defaults(look, defaults_of_modules(calls, modules))

    def _called_otherwise(self, look: Look) -> list[Finding]:
        """Arguments that the loss is called without, whose defaults differ."""
        call = look.judge.call
        return self._defaults(look, defaults_of_call(self.runs.pair, call)) if call else []

    def _defaults(self, look: Look, found: Iterable[OtherDefault]) -> list[Finding]:
        return [other.finding('loss', look.loss, self._undone(look, other.undone())) for other in found]

    def _undone(self, look: Look, change: Counterfactual) -> Cause | None:
        """The cause, if a change makes all agree; it is undone from now on."""
        cause, found = find_cause(Piece(look.judge.margin, lambda: iter([change])), self.undone)
        self.undone += [found] if found else []
        return cause if found else None

    def _explained(self, look: Look) -> bool | None:
        """Look for lines, modules and causes; whether all agrees with these undone."""
        name = look.loss or look.stage
        self.tell(f'{name}: lines and modules')
        with applied(self.undone):  # what is known must not hide the rest
            rows, frontiers = look.rows, look.frontiers
        if rows and look.loss not in self.record.found.modules:
            self.record.add(modules={**self.record.found.modules, look.loss: rows})
        self.record.note(*look.notes)
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
        self.record.add(draws=tuple(finding for _, finding in found.values()))
        return list(found.values())

    def _reach(self, stages: list[StageResult]) -> None:
        """The table, where only gradients differ."""
        if isinstance(self.runs, FunctionRuns) or not all(stage.stage == 'grads' for stage in stages):
            return
        losses = {in_loss(leaf.path)[0] for stage in stages for leaf in stage.leaves}
        if losses:
            self.tell('which term reaches which network')
            self.record.add(reach=tuple(reach_table(self.runs, losses)))


def _leaves_of(stages: Iterable[StageResult], loss: str) -> list[str]:
    """What differs in a loss, as `Judge` calls it."""
    found = []
    for stage in stages:
        prefix = 'grads/' if stage.stage == 'grads' else ''
        for leaf in stage.leaves:
            name, path = in_loss(leaf.path)
            found += [prefix + path] if name == loss else []
    return found


def _fails(look: Look) -> bool:
    return look.fails
