"""One thing to check: a configuration, a batch, parameters and keys, all from a few plain fields."""

import dataclasses
import functools
import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from parity import batches
from parity.batches import Style
from parity.errors import ParityError, unknown
from parity.pair import Pair
from parity.sides import State
from parity.trees import Arrays

# What a dimension letter is when nobody says otherwise.
DEFAULT_SIZES = {'B': 5, 'O': 4, 'A': 2, 'L': 3, 'M': 3, 'T': 6, 'F': 16, 'H': 8, 'W': 10, 'C': 3}
TEMPERATURES = (0.0, 0.7, 1.0)


@dataclass(frozen=True)
class Case:
    """A case is reproduced by its fields: `command` prints them as a command line.

    seed:   of the agent's creation, of the values and of the keys.
    sizes:  dimension letter -> size, for generated batches.
    config: overrides of the pair's small configuration.
    values: the style of generated values.
    source: 'generated', the name of recorded transitions, or a safetensors file with a batch.
    """

    seed: int = 0
    sizes: Mapping[str, int] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    values: Style = 'plain'
    source: str = 'generated'
    batch: Mapping[str, np.ndarray] | None = field(default=None, repr=False)

    def command(self, target: str, verb: str = 'check') -> str:
        """The command line that checks this case, or with another verb does that with it."""
        words = ['parity', verb, target, '--seed', str(self.seed)]
        source = 'BATCH.safetensors' if self.batch is not None else self.source
        words += ['--source', source] if source != 'generated' else []
        words += ['--values', self.values]
        words += [word for name, size in self.sizes.items() for word in ('--size', f'{name}={size}')]
        words += [word for key, value in self.config.items() for word in ('--set', f'{key}={_plain(value)}')]
        return shlex.join(words)

    def describe(self) -> str:
        """One line for a table."""
        sizes = ' '.join(f'{name}={size}' for name, size in self.sizes.items())
        config = ' '.join(f'{key}={_plain(value)}' for key, value in self.config.items())
        source = 'given batch' if self.batch is not None else self.source
        what = f'{self.values} values' if source == 'generated' else source
        what += f' {self.values} values' if source != 'generated' and self.values != 'plain' else ''
        return ' '.join(part for part in (f'seed {self.seed}', what, sizes, config) if part)


@dataclass(frozen=True)
class Inputs:
    """What both sides are given: float32 arrays, so that float64 computes on the same numbers, and images."""

    seed: int
    config: dict[str, Any]
    batch: Arrays
    extra: Arrays
    key: np.ndarray
    state: State
    style: Style = 'plain'
    pairwise: bool = False  # whether every row is compared with every other, as contractions of them do

    @functools.cached_property
    def reduction(self) -> int:
        """The longest sum: over the batch and an image's pixels, or over the inputs of the widest layer.

        Over all axes but the last, a kernel's outputs and a batch's features; in gradients over the last.
        Over all pairs of rows, where these are compared.
        """
        shapes = [array.shape for array in (*self.state.params.values(), *self.batch.values())]
        longest = max((max(math.prod(shape[:-1]), *shape[-1:]) for shape in shapes if shape), default=1)
        return max(longest, len(next(iter(self.batch.values()))) ** 2) if self.pairwise else longest


def batch_of(pair: Pair, case: Case) -> Arrays:
    """The case's batch, validated: generated, recorded or the user's."""
    if case.batch is not None:
        batch = {name: np.asarray(array) for name, array in case.batch.items()}
    elif case.source == 'generated':
        batch = batches.generate(pair.batch, {**DEFAULT_SIZES, **case.sizes}, case.seed, case.values)
    else:
        batch = _stored(pair, case)
    batch = {name: _single(array) for name, array in batch.items()}
    batches.sizes_of(pair.batch, batch)
    return batch


def config_of(pair: Pair, case: Case, batch: Arrays) -> dict[str, Any]:
    """The pair's small configuration with the case's overrides. Raises ParityError for an unknown key."""
    defaults = pair.get_config('reference')
    for key in case.config:
        if key not in defaults:
            raise unknown(
                'config key',
                key,
                sorted(defaults),
                where=f'pair {pair.name}',
                next_step=f'parity list {pair.name}',
            )
    sizes = {**DEFAULT_SIZES, **case.sizes, **batches.sizes_of(pair.batch, batch)}
    from_sizes = {key: sizes[letter] for key, letter in pair.sizes_from.items()}
    return {**defaults, **pair.sizes, **from_sizes, **case.config}


def extra_of(pair: Pair, case: Case, config: Mapping[str, Any], batch: Arrays) -> Arrays:
    """Further network inputs for the forward stage."""
    sizes = {**DEFAULT_SIZES, **case.sizes, **batches.sizes_of(pair.batch, batch)}
    sizes |= {letter: config[key] for key, letter in pair.sizes_from.items()}
    return batches.generate(pair.extra, sizes, case.seed + 1, case.values)


def perturbed(state: State, pair: Pair, case: Case) -> State:
    """The initial state with noise on every parameter, so that no network equals its target; or as styled."""
    rng = np.random.default_rng([case.seed, 7])
    params = {path: _noisy(leaf, rng) for path, leaf in state.params.items()}
    if case.values == 'tied':
        params = {path: _tied(leaf) if _is_ensemble(path, pair) else leaf for path, leaf in params.items()}
    if case.values == 'bounds':
        params = {path: _spread(leaf) if _is_bare(path, leaf) else leaf for path, leaf in params.items()}
    if case.values == 'zero':
        # not 0 throughout: losses that divide by the mean |q| would be 0 / 0
        params = {path: np.full_like(leaf, path.endswith('bias') / 2) for path, leaf in params.items()}
    return dataclasses.replace(state, params=params)


def nudged(batch: Arrays, sample: int, step: float, dtype: str) -> Arrays:
    """The batch with its numbers scaled by one factor, up to `step` below 1, in this precision.

    One factor keeps equal what is equal, and downwards it leads past no bound; whole numbers stay, because
    they are flags and bounds: actions of exactly 1.
    """
    factor = 1 - step * np.random.default_rng([sample, 1]).uniform(0.5, 1)
    return {
        name: np.where(array == np.round(array), array, array.astype(np.float64) * factor).astype(dtype)
        if array.dtype.kind == 'f'
        else array
        for name, array in batch.items()
    }


def apart(batch: Arrays) -> Arrays:
    """The batch with every number moved by itself, by a thousandth: rows that are equal no longer are.

    Whole numbers stay, as in `nudged`.
    """
    rng = np.random.default_rng(3)
    return {
        name: np.where(array == np.round(array), array, array * (1 + rng.uniform(-1e-3, 1e-3, array.shape)))
        if array.dtype.kind == 'f'
        else array
        for name, array in batch.items()
    }


def key_of(seed: int) -> np.ndarray:
    """The key given to losses and to sampling, uint32[2]."""
    return np.array([seed & 0xFFFFFFFF, 0x9E3779B9], np.uint32)


def _noisy(leaf: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    noise = 0.1 * rng.normal(size=leaf.shape)
    return (leaf + noise).astype(np.float32)


def _tied(leaf: np.ndarray) -> np.ndarray:
    return np.repeat(leaf[:1], len(leaf), axis=0)


def _is_bare(path: str, leaf: np.ndarray) -> bool:
    """Whether it is a vector that no layer owns, such as a log sigma."""
    return leaf.ndim == 1 and path.split('/')[-1] not in ('bias', 'scale', 'kernel')


def _spread(leaf: np.ndarray) -> np.ndarray:
    """Far to both sides, past the bounds at which networks clip what they compute: a log sigma's -5 and 2."""
    return leaf + np.resize(np.array([-6, 3, 0], leaf.dtype), leaf.shape)


def _is_ensemble(path: str, pair: Pair) -> bool:
    return path.split('/')[0].removeprefix('modules_') in pair.ensembles


def _single(array: np.ndarray) -> np.ndarray:
    with np.errstate(over='ignore'):  # validated afterwards
        return array.astype(np.float32) if array.dtype.kind == 'f' else array


def _stored(pair: Pair, case: Case) -> Arrays:
    if case.source.endswith('.safetensors'):
        return _from_file(case.source)
    import fixtures

    sizes = {**DEFAULT_SIZES, **case.sizes}
    from_sizes = {key: sizes[letter] for key, letter in pair.sizes_from.items()}
    settings = {**pair.get_config('reference'), **pair.sizes, **from_sizes, **case.config}
    transitions = fixtures.load_transitions(case.source)
    return fixtures.make_batch(transitions, list(pair.batch), sizes['B'], case.seed, settings)


def _from_file(path: str) -> Arrays:
    import safetensors.numpy

    try:
        with open(path, 'rb') as file:
            return safetensors.numpy.load(file.read())
    except (OSError, safetensors.SafetensorError) as cause:
        raise ParityError(
            f'cannot read the batch {path}',
            values=f'expected a safetensors file; found {type(cause).__name__}: {cause}',
            error='unreadable',
            where=path,
            next_step='write it with safetensors.numpy.save_file({...}, path)',
        ) from cause


def _plain(value: Any) -> str:
    if isinstance(value, tuple | list):
        return ','.join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
