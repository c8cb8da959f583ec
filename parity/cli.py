"""The command line. Exit codes: 0 all match, 1 a mismatch, 2 could not check."""

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from parity import backends, generated, twins
from parity.cases import Case
from parity.check import DTYPES, check
from parity.errors import ParityError, unknown
from parity.pair import Pair, find, registered
from parity.parallel import check_pairs
from parity.report import diff, json, text
from parity.stages import STAGES
from parity.verdict import Outcome, Verdict, worst

EXIT: dict[Outcome, int] = {'match': 0, 'mismatch': 1, 'error': 2, 'not_run': 2}

app = typer.Typer(
    help='Does a PyTorch port compute what its JAX original computes? '
    'Exit code 0: all match, 1: a mismatch, 2: could not check.',
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
# a pipe has no width: wide enough for the table
console = Console(width=None if sys.stdout.isatty() else 120)

Pairs = Annotated[
    list[str] | None, typer.Argument(help='Registered names or module:ATTR; all registered if none.')
]
Stages = Annotated[list[str] | None, typer.Option('--stage', help='A stage; all if none. See parity list.')]
Dtypes = Annotated[list[str] | None, typer.Option('--dtype', help='float64 or float32; both if none.')]
Reports = Annotated[Path, typer.Option('--reports', help='The folder for the HTML and JSON reports.')]
Device = Annotated[str, typer.Option(help='The torch device of the port.')]


@app.command()
def run(
    pairs: Pairs = None,
    stages: Stages = None,
    dtypes: Dtypes = None,
    examples: Annotated[int, typer.Option(help='Generated cases per pair, beside the recorded ones.')] = 8,
    seed: Annotated[int, typer.Option(help='The seed of the generated cases.')] = 0,
    reports: Reports = Path('reports'),
    junit: Annotated[Path | None, typer.Option(help='A file for JUnit XML.')] = None,
    device: Device = 'cpu',
    jobs: Annotated[int, typer.Option(help='Pairs checked at once; 0 for one per core.', min=0)] = 0,
) -> None:
    """Check pairs on the recorded transitions and on generated cases; a table and reports/."""
    names = pairs or list(registered())
    for name in pairs or ():
        find(name)  # an unknown name is refused before anything runs
    if not names:
        raise unknown('pair', 'any', [], where='the entry points parity.pairs', next_step='pip install -e .')
    with _progress() as tell:
        choice = _choice(stages, dtypes, device)
        verdicts = check_pairs(names, examples, seed, choice, jobs or os.cpu_count() or 1, tell)
    _finish(verdicts, reports, junit)


@app.command('check')
def check_one(
    pair: Annotated[str, typer.Argument(help='A registered name or module:ATTR.')],
    stages: Stages = None,
    dtypes: Dtypes = None,
    seed: Annotated[int, typer.Option(help='The seed of parameters, values and keys.')] = 0,
    settings: Annotated[list[str] | None, typer.Option('--set', help='A config entry, key=value.')] = None,
    sizes: Annotated[list[str] | None, typer.Option('--size', help='A dimension, B=8.')] = None,
    values: Annotated[str, typer.Option(help='The style of the generated values.')] = 'plain',
    source: Annotated[
        str, typer.Option(help='generated, recorded transitions, or a .safetensors batch.')
    ] = 'generated',
    reports: Annotated[Path | None, typer.Option(help='A folder for an HTML and a JSON report.')] = None,
    device: Device = 'cpu',
) -> None:
    """Check one case of one pair: the command that a mismatch prints."""
    defaults = find(pair).get_config('reference')
    case = Case(
        seed=seed,
        sizes=generated.parse_sizes(sizes or []),
        config=generated.parse_settings(settings or [], defaults),
        values=generated.parse_style(values),
        source=source,
    )
    with _progress() as tell:
        verdict = check(pair, cases=[case], progress=tell, **_choice(stages, dtypes, device))
    _finish([verdict], reports)


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


def main() -> None:
    """The entry point: what could not be checked ends with its message and exit code 2."""
    from fixtures import FixtureError

    backends.prepare()
    try:
        app()
    except (ParityError, FixtureError) as error:
        Console(stderr=True).print(str(error), style='bold red', markup=False, highlight=False)
        sys.exit(2)
    except Exception:  # Python's own exit code for it would be 1, a mismatch
        traceback.print_exc()
        sys.exit(2)


def _choice(stages: list[str] | None, dtypes: list[str] | None, device: str) -> dict[str, Any]:
    return {'stages': stages, 'dtypes': dtypes or DTYPES, 'device': device}


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    columns = SpinnerColumn(), TextColumn('{task.description}'), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task('starting')
        yield lambda line: progress.update(task, description=line)


def _finish(verdicts: list[Verdict], reports: Path | None, junit: Path | None = None) -> None:
    console.print(text.overview(verdicts))
    for line in (line for verdict in verdicts for line in text.failures(verdict)):
        console.print(line, soft_wrap=True)
    for path in _write(verdicts, reports, junit):
        console.print(f'wrote {path}', markup=False, soft_wrap=True)
    outcome = worst(verdict.outcome for verdict in verdicts)
    console.print(outcome, style=text.COLOURS[outcome])
    raise typer.Exit(EXIT[outcome])


def _write(verdicts: list[Verdict], reports: Path | None, junit: Path | None) -> list[Path]:
    """Write what was asked for; what a person or CI opens first."""
    # imported here, because they load a plotting library and an XML one
    from parity.report import html
    from parity.report import junit as junit_report

    written = []
    if junit is not None:
        written.append(junit_report.write(verdicts, junit))
    if reports is not None:
        json.write(verdicts, reports)
        *_, index = html.write(verdicts, reports)
        written.append(index)
    return written


def _describe(pair: Pair) -> Table:
    table = Table('', '', title=pair.name)
    for title, entries in (('batch', pair.batch), ('forward', pair.forward), ('switch', pair.switches)):
        for key, value in entries.items():
            table.add_row(f'{title} {key}', value if isinstance(value, str) else ', '.join(map(str, value)))
    return table
