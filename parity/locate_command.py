"""`parity locate`. Exit codes: 0 nothing differs, 1 located, 2 could not."""

import json
import os
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from parity import generated
from parity.cases import Case
from parity.locating.locate import locate
from parity.options import Device, Seed, Settings, Sizes, Source, Values, progress
from parity.pair import find
from parity.report.locating import view
from parity.verdict import Outcome

EXIT: dict[Outcome, int] = {'match': 0, 'mismatch': 1, 'error': 2, 'not_run': 2}
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
) -> None:
    """Show the lines at which a port parts from its reference, and the cause.

    Without options of a case the default one and a few generated ones are tried, until one differs.
    """
    found = find(pair)
    case: Case | None = None
    if (seed, settings or None, sizes or None, values, source) != (None,) * 5:
        case = generated.parse_case(found, seed, settings, sizes, values, source)
    with progress() as tell:
        divergence = locate(pair, case=case, stage=stage, loss=loss, device=device, progress=tell)
    if as_json:
        typer.echo(json.dumps(divergence.as_dict(), indent=1, allow_nan=False))
    else:
        piped = not sys.stdout.isatty() and 'COLUMNS' not in os.environ
        console = Console(width=WIDE if piped else None)
        for part in view(divergence, top):
            console.print(part, soft_wrap=isinstance(part, Text))
    raise typer.Exit(EXIT[divergence.outcome])
