"""One leaf into one tensor, bit for bit: without a copy in between where both are in the host's memory.

A transposed copy (a Flax kernel into a torch weight) reads or writes across memory. Done in one go it runs
at a tenth of a plain copy's speed, because every value of a row comes from another cache line. Here it goes
tile by tile through a small buffer that stays in the processor's cache, on torch's number of threads: numpy
lets go of the interpreter's lock while it copies. `benchmarks/bridge_copy.py` measures it.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.lib.array_utils import byte_bounds

from weight_bridge.arrays import Array, numpy_dtype, to_tensor

_TILE = 256  # values; a square of float32 takes 256 KiB, which leaves room in a cache of 1 MiB
_GAP = 16  # values between the buffer's rows: rows at powers of two would share cache lines
_LARGE = 2**16  # values; below, one copy is faster than tiles


def copy_into(tensor: torch.Tensor, array: Array) -> None:
    """Copies an array of the tensor's shape into it; `lost_values` of the array and its dtype must be 0."""
    if tensor.device.type != 'cpu':
        cast = array.astype(numpy_dtype(tensor.dtype), copy=False)
        tensor.detach().copy_(to_tensor(cast, tensor.dtype))
        return
    copy_array(shared_memory(tensor), array)
    torch.autograd.graph.increment_version(tensor)  # numpy wrote behind autograd's back


def copy_array(target: Array, source: Array) -> None:
    """Copies an array into another one of its shape."""
    if _is_transposed(target, source):
        _copy_transposed(target, source)
    else:
        np.copyto(target, source, casting='unsafe')  # same bits, or a wider dtype of the same kind


def shared_memory(tensor: torch.Tensor) -> Array:
    """A numpy array over the memory of a tensor on the CPU."""
    dtype = numpy_dtype(tensor.dtype)
    if dtype.isbuiltin == 1:
        return tensor.detach().numpy()
    bits = {1: torch.int8, 2: torch.int16}[tensor.element_size()]
    return tensor.detach().view(bits).numpy().view(dtype)


def overlapping(arrays: Iterable[tuple[str, Array]], tensors: Iterable[torch.Tensor]) -> set[str]:
    """The paths of arrays that lie in the memory of one of the tensors, which a copy would overwrite."""
    spans = [byte_bounds(shared_memory(tensor)) for tensor in tensors if tensor.device.type == 'cpu']
    spans = sorted(span for span in spans if span[0] < span[1])
    starts = np.array([start for start, _ in spans], np.uint64)
    ends = np.maximum.accumulate(np.array([end for _, end in spans], np.uint64))
    found = set()
    for path, array in arrays:
        low, high = byte_bounds(array)
        before = int(np.searchsorted(starts, np.uint64(high)))  # the spans that start before its end
        if before and ends[before - 1] > low:
            found.add(path)
    return found


def _is_transposed(target: Array, source: Array) -> bool:
    if source.ndim < 2 or min(source.shape[-2:]) < 2 or source.size < _LARGE:
        return False
    across = abs(source.strides[-1]) > abs(source.strides[-2])
    return across and abs(target.strides[-1]) < abs(target.strides[-2])


def _copy_transposed(target: Array, source: Array) -> None:
    """The last two axes in tiles, shared out by rows of tiles."""
    tasks = [
        (target[index], source[index], row)
        for index in np.ndindex(target.shape[:-2])
        for row in range(0, target.shape[-2], _TILE)
    ]
    _in_threads(lambda task: _copy_tiles(*task), tasks)


def _copy_tiles(target: Array, source: Array, row: int) -> None:
    buffer = np.empty((_TILE, _TILE + _GAP), source.dtype)
    rows = slice(row, row + _TILE)
    for column in _steps(target.shape[1]):
        columns = slice(column, column + _TILE)
        tile = source[rows, columns].T
        compact = buffer[: tile.shape[0], : tile.shape[1]]
        np.copyto(compact, tile)
        np.copyto(target[rows, columns], compact.T, casting='unsafe')


def _steps(length: int) -> Iterator[int]:
    return iter(range(0, length, _TILE))


def _in_threads(work: Callable[[Any], None], tasks: list[Any]) -> None:
    workers = min(torch.get_num_threads(), len(tasks))
    if workers == 1:
        for task in tasks:
            work(task)
        return
    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(work, tasks):
            pass
