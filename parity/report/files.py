"""The files of a report folder: their names, and writing them whole or not at all."""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

LOCATED = '-locate'


def located_stem(pair: str) -> str:
    """The file name, without its suffix, of what was located in a pair."""
    return stem(pair) + LOCATED


def case_name(pair: str) -> str:
    """The file name of a case of the pair."""
    return f'{stem(pair)}-case.safetensors'


def stem(pair: str) -> str:
    """The file name of a pair without its suffix: the pair's name, made harmless where it is not.

    A changed name, or one whose file an index or another pair's located page has, ends in a hash, so that no
    two pairs share a file.
    """
    harmless = re.sub(r'[^A-Za-z0-9._-]', '_', pair).lstrip('.')[:100]
    if harmless == pair and pair.lower() != 'index' and not pair.lower().endswith(LOCATED):
        return pair
    return f'{harmless}_{hashlib.sha256(pair.encode(errors="replace")).hexdigest()[:8]}'


def json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """What each line of a file holds, nothing if there is none; a last line that was cut off is left out."""
    for line in path.read_text().splitlines() if path.exists() else ():
        with contextlib.suppress(json.JSONDecodeError):
            yield json.loads(line)


def write_all(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    """Write each text under its name; returns the paths in that order."""
    return [write(folder / name, text) for name, text in texts.items()]


def write(path: Path, text: str) -> Path:
    """Write UTF-8 text, whole or not at all."""
    # what a side raised may hold lone surrogates, which UTF-8 has no bytes for
    return write_bytes(path, text.encode(errors='backslashreplace'))


def write_bytes(path: Path, content: bytes) -> Path:
    """Write to a temporary file beside `path`, then put it in its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'{path.name}.{os.getpid()}.tmp')
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
