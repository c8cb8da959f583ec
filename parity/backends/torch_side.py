"""The port: a torch agent, driven with numpy arrays."""

import contextlib
import importlib
from typing import Any

import numpy as np

from parity import trees
from parity.contractions import logged_contractions
from parity.draws import draw_leaves, logged_draws
from parity.sides import (
    Calls,
    LossCall,
    Mode,
    Networks,
    State,
    UpdateCall,
    counted_by,
    is_term,
    outputs_of,
)
from parity.trees import Arrays


class TorchSide:
    """A torch agent on a device, its updates in place.

    draws:    the module through which it draws random numbers, if it draws any.
    reshaped: parameters whose shape an update changes, by their paths.
    contractions: the functions of torch whose results in losses are logged.
    """

    def __init__(
        self,
        target: Any,
        mode: Mode,
        draws: str | None = None,
        device: str = 'cpu',
        reshaped: tuple[str, ...] = (),
        contractions: tuple[str, ...] = (),
    ) -> None:
        self.target, self.mode, self.draws, self.device = target, mode, draws, device
        self.reshaped, self.contractions = reshaped, contractions
        self.dtype = 'float32' if mode == 'float32' else 'float64'
        self.agent: Any = None
        self.compiled = False
        self.restored: tuple[State, list[int]] | None = None  # with what says whether it is still so

    def create(self, seed: int, batch: Arrays, config: dict[str, Any]) -> None:
        import torch

        example = batch['observations'], batch['actions']
        dtype = getattr(torch, self.dtype)
        self.agent = self.target.create(seed, *example, config, device=self.device, dtype=dtype)

    def compile(self) -> None:
        """Have the agent compile itself, as its users would. Raises AttributeError if it cannot."""
        self.agent.compile()
        self.compiled = True

    def state(self) -> State:
        import weight_bridge

        network = self.agent.network
        steps, mu, nu = weight_bridge.adam_moments(network.tx, network)
        counts = {path: np.asarray(step, np.int32) for path, step in steps.items()}
        params, mu, nu = (trees.flat(tree, np.asarray) for tree in (weight_bridge.to_flax(network), mu, nu))
        return State(params, mu, nu, counts, self._numpy(self.agent.rng))

    def restore(self, state: State) -> None:
        import optax  # type: ignore[import-untyped]

        import weight_bridge

        if self.restored is not None and self.restored[0] is state and self.restored[1] == self._versions():
            return
        network, tree = self.agent.network, trees.unflatten
        self._reshape(state)
        weight_bridge.to_torch(tree(state.params), network)
        adam = optax.ScaleByAdamState(count=state.count, mu=tree(state.opt_mu), nu=tree(state.opt_nu))
        weight_bridge.optimizer_to_torch((adam,), network.tx, network)
        self.agent.rng = self.to_tensor(state.key)
        self.restored = state, self._versions()

    def forward(self, networks: Networks, arrays: Arrays) -> Arrays:
        import torch

        with torch.no_grad():
            return trees.flat(outputs_of(networks, self.agent, self.to_tensors(arrays)), self._numpy)

    def losses(self, calls: Calls, batch: Arrays, key: np.ndarray) -> tuple[Arrays, Arrays]:
        values: Arrays = {}
        grads: Arrays = {}
        for call in calls:
            leaves, gradients = self._loss(call, batch, key)
            values |= trees.with_prefix(call.name, leaves)
            grads |= trees.with_prefix(call.name, gradients)
        return values, grads

    def reach(self, calls: Calls, batch: Arrays, key: np.ndarray) -> Arrays:
        return trees.flat({call.name: self._reach(call, batch, key) for call in calls}, np.asarray)

    def update(self, call: UpdateCall, batch: Arrays) -> Arrays:
        method = getattr(self.agent, call.method)
        self.restored = None
        if call.method == 'target_reset':
            self.agent = method()
            return {}
        self.agent, info = method(self.to_tensors(batch), **dict(call.options))
        return trees.flat(info, self._numpy)

    def counted(self) -> int | None:
        return counted_by(self.agent)

    def infer_latent(self, batch: Arrays) -> np.ndarray:
        return self._numpy(self.agent.infer_latent(self.to_tensors(batch)))

    def actions(
        self, observations: np.ndarray, latents: np.ndarray | None, key: np.ndarray, temperature: float | None
    ) -> np.ndarray:
        args = [observations] if latents is None else [observations, latents]
        seed = self.to_tensor(key)
        given = {} if temperature is None else {'temperature': temperature}
        actions = self.agent.sample_actions(*map(self.to_tensor, args), seed=seed, **given)
        return self._numpy(actions)

    def _loss(self, call: LossCall, batch: Arrays, key: np.ndarray) -> tuple[Arrays, Arrays]:
        import torch

        import weight_bridge

        self.agent.network.zero_grad()
        draws = importlib.import_module(self.draws) if self.draws else None
        with logged_draws(draws) as log, logged_contractions(torch, self.contractions) as contractions:
            loss, info = self.call(call, batch, key)
        if loss.requires_grad:
            loss.backward()
        grads = {} if call.frozen else trees.flat(weight_bridge.grads_to_flax(self.agent.network), np.asarray)
        self.agent.network.zero_grad()
        values = {'loss': loss, 'info': info, 'draws': draw_leaves(log), 'contractions': contractions}
        return trees.flat(values, self._numpy), grads

    def _reach(self, call: LossCall, batch: Arrays, key: np.ndarray) -> dict[str, dict[str, float]]:
        import torch

        # as written: what is compiled has one backward for all terms, in which 0 * inf reaches any network
        with torch.compiler.set_stance('force_eager') if self.compiled else contextlib.nullcontext():
            _, info = self.call(call, batch, key)
        params = self.agent.network.params
        return {name: self._reach_of(term, params) for name, term in info.items() if is_term(name)}

    def call(self, call: LossCall, batch: Arrays, key: np.ndarray) -> tuple[Any, dict[str, Any]]:
        """(loss, info), on the live parameters unless the call is frozen."""
        return call.on(self.agent, self.to_tensors(batch), self.to_tensor(key), self.agent.network.params)

    def _reach_of(self, term: Any, params: dict[str, Any]) -> dict[str, float]:
        import torch

        reach = dict.fromkeys((path.split('.')[0] for path in params), 0.0)
        if term.requires_grad:
            grads = torch.autograd.grad(term, list(params.values()), retain_graph=True, allow_unused=True)
            for path, grad in zip(params, grads, strict=True):
                size = 0.0 if grad is None else float(grad.abs().max())
                reach[path.split('.')[0]] = float(np.maximum(reach[path.split('.')[0]], size))
        return reach

    def _versions(self) -> list[int]:
        """What torch counts up whenever a tensor is changed in place."""
        network = self.agent.network
        return [tensor._version for tensor in (*network.parameters(), *network.buffers())]

    def _reshape(self, state: State) -> None:
        """Give the reshaped parameters the state's shapes: copying is strict about them."""
        import torch

        for path in self.reshaped:
            param = self.agent.network.params[path.replace('/', '.')]
            if param.shape != state.params[path].shape:
                param.data = torch.empty(state.params[path].shape, dtype=param.dtype, device=param.device)
                self.agent.network.tx.state.pop(param, None)

    def to_tensors(self, batch: Arrays) -> dict[str, Any]:
        """The arrays of a batch on the device."""
        return {name: self.to_tensor(array) for name, array in batch.items()}

    def to_tensor(self, array: np.ndarray) -> Any:
        """A copy on the device."""
        import torch

        return torch.tensor(array, device=self.device)

    def _numpy(self, value: Any) -> np.ndarray:
        if hasattr(value, 'detach'):
            value = value.detach().resolve_neg().cpu().numpy()  # an imaginary part can be a negated view
        return np.asarray(value)
