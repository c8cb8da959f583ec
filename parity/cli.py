"""The command line. Exit codes: 0 all match, 1 a mismatch, 2 could not check."""

import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from parity import backends, case_files, generated, locate_command, original, twins
from parity.check import DTYPES, check
from parity.errors import ParityError, unknown
from parity.execution import Execution
from parity.locating.first import with_located
from parity.mutating.command import mutate_command
from parity.options import (
    EXIT,
    TF32,
    CaseFile,
    Device,
    Dtypes,
    Locates,
    Original,
    Pairs,
    ReferenceDevice,
    Reports,
    Seed,
    Settings,
    Sizes,
    Source,
    Stages,
    Values,
    Variant,
    progress,
)
from parity.pair import Pair, find, registered
from parity.parallel import check_pairs, locating
from parity.report import diff, text
from parity.report.folder import Folder
from parity.report.locating import short
from parity.soaking.command import soak_command
from parity.stages import STAGES
from parity.verdict import Verdict, worst

app = typer.Typer(
    help='Does a PyTorch port compute what its JAX original computes? '
    'Exit code 0: all match, 1: a mismatch, 2: could not check.',
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
# a pipe has no width: wide enough for the table
console = Console(width=None if sys.stdout.isatty() else 120)


@app.command()
def run(
    pairs: Pairs = None,
    stages: Stages = None,
    dtypes: Dtypes = None,
    examples: Annotated[int, typer.Option(help='Generated cases per pair, beside the recorded ones.')] = 8,
    steps: Annotated[
        int | None, typer.Option(help='With --stage rollout: so many updates on recorded batches.')
    ] = None,
    seed: Annotated[int, typer.Option(help='The seed of the generated cases.')] = 0,
    reports: Reports = Path('reports'),
    junit: Annotated[Path | None, typer.Option(help='A file for JUnit XML.')] = None,
    device: Device = 'cpu',
    reference_device: ReferenceDevice = 'cpu',
    variant: Variant = None,
    tf32: TF32 = False,
    reference: Original = None,
    jobs: Annotated[int, typer.Option(help='Pairs checked at once; 0 for one per core.', min=0)] = 0,
    where: Locates = True,
) -> None:
    """Check pairs on the recorded transitions and on generated cases; a table and reports/."""
    names = pairs or list(registered())
    for name in pairs or ():
        find(name)  # an unknown name is refused before anything runs
    if not names:
        raise unknown('pair', 'any', [], where='the entry points parity.pairs', next_step='pip install -e .')
    if steps is not None and (stages != ['rollout'] or reference is not None):
        raise _steps_without_rollout(stages)
    folder, execution = Folder(reports), Execution(device, reference_device, variant, tf32)
    with progress() as tell:
        choice, jobs = _choice(stages, dtypes, execution), jobs or os.cpu_count() or 1
        if reference is None:
            choice |= {'steps': steps, 'locate': where}
            verdicts = check_pairs(names, examples, seed, choice, jobs, tell, folder.add)
        else:
            chosen = original.pairs_of(reference, names, strict=bool(pairs))
            cases = {name: generated.all_cases(find(name), examples, seed) for name in chosen}
            verdicts = original.check_original(reference, cases, choice, jobs, tell)
    _finish(verdicts, folder, junit)


@app.command('check')
def check_one(
    pair: Annotated[str, typer.Argument(help='A registered name or module:ATTR.')],
    stages: Stages = None,
    dtypes: Dtypes = None,
    seed: Seed = None,
    settings: Settings = None,
    sizes: Sizes = None,
    values: Values = None,
    source: Source = None,
    reports: Annotated[Path | None, typer.Option(help='A folder for an HTML and a JSON report.')] = None,
    device: Device = 'cpu',
    reference_device: ReferenceDevice = 'cpu',
    variant: Variant = None,
    tf32: TF32 = False,
    reference: Original = None,
    case_file: CaseFile = None,
    where: Locates = True,
) -> None:
    """Check one case of one pair: the command that a mismatch prints."""
    case = case_files.chosen(find(pair), case_file, seed, settings, sizes, values, source)
    execution = Execution(device, reference_device, variant, tf32)
    with progress() as tell:
        choice = _choice(stages, dtypes, execution)
        if reference is None:
            verdicts = [check(pair, cases=[case], progress=tell, **choice)]
            if where:
                verdicts = [with_located(verdicts[0], locating(pair, [case], choice, tell))]
        else:
            original.pairs_of(reference, [pair], strict=True)
            verdicts = original.check_original(reference, {pair: [case]}, choice, 1, tell)
    _finish(verdicts, Folder(reports) if reports else None)


@app.command('list')
def list_pairs(pair: Annotated[str | None, typer.Argument(help='A pair to describe.')] = None) -> None:
    """Show the pairs and the stages, or one pair's switches and inputs."""
    if pair is not None:
        console.print(_describe(find(pair)))
        return
    table = Table('pair', 'reference', 'port', 'switches', title='pairs')
    for name, entry in registered().items():
        table.add_row(name, str(entry.reference), str(entry.port), ', '.join(entry.switches))
    stages = Table('stage', 'what is compared', title='stages')
    for name, what in STAGES.items():
        stages.add_row(name, what)
    console.print(table, stages)


@app.command()
def record(
    only: Annotated[list[str] | None, typer.Argument(help='Sources to record; all if none.')] = None,
    compare: Annotated[
        bool, typer.Option('--check', help='Record again and compare with the committed.')
    ] = False,
) -> None:
    """Record the transitions in fixtures/ again (needs the extra parity[record])."""
    from fixtures.recheck import recheck
    from fixtures.record import record as record_all

    if compare:
        results = recheck(only=only)
        for result in results:
            console.print(str(result))
        raise typer.Exit(0 if all(result.identical for result in results) else 1)
    for path in record_all(only=only):
        console.print(f'wrote {path}')


@app.command('diff-reports')
def diff_reports(
    old: Annotated[Path, typer.Argument(help='A report folder, or a JSON report.')],
    new: Annotated[Path, typer.Argument(help='The same of a later run.')],
    factor: Annotated[float, typer.Option(help='A margin this many times larger is worse.')] = diff.FACTOR,
    floor: Annotated[float, typer.Option(help='Margins below it count as it.')] = diff.FLOOR,
    everything: Annotated[bool, typer.Option('--all', help='Show also what is the same.')] = False,
) -> None:
    """Show which margins got worse between two runs. Exit code 0: none, 1: some, 2: could not compare."""
    changes = diff.diff(old, new, factor=factor, floor=floor)
    if everything or any(change.kind != 'same' for change in changes):
        console.print(diff.table(changes, everything=everything))
    console.print(diff.summary(changes))
    raise typer.Exit(1 if any(change.fails for change in changes) else 0)


@app.command('twins')
def show_twins(
    pair: Annotated[str, typer.Argument(help='A registered name or module:ATTR.')],
    everything: Annotated[bool, typer.Option('--all', help='Show also the identical lines.')] = False,
) -> None:
    """Show both source files of a pair side by side. Exit code 1: other definitions or keys."""
    found = twins.twins(find(pair))
    wide = Console(width=None if sys.stdout.isatty() else 200)
    wide.print(twins.side_by_side(found, everything=everything))
    raise typer.Exit(1 if found.differences() else 0)


@app.command('bridge')
def bridge_checkpoint(
    checkpoint: Annotated[
        Path, typer.Argument(help='A pickle, orbax, flax msgpack or safetensors checkpoint.')
    ],
    agent: Annotated[str, typer.Option(help='The pair whose agent it is: a registered name or module:ATTR.')],
    output: Annotated[
        Path | None, typer.Option('--output', '-o', help='The safetensors file to write.')
    ] = None,
    config: Annotated[Path | None, typer.Option(help='A JSON file of config entries.')] = None,
    settings: Annotated[list[str] | None, typer.Option('--set', help='A config entry, key=value.')] = None,
    sizes: Annotated[
        list[str] | None, typer.Option('--size', help='O=29 or A=8; else told by shapes.')
    ] = None,
    observation: Annotated[str | None, typer.Option(help='The shape of an image, 64,64,3.')] = None,
    dry_run: Annotated[bool, typer.Option('--dry-run', help='Show the plan and write nothing.')] = False,
) -> None:
    """Write a checkpoint of a reference as a file that both sides load. Exit code 0: done, 2: could not."""
    from parity import bridge

    pair = find(agent)
    defaults = pair.get_config('port')
    entries = bridge.read_config(config, defaults) if config is not None else {}
    entries |= generated.parse_settings(settings or [], defaults)
    shape = bridge.parse_shape(observation)
    bridged = bridge.bridge(checkpoint, pair, entries, generated.parse_sizes(sizes or []), shape)
    if dry_run or output is None:
        Console(width=None if sys.stdout.isatty() else 220).print(bridged.table())
        return
    console.print(f'wrote {bridged.write(output)}', markup=False, soft_wrap=True)


app.command('locate')(locate_command.locate_one)
app.command('mutate')(mutate_command)
app.command('soak')(soak_command)


def main() -> None:
    """The entry point: what could not be checked ends with its message and exit code 2."""
    from fixtures import FixtureError
    from weight_bridge import BridgeError

    backends.prepare()
    # as `python -m` does: module:ATTR may be a file beside the caller
    sys.path[:0] = [here for here in [os.getcwd()] if here not in sys.path]
    try:
        app()
    except (ParityError, FixtureError, BridgeError) as error:
        Console(stderr=True).print(
            str(error), style='bold red', markup=False, highlight=False, soft_wrap=True
        )
        sys.exit(2)
    except Exception:  # Python's own exit code for it would be 1, a mismatch
        traceback.print_exc()
        sys.exit(2)


def _steps_without_rollout(stages: list[str] | None) -> ParityError:
    return ParityError(
        '--steps is for long rollouts only',
        values=f'expected --stage rollout; found {" ".join(stages or ["no stage"])}',
        error='1 option that does not apply',
        where='parity run',
        next_step='parity run --stage rollout --steps 100',
    )


def _choice(stages: list[str] | None, dtypes: list[str] | None, execution: Execution) -> dict[str, Any]:
    return {'stages': stages, 'dtypes': dtypes or DTYPES, **vars(execution)}


def _finish(verdicts: list[Verdict], folder: Folder | None, junit: Path | None = None) -> None:
    console.print(text.overview(verdicts))
    for verdict in verdicts:
        for line in text.failures(verdict):
            console.print(line, soft_wrap=True)
        for place in short(verdict.located) if verdict.located else ():
            console.print(f'  {place}', markup=False, highlight=False, soft_wrap=True)
    for growth in (growth for verdict in verdicts for growth in verdict.growth):
        console.print(growth.says, soft_wrap=True)
    for verdict in verdicts:
        if extra := verdict.versions.get(original.EXTRA):
            console.print(f'{verdict.pair}: not compared, because {original.EXTRA}: {extra}', soft_wrap=True)
    for path in _write(verdicts, folder, junit):
        console.print(f'wrote {path}', markup=False, soft_wrap=True)
    outcome = worst(verdict.outcome for verdict in verdicts)
    console.print(outcome, style=text.COLOURS[outcome])
    raise typer.Exit(EXIT[outcome])


def _write(verdicts: list[Verdict], folder: Folder | None, junit: Path | None) -> list[Path]:
    """Write what was asked for; what a person or CI opens first."""
    written = []
    if junit is not None:
        from parity.report import junit as junit_report  # loads an XML library

        written.append(junit_report.write(verdicts, junit))
    if folder is not None:
        written.append(folder.write(verdicts))
    return written


def _describe(pair: Pair) -> Table:
    table = Table('', '', title=pair.name)
    for title, entries in (('batch', pair.batch), ('forward', pair.forward), ('switch', pair.switches)):
        for key, value in entries.items():
            table.add_row(f'{title} {key}', value if isinstance(value, str) else ', '.join(map(str, value)))
    return table
