"""Places outside of losses and updates: default configurations, initial values, and what a port raises."""

import inspect
import linecache
from collections.abc import Iterable, Iterator
from typing import Any

from parity.comparison import Leaf
from parity.locating.calls import passed
from parity.locating.culprits import place_of
from parity.locating.divergence import Finding, Place
from parity.locating.sources import Line, is_user
from parity.pair import Pair
from parity.runs import Runs


def config_finding(pair: Pair, leaf: Leaf) -> Finding:
    """The entry of the default configuration that differs, on both sides."""
    port, reference = (_entry(pair, side, leaf.path) for side in ('port', 'reference'))
    why = f'the default configuration differs in {leaf.path}'
    return Finding(0, 'config', 'config', '', port, reference, why, leaf.port, leaf.reference)


def _entry(pair: Pair, side: str, key: str) -> Place | None:
    """The line `'key': value` beside the class."""
    for cls in pair.load(side).__mro__:
        file = inspect.getsourcefile(cls) if cls.__module__ != 'builtins' else None
        for number, text in enumerate(linecache.getlines(file or ''), 1):
            if text.strip().startswith((f"'{key}':", f'"{key}":')):
                return Place.of(Line(file or '', number, 'get_config'))
    return None


def initial_findings(runs: Runs, leaves: Iterable[Leaf]) -> Iterator[Finding]:
    """For each class of modules whose initial values differ, where it is made."""
    side: Any = runs.port64.side
    network = side.agent.network if getattr(side, 'agent', None) is not None else side.module
    modules = {name.replace('.', '/'): module for name, module in network.named_modules()}
    found: dict[Any, list[Leaf]] = {}
    for leaf in leaves:
        module = modules.get(leaf.path.rpartition('/')[0])
        found.setdefault(type(module) if module is not None else None, []).append(leaf)
    for cls, wrong in found.items():
        paths = tuple(leaf.path for leaf in wrong)
        worst = wrong[0]
        place = place_of(cls.__init__) if cls is not None else None
        why = f'initial values differ in {len(paths)} leaves'
        values = worst.port, worst.reference, worst.error, worst.allowed
        yield Finding(0, 'module', 'params', '', place, None, why, *values, parameters=paths)


def raised(runs: Runs, stage: str) -> Finding:
    """Where the port raises in a stage, or when it is created."""
    line: Line | None = None
    why = 'raises'
    try:
        if stage == 'config':
            runs.pair.get_config('port')
        else:
            runs.port64.stage(stage)
    except Exception as error:  # a port can fail in any way
        why = f'raises {type(error).__name__}: {error}'
        frames = [Line(f.f_code.co_filename, number, f.f_code.co_qualname) for f, number in passed(error)]
        own = [frame for frame in frames if is_user(frame.file)]
        line = next(reversed(own or frames), None)
    return Finding(0, 'error', stage, '', Place.of(line), None, why)
