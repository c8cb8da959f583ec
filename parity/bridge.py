"""`parity bridge`: a checkpoint of a reference becomes a file that both sides load and go on from."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from parity.errors import ParityError
from parity.pair import Pair

Shapes = Mapping[str, tuple[int, ...]]
_PROBE = {'O': 5, 'A': 3}  # the sizes of the agents that are made to see which axes depend on them


@dataclass(frozen=True)
class Bridged:
    """A checkpoint that fits the port: its state dict, and what makes the agent for it."""

    source: str
    state: dict[str, Any]
    recipe: Any
    agent: Any

    def table(self) -> Table:
        """The plan: leaf by leaf, where it goes and how large it is."""
        from weight_bridge.checkpoints.restoring import leaf_rows

        table = Table(
            'leaf', 'torch', 'Flax', 'torch', 'bytes', title=f'{self.recipe.agent} from {self.source}'
        )
        rows = list(leaf_rows(self.agent))
        for *words, size in rows:
            table.add_row(*words, f'{size:,}')
        table.add_section()
        total = sum(size for *_, size in rows)
        table.add_row(f'{len(rows)} parameters, with two moments each', '', '', '', f'{3 * total:,}')
        return table

    def write(self, path: Path) -> Path:
        from weight_bridge.checkpoints import agents as files

        return files.save(path, self.state, self.recipe)


def bridge(
    checkpoint: Path,
    pair: Pair,
    config: Mapping[str, Any],
    sizes: Mapping[str, int],
    observations: tuple[int, ...] | None = None,
) -> Bridged:
    """Reads a checkpoint and fits it into a new port, so that every leaf is known to have its place.

    Args:
        config: entries in the place of the port's defaults, or of those that the file has itself.
        sizes: {'O': observation size, 'A': action size}; what is missing is told by the shapes.
        observations: the shape of one observation, for images.

    Raises:
        BridgeError: the checkpoint cannot be read, or its leaves do not fit; all of them are listed.
        ParityError: a configuration value is not allowed, or the sizes cannot be told.
    """
    from weight_bridge.checkpoints import agents as files
    from weight_bridge.checkpoints import read

    found = read(checkpoint)
    known = files.recipe_of(found)
    state = files.state_of(found.tree)
    defaults = pair.get_config('port') if known is None else known.config
    merged = {**defaults, **config}
    if known is not None and not sizes and observations is None:
        recipe = files.Recipe(pair.name, merged, known.observations, known.actions)
    else:
        recipe = _recipe(pair, merged, state, sizes, observations)
    agent = _fitted(pair, recipe, state)
    return Bridged(f'{checkpoint} ({found.format})', state, recipe, agent)


def read_config(path: Path, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a JSON file; lists become tuples. Raises ParityError for other content or keys."""
    try:
        entries = json.loads(path.read_text())
        unknown = sorted(set(dict(entries)) - set(defaults))
    except (OSError, ValueError, TypeError) as cause:
        raise _bad_config(
            path, 'a JSON object of config entries', f'{type(cause).__name__}: {cause}'
        ) from cause
    if unknown:
        raise _bad_config(path, f'keys among {", ".join(sorted(defaults))}', ', '.join(unknown))
    return {key: tuple(value) if isinstance(value, list) else value for key, value in entries.items()}


def parse_shape(text: str | None) -> tuple[int, ...] | None:
    """`64,64,3` as (64, 64, 3)."""
    if text is None:
        return None
    parts = text.split(',')
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise _bad_config('--observation', 'sizes like 64,64,3', text)
    return tuple(map(int, parts))


def solve(shapes_of: Callable[[int, int], Shapes], found: Shapes, sizes: Mapping[str, int]) -> dict[str, int]:
    """The sizes O and A that give most axes of the parameters the length that is found.

    Three small agents show how the length of each axis grows with O and with A. Axes that grow with one of
    them alone decide; where there are none, those of which the other part is known. A leaf that disagrees
    with the rest is not hidden: it will not fit.

    Args:
        shapes_of: {path: shape} for O and A.
        sizes: those that are known already.
    """
    base, wider, taller = (shapes_of(_PROBE['O'] + o, _PROBE['A'] + a) for o, a in ((0, 0), (1, 0), (0, 1)))
    axes = [
        Axis(length, {'O': more_o - size, 'A': more_a - size}, size)
        for path in base
        if len(found.get(path, ())) == len(base[path])
        for size, more_o, more_a, length in zip(
            base[path], wider[path], taller[path], found[path], strict=True
        )
    ]
    solved = dict(sizes)
    for alone in (True, False):
        for letter in sorted({'A', 'O'} - set(solved)):
            votes = Counter(size for axis in axes if (size := axis.size_of(letter, solved, alone)))
            if votes:
                solved[letter] = votes.most_common(1)[0][0]
    return solved


@dataclass(frozen=True)
class Axis:
    """One axis of a parameter: its length, by how much it grows with each letter, its length in the probe."""

    length: int
    slopes: Mapping[str, int]
    probed: int

    def size_of(self, letter: str, known: Mapping[str, int], alone: bool) -> int | None:
        """What the letter must be, if the axis grows with it, and else with nothing (or nothing unknown)."""
        (other,) = self.slopes.keys() - {letter}
        if not self.slopes[letter] or bool(self.slopes[other]) == alone:
            return None
        if not alone and other not in known:
            return None
        rest = self.length - self.probed
        rest -= self.slopes[other] * (known[other] - _PROBE[other]) if not alone else 0
        grown, remainder = divmod(rest, self.slopes[letter])
        size = _PROBE[letter] + grown
        return size if size > 0 and not remainder else None


def _recipe(
    pair: Pair,
    config: Mapping[str, Any],
    state: Mapping[str, Any],
    sizes: Mapping[str, int],
    observations: tuple[int, ...] | None,
) -> Any:
    from weight_bridge.checkpoints.agents import Recipe

    if observations is not None:
        sizes = {'O': observations[-1], **sizes}
    if not {'O', 'A'} <= set(sizes):
        found = _shapes(state.get('network', {}).get('params', {}))
        sizes = solve(lambda o, a: _new_shapes(pair, config, o, a, observations), found, sizes)
    missing = sorted({'O', 'A'} - set(sizes))
    if missing:
        raise ParityError(
            f'{pair.name}: the size of {" and ".join(missing)} cannot be told',
            values='expected leaves under network/params whose shapes depend on it; found none',
            error=f'{len(missing)} unknown; allowed: 0',
            where='the checkpoint',
            next_step=f'parity bridge ... {" ".join(f"--size {letter}=..." for letter in missing)}',
        )
    shape = observations or (sizes['O'],)
    return Recipe(
        pair.name, config, (shape, 'uint8' if len(shape) > 1 else 'float32'), ((sizes['A'],), 'float32')
    )


def _new_shapes(
    pair: Pair, config: Mapping[str, Any], o: int, a: int, observations: tuple[int, ...] | None
) -> Shapes:
    """The shapes of a new reference's parameters, which are traced and not computed."""
    import jax

    example = np.zeros((1, *(observations or (o,))), np.uint8 if observations else np.float32)
    create = pair.load('reference').create  # type: ignore[attr-defined]
    agent = _checked(
        pair, lambda: jax.eval_shape(lambda: create(0, example, np.zeros((1, a), np.float32), dict(config)))
    )
    return _shapes(agent.network.params)


def _fitted(pair: Pair, recipe: Any, state: dict[str, Any]) -> Any:
    """A new port with the values of the state dict."""
    from weight_bridge.checkpoints.restoring import restore_torch

    create = pair.load('port').create  # type: ignore[attr-defined]
    agent = _checked(pair, lambda: create(0, *recipe.examples(), dict(recipe.config)))
    shapes = _shapes(state.get('network', {}).get('params', {}))
    for path in pair.reshaped:
        parameter = agent.network.params[path.replace('/', '.')]
        parameter.data = parameter.new_zeros(shapes.get(path, parameter.shape))
    return restore_torch(agent, state)


def _checked(pair: Pair, make: Callable[[], Any]) -> Any:
    try:
        return make()
    except (ValueError, TypeError, KeyError) as cause:
        raise _bad_config(
            pair.name, 'a configuration that the agent can be created from', str(cause)
        ) from cause


def _shapes(tree: Any) -> Shapes:
    from weight_bridge.paths import flatten

    return {path: tuple(leaf.shape) for path, leaf in flatten(tree).items() if hasattr(leaf, 'shape')}


def _bad_config(where: object, expected: str, found: str) -> ParityError:
    return ParityError(
        'the configuration cannot be used',
        values=f'expected {expected}; found {found}',
        error='not usable',
        where=str(where),
        next_step='parity bridge --help',
    )
