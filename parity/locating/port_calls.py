"""What every module of the port was given and returned in its own loss, and the cotangents of its outputs."""

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from parity.locating.losses import PortLoss
from parity.locating.structures import arrays_of, mapped
from parity.trees import Arrays


@dataclass(eq=False)
class PortCall:
    """One call of a port's module.

    args, kwargs: as it was called, tensors without their history; a template of how it is called.
    output:       what it returned, of the same kind.
    trained:      the names of its own parameters that collect gradients in this call.
    cotangents:   of its outputs, where any arrived.
    """

    path: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    trained: frozenset[str]
    output: Any = None
    outputs: Arrays = field(default_factory=dict)
    cotangents: Arrays = field(default_factory=dict)


def port_calls(loss: PortLoss) -> list[PortCall]:
    """The calls of the port's modules, outer before inner ones, in its loss and backward pass."""
    log: list[PortCall] = []
    with _logging(loss.modules, log):
        value, _ = loss.compute()
        if value.requires_grad:
            value.backward()
    for parameter in loss.params.values():
        parameter.grad = None
    return log


@contextlib.contextmanager
def _logging(modules: dict[str, Any], log: list[PortCall]) -> Iterator[None]:
    paths: dict[Any, str] = {module: path for path, module in modules.items()}
    running: list[PortCall] = []

    def before(module: Any, args: Any, kwargs: Any) -> None:
        trained = frozenset(
            name for name, p in module._parameters.items() if p is not None and p.requires_grad
        )
        args, kwargs = mapped((args, kwargs), _without_history)
        call = PortCall(paths[module], args, kwargs, trained)
        log.append(call)
        running.append(call)

    def after(module: Any, args: Any, kwargs: Any, output: Any) -> None:
        call = running.pop()
        call.output = mapped(output, _without_history)
        for name, tensor in arrays_of(output).items():
            call.outputs[name] = to_numpy(tensor)
            if tensor.requires_grad:
                tensor.register_hook(_keeping(call.cotangents, name))

    with contextlib.ExitStack() as stack:
        for module in paths:
            stack.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)
            stack.callback(module.register_forward_hook(after, with_kwargs=True).remove)
        yield


def to_numpy(tensor: Any) -> np.ndarray:
    """A copy of a tensor's values."""
    array: np.ndarray = tensor.detach().cpu().numpy().copy()
    return array


def numbered(paths: Iterator[str]) -> Iterator[tuple[str, int]]:
    """Each path with how many of the same went before it."""
    counts: dict[str, Iterator[int]] = {}
    for path in paths:
        yield path, next(counts.setdefault(path, itertools.count()))


def _keeping(log: Arrays, name: str) -> Any:
    def keep(cotangent: Any) -> None:
        log[name] = to_numpy(cotangent)

    return keep


def _without_history(path: str, leaf: Any) -> Any:
    return leaf.detach() if hasattr(leaf, 'detach') else leaf
