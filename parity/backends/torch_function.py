"""The port of two bare functions: called with tensors, differentiated at its inputs."""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from parity import trees
from parity.backends.pytrees import Call, cotangents
from parity.backends.torch_side import TorchSide
from parity.sides import NO_KEY, Calls, Mode, Networks, State
from parity.trees import Arrays

Tensors = dict[str, Any]
# jax has no 64-bit integers without x64, which is how the reference computes in float32
NARROW = {'int64': 'int32', 'uint64': 'uint32'}


class TorchFunction(TorchSide):
    """A function of a pytree of tensors; its state is its inputs."""

    def __init__(self, call: Call, arrays: Arrays, mode: Mode, seed: int, device: str) -> None:
        super().__init__(call, mode, device=device)
        self.arrays, self.seed = arrays, seed

    def state(self) -> State:
        return State(self.arrays, {}, {}, {}, NO_KEY)

    def restore(self, state: State) -> None:
        self.arrays = state.params

    def forward(self, networks: Networks, arrays: Arrays) -> Arrays:
        import torch

        with torch.no_grad():
            outputs, _ = self._outputs()
        return {path: self._narrow(self._numpy(leaf)) for path, leaf in outputs.items()}

    def losses(self, calls: Calls, batch: Arrays, key: np.ndarray) -> tuple[Arrays, Arrays]:
        grads = self._pulled_back(*self._outputs())
        return {}, {f'vjp/{path}': self._numpy(grad) for path, grad in grads.items()}

    def reach(self, calls: Calls, batch: Arrays, key: np.ndarray) -> Arrays:
        outputs, floats = self._outputs()
        sizes: Arrays = {}
        for path, leaf in outputs.items():
            if leaf.is_floating_point():
                for name, grad in self._pulled_back({path: leaf}, floats).items():
                    largest = grad.abs().max() if grad.numel() else 0.0
                    sizes[f'{path}/{trees.dotted(name)}'] = self._numpy(largest)
        return sizes

    def _outputs(self) -> tuple[Tensors, Tensors]:
        """The outputs, and the floating inputs that they were computed from."""
        import torch

        inputs = {path: self.to_tensor(array) for path, array in self.arrays.items()}
        floats = {path: x.requires_grad_() for path, x in inputs.items() if x.is_floating_point()}
        with default_dtype(self.dtype):
            # of copies, because a function may write into its inputs
            outputs = trees.real_leaves(self.target({path: x.clone() for path, x in inputs.items()}))
            return {path: torch.as_tensor(leaf) for path, leaf in outputs.items()}, floats

    def _pulled_back(self, outputs: Tensors, floats: Tensors) -> Tensors:
        """The vector-Jacobian product at every floating input: zero where no gradient arrives."""
        import torch

        reached = {path: leaf for path, leaf in outputs.items() if leaf.requires_grad}
        if not reached:
            return {path: torch.zeros_like(x) for path, x in floats.items()}
        arrays = {path: self._numpy(leaf) for path, leaf in reached.items()}
        weights = {path: self.to_tensor(array) for path, array in cotangents(arrays, self.seed).items()}
        grads = torch.autograd.grad(
            list(reached.values()),
            list(floats.values()),
            [weights[path].to(leaf.dtype) for path, leaf in reached.items()],
            retain_graph=True,
            materialize_grads=True,
        )
        return dict(zip(floats, grads, strict=True))

    def _narrow(self, array: np.ndarray) -> np.ndarray:
        narrow = NARROW.get(array.dtype.name) if self.dtype == 'float32' else None
        return array.astype(narrow) if narrow else array


@contextlib.contextmanager
def default_dtype(name: str) -> Iterator[None]:
    """What `torch.zeros(3)` and `torch.tensor(0.1)` are for a while: as in jax, of the check's precision."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, name))
    try:
        yield
    finally:
        torch.set_default_dtype(before)
