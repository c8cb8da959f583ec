"""Batches from their description: generated with awkward values, or a user's own, validated.

A field is described as `'B O'` (dimension letters), with the kind of its values after a bar:
`'B A | unit'` inside [-1, 1], `'B | binary'` 0 or 1, `'B | not masks'` one minus another field,
`'O | min observations'` and `'O | max observations'` bounds of another field, `'B H W C | image'` integers
from 0 to 255, u8, `'B | below 10'` labels, i32, `'2 | key'` a random key, u32; none means normal values.
A number in the place of a letter is a size that does not vary: `'B 28 28 1'`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from parity.errors import ParityError
from parity.summaries import short_dtype, summary
from parity.trees import Arrays

# How the values of a generated case are chosen, beside their sizes:
#   plain      ordinary values
#   tiny, huge magnitudes 1e-6 and 1e4; the darkest and the brightest images, of 0 and 1 or 254 and 255
#   bounds     actions at exactly -1 and 1, observations at exactly 0, images of 0 and 255
#   constant   all rewards equal, all masks zero, each image of one value
#   duplicates every row the same
#   tied       the members of every ensemble equal, so that each minimum over them is a tie
#   zero       all kernels 0, all biases 0.5: every value equal, every advantage exactly 0, all members tied
Style = Literal['plain', 'tiny', 'huge', 'bounds', 'constant', 'duplicates', 'tied', 'zero']
STYLES: tuple[Style, ...] = get_args(Style)

KINDS = ('normal', 'unit', 'binary', 'not', 'min', 'max', 'below', 'key', 'image')
REFERRING = ('not', 'min', 'max', 'below')  # these have a word after them
INTEGERS: dict[str, type[np.generic]] = {'below': np.int32, 'key': np.uint32, 'image': np.uint8}
_SCALES = {'tiny': 1e-6, 'huge': 1e4}
_PIXELS = {'tiny': (0, 1), 'huge': (254, 255), 'bounds': (0, 255)}


@dataclass(frozen=True)
class Field:
    """One batch entry: its letters or sizes, the kind of its values, and the word after the kind."""

    letters: tuple[str, ...]
    kind: str
    other: str

    @property
    def dtype(self) -> type[np.generic]:
        """What its generated values are."""
        return INTEGERS.get(self.kind, np.float32)

    @classmethod
    def parse(cls, text: str) -> 'Field':
        """From `'B A | unit'`."""
        letters, _, kind = text.partition('|')
        name, _, other = kind.strip().partition(' ')
        name, dimensions = name or 'normal', tuple(letters.split())
        wrong = (name == 'image' and len(dimensions) < 3) or (name == 'below') != other.isdigit()
        if name not in KINDS or (name in REFERRING) != bool(other) or wrong:
            raise ParityError(
                f'cannot read the batch field {text!r}',
                values=f'expected one of {", ".join(KINDS)} after the bar; found {kind.strip()!r}',
                error='1 kind not understood; allowed: 0',
                where='the description of a batch',
                next_step="write 'B A | unit', 'B | binary', 'B | not masks', 'O | min observations' or "
                "'B H W C | image'",
            )
        return cls(dimensions, name, other)


def generate(fields: Mapping[str, str], sizes: Mapping[str, int], seed: int, style: Style) -> Arrays:
    """A batch; the same arguments give the same values."""
    rng = np.random.default_rng([seed, STYLES.index(style)])
    batch: Arrays = {}
    for name, text in fields.items():
        field = Field.parse(text)
        shape = tuple(_size(letter, sizes, name) for letter in field.letters)
        array = _values(field, shape, batch, rng, style).astype(field.dtype)
        batch[name] = _constant(name, array) if style == 'constant' else array
    if style == 'duplicates':
        batch = {name: _repeated(array, Field.parse(fields[name])) for name, array in batch.items()}
    return batch


def has_images(fields: Mapping[str, str]) -> bool:
    """Whether a batch of this description holds images."""
    return any(Field.parse(text).kind == 'image' for text in fields.values())


def _size(letter: str, sizes: Mapping[str, int], name: str) -> int:
    if letter.isdigit():
        return int(letter)
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
    if field.kind == 'below':
        return rng.integers(0, int(field.other), shape)
    if field.kind == 'key':
        return rng.integers(0, 2**32, shape)
    if field.kind == 'binary':
        return (rng.random(shape) < 0.7).astype(np.float64)
    if field.kind == 'not':
        return np.asarray(1 - batch[field.other].astype(np.float64))
    if field.kind in ('min', 'max'):
        bound = np.min if field.kind == 'min' else np.max
        return np.asarray(bound(batch[field.other].reshape(-1, *shape), axis=0))
    if field.kind == 'image':
        return _pixels(shape, rng, style)
    values = rng.normal(size=shape) * _SCALES.get(style, 1.0)
    return np.where(rng.random(shape) < 0.3, 0.0, values) if style == 'bounds' else values


def _pixels(shape: tuple[int, ...], rng: np.random.Generator, style: Style) -> np.ndarray:
    if style == 'constant':
        *leading, _, _, _ = shape
        return np.broadcast_to(rng.integers(256, size=(*leading, 1, 1, 1)), shape)
    return rng.choice(_PIXELS[style], shape) if style in _PIXELS else rng.integers(256, size=shape)


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
        field = Field.parse(fields[name])
        problems += _shape_problems(name, field, batch[name], sizes)
        problems += _value_problems(name, field, batch[name])
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
        int(letter) if letter.isdigit() else sizes.setdefault(letter, size)
        for letter, size in zip(field.letters, array.shape, strict=True)
    ]
    return [] if tuple(expected) == array.shape else [f'{name}: expected shape {tuple(expected)}, {found}']


def _value_problems(name: str, field: Field, array: np.ndarray) -> list[str]:
    if array.size == 0:
        return [f'{name}: expected at least one value, found none']
    if field.kind == 'image' and array.dtype != np.uint8:
        return [f'{name}: expected an image of uint8, 0 to 255, found {summary(array)}']
    if array.dtype.kind not in 'fiu':
        return [f'{name}: expected numbers, found dtype {array.dtype}']
    odd = int((~np.isfinite(array)).sum()) if array.dtype.kind == 'f' else 0
    return [f'{name}: expected finite values, found {odd} NaN or infinite of {array.size}'] if odd else []
