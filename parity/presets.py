"""What values of a configuration are names of: classes and their arguments, of both sides."""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from parity.errors import ParityError
from parity.pair import Pair, load_target

SIDES = ('reference', 'port')
Arguments = dict[str, dict[str, Any]]  # of each name


def presets_of(pair: Pair, side: str) -> dict[str, Any]:
    """{<config key>=<name>/<argument>: value}, given or default; <argument> is 'class' for the class's name.

    Arguments that one side's class does not have are left out: what they do shows in what is computed.
    """
    found: dict[str, Any] = {}
    for key, targets in pair.presets.items():
        tables = {each: _table(pair, key, target) for each, target in zip(SIDES, targets, strict=True)}
        others = tables['port' if side == 'reference' else 'reference']
        for name, arguments in tables[side].items():
            taken = others.get(name, arguments)  # a name that only one side has differs as a whole
            found |= {f'{key}={name}/{each}': value for each, value in arguments.items() if each in taken}
    return found


def module_of_presets(pair: Pair, key: str, side: str) -> str:
    """The module that the table of a configuration key is in."""
    return pair.presets[key][SIDES.index(side)].partition(':')[0]


def taker_of_default(pair: Pair, side: str, key: str, name: str, argument: str) -> Any:
    """What takes the argument by default; None where the preset of either side gives it, or is not there."""
    tables = (_presets(pair, key, target) for target in pair.presets[key])
    takers = [_taker(table[name], argument) if name in table else None for table in tables]
    return takers[SIDES.index(side)] if all(takers) else None


def _taker(preset: Any, argument: str) -> Any:
    made, given = _taken_apart(preset)
    return made if argument in given.signature.parameters.keys() - given.arguments.keys() else None


def _table(pair: Pair, key: str, target: str) -> Arguments:
    return {name: dict(_arguments(preset)) for name, preset in _presets(pair, key, target).items()}


def _presets(pair: Pair, key: str, target: str) -> Mapping[str, Callable[..., Any]]:
    table = load_target(target, where=f'pair {pair.name}, presets of {key}')
    if isinstance(table, Mapping) and all(map(callable, table.values())):
        return table
    raise ParityError(
        f'{pair.name}: {target} is no table of presets',
        values=f'expected a mapping of names to classes or partials of them; found {type(table).__name__}',
        error='wrong type',
        where=f'pair {pair.name}, presets of {key}',
        next_step='name such a mapping, or leave presets out',
    )


def _arguments(preset: Any) -> Iterator[tuple[str, Any]]:
    made, bound = _taken_apart(preset)
    yield 'class', made.__name__
    bound.apply_defaults()
    yield from bound.arguments.items()


def _taken_apart(preset: Any) -> tuple[Any, inspect.BoundArguments]:
    """What a preset makes, and the arguments that it gives."""
    whole = functools.partial(preset)  # of a class or of a partial, which it takes apart
    return whole.func, inspect.signature(whole.func).bind_partial(*whole.args, **whole.keywords)
