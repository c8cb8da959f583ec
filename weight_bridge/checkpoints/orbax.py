"""Orbax checkpoints, read by tensorstore as orbax reads them, but without the devices they were saved from.

The folder has a file `_METADATA` that names the leaves; the values are zarr arrays, by default all of them in
one OCDBT store. Source: orbax.checkpoint, `metadata.tree` and `serialization.tensorstore_utils`. Values are
read into memory at once, because damage shows only then.
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from weight_bridge.paths import Tree, unflatten

_ITEM = 'default'  # what a CheckpointManager calls the one tree of a step
_EXPANSION, _FREE = 1000, 2**26  # at most so many times the folder's bytes, and so many bytes more


def folder_of(path: Path) -> Path | None:
    """The folder that has `_METADATA` in it: the path itself, or the tree of a CheckpointManager's step."""
    return next((folder for folder in (path, path / _ITEM) if (folder / '_METADATA').is_file()), None)


def read(path: Path) -> tuple[Tree, Mapping[str, str]]:
    """All leaves. Raises an exception of any kind if the folder is damaged."""
    folder = folder_of(path)
    assert folder is not None  # by `format_of`
    metadata = json.loads((folder / '_METADATA').read_text())
    stores = {name: _store(folder, name, metadata) for name in _names(metadata)}
    on_disk = sum(file.stat().st_size for file in folder.rglob('*') if file.is_file())
    _check_size(stores, _EXPANSION * on_disk + _FREE)
    return unflatten({name: store.read().result() for name, store in stores.items()}), {}


def _names(metadata: Mapping[str, Any]) -> Iterator[str]:
    """The paths of the leaves; empty containers and None hold none."""
    for entry in metadata['tree_metadata'].values():
        keys = [str(key['key']) for key in entry['key_metadata']]
        if not all(keys) or any('/' in key or key == '..' for key in keys):
            raise ValueError(f'the keys {keys}')
        if not entry['value_metadata']['skip_deserialize']:
            yield '/'.join(keys)


def _store(folder: Path, name: str, metadata: Mapping[str, Any]) -> Any:
    import tensorstore

    at, base = name.replace('/', '.'), folder.resolve().as_uri()
    in_one = {'driver': 'ocdbt', 'base': base, 'path': f'{at}/'}
    apart = {'driver': 'file', 'path': f'{folder.resolve() / at}/'}
    spec = {
        'driver': 'zarr3' if metadata.get('use_zarr3') else 'zarr',
        'kvstore': in_one if metadata.get('use_ocdbt', True) else apart,
    }
    return tensorstore.open(spec, open=True, read=True).result()


def _check_size(stores: Mapping[str, Any], most: int) -> None:
    """A forged shape must not be allocated, and neither must a chunk that is larger than its array."""
    total = 0
    for name, store in stores.items():
        size = store.dtype.numpy_dtype.itemsize * math.prod(store.shape)
        chunk = store.dtype.numpy_dtype.itemsize * math.prod(store.chunk_layout.read_chunk.shape or ())
        total += max(size, chunk)
        if total > most:
            raise ValueError(f'{total} bytes up to {name}, of a folder that can hold {most}')
