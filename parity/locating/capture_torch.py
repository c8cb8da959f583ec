"""The port's values: its operations, as torch dispatches them, each with its source lines."""

import contextlib
import dataclasses
import functools
import inspect
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

from parity.draws import replaced
from parity.locating import kinds
from parity.locating.calls import entry, frames_at, passed, stack_of, uncompiled
from parity.locating.fingerprints import fingerprint
from parity.locating.sources import Line, Stack, user_stack
from parity.locating.trace import Trace, Use


def capture(
    function: Callable[[], dict[str, Any]],
    leaves: dict[str, torch.Tensor],
    draws: types.ModuleType | None = None,
) -> 'Recorder':
    """Run `function() -> {name: tensor}` and keep what it computes on the way.

    leaves: its inputs by name.
    draws:  the module that draws random numbers; a call of one of its functions is one operation.
    What the function raises is kept as the trace's failure.
    """
    recorder = Recorder(leaves)
    try:
        with uncompiled(), drawing(draws, recorder), recorder:
            outputs = function()
    except Exception as error:  # a port can fail in any way
        recorder.trace.failure = error, _lines_of(error)
    else:
        recorder.finish(outputs)
    return recorder


@contextlib.contextmanager
def drawing(module: types.ModuleType | None, recorder: 'Recorder') -> Iterator[None]:
    """Make each public function of the module one operation."""
    public = [
        name
        for name, value in vars(module or types).items()
        if module and inspect.isfunction(value) and value.__module__ == module.__name__ and name[0] != '_'
    ]
    with replaced(module, public, recorder.opaque):
        yield


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no hints there
    """Records into one trace."""

    def __init__(self, leaves: dict[str, torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.trace = Trace()
        self.drawing = False
        # storage -> what keeps its address from being used again, and the values in it by their layout and by
        # whether a gradient flows to them, for a detached view lies where its original does
        self.storages: dict[int, tuple[StorageWeakRef, dict[Any, int]]] = {}
        self.made: dict[tuple[Any, int], int] = {}  # (backward node, number of its output) -> value
        self.leaves = leaves
        self.outputs: dict[str, torch.Tensor] = {}
        for name, tensor in leaves.items():
            self._place(tensor, self.trace.leaf(name, as_numpy(tensor), active=tensor.requires_grad).index)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name, mutates = func._schema.name.split('::')[1], func._schema.is_mutable
        call = self._called(
            name.rstrip('_') if mutates else name, tree_leaves((args, kwargs)), sys._getframe(1)
        )
        results = func(*args, **kwargs)
        for result in tree_leaves(results):
            if isinstance(result, torch.Tensor):
                self._result(call, result, mutates)
        return results

    def opaque(self, kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function whose call is one operation, to which no gradient flows."""

        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            if self.drawing:  # a draw that another one makes is a part of it
                return function(*args, **kwargs)
            self.drawing = True
            with _disable_current_modes():
                results = function(*args, **kwargs)
            self.drawing = False
            call = self._called(f'random.{kind}', tree_leaves((args, kwargs)), sys._getframe(1))
            for result in tree_leaves(results):
                if isinstance(result, torch.Tensor):
                    self._result(dataclasses.replace(call, active=False), result)
            return results

        return called

    def _called(self, name: str, given: list[Any], frame: types.FrameType) -> 'Called':
        frames = frames_at(frame)
        tensors = [x for x in given if isinstance(x, torch.Tensor)]
        made = name in kinds.FACTORIES or name == 'lift_fresh'
        operands = () if made else self._operands(tensors, frames)
        compared = [as_numpy(x) for x in tensors] if name in kinds.COMPARISONS else []
        return Called(
            name,
            operands,
            stack_of(frames),
            active=name != 'detach'
            and not made
            and torch.is_grad_enabled()
            and any(x.requires_grad for x in tensors),
            entries=tuple(entry(x, frames) for x in tensors) if operands else (),
            numbers={x: entry(x, frames) for x in given if isinstance(x, float)},
            undecided=self.trace.is_undecided(name, operands, [*compared, *_numbers(given)]),
        )

    def finish(self, outputs: dict[str, torch.Tensor]) -> None:
        """Name the outputs."""
        self.outputs = outputs
        for name, tensor in outputs.items():
            (self.trace.outputs[name],) = self._operands([tensor], [])

    def pull_back(self, weights: dict[str, np.ndarray]) -> None:
        """Fill in cotangents and uses of the trace; weights: by output, the cotangent that starts there.

        None starts at an output of another size: its values differ.
        """
        outputs = {name: x for name, x in self.outputs.items() if name in weights and x.requires_grad}
        starts = {name: x for name, x in outputs.items() if x.numel() == weights[name].size}
        nodes = _reached(starts.values())
        hooks = [node.register_hook(self._hook(node)) for node in nodes]
        floats = {name: x for name, x in self.leaves.items() if x.requires_grad}
        if starts and floats:
            sent = [
                torch.as_tensor(weights[name], dtype=x.dtype).reshape(x.shape) for name, x in starts.items()
            ]
            try:
                totals = torch.autograd.grad(
                    list(starts.values()), list(floats.values()), sent, allow_unused=True
                )
            except Exception as error:  # an operation without a derivative, or a user's own
                self.trace.failure = (
                    error,
                    self._without_derivative(nodes) or _lines_of(error),
                )
            else:
                for leaf, total in zip(floats.values(), totals, strict=True):
                    if total is not None:
                        self.trace[self._find(leaf)].cotangent = fingerprint(as_numpy(total))  # type: ignore[index]
        for hook in hooks:
            hook.remove()

    def _without_derivative(self, nodes: list[Any]) -> Stack:
        """The lines of the first operation that torch has no derivative of; none if it has all."""
        lacking = {node for node in nodes if node.name().endswith('NotImplemented')}
        made = [value for (node, _), value in self.made.items() if node in lacking]
        return self.trace[min(made)].stack if made else ()

    def _hook(self, node: Any) -> Callable[..., None]:
        def keep(sent: tuple[Any, ...], arrived: tuple[Any, ...]) -> None:
            for k, cotangent in enumerate(arrived):
                if cotangent is not None and (node, k) in self.made:
                    self.trace[self.made[node, k]].cotangent = fingerprint(as_numpy(cotangent))
            user = next((self.made[node, k] for k in range(len(arrived)) if (node, k) in self.made), None)
            for (operand, k), cotangent in zip(node.next_functions, sent, strict=True):
                value = (
                    self._find(operand.variable)
                    if hasattr(operand, 'variable')
                    else self.made.get((operand, k))
                )
                if cotangent is not None and value is not None and user is not None:
                    self.trace.uses.append(Use(value, user, fingerprint(as_numpy(cotangent))))

        return keep

    def _operands(self, tensors: list[torch.Tensor], frames: list[types.FrameType]) -> tuple[int, ...]:
        found = []
        for tensor in tensors:
            index = self._find(tensor)
            found.append(self._unknown(tensor, frames) if index is None else index)
            if tensor.grad_fn is not None:
                self.made.setdefault((tensor.grad_fn, tensor.output_nr), found[-1])
            if isinstance(tensor.grad_fn, torch.autograd.function.BackwardCFunction):
                # what made it ran in the forward of a user's own function, without gradients
                self.trace[found[-1]].active = True
        return tuple(found)

    def _find(self, tensor: torch.Tensor) -> int | None:
        _, values = self.storages.get(tensor.untyped_storage()._cdata, (None, {}))
        layout, flows = _layout(tensor), tensor.requires_grad
        return values.get((layout, flows), values.get((layout, not flows)))

    def _unknown(self, tensor: torch.Tensor, frames: list[types.FrameType]) -> int:
        """A tensor that no operation was seen to make: a number, or a view of what was written."""
        _, values = self.storages.get(tensor.untyped_storage()._cdata, (None, {}))
        parents = tuple(list(values.values())[-1:])
        operation = 'select' if parents else 'constant'
        value = self.trace.add(
            operation, parents, stack_of(frames), as_numpy(tensor), active=tensor.requires_grad
        )
        self._place(tensor, value.index)
        return value.index

    def _result(self, call: 'Called', result: torch.Tensor, mutates: bool = False) -> None:
        array = as_numpy(result)
        value = self.trace.add(
            call.name,
            call.operands,
            call.stack,
            array,
            active=call.active and array.dtype.kind == 'f',
            undecided=call.undecided,
            entries=call.entries,
            numbers=call.numbers,
        )
        if mutates:  # every other view of the storage has changed with it
            self.storages.pop(result.untyped_storage()._cdata, None)
        self._place(result, value.index)

    def _place(self, tensor: torch.Tensor, index: int) -> None:
        storage = tensor.untyped_storage()
        kept = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
        _, values = self.storages.setdefault(storage._cdata, (kept, {}))
        values[_layout(tensor), self.trace[index].active] = index


def _lines_of(error: Exception) -> Stack:
    """The lines through which an error was raised, innermost first."""
    return user_stack([*passed(error)][::-1])


@dataclass(frozen=True)
class Called:
    """A call of an operation; the fields are those of a Value."""

    name: str
    operands: tuple[int, ...]
    stack: Stack
    active: bool
    entries: tuple[Line | None, ...]
    numbers: dict[float, Line | None]
    undecided: bool


def as_numpy(tensor: torch.Tensor) -> np.ndarray:
    """The values of a tensor, not copied; bfloat16, which numpy lacks, as float32."""
    with _disable_current_modes(), torch.no_grad():
        tensor = tensor.detach().resolve_conj().resolve_neg().cpu()
        if tensor.dtype == torch.bfloat16:
            tensor = tensor.float()
        array: np.ndarray = tensor.numpy()
        return np.abs(array) if array.dtype.kind == 'c' else array


def _numbers(given: list[Any]) -> list[np.ndarray]:
    return [np.asarray(x) for x in given if isinstance(x, int | float)]


def _layout(tensor: torch.Tensor) -> Any:
    return tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), tensor.dtype


def _reached(outputs: Any) -> list[Any]:
    """The backward nodes of the outputs, without those that only add to a leaf's gradient."""
    seen: dict[Any, None] = {}
    waiting = [x.grad_fn for x in outputs]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen and not hasattr(node, 'variable'):
            seen[node] = None
            waiting += [operand for operand, _ in node.next_functions]
    return list(seen)
