"""`parity locate`. Exit codes: 0 nothing differs, 1 located, 2 could not."""

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from parity import case_files
from parity.cases import Case
from parity.locating.divergence import Divergence
from parity.locating.locate import first_divergence
from parity.locating.shrinking import shrunk
from parity.options import EXIT, CaseFile, Device, Seed, Settings, Sizes, Source, Values, progress
from parity.pair import Pair, find
from parity.report import files, locate_page
from parity.report.locate_page import Smallest
from parity.report.locating import view

# a pipe has no width
WIDE = 160


def locate_one(
    pair: Annotated[str, typer.Argument(help='A registered name or module:ATTR.')],
    stage: Annotated[
        str | None, typer.Option(help='The stage to look at; the first that differs if none.')
    ] = None,
    loss: Annotated[str | None, typer.Option(help='The loss to look at, by its name.')] = None,
    seed: Seed = None,
    settings: Settings = None,
    sizes: Sizes = None,
    values: Values = None,
    source: Source = None,
    top: Annotated[int, typer.Option(help='So many places are shown.', min=1)] = 3,
    as_json: Annotated[bool, typer.Option('--json', help='All that was found, as JSON.')] = False,
    device: Device = 'cpu',
    case_file: CaseFile = None,
    reports: Annotated[
        Path | None, typer.Option(help='A folder for an HTML page, a JSON file and a case file.')
    ] = None,
    shrink: Annotated[
        float,
        typer.Option(help='With --reports: so many seconds to look for a smaller case; 0 for none.', min=0),
    ] = 30,
) -> None:
    """Show the lines at which a port parts from its reference, and the cause.

    Without options of a case the default one and a few generated ones are tried, until one differs.
    """
    found = find(pair)
    cases: list[Case] | None = None
    if case_files.named(seed, settings, sizes, values, source, case_file):
        cases = [case_files.chosen(found, case_file, seed, settings, sizes, values, source)]
    with progress() as tell:
        case, divergence = first_divergence(pair, cases, stage, loss, 0, device, tell)
        smallest: Smallest | None = None
        if reports is not None and divergence.stages:
            how: dict[str, Any] = {'loss': loss, 'device': device, 'progress': tell}
            case = shrunk(found, case, divergence.stages[0], seconds=shrink, **how) if shrink else case
            smallest = _left(reports, found, pair, case)
    _show(divergence, top, as_json)
    for path in locate_page.write(divergence, reports, smallest) if reports is not None else ():
        typer.echo(f'wrote {path}', err=as_json)
    if smallest:
        typer.echo(f'wrote {smallest.path}: {smallest.description}; next: {smallest.command}', err=as_json)
    raise typer.Exit(EXIT[divergence.outcome])


def _left(folder: Path, pair: Pair, target: str, case: Case) -> Smallest:
    """The case file of a case, written."""
    path = case_files.save(folder / files.case_name(pair.name), pair, case)
    return Smallest(path, case.describe(), shlex.join(['parity', 'check', target, '--case', str(path)]))


def _show(divergence: Divergence, top: int, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(divergence.as_dict(), indent=1, allow_nan=False))
        return
    piped = not sys.stdout.isatty() and 'COLUMNS' not in os.environ
    console = Console(width=WIDE if piped else None)
    for part in view(divergence, top):
        console.print(part, soft_wrap=isinstance(part, Text))
