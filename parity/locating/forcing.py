"""A module of the port, run on what the reference's module was given, with the reference's results inside it.

The modules that it calls do run, but return what the reference's returned, and send back the cotangents that
the reference's sent back. What is left is the module's own code: what it gives to those modules, what it
returns, and the cotangents that it makes.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from parity import chunks
from parity.locating.interception import ModuleCall
from parity.locating.losses import PortLoss
from parity.locating.port_calls import PortCall, to_numpy
from parity.locating.structures import arrays_of, bound, fit, is_array, mapped, regrouped, spread
from parity.trees import Arrays, subtree, with_prefix

Scale = Callable[[np.ndarray], np.ndarray]
# what a run finds, in the order of the data's way
FORWARD, BACKWARD = ('gives', 'outputs'), ('sends', 'grads')


@dataclass(frozen=True)
class Forced:
    """One call to repeat.

    call:     the reference's; inner: the calls that it makes of modules that the port has.
    loss:     the port's, for its modules; template: how the port calls this one.
    """

    call: ModuleCall
    inner: tuple[ModuleCall, ...]
    loss: PortLoss
    template: PortCall

    @property
    def module(self) -> Any:
        """The port's module."""
        return self.loss.modules[self.call.path]

    def run(self, scale: Scale = np.asarray) -> Arrays:
        """What the port's module makes of it: `gives <inner>/...`, `outputs/...`, `sends <inner>/...`,
        `grads/...`.

        scale: applied to all inputs, parameters and arriving cotangents before.
        """
        import torch

        record: Arrays = {}
        with torch.enable_grad(), self._inside(record):
            leaves, (args, kwargs) = self._arguments(scale)
            params = {name: self._leaf(scale(to_numpy(p))) for name, p in self.module.named_parameters()}
            outputs = arrays_of(torch.func.functional_call(self.module, params, args, kwargs))
            record |= with_prefix('outputs', {name: to_numpy(tensor) for name, tensor in outputs.items()})
            record |= with_prefix('grads', self._pulled_back(outputs, leaves, params, scale))
        return {name: _wide(array) for name, array in record.items() if name not in self.call.unused}

    def expected(self, found: Arrays) -> Arrays:
        """What the reference has in the place of all that a run finds, in the port's shapes."""
        leaves = with_prefix('outputs', subtree(self.call.values, 'outputs'))
        for label, child in self._labels():
            given, like = subtree(child.values, 'inputs'), subtree(found, f'gives {label}')
            leaves |= with_prefix(
                f'gives {label}', {_renamed(given, like)[name]: x for name, x in given.items()}
            )
            leaves |= with_prefix(f'sends {label}', subtree(child.cotangents, 'outputs'))
        leaves |= with_prefix('grads', {name: self.call.cotangents[name] for name in self._differentiated()})
        fitted = {
            name: fit(leaf, found[name].shape) if name in found else leaf for name, leaf in leaves.items()
        }
        return {name: _wide(leaf) for name, leaf in fitted.items()}

    def largest_term(self) -> float:
        """The size of the products that make its cotangents, which may cancel: of a cotangent and a value."""
        arriving = [subtree(self.call.cotangents, 'outputs')]
        arriving += [subtree(child.cotangents, 'inputs') for child in self.inner]
        values = [size for call in (self.call, *self.inner) for size in chunks.largest(call.values).values()]
        sizes = [size for cotangents in arriving for size in chunks.largest(cotangents).values()]
        return max(sizes, default=0.0) * max([1.0, *values])

    def _labels(self) -> list[tuple[str, ModuleCall]]:
        """The inner calls by their paths from here and their numbers: `Dense_0`, `phi#1`."""
        counts: dict[str, int] = {}
        labels = []
        for child in self.inner:
            name = child.path.removeprefix(f'{self.call.path}/').replace('/', '.')
            counts[name] = counts.get(name, -1) + 1
            labels.append((f'{name}#{counts[name]}' if counts[name] else name, child))
        return labels

    def _differentiated(self) -> list[str]:
        """Where the reference's cotangents came out: inputs and parameters, if any went in."""
        if not subtree(self.call.cotangents, 'outputs'):
            return []
        return [name for name in self.call.cotangents if not name.startswith('outputs/')]

    def _arguments(self, scale: Scale) -> tuple[dict[str, Any], Any]:
        """The inputs as leaves by the reference's names, and the template's arguments made of them."""
        template, inputs = self.template, subtree(self.call.values, 'inputs')
        given = arrays_of(bound(self.module.forward, template.args, template.kwargs))
        leaves = {name: self._leaf(scale(array)) for name, array in inputs.items()}
        sources = {port: leaves[name] for name, port in _renamed(inputs, given).items()}
        fitted = [
            tensor if name not in sources else _fitted(sources[name], tuple(tensor.shape))
            for name, tensor in given.items()
        ]
        remaining = iter(fitted)
        fill = lambda _, leaf: next(remaining) if is_array(leaf) else leaf  # noqa: E731
        return leaves, mapped((template.args, template.kwargs), fill)

    def _leaf(self, array: np.ndarray) -> Any:
        import torch

        tensor = torch.tensor(np.asarray(array), device=_device(self.module))
        return tensor.requires_grad_() if tensor.is_floating_point() else tensor

    @contextlib.contextmanager
    def _inside(self, record: Arrays) -> Iterator[None]:
        """Replace the results of the inner calls, each module's in order, and record what they are given."""
        waiting: dict[Any, list[tuple[str, ModuleCall]]] = {}
        for label, child in self._labels():
            waiting.setdefault(self.loss.modules[child.path], []).append((label, child))

        def after(module: Any, args: Any, kwargs: Any, output: Any) -> Any:
            if not waiting[module]:
                return output  # a call that the reference does not make
            label, child = waiting[module].pop(0)
            given = arrays_of(bound(module.forward, args, kwargs))
            record.update(with_prefix(f'gives {label}', {name: to_numpy(x) for name, x in given.items()}))
            return _returned(child, given, output, f'sends {label}', record)

        with contextlib.ExitStack() as stack:
            for module in waiting:
                stack.callback(module.register_forward_hook(after, with_kwargs=True).remove)
            yield

    def _pulled_back(
        self, outputs: dict[str, Any], leaves: dict[str, Any], params: dict[str, Any], scale: Scale
    ) -> Arrays:
        """The gradients at what the reference has gradients for, by its cotangents at the outputs."""
        cotangents = subtree(self.call.cotangents, 'outputs')
        heads = {name: x for name, x in outputs.items() if x.requires_grad and name in cotangents}
        weights = [_like(scale(fit(cotangents[name], tuple(x.shape))), x) for name, x in heads.items()]
        sources = {**with_prefix('inputs', leaves), **params}
        grads = _gradients(list(heads.values()), weights, sources)
        prefix = next(name for name, module in _named(self.loss) if module is self.module)
        whole = self.loss.to_reference({f'{prefix}{name}': grads[name] for name in params})
        grads |= with_prefix(
            'params', {path.removeprefix(f'{self.call.path}/'): x for path, x in whole.items()}
        )
        return {name: grads[name] for name in self._differentiated() if name in grads}


def _named(loss: PortLoss) -> Iterator[tuple[str, Any]]:
    """(beginning of the names of its parameters, module): found by the parameters themselves."""
    names = {id(parameter): name for name, parameter in loss.params.items()}
    for module in loss.modules.values():
        local, parameter = next(iter(module.named_parameters()), ('', None))
        yield names.get(id(parameter), '').removesuffix(local), module


def _gradients(heads: list[Any], weights: list[Any], sources: dict[str, Any]) -> Arrays:
    """The gradient of every floating source, zero where none arrives."""
    import torch

    if heads:
        torch.autograd.backward(heads, weights)
    return {
        name: np.zeros(tuple(tensor.shape)) if tensor.grad is None else to_numpy(tensor.grad)
        for name, tensor in sources.items()
        if tensor.requires_grad
    }


def _returned(child: ModuleCall, given: dict[str, Any], output: Any, label: str, record: Arrays) -> Any:
    """The reference's outputs in the structure of the port's, sending the reference's cotangents back."""
    import torch

    inputs = {name: tensor for name, tensor in given.items() if tensor.is_floating_point()}
    sent = subtree(child.cotangents, 'inputs')
    back = {
        port: sent[name]
        for name, port in _renamed(subtree(child.values, 'inputs'), given).items()
        if name in sent
    }
    live = [name for name in arrays_of(output) if f'outputs/{name}' in child.cotangents]

    class Reference(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, *tensors: Any) -> Any:
            return tuple(values[name] for name in live)

        @staticmethod
        def backward(context: Any, *cotangents: Any) -> Any:
            received = {name: to_numpy(x) for name, x in zip(live, cotangents, strict=True)}
            record.update(with_prefix(label, received))
            grads = [
                None if name not in back else _like(spread(back[name], tuple(x.shape)), x)
                for name, x in inputs.items()
            ]
            return (None, *grads)

    values = {}
    for name, tensor in arrays_of(output).items():
        reference = child.values.get(f'outputs/{name}')
        values[name] = tensor if reference is None else _like(fit(reference, tuple(tensor.shape)), tensor)
    record.update(with_prefix(label, {name: np.zeros(tuple(values[name].shape)) for name in live}))
    if live:
        anchor = torch.zeros((), requires_grad=True)  # so that even a call without live inputs receives them
        values |= dict(zip(live, Reference.apply(anchor, *inputs.values()), strict=True))  # type: ignore[no-untyped-call]
    return mapped(output, lambda name, leaf: values.get(name, leaf))


def _renamed(reference: Arrays, port: dict[str, Any]) -> dict[str, str]:
    """{the reference's name: the port's}: the same ones, or by their order where the names differ."""
    if reference.keys() == port.keys() or len(reference) != len(port):
        return {name: name for name in reference}
    return dict(zip(reference, port, strict=True))


def _fitted(tensor: Any, shape: tuple[int, ...]) -> Any:
    """`structures.fit` for a tensor, so that gradients come back in the reference's shape."""
    if tuple(tensor.shape) == shape:
        return tensor
    if tensor.ndim > 2 and tuple(tensor.movedim(-1, 1).shape) == shape:
        return tensor.movedim(-1, 1)
    if regrouped(tuple(tensor.shape), shape):
        return tensor.reshape(shape)
    try:
        return tensor.expand(shape)
    except RuntimeError:
        return tensor


def _like(array: np.ndarray, tensor: Any) -> Any:
    import torch

    return torch.tensor(np.array(array), dtype=tensor.dtype, device=tensor.device)


def _device(module: Any) -> Any:
    return next((parameter.device for parameter in module.parameters()), None)


def _wide(array: np.ndarray) -> np.ndarray:
    """Whole numbers in one type: their width is no part of what a module computes."""
    return array.astype(np.int64) if array.dtype.kind in 'iub' else array
