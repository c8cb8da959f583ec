"""The commands that check nothing: what there is, files side by side, recordings, reports, checkpoints."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from parity import generated, twins
from parity.options import console
from parity.pair import Pair, find, registered
from parity.report import diff
from parity.stages import STAGES


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


def record(
    only: Annotated[list[str] | None, typer.Argument(help='Sources to record; all if none.')] = None,
    compare: Annotated[
        bool, typer.Option('--check', help='Record again and compare with the committed.')
    ] = False,
) -> None:
    """Record the transitions in fixtures/ again (needs the extra `record`)."""
    from fixtures.recheck import recheck
    from fixtures.record import record as record_all

    if compare:
        results = recheck(only=only)
        for result in results:
            console.print(str(result))
        raise typer.Exit(0 if all(result.identical for result in results) else 1)
    for path in record_all(only=only):
        console.print(f'wrote {path}')


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


def show_twins(
    pair: Annotated[str, typer.Argument(help='A registered name or module:ATTR.')],
    everything: Annotated[bool, typer.Option('--all', help='Show also the identical lines.')] = False,
) -> None:
    """Show both source files of a pair side by side. Exit code 1: other definitions or keys."""
    found = twins.twins(find(pair))
    wide = Console(width=None if sys.stdout.isatty() else 200)
    wide.print(twins.side_by_side(found, everything=everything))
    raise typer.Exit(1 if found.differences() else 0)


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


def _describe(pair: Pair) -> Table:
    table = Table('', '', title=pair.name)
    for title, entries in (('batch', pair.batch), ('forward', pair.forward), ('switch', pair.switches)):
        for key, value in entries.items():
            table.add_row(f'{title} {key}', value if isinstance(value, str) else ', '.join(map(str, value)))
    return table
