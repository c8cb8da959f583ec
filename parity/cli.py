"""The command line. Exit codes: 0 all match, 1 a mismatch, 2 could not check."""

import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from parity import backends, case_files, generated, helper_commands, locate_command, original
from parity.checking import DTYPES, chosen_of
from parity.errors import ParityError, unknown
from parity.execution import Execution
from parity.mutating.command import mutate_command
from parity.options import (
    EXIT,
    TF32,
    CaseFile,
    Device,
    Dtypes,
    Jobs,
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
    console,
    progress,
)
from parity.pair import find, registered
from parity.parallel import check_pairs, processes
from parity.report import text
from parity.report.folder import Folder
from parity.report.locating import short
from parity.soaking.command import soak_command
from parity.verdict import Verdict, worst

app = typer.Typer(
    help='Does a PyTorch port compute what its JAX original computes? '
    'Exit code 0: all match, 1: a mismatch, 2: could not check.',
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


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
    jobs: Jobs = 0,
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
        choice = _choice(stages, dtypes, execution)
        chosen = original.pairs_of(reference, names, strict=bool(pairs)) if reference else names
        cases = {name: generated.all_cases(find(name), examples, seed) for name in chosen}
        if reference is None:
            choice |= {'steps': steps, 'seed': seed, 'locate': where}
            verdicts = check_pairs(cases, choice, processes(jobs), tell, folder.add)
        else:
            verdicts = original.check_original(reference, cases, choice, processes(jobs), tell)
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
    jobs: Jobs = 0,
    where: Locates = True,
) -> None:
    """Check one case of one pair: the command that a mismatch prints."""
    case = case_files.chosen(find(pair), case_file, seed, settings, sizes, values, source)
    chosen_of(find(pair), stages)  # an unknown stage is refused before anything runs
    execution = Execution(device, reference_device, variant, tf32)
    with progress() as tell:
        choice = _choice(stages, dtypes, execution)
        if reference is None:
            verdicts = check_pairs({pair: [case]}, {**choice, 'locate': where}, processes(jobs), tell)
        else:
            original.pairs_of(reference, [pair], strict=True)
            verdicts = original.check_original(reference, {pair: [case]}, choice, 1, tell)
    _finish(verdicts, Folder(reports) if reports else None)


app.command('locate')(locate_command.locate_one)
app.command('mutate')(mutate_command)
app.command('soak')(soak_command)
app.command('list')(helper_commands.list_pairs)
app.command('record')(helper_commands.record)
app.command('diff-reports')(helper_commands.diff_reports)
app.command('twins')(helper_commands.show_twins)
app.command('bridge')(helper_commands.bridge_checkpoint)


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
