"""Which format a checkpoint has, and reading any of them into the same tree."""

import mmap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from weight_bridge.checkpoints import msgpack, orbax, pickles, safetensors
from weight_bridge.checkpoints.problems import CodeRefused, damaged, refused
from weight_bridge.errors import BridgeError, Problem
from weight_bridge.paths import Tree

Format = Literal['pickle', 'orbax', 'msgpack', 'safetensors']
_DEEPEST = 100  # levels; a tree of parameters has about ten


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    tree:     nested dicts; the leaves are numpy arrays, numbers, or in a safetensors file leaves that are
              read when numpy asks for their values. The parts of lists and tuples have the keys '0', '1', ...
    metadata: texts of a safetensors file; other formats have none.
    """

    format: Format
    tree: Tree
    metadata: Mapping[str, str] = field(default_factory=dict)


def read(path: str | Path) -> Checkpoint:
    """The content of a checkpoint: a file, or the folder of an orbax checkpoint.

    Nothing in it is run. What it takes in memory is bounded by its size on the disk.

    Raises:
        BridgeError: no such path or format, truncated or damaged, or it needs a class or function that is not
            on the list of `weight_bridge.checkpoints.pickles`; those are all named.
    """
    path = Path(path)
    kind = format_of(path)
    try:
        tree, metadata = _READERS[kind](path)
        return Checkpoint(kind, _as_dicts(tree, 0), metadata)
    except BridgeError:
        raise
    except CodeRefused as cause:
        raise refused(path, 'it would run code', cause.problems) from None
    except Exception as cause:  # damage can show anywhere, in any way
        raise damaged(path, kind, f'{type(cause).__name__}: {cause}') from cause


def format_of(path: Path) -> Format:
    """The format, by the content.

    Raises:
        BridgeError: there is nothing at the path, or nothing that has one of the formats.
    """
    if path.is_dir():
        return _format_of_folder(path)
    try:
        with path.open('rb') as file:
            start = file.read(9)
    except OSError as cause:
        problem = Problem('missing path', str(path), 'a checkpoint', cause.strerror or type(cause).__name__)
        raise refused(path, 'it cannot be opened', [problem]) from cause
    if len(start) == 9 and start[8:9] == b'{':  # after the header's length
        return 'safetensors'
    if start[:1] == b'\x80' and start[1:2] in (b'\x02', b'\x03', b'\x04', b'\x05'):
        return 'pickle'
    if start[:1] and (start[0] in range(0x80, 0x90) or start[0] in (0xDE, 0xDF)):  # a map
        return 'msgpack'
    if start[:1] in (b'(', b'}', b']', b'c'):  # protocols 0 and 1 have no head
        return 'pickle'
    expected = 'a pickle, orbax, flax msgpack or safetensors checkpoint'
    found = f'a file that starts with {start!r}' if start else 'an empty file'
    raise refused(path, 'unknown format', [Problem('format', str(path), expected, found)])


def _format_of_folder(path: Path) -> Format:
    if orbax.folder_of(path) is not None:
        return 'orbax'
    inside = sorted(entry.name for entry in path.iterdir())[:8]
    expected = 'an orbax checkpoint: a folder with _METADATA in it, or in its folder default'
    found = ', '.join(inside) or 'an empty folder'
    where = 'of a CheckpointManager, name the folder of one step'
    raise refused(path, 'unknown format', [Problem('format', str(path), expected, found, where)])


def _as_dicts(node: Any, depth: int) -> Any:
    """Lists and tuples as dicts; without None, which holds no leaf, as in `jax.tree`."""
    if depth > _DEEPEST:
        raise ValueError(f'more than {_DEEPEST} levels deep')
    if isinstance(node, list | tuple):
        node = {str(index): part for index, part in enumerate(node)}
    if not isinstance(node, Mapping):
        if depth == 0:
            raise ValueError(f'not a tree but {type(node).__name__}')
        return node
    return {key: _as_dicts(part, depth + 1) for key, part in node.items() if part is not None}


def _mapped(reader: Callable[[mmap.mmap], Any]) -> Callable[[Path], tuple[Any, Mapping[str, str]]]:
    """A reader of a file that is mapped into memory, so that it is not there twice."""

    def read_file(path: Path) -> tuple[Any, Mapping[str, str]]:
        with path.open('rb') as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return reader(data), {}

    return read_file


_READERS: dict[Format, Callable[[Path], tuple[Any, Mapping[str, str]]]] = {
    'pickle': _mapped(pickles.read),
    'msgpack': _mapped(msgpack.read),
    'orbax': orbax.read,
    'safetensors': safetensors.read,
}
