"""The cases of a run, recorded and generated, and the parts of a case from the words of a command line."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from parity.batches import STYLES, Field, Style, has_images
from parity.cases import Case
from parity.errors import ParityError, unknown
from parity.pair import Pair
from parity.strategies import any_structure, letters_of, structures

PER_STRUCTURE = 400


def all_cases(pair: Pair, examples: int, seed: int) -> list[Case]:
    """A case for each recorded file, then `examples` generated ones."""
    return recorded_cases(pair, seed) + generated_cases(pair, examples, seed)


def recorded_cases(pair: Pair, seed: int) -> list[Case]:
    """A case for each recorded file, if the pair's batch has only what transitions have, in any size.

    What is recorded are vectors: a pair that takes images has generated cases only.
    """
    import fixtures

    fields = [Field.parse(text) for text in pair.batch.values()]
    fixed = any(letter.isdigit() for field in fields for letter in field.letters)
    if fixed or has_images(pair.batch) or not set(pair.batch) <= set(fixtures.ALL_KEYS):
        return []
    return [Case(seed=seed, source=name, sizes={'B': 16}) for name in fixtures.names()]


def generated_cases(pair: Pair, examples: int, seed: int) -> list[Case]:
    """`examples` cases, PER_STRUCTURE from each part."""
    parts = range(math.ceil(examples / PER_STRUCTURE))
    return [case for part in parts for case in part_of(pair, seed, part)][:examples]


def part_of(pair: Pair, seed: int, part: int) -> list[Case]:
    """PER_STRUCTURE cases that go round the styles, each with a seed of its own.

    Those of part 0 go round the few `structures` of the pair, those of every further part share one of any
    sizes and switches: each costs a compilation of the reference.
    """
    rng = np.random.default_rng([seed, part] if part else seed)
    rows = [any_structure(pair, rng)] if part else structures(pair)
    cycle = math.lcm(len(rows), len(STYLES))  # then shift by one, to meet new combinations
    return [
        Case(
            seed=int(rng.integers(2**31)),
            values=STYLES[(i + i // cycle) % len(STYLES)],
            **rows[i % len(rows)],
        )
        for i in range(PER_STRUCTURE)
    ]


def parse_case(
    pair: Pair,
    seed: int | None,
    settings: Sequence[str] | None,
    sizes: Sequence[str] | None,
    values: str | None,
    source: str | None,
) -> Case:
    """A case of a pair from the words of a command line; None is the default."""
    return Case(
        seed=seed or 0,
        sizes=parse_sizes(sizes or [], letters_of(pair)),
        config=parse_settings(settings, pair.get_config('reference')) if settings else {},
        values=parse_style(values or 'plain'),
        source=source or 'generated',
    )


def parse_sizes(words: Sequence[str], letters: Collection[str] | None = None) -> dict[str, int]:
    """`['B=8']` as {'B': 8}; letters: those that there are, if only some."""
    pairs = dict(_key_value(word, 'B=8', '--size') for word in words)
    try:
        sizes = {name: int(value) for name, value in pairs.items()}
    except ValueError as cause:
        raise _bad_value(str(pairs), 'whole numbers', '--size') from cause
    if any(size < 1 for size in sizes.values()):
        raise _bad_value(str(sizes), 'sizes of at least 1', '--size')
    unheard = [] if letters is None else [name for name in sizes if name not in letters]
    if unheard:
        raise unknown('dimension', unheard[0], sorted(letters or ()), where='--size', next_step='name one')
    return sizes


def parse_settings(words: Sequence[str], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """`['alpha=3', 'const_std=false']` with the types of the defaults."""
    settings: dict[str, Any] = {}
    for word in words:
        key, value = _key_value(word, 'alpha=3', '--set')
        if key not in defaults:
            raise unknown('config key', key, sorted(defaults), where='--set', next_step='parity list PAIR')
        settings[key] = _typed(key, value, defaults[key])
    return settings


def parse_style(name: str) -> Style:
    """A style of values, checked."""
    if name not in STYLES:
        raise unknown('style', name, list(STYLES), where='--values', next_step='name one of them')
    return name


def _key_value(word: str, example: str, option: str) -> tuple[str, str]:
    key, equals, value = word.partition('=')
    if not equals:
        raise _bad_value(word, f'key=value, as in {example}', option)
    return key, value


def _typed(key: str, value: str, default: Any) -> Any:
    if isinstance(default, bool):
        if value not in ('true', 'false'):
            raise _bad_value(f'{key}={value}', 'true or false', '--set')
        return value == 'true'
    if default is None:
        return None if value.lower() == 'none' else value
    try:
        if isinstance(default, tuple | list):
            return tuple(int(part) for part in value.split(',') if part)
        return type(default)(value)
    except ValueError as cause:
        raise _bad_value(f'{key}={value}', f'a {type(default).__name__} like {default!r}', '--set') from cause


def _bad_value(found: str, expected: str, option: str) -> ParityError:
    return ParityError(
        f'cannot use {option} {found}',
        values=f'expected {expected}; found {found}',
        error='1 value not understood; allowed: 0',
        where=option,
        next_step='parity check --help',
    )
