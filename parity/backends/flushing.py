"""Torch makes subnormal numbers zero after each of its operations, as XLA does on a CPU.

Torch's own mode (`Execution.applied`) does so where the processor rounds. Torch's vectorised exp and log put
their results together from bits, and keep subnormal numbers in that mode, too: exp(-708.5) alone is 0 then,
and 2e-308 among others. A mode that looks at every result costs more than most operations: it is for what
differs otherwise.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# dtype: integers as wide, the bits of a number but for its sign, and those of the smallest normal number
BITS = {
    dtype: (
        integer,
        torch.iinfo(integer).max,
        torch.tensor(torch.finfo(dtype).tiny, dtype=dtype).view(integer),
    )
    for dtype, integer in ((torch.float32, torch.int32), (torch.float64, torch.int64))
}


class Flushing(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is entered, no operation of torch, forward or backward, results in a subnormal number."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """The operation's results, with subnormal numbers made zeros of their sign."""
        results = func(*args, **(kwargs or {}))
        if not func.is_view:
            for result in tree_leaves(results):
                if isinstance(result, torch.Tensor) and result.dtype in BITS:
                    _flush(result)
        return results


def _flush(numbers: torch.Tensor) -> None:
    integer, absolute, smallest = BITS[numbers.dtype]
    bits = numbers.view(integer) & absolute
    subnormal = (bits > 0) & (bits < smallest)
    if subnormal.any():  # else nothing is written: rows may lie in the same place
        numbers.copy_(torch.where(subnormal, torch.copysign(torch.zeros_like(numbers), numbers), numbers))
