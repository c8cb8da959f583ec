"""The stages that compare no losses, each looked into in its own way."""

from collections.abc import Callable, Iterable

from parity.comparison import Leaf
from parity.locating import by_text
from parity.locating.causes import UNKNOWN
from parity.locating.construction import Makes, made_otherwise
from parity.locating.defaults import config_finding, initial_findings, modules_of, raised
from parity.locating.differing import STRUCTURE, Tell
from parity.locating.divergence import Finding
from parity.locating.initial import drawn_otherwise
from parity.locating.keys import other_key
from parity.locating.layers import Layers
from parity.locating.looks import SECONDS, Look
from parity.locating.pieces import Judge
from parity.locating.places import merged, of_update
from parity.locating.reads import read_programs
from parity.locating.record import TOO_SMALL, Record
from parity.locating.signatures import defaults_of_call
from parity.locating.updates import updates
from parity.locating.values import Values
from parity.runs import Runs
from parity.sides import UpdateCall
from parity.verdict import StageResult

SAMPLING = UpdateCall('sample_actions', (('seed', None),))


def in_reads(runs: Runs, record: Record, stage: StageResult, tell: Tell) -> None:
    """What networks return, and actions."""
    name = stage.leaves[0].path if stage.leaves else 'batch/temperature 1.0'
    values = Values(runs, given=read_programs(runs, stage.stage, name))
    judge = Judge(runs, stage=stage.stage)
    look = Look(stage.stage, '', values, judge, None, [leaf.path for leaf in stage.leaves], [])
    explained = look.explain(SECONDS)
    unlike = by_text.in_look(runs, look)
    defaults = defaults_of_call(runs.pair, SAMPLING) if stage.stage == 'actions' else []
    found = [unlike[0]] if unlike else []
    found += [*(one.finding('actions', '') for one in defaults), *look.findings()]
    record.add(findings=tuple(merged(found, [], [])), explained=True if unlike else explained)
    if not record.found.findings:
        record.note(TOO_SMALL)


def in_update(runs: Runs, record: Record, stage: StageResult, tell: Tell) -> None:
    """What was made of right gradients."""
    tell('update: what was made of right gradients')
    found = updates(runs)
    worst = {leaf.path: leaf.margin for leaf in stage.leaves}
    findings = [of_update(runs, finding, worst) for finding in found]
    known_first = sorted(findings, key=lambda finding: not finding.is_explained)
    calls = [call for _, call in runs.port64.script()]
    defaults = [one.finding('update', '') for call in calls for one in defaults_of_call(runs.pair, call)]
    by_key = other_key(runs, stage.leaves)
    explained = all(finding.cause != UNKNOWN for finding in found) if found else None
    unlike = None if by_key else by_text.in_update(runs, known_first[0] if explained else None)
    first = [finding for finding in (unlike, by_key) if finding]
    places = merged([*defaults, *first, *known_first], [], [])
    record.add(updates=tuple(found), findings=tuple(places), explained=True if unlike else explained)
    if not places:
        record.note('the steps differ, but no parameter after one does: compare the info values')


def in_rollout(runs: Runs, record: Record, stage: StageResult, tell: Tell) -> None:
    """A free run, where every update by itself agrees."""
    record.note(
        "every update agrees from the reference's state, and a free run does not: the difference grows, "
        'no step makes it; see parity run --stage rollout --steps 100'
    )


def in_config(runs: Runs, record: Record, stage: StageResult, tell: Tell) -> None:
    """The default configuration."""
    record.add(findings=tuple(config_finding(runs.pair, leaf) for leaf in stage.leaves))


def in_params(runs: Runs, record: Record, stage: StageResult, makes: Makes, tell: Tell) -> None:
    """The initial parameters and the key; makes: see `construction`."""
    findings = list(initial_findings(runs, stage.leaves))
    tell('params: what draws them')
    known = next((finding for finding in findings if finding.is_explained), None)
    explained = None
    if unlike := by_text.in_params(runs, known):
        findings, explained = [unlike, *(finding for finding in findings if finding is not known)], True
    elif otherwise := _made_otherwise(runs, makes, stage.leaves):
        findings = [*otherwise, *findings]
    elif known is None:
        findings = drawn_otherwise(runs, stage.leaves, findings)
        explained = any(finding.is_explained for finding in findings) or None
    record.add(findings=tuple(merged(findings, [], [])), explained=explained)


def _made_otherwise(runs: Runs, makes: Makes, leaves: Iterable[Leaf]) -> list[Finding]:
    """Of parameters that one side alone has, or in another shape: the other settings of what they are in."""
    misfits = {leaf.path for leaf in leaves if leaf.kind in STRUCTURE}
    for call in runs.reference64.calls():
        if not misfits:  # a module has the settings that it has in all losses, of which each is a program
            break
        calls = Layers(runs, call).reference
        within = {module.path: {p for p in misfits if p.startswith(f'{module.path}/')} for module in calls}
        around = [module for module in calls if within[module.path]]
        if found := made_otherwise(around, modules_of(runs.port64.side), makes):
            return [other.finding('params') for other in found]
        misfits -= set().union(*within.values())
    return []


def unmade(runs: Runs, record: Record, stage: StageResult) -> None:
    """Where the port raises when it is made; and what it says on the way otherwise than the reference."""
    unlike = by_text.in_params(runs, None)
    found = [unlike] if unlike else []
    record.add(findings=(*found, raised(runs, stage.stage)), explained=True if unlike else None)


def raising(runs: Runs, record: Record, stage: StageResult) -> None:
    """Where the port raises."""
    record.add(findings=(raised(runs, stage.stage),))


SEARCHES: dict[str, Callable[[Runs, Record, StageResult, Tell], None]] = {
    'forward': in_reads,
    'actions': in_reads,
    'update': in_update,
    'rollout': in_rollout,
    'config': in_config,
}
