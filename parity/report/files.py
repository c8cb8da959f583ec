"""The files of a report folder: their names, and writing them whole or not at all."""

import hashlib
import os
import re
from pathlib import Path


def stem(pair: str) -> str:
    """The file name of a pair without its suffix: the pair's name, made harmless where it is not.

    A changed name, or one that an index would overwrite, ends in a hash, so that no two pairs share a file.
    """
    harmless = re.sub(r'[^A-Za-z0-9._-]', '_', pair).lstrip('.')[:100]
    if harmless == pair and pair.lower() != 'index':
        return pair
    return f'{harmless}_{hashlib.sha256(pair.encode(errors="replace")).hexdigest()[:8]}'


def write(path: Path, text: str) -> Path:
    """Write UTF-8 text to a temporary file beside `path`, then put it in its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'{path.name}.{os.getpid()}.tmp')
    try:
        # what a side raised may hold lone surrogates, which UTF-8 has no bytes for
        temporary.write_bytes(text.encode(errors='backslashreplace'))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
