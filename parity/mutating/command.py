"""`parity mutate`: would the stages notice? Exit code 0: every mutant killed or equivalent, 1: not so."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from parity.mutating import plan as planning
from parity.mutating import report, results
from parity.mutating.mutants import Mutant, operators_of
from parity.mutating.mutate import LIMIT, mutate
from parity.mutating.results import Result
from parity.options import Jobs
from parity.pair import registered
from parity.parallel import processes
from parity.report import files

# a pipe has no width: wide enough for the table
console = Console(width=None if sys.stdout.isatty() else 160)
FILE = 'mutants.jsonl'


def mutate_command(
    pairs: Annotated[
        list[str] | None, typer.Argument(help='Registered names or module:ATTR; all registered if none.')
    ] = None,
    jobs: Jobs = 0,
    sample: Annotated[
        int | None,
        typer.Option(
            help='Only so many, of all operators evenly, and none that is declared equivalent.', min=1
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help='The seed of the sample.')] = 0,
    only_files: Annotated[
        list[str] | None, typer.Option('--files', help='A file of the port, iql.py.')
    ] = None,
    operators: Annotated[list[str] | None, typer.Option('--operators', help='An operator, sign.')] = None,
    only_list: Annotated[
        bool, typer.Option('--list', help='Show the operators and count the mutants.')
    ] = False,
    as_json: Annotated[bool, typer.Option('--json', help='Print the results as JSON lines.')] = False,
    resume: Annotated[bool, typer.Option(help='Go on with the results in the reports folder.')] = True,
    reports: Annotated[Path, typer.Option(help='The folder for mutants.jsonl and mutants.html.')] = Path(
        'reports'
    ),
    locate: Annotated[bool, typer.Option(help='Also tell whether the mutated line is named (slow).')] = False,
    brief: Annotated[
        bool, typer.Option('--brief', help='Ask less of each pair: half of the time, nearly all killed.')
    ] = False,
    limit: Annotated[float, typer.Option(help='Seconds that a mutant may take for one case.')] = LIMIT,
) -> None:
    """Make one-change mutants of ports by a table of porting bugs, and see which the stages notice."""
    plan = planning.plan(pairs or list(registered()), only_files or (), operators or ())
    if only_list:
        console.print(_listed(plan.mutants))
        return
    reasons = results.reasons_for(plan.sources.values())
    chosen = plan.mutants if sample is None else planning.sample(plan.mutants, sample, seed, reasons)
    path = reports / FILE
    earlier = results.read(path) if resume else {}
    settled = {m.id for m in chosen if m.id in earlier and earlier[m.id].is_settled(plan.pairs[m.module])}
    left = [mutant for mutant in chosen if mutant.id not in settled]
    found = [earlier[mutant.id].with_reason(reasons) for mutant in chosen if mutant.id in settled]
    files.write(
        path, ''.join(result.line() + '\n' for result in earlier.values())
    )  # without a line cut short
    with path.open('a') as file, _progress() as progress:
        task = progress.add_task('the references', total=len(chosen), completed=len(found))
        tell = lambda line: progress.update(task, description=line)  # noqa: E731
        for result in mutate(plan, left, processes(jobs), tell, limit, locate, brief) if left else ():
            found.append(result)
            file.write(result.line() + '\n')
            file.flush()
            progress.update(task, advance=1, description=f'{_survived(found)} survived')
    _finish(found, as_json, reports)


def _finish(found: list[Result], as_json: bool, reports: Path) -> None:
    if as_json:
        for result in found:
            typer.echo(result.line())
    else:
        report.show(found, console)
    page = report.write(found, reports)
    if not as_json:
        console.print(f'wrote {page}', soft_wrap=True)
    raise typer.Exit(1 if _survived(found) else 0)


def _survived(found: Iterable[Result]) -> int:
    return sum(result.fate == 'survived' for result in found)


def _listed(mutants: list[Mutant]) -> Table:
    table = Table('operator', 'mutants', 'the mistake', title=f'{len(mutants):,} mutants')
    for operator in operators_of():
        count = sum(mutant.operator == operator.name for mutant in mutants)
        table.add_row(operator.name, str(count), operator.mistake)
    return table


def _progress() -> Progress:
    columns = BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn('{task.description}')
    return Progress(*columns, console=Console(stderr=True), transient=True)
