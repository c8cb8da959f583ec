"""One case, searched: which stages differ first, and what looks into them."""

import dataclasses
import functools
import time

from parity.checking import environment, known
from parity.functions import FunctionRuns
from parity.locating import in_stages
from parity.locating.construction import watched
from parity.locating.differing import Tell, first_differing, in_order
from parity.locating.divergence import Divergence
from parity.locating.in_losses import InLosses
from parity.locating.record import Record
from parity.locating.switches import never_asked
from parity.locating.values import call_of
from parity.runs import Runs
from parity.verdict import StageResult

# So many places that were found by their values come before those that were found by their text alone.
AFTER = 2


class Locating:
    """One case of a pair, looked into."""

    def __init__(self, runs: Runs, command: str, stage: str | None, loss: str | None, tell: Tell) -> None:
        self.runs, self.loss, self.tell = runs, loss, tell
        stages = in_order(runs)
        self.stages = known('stage', [stage], stages) if stage else stages
        if loss is not None:
            call_of(runs, loss)
            self.stages = [name for name in self.stages if name in ('loss', 'grads')]
        described = runs.described if isinstance(runs, FunctionRuns) else runs.case.describe()
        where = environment(runs.execution)
        self.record = Record(Divergence(runs.pair.name, described, command, versions=where))

    def divergence(self) -> Divergence:
        """What differs in float64, located; or else what differs in float32 alone."""
        started = time.perf_counter()
        if not isinstance(self.runs, FunctionRuns):
            _ = self.runs.config  # a bad batch or configuration is refused before anything runs
        first_in = functools.partial(first_differing, self.runs, self.stages, self.loss)
        with watched() as makes:  # the port is made when it is first asked for something
            stages = first_in('float64', self.tell)
        if stages:
            self.record.add(stages=tuple(stages))
            with self.runs.settings():
                self._locate(stages, InLosses(self.runs, self.record, self.loss, makes, self.tell))
                self._ask_switches(stages[0])
        elif stages := first_in('float32', self.tell):
            self.record.add(stages=tuple(stages))
            self.record.note(
                'float64 agrees, so the port computes the same; float32 alone differs, by how it rounds: '
                'no line of it has a value of its own to part with'
            )
        places = enumerate(self.record.found.findings, 1)
        ranked = tuple(dataclasses.replace(place, rank=i) for i, place in places)
        self.record.add(findings=ranked, seconds=time.perf_counter() - started)
        return self.record.found

    def _ask_switches(self, stage: StageResult) -> None:
        """Conditions that are constants, among the first places, for what a branch that is gone had done.

        That may look as if something else were wrong: a step in which targets rest as one of no gradient.
        """
        places = self.record.found.findings
        known = [place.port for place in places if place.is_explained]
        switches = [one for one in never_asked(self.runs, stage.stage) if one.port not in known]
        lines = [switch.port for switch in switches]
        others = [place for place in places if place.port not in lines]
        self.record.add(findings=(*others[:AFTER], *switches, *others[AFTER:]))

    def _locate(self, stages: list[StageResult], losses: InLosses) -> None:
        first = stages[0]
        if first.outcome == 'error' and not self._is_made():
            in_stages.unmade(self.runs, self.record, first)
        elif first.outcome == 'error' and first.stage not in ('loss', 'grads', 'forward', 'actions'):
            in_stages.raising(self.runs, self.record, first)
        elif first.stage in ('loss', 'grads') or isinstance(self.runs, FunctionRuns):
            losses.search(stages)
        elif first.stage == 'params':
            in_stages.in_params(self.runs, self.record, first, losses.makes, self.tell)
        else:
            in_stages.SEARCHES[first.stage](self.runs, self.record, first, self.tell)

    def _is_made(self) -> bool:
        """Whether the port can be made at all."""
        try:
            return self.runs.port64 is not None
        except Exception:  # it can fail in any way
            return False
