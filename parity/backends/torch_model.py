"""The port of a ModelPair: an nn.Module, functions of it, and a torch optimiser."""

import contextlib
import copy
import functools
import importlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from parity import trees
from parity.backends.bridging import Bridge, Given, find_bridge
from parity.backends.torch_function import default_dtype
from parity.backends.torch_side import TorchSide
from parity.draws import draw_leaves, logged_draws
from parity.sides import NO_KEY, Calls, Mode, Networks, State, UpdateCall, is_term
from parity.trees import Arrays

if TYPE_CHECKING:
    from parity.backends.jax_model import JaxModelSide
    from parity.models import TorchModel

# Where torch.optim keeps what has the shape of a parameter, and how a State calls it.
SLOTS = {
    'exp_avg': 'opt_mu',
    'momentum_buffer': 'opt_mu',
    'exp_avg_sq': 'opt_nu',
    'square_avg': 'opt_nu',
}


class TorchModelSide(TorchSide):
    """A TorchModel; its parameters have the paths and layouts of the reference's, through the bridge."""

    target: 'TorchModel'
    bridge: Bridge

    def __init__(
        self,
        target: 'TorchModel',
        mode: Mode,
        draws: str | None,
        device: str,
        given: Given,
        reference: 'JaxModelSide',
    ) -> None:
        super().__init__(target, mode, draws, device)
        self.given, self.reference = given, reference

    def create(self, seed: int, batch: Arrays, config: dict[str, Any]) -> None:
        import torch

        source = self.reference
        with default_dtype(self.dtype):
            self.module = self.target.module().to(self.device, getattr(torch, self.dtype))
        self.modes = {module: module.training for module in self.module.modules()}
        self.bridge = find_bridge(self.given, source.skeleton, source.fixed, source.params, self.module)
        self.optimizer: Any = self._optimizer_of(self.module)
        self.restore(source.state().astype(self.dtype))

    def compile(self) -> None:
        """Have torch compile the module."""
        self.module.compile()

    def state(self) -> State:
        found = {name: tensor for name, tensor in self.tensors().items() if name in self.bridge.places}
        params = self.bridge.to_reference(self.arrays(found))
        slots: dict[str, Arrays] = {'opt_mu': {}, 'opt_nu': {}}
        for slot in self._slots():
            slots[SLOTS[slot]] = self.bridge.to_reference(self._slot(slot))
        return State(params, slots['opt_mu'], slots['opt_nu'], self._counts(), NO_KEY)

    def restore(self, state: State) -> None:
        import torch

        tensors = self.tensors()
        with torch.no_grad():
            for name, array in self.bridge.to_torch(state.params).items():
                tensors[name].copy_(self.to_tensor(array))
        if self.optimizer is not None:
            self.optimizer.state.clear()
            self._restore_optimizer(state)

    def forward(self, networks: Networks, arrays: Arrays) -> Arrays:
        import torch

        assert self.target.apply is not None
        with torch.no_grad(), self.ready():
            outputs = trees.real_leaves(self.target.apply(self.module, self.to_tensors(arrays)))
        return trees.flat(outputs, self._numpy)

    def losses(self, calls: Calls, batch: Arrays, key: np.ndarray) -> tuple[Arrays, Arrays]:
        self.module.zero_grad()
        draws = importlib.import_module(self.draws) if self.draws else None
        with logged_draws(draws) as log:
            terms, info = self._terms(batch)
        if terms['loss'].requires_grad:
            terms['loss'].backward()
        grads = {name: parameter.grad for name, parameter in self.trained().items()}
        gradients = self.bridge.to_reference(self.arrays(grads))
        self.module.zero_grad()
        values = {'loss': terms['loss'], 'info': info, 'draws': draw_leaves(log)}
        prefix = calls[0].name
        return trees.flat(values, self._numpy, prefix), trees.with_prefix(prefix, gradients)

    def reach(self, calls: Calls, batch: Arrays, key: np.ndarray) -> Arrays:
        terms, _ = self._terms(batch)
        return {
            f'{calls[0].name}/{term}/{trees.dotted(path)}': np.abs(grad).max(initial=0.0)
            for term, value in terms.items()
            for path, grad in self._pulled_back(value).items()
        }

    def update(self, call: UpdateCall, batch: Arrays) -> Arrays:
        with self.ready():
            info = (self.target.update or self._step)(self.module, self.optimizer, self.to_tensors(batch))
        return trees.flat(info or {}, self._numpy)

    def _step(self, module: Any, optimizer: Any, batch: dict[str, Any]) -> dict[str, Any]:
        optimizer.zero_grad()
        loss, info = self.loss_of(batch)
        loss.backward()
        optimizer.step()
        return {'loss': loss, **info}

    def loss_of(self, batch: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """(loss, info) of a batch; inside of `ready`."""
        assert self.target.loss is not None
        result = self.target.loss(self.module, batch)
        loss, info = result if isinstance(result, tuple) else (result, {})
        return loss, dict(info)

    def _terms(self, batch: Arrays) -> tuple[dict[str, Any], dict[str, Any]]:
        """The loss with the terms in its info, and all of its info."""
        with self.ready():
            loss, info = self.loss_of(self.to_tensors(batch))
        return {'loss': loss, **{f'info.{name}': x for name, x in info.items() if is_term(name)}}, info

    def _pulled_back(self, value: Any) -> Arrays:
        """The gradient of every trained parameter, zero where none arrives."""
        import torch

        trained = self.trained()
        grads: dict[str, Any] = dict.fromkeys(trained)
        if value.requires_grad:
            found = torch.autograd.grad(value, list(trained.values()), retain_graph=True, allow_unused=True)
            grads = dict(zip(trained, found, strict=True))
        return self.bridge.to_reference(self.arrays(grads))

    @contextlib.contextmanager
    def ready(self) -> Iterator[None]:
        """The check's precision for new tensors, and every layer in the mode in which it was made."""
        for module, training in self.modes.items():
            module.training = training
        with default_dtype(self.dtype):
            yield

    def tensors(self) -> dict[str, Any]:
        """Parameters and buffers by name."""
        return {**dict(self.module.named_parameters()), **dict(self.module.named_buffers())}

    def trained(self) -> dict[str, Any]:
        """The parameters that collect gradients, by name."""
        return {name: param for name, param in self.module.named_parameters() if param.requires_grad}

    def arrays(self, tensors: dict[str, Any]) -> Arrays:
        """Copies of tensors by the names of parameters; zeros in the place of None."""
        like = self.tensors()
        return {
            name: np.zeros(like[name].shape, self.dtype) if tensor is None else self._numpy(tensor).copy()
            for name, tensor in tensors.items()
        }

    # --- the optimiser's state

    def _optimizer_of(self, module: Any) -> Any:
        return self.target.optimizer(module.parameters()) if self.target.optimizer else None

    @functools.cached_property
    def _template(self) -> dict[str, dict[str, Any]]:
        """What the optimiser keeps for each parameter after a step, found out by one on a copy."""
        import torch

        scratch = copy.deepcopy(self.module)
        optimizer = self._optimizer_of(scratch)
        for parameter in scratch.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        kept = {name: optimizer.state.get(p, {}) for name, p in scratch.named_parameters()}
        return {name: {k: x for k, x in state.items() if x is not None} for name, state in kept.items()}

    def _slots(self) -> list[str]:
        """The slots that any parameter has."""
        states = self.optimizer.state.values() if self.optimizer is not None else ()
        return [slot for slot in SLOTS if any(state.get(slot) is not None for state in states)]

    def _slot(self, slot: str) -> Arrays:
        states = self.optimizer.state
        return self.arrays({name: states.get(p, {}).get(slot) for name, p in self.trained().items()})

    def _counts(self) -> Arrays:
        """The steps of each parameter, by the paths of the reference's leaves, where a step depends on it."""
        states = self.optimizer.state if self.optimizer is not None else {}
        if not any('exp_avg' in state for state in states.values()):
            return {}  # RMSprop counts for nobody
        filled = {
            name: np.full(tuple(p.shape), float(states.get(p, {}).get('step', 0)))
            for name, p in self.trained().items()
        }
        leaves = self.bridge.to_reference(filled)
        return {path: np.asarray(leaf.max(initial=0.0), np.int32) for path, leaf in leaves.items()}

    def _restore_optimizer(self, state: State) -> None:
        """Set slots and counts; nothing before the first step, where torch makes them itself."""
        import torch

        moments = {'opt_mu': state.opt_mu, 'opt_nu': state.opt_nu}
        kept = [*state.opt_mu.values(), *state.opt_nu.values(), *state.opt_count.values()]
        if not any(map(np.any, kept)):
            return
        count = int(state.count) if state.opt_count else 0
        zeros = {path: np.zeros(shape, self.dtype) for path, shape in self.bridge.shapes.items()}
        arrays = {slot: self.bridge.to_torch({**zeros, **moments[which]}) for slot, which in SLOTS.items()}
        for name, parameter in self.trained().items():
            found = self._template[name]
            slots = {slot: self.to_tensor(arrays[slot][name]) for slot in SLOTS if slot in found}
            steps = {'step': torch.full_like(found['step'], count)} if 'step' in found else {}
            self.optimizer.state[parameter] = {**steps, **slots}
