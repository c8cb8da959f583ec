"""What several commands take, and how they say what they are doing."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from parity.verdict import Outcome

# a pipe has no width: wide enough for the table
console = Console(width=None if sys.stdout.isatty() else 120)

# What commands exit with.
EXIT: dict[Outcome, int] = {'match': 0, 'mismatch': 1, 'error': 2, 'not_run': 2}

Pairs = Annotated[
    list[str] | None, typer.Argument(help='Registered names or module:ATTR; all registered if none.')
]
Stages = Annotated[list[str] | None, typer.Option('--stage', help='A stage; all if none. See parity list.')]
Dtypes = Annotated[list[str] | None, typer.Option('--dtype', help='float64 or float32; both if none.')]
Reports = Annotated[Path, typer.Option('--reports', help='The folder for the HTML and JSON reports.')]
Original = Annotated[
    Path | None,
    typer.Option('--reference', help='A checkout of the original: its agents are the references.'),
]
Device = Annotated[str, typer.Option(help='The torch device of the port.')]
ReferenceDevice = Annotated[str, typer.Option(help='The jax platform of the reference, cpu or cuda.')]
Variant = Annotated[
    str | None,
    typer.Option(help='compiled: the port after its compile(); eager-jax: the reference without jit.'),
]
TF32 = Annotated[bool, typer.Option('--tf32', help='Let float32 products of the port on a GPU use TF32.')]

Jobs = Annotated[int, typer.Option('--jobs', help='Processes at once; 0 for one per core.', min=0)]

# of a case
Seed = Annotated[int | None, typer.Option(help='The seed of parameters, values and keys; 0 if none.')]
Settings = Annotated[list[str] | None, typer.Option('--set', help='A config entry, key=value.')]
Sizes = Annotated[list[str] | None, typer.Option('--size', help='A dimension, B=8.')]
Values = Annotated[str | None, typer.Option(help='The style of the generated values; plain if none.')]
Source = Annotated[
    str | None,
    typer.Option(help='generated, which is the default, recorded transitions, or a .safetensors batch.'),
]
CaseFile = Annotated[
    Path | None, typer.Option('--case', help='The case in a file that parity locate --reports wrote.')
]
Locates = Annotated[bool, typer.Option('--locate/--no-locate', help='Say at which lines a mismatch begins.')]


@contextlib.contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """A line on standard error for as long as something runs; called with what that is."""
    columns = SpinnerColumn(), TextColumn('{task.description}'), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task('starting')
        yield lambda line: shown.update(task, description=line)
