"""`parity soak`. Exit codes: 0 no example differs, 1 some do, 2 could not check."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from parity.checking import known, versions
from parity.generated import PER_STRUCTURE
from parity.options import EXIT, Jobs, Pairs, Stages, console, progress
from parity.pair import registered
from parity.parallel import in_processes, processes
from parity.report import files
from parity.soaking import report
from parity.soaking.parts import Part, Result, check_part, parts_of, read
from parity.stages import STAGES, UPDATES
from parity.verdict import worst

FILE = 'soak.jsonl'
# What costs little: a new structure of the updates takes a compilation of all of them.
UPDATELESS = tuple(stage for stage in STAGES if stage not in UPDATES)


def soak_command(
    pairs: Pairs = None,
    examples: Annotated[int, typer.Option(help='So many of each pair.', min=1)] = 2000,
    stages: Stages = None,
    seed: Annotated[int, typer.Option(help='The seed of the examples.')] = 0,
    reports: Annotated[Path, typer.Option(help='The folder for soak.jsonl and soak.html.')] = Path('reports'),
    resume: Annotated[bool, typer.Option(help='Go on with the results in the reports folder.')] = True,
    jobs: Jobs = 0,
    size: Annotated[
        int, typer.Option('--part', help='Examples of one structure.', min=1, max=PER_STRUCTURE)
    ] = PER_STRUCTURE,
) -> None:
    """Check very many generated examples: pairs that should agree must never differ. Can be interrupted.

    Without --stage, all stages but the updates, which take longer to compile than all others together.
    """
    chosen = known('stage', stages or list(UPDATELESS), list(STAGES))
    names = pairs or list(registered())
    parts = parts_of(names, examples, seed, chosen, size)
    path = reports / FILE
    earlier = {result.part: result for result in read(path)} if resume else {}
    left = [part for part in parts if part not in earlier]
    files.write(path, ''.join(result.line() + '\n' for result in earlier.values()))
    with path.open('a') as file, progress() as tell:

        def done(result: Result) -> None:
            earlier[result.part] = result
            file.write(result.line() + '\n')
            file.flush()

        in_processes(check_part, [(part,) for part in left], processes(jobs), tell, done)
    _finish([earlier[part] for part in parts], _others(earlier, parts), reports)


def _others(earlier: dict[Part, Result], parts: Sequence[Part]) -> int:
    """How many results in the file are of another seed, of other stages, or of code that has changed."""
    return len(earlier.keys() - set(parts))


def _finish(found: list[Result], others: int, reports: Path) -> None:
    for result in found:
        for failure in result.failures:
            console.print(failure, style='bold red', markup=False, highlight=False, soft_wrap=True)
    console.print(report.table(found))
    if others:
        console.print(f'{others} other parts in {reports / FILE}, of other code or options, are not counted')
    console.print(f'wrote {report.write(found, versions(), reports)}', markup=False, soft_wrap=True)
    outcome = worst(result.outcome for result in found)
    console.print(outcome)
    raise typer.Exit(EXIT[outcome])
