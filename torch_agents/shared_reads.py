"""Within a loss an equal read of a network is computed once, as XLA does for the references."""

import contextlib
import contextvars
from typing import NamedTuple

import torch
import torch.nn as nn

_reads = contextvars.ContextVar('reads', default=None)


class Read(NamedTuple):
    """What a module made of its inputs; they are kept, so that no other tensor can take their identity."""

    inputs: tuple
    params: tuple
    is_trained: bool
    output: torch.Tensor


@contextlib.contextmanager
def shared_reads():
    """Within this context equal reads of a `Shareable` module are computed once. Inputs must not change."""
    token = _reads.set({})
    try:
        yield
    finally:
        _reads.reset(token)


def are_shared():
    """Whether equal reads are computed once: within `shared_reads`, and in any compiled graph."""
    return torch.compiler.is_compiling() or _reads.get() is not None


def shared(function, inputs, params=()):
    """function(*inputs), or within `shared_reads` what it was for the very same inputs and parameters.

    A trained read answers a frozen one, but for its gradient; a frozen one answers no trained one.
    """
    reads = None if torch.compiler.is_compiling() else _reads.get()
    if reads is None or any(x.requires_grad for x in inputs):
        return function(*inputs)
    params = tuple(params)
    key = (function, *map(id, inputs), *(param.data_ptr() for param in params))
    is_trained = torch.is_grad_enabled() and any(param.requires_grad for param in params)
    found = reads.get(key)
    if found is None or is_trained > found.is_trained:
        found = reads[key] = Read(inputs, params, is_trained, function(*inputs))
    return found.output if found.is_trained == is_trained else found.output.detach()


class Shareable(nn.Module):
    """A module of tensors whose equal reads are shared."""

    def __call__(self, *inputs):
        return shared(super().__call__, inputs, self.parameters())
