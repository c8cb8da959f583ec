"""Places outside of losses and updates: default configurations, initial values, and what a port raises."""

import ast
import inspect
import linecache
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from parity.comparison import Leaf
from parity.locating.calls import passed
from parity.locating.causes import Cause
from parity.locating.counterfactuals import sources_of
from parity.locating.culprits import place_of
from parity.locating.divergence import Finding, Place
from parity.locating.gaps import gaps
from parity.locating.losses import network_of
from parity.locating.signatures import line_of_argument
from parity.locating.sources import Line, Stack, is_user
from parity.locating.writes import writing
from parity.pair import Pair
from parity.presets import module_of_presets, taker_of_default
from parity.runs import Runs


def config_finding(pair: Pair, leaf: Leaf) -> Finding:
    """The entry of the default configuration that differs, on both sides."""
    port, reference = (_entry(pair, side, leaf.path) for side in ('port', 'reference'))
    why = f'the default configuration differs in {leaf.path}'
    return Finding(0, 'config', 'config', '', port, reference, why, leaf.port, leaf.reference)


def _entry(pair: Pair, side: str, path: str) -> Place | None:
    """The line `'key': value` beside the class; of a preset, the line of its name in the table.

    Of what a preset does not give, the line of the default.
    """
    key, _, preset = path.partition('=')
    if preset:
        name, _, argument = preset.partition('/')
        taker = taker_of_default(pair, side, key, name, argument)
        function = taker.__init__ if inspect.isclass(taker) else taker
        if function and (line := line_of_argument(function, argument)):
            return Place.of(line)
        modules, key = [module_of_presets(pair, key, side)], name
    else:
        modules = [cls.__module__ for cls in pair.load(side).__mro__ if cls.__module__ != 'builtins']
    for module in modules:
        file = inspect.getsourcefile(sys.modules[module])
        for number, text in enumerate(linecache.getlines(file or ''), 1):
            if text.strip().startswith((f"'{key}':", f'"{key}":')):
                return Place.of(Line(file or '', number, '<module>' if preset else 'get_config'))
    return None


def initial_findings(runs: Runs, leaves: Iterable[Leaf]) -> Iterator[Finding]:
    """Networks that the reference starts as copies of others; then the lines that make the rest."""
    wrong = list(leaves)
    copies = _copies(runs, wrong)
    for (name, original), of_network in copies.items():
        yield _not_copied(runs, name, original, of_network)
    copied = {leaf for of_network in copies.values() for leaf in of_network}
    yield from _made_otherwise(runs, [leaf for leaf in wrong if leaf not in copied])


def _copies(runs: Runs, leaves: Iterable[Leaf]) -> dict[tuple[str, str], list[Leaf]]:
    """The leaves by (network, another one): the reference starts the one as the other, which the port has."""
    reference, port = runs.reference64.stage('params'), runs.port64.stage('params')
    found: dict[tuple[str, str], list[Leaf]] = {}
    for leaf in leaves:
        name, _, rest = leaf.path.partition('/')
        mine = reference.get(leaf.path, np.zeros(()))
        # ones and zeros are nobody's copies, and a copy has the dtype that it has
        if leaf.kind != 'value' or np.unique(mine).size < 2:
            continue
        for other in (path for path in reference if path != leaf.path and path.partition('/')[2] == rest):
            agrees = other in port and np.array_equal(port[other], reference[other])
            if agrees and np.array_equal(mine, reference[other]):
                found.setdefault((name, other.partition('/')[0]), []).append(leaf)
                break
    return found


def _not_copied(runs: Runs, name: str, original: str, leaves: list[Leaf]) -> Finding:
    """With the other network's values, which are the reference's, all of these leaves would agree."""
    worst = leaves[0]
    port = runs.pair.load('port')
    # the line that the port lacks names both networks
    networks = [network.removeprefix('modules_') for network in (name, original)]
    gap = next(gaps(runs.pair, networks, ['create']), None)
    place = Place.of(gap.port) if gap else place_of(getattr(port, 'create', port))
    why = f'the reference starts {name} as a copy of {original}'
    cause = Cause('target not started as a copy', f'{name} = {original}', worst.margin, 0.0, 1)
    values = worst.port, worst.reference, worst.error, worst.allowed
    paths = tuple(leaf.path for leaf in leaves)
    reference = Place.of(gap.reference) if gap else None
    return Finding(0, 'module', 'params', '', place, reference, why, *values, parameters=paths, cause=cause)


def _made_otherwise(runs: Runs, leaves: Iterable[Leaf]) -> Iterator[Finding]:
    """The lines that give the modules of each class their initial values, where these differ."""
    modules = modules_of(runs.port64.side)
    of_class: dict[Any, list[Leaf]] = {}
    for leaf in leaves:
        module = modules.get(_module(leaf.path))
        of_class.setdefault(type(module) if module is not None else None, []).append(leaf)
    writers = _writers(runs) if of_class else {}
    found: dict[Place | None, list[Leaf]] = {}
    for cls, wrong in of_class.items():
        lines = Counter(writers[leaf.path] for leaf in wrong if leaf.path in writers).most_common(1)
        line = lines[0][0] if lines else cls and absent(modules[_module(wrong[0].path)])
        found.setdefault(Place.of(line) or (cls and place_of(cls.__init__)), []).extend(wrong)
    for place, wrong in found.items():
        paths, worst = tuple(leaf.path for leaf in wrong), wrong[0]
        why = f'initial values differ in {len(paths)} leaves'
        values = worst.port, worst.reference, worst.error, worst.allowed
        yield Finding(0, 'module', 'params', '', place, None, why, *values, parameters=paths)


def _writers(runs: Runs) -> dict[str, Line]:
    """For each leaf the line that writes it last when the port is made; if none does, one beside it."""
    from weight_bridge.plan import plan

    last: dict[int, tuple[Any, Line]] = {}  # with the tensor: the id of one that is gone is another's

    def see(tensor: Any, stack: Stack, _: Stack) -> None:
        last[id(tensor)] = tensor, stack[0]

    with writing(see):
        side: Any = runs.new_port('float64', runs.reference64).side
    if getattr(side, 'agent', None) is None:
        return {}
    leaves = plan(side.agent.network).leaves
    params = {piece.path: leaf.parameter for leaf in leaves for piece in leaf.pieces if piece.path}
    written = {path: last[id(p)][1] for path, p in params.items() if id(p) in last}
    beside = {_module(path): line for path, line in written.items()}
    found = {path: written.get(path, beside.get(_module(path))) for path in params}
    return {path: line for path, line in found.items() if line and is_user(line.file)}


def absent(module: Any) -> Line | None:
    """The line of its class that says which parameter a module has not: `self.bias = None`, say."""
    held = {**vars(module), **module._parameters}
    names = [f'self.{name}' for name in ('weight', 'bias') if name in held and held[name] is None]
    for source in sources_of(vars(cls).get('__init__') for cls in type(module).__mro__):
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Assign) and any(ast.unparse(target) in names for target in node.targets):
                return source.line_of(node)
    return None


def _module(path: str) -> str:
    return path.rpartition('/')[0]


def modules_of(side: Any) -> dict[str, Any]:
    """The modules of a port by their paths, as leaves have them."""
    return {name.replace('.', '/'): module for name, module in network_of(side).named_modules()}


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
        lines = list(passed(error))
        own = [line for line in lines if is_user(line.file)]
        line = next(reversed(own or lines), None)
    return Finding(0, 'error', stage, '', Place.of(line), None, why)
