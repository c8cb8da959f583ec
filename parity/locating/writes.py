"""What is written into tensors, from which lines, and where the values were made."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from parity.locating.calls import frames_at, stack_of
from parity.locating.sources import Stack

# (the tensor that is written into, from where, and where what is copied into it was made)
See = Callable[[Any, Stack, Stack], object]


def writing(see: See) -> AbstractContextManager[object]:
    """See every write of code under check in this context, in their order."""
    from torch import Tensor
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.weak import WeakTensorKeyDictionary

    makers = WeakTensorKeyDictionary()

    class Watching(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no hints there
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            stack = stack_of(frames_at(sys._getframe(1)))
            result = function(*args, **(kwargs or {}))
            if stack:
                for tensor in _flat(_written(function, args)):
                    see(tensor, stack, _maker(makers, args))
                makers.update({one: stack for one in _flat([result]) if isinstance(one, Tensor)})
            return result

    return Watching()  # type: ignore[no-untyped-call]


def _maker(makers: Any, args: Sequence[Any]) -> Stack:
    """Where the second argument was made, which a copy copies."""
    return makers.get(args[1], ()) if len(args) > 1 and hasattr(args[1], 'shape') else ()


def _written(function: Any, args: Sequence[Any]) -> Iterator[Any]:
    """The arguments that an operation writes into. That of a batch norm does so without declaring it."""
    schema = function._schema
    normalises = 'batch_norm' in schema.name and not schema.name.endswith('backward')
    for argument, given in zip(schema.arguments, args, strict=False):
        declared = argument.alias_info is not None and argument.alias_info.is_write
        if declared or (normalises and argument.name.startswith('running')):
            yield given


def _flat(args: Iterable[Any]) -> Iterator[Any]:
    for arg in args:
        yield from arg if isinstance(arg, list | tuple) else (arg,)
