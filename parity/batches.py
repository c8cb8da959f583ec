"""Batches from their description: generated with awkward values, or a user's own, validated.

A field is described as `'B O'` (dimension letters), with the kind of its values after a bar:
`'B A | unit'` inside [-1, 1], `'B | binary'` 0 or 1, `'B | not masks'` one minus another field,
`'O | min observations'` and `'O | max observations'` bounds of another field; none means normal values.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from parity.errors import ParityError
from parity.trees import Arrays, short_dtype

# How the values of a generated case are chosen, beside their sizes:
#   plain      ordinary values
#   tiny, huge magnitudes 1e-6 and 1e4
#   bounds     actions at exactly -1 and 1, observations at exactly 0
#   constant   all rewards equal, all masks zero
#   duplicates every row the same
#   tied       the members of every ensemble equal, so that each minimum over them is a tie
#   zero       all kernels 0, all biases 0.5: every value equal, every advantage exactly 0, all members tied
Style = Literal['plain', 'tiny', 'huge', 'bounds', 'constant', 'duplicates', 'tied', 'zero']
STYLES: tuple[Style, ...] = get_args(Style)

KINDS = ('normal', 'unit', 'binary', 'not', 'min', 'max')
REFERRING = ('not', 'min', 'max')
_SCALES = {'tiny': 1e-6, 'huge': 1e4}


@dataclass(frozen=True)
class Field:
    """One batch entry: its dimension letters, the kind of its values, and the field the kind refers to."""

    letters: tuple[str, ...]
    kind: str
    other: str

    @classmethod
    def parse(cls, text: str) -> 'Field':
        """From `'B A | unit'`."""
        letters, _, kind = text.partition('|')
        name, _, other = kind.strip().partition(' ')
        name = name or 'normal'
        if name not in KINDS or (name in REFERRING) != bool(other):
            raise ParityError(
                f'cannot read the batch field {text!r}',
                values=f'expected one of {", ".join(KINDS)} after the bar; found {kind.strip()!r}',
                error='1 kind not understood; allowed: 0',
                where='the description of a batch',
                next_step="write 'B A | unit', 'B | binary', 'B | not masks' or 'O | min observations'",
            )
        return cls(tuple(letters.split()), name, other)


def generate(fields: Mapping[str, str], sizes: Mapping[str, int], seed: int, style: Style) -> Arrays:
    """A float32 batch; the same arguments give the same values."""
    rng = np.random.default_rng([seed, STYLES.index(style)])
    batch: Arrays = {}
    for name, text in fields.items():
        field = Field.parse(text)
        shape = tuple(_size(letter, sizes, name) for letter in field.letters)
        array = _values(field, shape, batch, rng, style).astype(np.float32)
        batch[name] = _constant(name, array) if style == 'constant' else array
    if style == 'duplicates':
        batch = {name: _repeated(array, Field.parse(fields[name])) for name, array in batch.items()}
    return batch


def _size(letter: str, sizes: Mapping[str, int], name: str) -> int:
    if letter not in sizes:
        raise ParityError(
            f'no size for the dimension {letter} of {name}',
            values=f'expected a size for {letter}; found only {dict(sizes)}',
            error='1 missing; allowed: 0',
            where='the sizes of the case',
            next_step=f'--size {letter}=3',
        )
    return sizes[letter]


def _values(
    field: Field, shape: tuple[int, ...], batch: Arrays, rng: np.random.Generator, style: Style
) -> np.ndarray:
    if field.kind == 'unit':
        values = rng.uniform(-1, 1, shape)
        return np.where(rng.random(shape) < 0.5, np.sign(values), values) if style == 'bounds' else values
    if field.kind == 'binary':
        return (rng.random(shape) < 0.7).astype(np.float64)
    if field.kind == 'not':
        return np.asarray(1 - batch[field.other].astype(np.float64))
    if field.kind in ('min', 'max'):
        bound = np.min if field.kind == 'min' else np.max
        return np.asarray(bound(batch[field.other].reshape(-1, *shape), axis=0))
    values = rng.normal(size=shape) * _SCALES.get(style, 1.0)
    return np.where(rng.random(shape) < 0.3, 0.0, values) if style == 'bounds' else values


def _constant(name: str, array: np.ndarray) -> np.ndarray:
    fixed = {'rewards': 0.5, 'masks': 0.0}
    return np.full_like(array, fixed[name]) if name in fixed else array


def _repeated(array: np.ndarray, field: Field) -> np.ndarray:
    return np.repeat(array[:1], len(array), axis=0) if field.letters[:1] == ('B',) else array


def sizes_of(fields: Mapping[str, str], batch: Arrays) -> dict[str, int]:
    """The size of each dimension letter. Raises ParityError for a batch that does not fit its description."""
    problems = _key_problems(fields, batch)
    sizes: dict[str, int] = {}
    for name in (name for name in fields if name in batch):
        problems += _shape_problems(name, Field.parse(fields[name]), batch[name], sizes)
        problems += _value_problems(name, batch[name])
    if problems:
        raise ParityError(
            'the batch cannot be used',
            values='; '.join(problems),
            error=f'{len(problems)} problems; allowed: 0',
            where=f'batch with {", ".join(sorted(batch)) or "no entries"}',
            next_step=f'give exactly the entries {dict(fields)}, finite',
        )
    return sizes


def _key_problems(fields: Mapping[str, str], batch: Arrays) -> list[str]:
    missing = [f'missing key {name!r}' for name in fields if name not in batch]
    return missing + [f'unexpected key {name!r}' for name in batch if name not in fields]


def _shape_problems(name: str, field: Field, array: np.ndarray, sizes: dict[str, int]) -> list[str]:
    found = f'found {short_dtype(array.dtype)}[{",".join(map(str, array.shape))}]'
    if array.ndim != len(field.letters):
        return [f'{name}: expected dimensions ({", ".join(field.letters)}), {found}']
    expected = [
        sizes.setdefault(letter, size) for letter, size in zip(field.letters, array.shape, strict=True)
    ]
    return [] if tuple(expected) == array.shape else [f'{name}: expected shape {tuple(expected)}, {found}']


def _value_problems(name: str, array: np.ndarray) -> list[str]:
    if array.size == 0:
        return [f'{name}: expected at least one value, found none']
    if array.dtype.kind not in 'fiu':
        return [f'{name}: expected numbers, found dtype {array.dtype}']
    odd = int((~np.isfinite(array)).sum()) if array.dtype.kind == 'f' else 0
    return [f'{name}: expected finite values, found {odd} NaN or infinite of {array.size}'] if odd else []
