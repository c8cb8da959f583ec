"""Case files: one case in one safetensors file, the batch as its arrays and the rest in its metadata.

A case file is also a batch: `--source FILE` takes its arrays alone. Parameters are not in it, since the pair,
the seed and the style of the values give them.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from parity import cases, generated
from parity.batches import STYLES, sizes_of
from parity.cases import Case
from parity.errors import ParityError
from parity.pair import Pair
from parity.report import files
from parity.strategies import letters_of

FORMAT = 1
KEY = 'parity_case'
FIELDS = ('format', 'pair', 'seed', 'sizes', 'config', 'values')


def save(path: Path, pair: Pair, case: Case) -> Path:
    """Write a case of a pair, whole or not at all; returns the path.

    Raises ParityError for a configuration that JSON cannot hold.
    """
    import safetensors.numpy

    batch = cases.batch_of(pair, case)
    sizes = {**case.sizes, **sizes_of(pair.batch, batch)}
    values = (FORMAT, pair.name, case.seed, sizes, dict(case.config), case.values)
    try:
        fields = json.dumps(dict(zip(FIELDS, values, strict=True)))
    except TypeError as cause:
        raise _unwritable(path, case, cause) from cause
    arrays = {name: np.array(array, order='C') for name, array in batch.items()}
    return files.write_bytes(path, safetensors.numpy.save(arrays, {KEY: fields}))


def load(path: Path, pair: Pair) -> Case:
    """The case in a file; its batch is read when it is run.

    Raises ParityError for what is no case file, and for one of another format or pair, naming every problem.
    """
    fields = _read(path)
    problems = _problems(fields, pair) if set(fields) == set(FIELDS) else _key_problems(fields)
    if problems:
        raise _refused(path, '; '.join(problems), f'{len(problems)} problems; allowed: 0')
    config = {key: tuple(v) if isinstance(v, list) else v for key, v in fields['config'].items()}
    return Case(fields['seed'], fields['sizes'], config, fields['values'], str(path))


def chosen(
    pair: Pair,
    file: Path | None,
    seed: int | None,
    settings: Sequence[str] | None,
    sizes: Sequence[str] | None,
    values: str | None,
    source: str | None,
) -> Case:
    """The case of a command line: that of a file, or of its words; None is the default.

    Raises ParityError for a file and words at once.
    """
    if file is None:
        return generated.parse_case(pair, seed, settings, sizes, values, source)
    if named(seed, settings, sizes, values, source):
        raise ParityError(
            f'--case {file} is a whole case',
            values='expected it alone; found --seed, --set, --size, --values or --source as well',
            error='2 cases; allowed: 1',
            where='the command line',
            next_step=f'parity check PAIR --case {file}',
        )
    return load(file, pair)


def named(*options: object) -> bool:
    """Whether any option of a case is given."""
    return any(option is not None and option != [] for option in options)


def _read(path: Path) -> dict[str, Any]:
    import safetensors

    if path.suffix != '.safetensors':
        raise _refused(path, f'found the name {path.name}', '1 name without .safetensors; allowed: 0')
    try:
        with safetensors.safe_open(path, 'numpy') as file:
            fields = json.loads((file.metadata() or {})[KEY])
    except (OSError, safetensors.SafetensorError, KeyError, ValueError, RecursionError) as cause:
        raise _refused(path, f'found {type(cause).__name__}: {cause}', 'unreadable') from cause
    if not isinstance(fields, dict):
        raise _refused(path, f'found {type(fields).__name__} for its fields', 'unreadable')
    return fields


def _key_problems(fields: Mapping[str, Any]) -> list[str]:
    missing = [f'no {name!r}' for name in FIELDS if name not in fields]
    return missing + [f'unknown {name!r}' for name in fields if name not in FIELDS]


def _problems(fields: Mapping[str, Any], pair: Pair) -> list[str]:
    """What is wrong with the values of fields that are all there."""
    if fields['format'] != FORMAT:
        return [f'format {fields["format"]!r}']
    if fields['pair'] != pair.name:
        return [f'pair {fields["pair"]!r} instead of {pair.name!r}']
    checks = {
        'seed': _is_whole(fields['seed'], 0),
        'sizes': _are_sizes(fields['sizes'], letters_of(pair)),
        'config': isinstance(fields['config'], dict)
        and fields['config'].keys() <= {*pair.get_config('reference')},
        'values': fields['values'] in STYLES,
    }
    return [f'{name} {fields[name]!r}' for name, is_good in checks.items() if not is_good]


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _are_sizes(value: Any, letters: list[str]) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() <= {*letters}
        and all(_is_whole(n, 1) for n in value.values())
    )


def _refused(path: Path, found: str, error: str) -> ParityError:
    return ParityError(
        f'cannot use the case file {path}',
        values=f'expected what parity locate wrote, of format {FORMAT}; {found}',
        error=error,
        where=str(path),
        next_step='parity locate PAIR --reports DIR writes one',
    )


def _unwritable(path: Path, case: Case, cause: TypeError) -> ParityError:
    return ParityError(
        f'cannot write the case file {path}',
        values=f'expected plain values; found {dict(case.config)}',
        error=str(cause),
        where='the configuration of the case',
        next_step='use numbers, text, lists and None',
    )
