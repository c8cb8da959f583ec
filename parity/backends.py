"""The only file that knows jax or torch: one agent of either framework, driven with numpy arrays.

Both sides have the same methods, take and return flat {path: numpy array}, and name paths as Flax does.
"""

import contextlib
import functools
import importlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from parity import trees
from parity.draws import draw_leaves, logged_draws
from parity.sides import Calls, LossCall, Mode, State, UpdateCall, is_term
from parity.trees import Arrays

# XLA's CPU compiler is what a check spends its time on. Without its optimiser it is four times faster and the
# float64 results differ by rounding; in float32 level 1 gives the bits of the default level in half its time.
COMPILER = {
    'float64': {'xla_backend_optimization_level': 0, 'xla_cpu_use_fusion_emitters': False},
    'float32': {'xla_backend_optimization_level': 1, 'xla_cpu_use_fusion_emitters': False},
}


def prepare() -> None:
    """For processes of our own, before jax starts: compile fast also what agents jit themselves.

    Does nothing where XLA_FLAGS is set.
    """
    flags = (f'--{name}={str(value).lower()}' for name, value in COMPILER['float64'].items())
    os.environ.setdefault('XLA_FLAGS', ' '.join(flags))


class JaxSide:
    """The reference: a Flax agent, its calls compiled once per structure.

    mode 'wide' computes in float64 with the draws of float32 (jax draws other numbers in each precision): the
    truth by which float32 results are judged.
    """

    def __init__(self, target: type, mode: Mode) -> None:
        self.target, self.mode = target, mode
        self.dtype = 'float32' if mode == 'float32' else 'float64'
        self.agent: Any = None

    def like(self, mode: Mode) -> 'JaxSide':
        """The same agent in another mode; cheap, because a Flax agent never changes in place."""
        side = JaxSide(self.target, mode)
        side.agent = self.agent
        side.restore(self.state().astype(side.dtype))
        return side

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """x64 as the precision needs it, and draws in float32 if the mode is wide."""
        import jax

        wide = self.mode == 'wide'
        # The matmul precision is part of jit's cache key: it keeps wide traces apart from float64 ones.
        precision = jax.default_matmul_precision('highest' if wide else 'float32')
        draws = logged_draws(jax.random if wide else None, 'float32')
        with jax.enable_x64(self.dtype == 'float64'), precision, draws:
            yield

    def create(self, seed: int, batch: Arrays, config: dict[str, Any]) -> None:
        import jax

        # Flax makes float32 parameters in every mode: one compilation serves all of them
        with jax.enable_x64(False):
            self.agent = self.target.create(seed, batch['observations'], batch['actions'], config)  # type: ignore[attr-defined]
        self.restore(self.state().astype(self.dtype))

    def state(self) -> State:
        adam = self.agent.network.opt_state[0]
        to_flat = functools.partial(trees.flat, to_numpy=np.asarray)
        moments = to_flat(adam.mu), to_flat(adam.nu)
        return State(
            to_flat(self.agent.network.params), *moments, np.asarray(adam.count), np.asarray(self.agent.rng)
        )

    def restore(self, state: State) -> None:
        with self.scope():
            adam, *rest = self.agent.network.opt_state
            adam = adam._replace(
                mu=_jax_tree(state.opt_mu), nu=_jax_tree(state.opt_nu), count=_jax_array(state.count)
            )
            network = self.agent.network.replace(params=_jax_tree(state.params), opt_state=(adam, *rest))
            self.agent = self.agent.replace(network=network, rng=_jax_array(state.key))

    def forward(self, inputs: dict[str, list[np.ndarray]]) -> Arrays:
        with self.scope():
            return trees.flat(_compiled(_jax_forward, self.dtype)(self.agent, inputs), np.asarray)

    def losses(self, calls: Calls, batch: Arrays, key: np.ndarray) -> tuple[Arrays, Arrays]:
        with self.scope():
            values, grads = _compiled(_jax_losses, self.dtype, calls)(self.agent, batch, key)
            return trees.flat(values, np.asarray), trees.flat(grads, np.asarray)

    def reach(self, calls: Calls, batch: Arrays, key: np.ndarray) -> Arrays:
        with self.scope():
            return trees.flat(_compiled(_jax_reach, self.dtype, calls)(self.agent, batch, key), np.asarray)

    def update(self, call: UpdateCall, batch: Arrays) -> Arrays:
        with self.scope():
            self.agent, info = _compiled(_jax_update, self.dtype, call)(self.agent, batch)
            return trees.flat(info, np.asarray)

    def actions(
        self, observations: np.ndarray, latents: np.ndarray | None, key: np.ndarray, temperature: float
    ) -> np.ndarray:
        args = [observations] if latents is None else [observations, latents]
        with self.scope():
            return np.asarray(self.agent.sample_actions(*args, seed=key, temperature=temperature))


class TorchSide:
    """The port: a torch agent on a device, its updates in place.

    draws: the module through which it draws random numbers, if it draws any.
    """

    def __init__(self, target: type, mode: Mode, draws: str | None = None, device: str = 'cpu') -> None:
        self.target, self.mode, self.draws, self.device = target, mode, draws, device
        self.dtype = 'float32' if mode == 'float32' else 'float64'
        self.agent: Any = None

    def create(self, seed: int, batch: Arrays, config: dict[str, Any]) -> None:
        import torch

        example = batch['observations'], batch['actions']
        dtype = getattr(torch, self.dtype)
        self.agent = self.target.create(seed, *example, config, device=self.device, dtype=dtype)  # type: ignore[attr-defined]

    def state(self) -> State:
        import weight_bridge

        network = self.agent.network
        adam = weight_bridge.optimizer_to_optax(network.tx, network)[0]
        to_flat = functools.partial(trees.flat, to_numpy=np.asarray)
        params = to_flat(weight_bridge.to_flax(network))
        count = np.asarray(adam.count)
        return State(params, to_flat(adam.mu), to_flat(adam.nu), count, self._numpy(self.agent.rng))

    def restore(self, state: State) -> None:
        import optax  # type: ignore[import-untyped]

        import weight_bridge

        network, tree = self.agent.network, trees.unflatten
        weight_bridge.to_torch(tree(state.params), network)
        adam = optax.ScaleByAdamState(count=state.count, mu=tree(state.opt_mu), nu=tree(state.opt_nu))
        weight_bridge.optimizer_to_torch((adam,), network.tx, network)
        self.agent.rng = self._tensor(state.key)

    def forward(self, inputs: dict[str, list[np.ndarray]]) -> Arrays:
        import torch

        with torch.no_grad():
            select = self.agent.network.select
            outputs = {name: select(name)(*map(self._tensor, args)) for name, args in inputs.items()}
        return trees.flat(outputs, self._numpy)

    def losses(self, calls: Calls, batch: Arrays, key: np.ndarray) -> tuple[Arrays, Arrays]:
        values: Arrays = {}
        grads: Arrays = {}
        for call in calls:
            leaves, gradients = self._loss(call, batch, key)
            values |= trees.with_prefix(call.name, leaves)
            grads |= {} if call.frozen else trees.with_prefix(call.name, gradients)
        return values, grads

    def reach(self, calls: Calls, batch: Arrays, key: np.ndarray) -> Arrays:
        return trees.flat({call.name: self._reach(call, batch, key) for call in calls}, np.asarray)

    def update(self, call: UpdateCall, batch: Arrays) -> Arrays:
        method = getattr(self.agent, call.method)
        if call.method == 'target_reset':
            self.agent = method()
            return {}
        self.agent, info = method(self._batch(batch), **dict(call.options))
        return trees.flat(info, self._numpy)

    def actions(
        self, observations: np.ndarray, latents: np.ndarray | None, key: np.ndarray, temperature: float
    ) -> np.ndarray:
        args = [observations] if latents is None else [observations, latents]
        seed = self._tensor(key)
        actions = self.agent.sample_actions(*map(self._tensor, args), seed=seed, temperature=temperature)
        return self._numpy(actions)

    def _loss(self, call: LossCall, batch: Arrays, key: np.ndarray) -> tuple[Arrays, Arrays]:
        import weight_bridge

        self.agent.network.zero_grad()
        with logged_draws(importlib.import_module(self.draws) if self.draws else None) as log:
            loss, info = self._call(call, batch, key)
        if loss.requires_grad:
            loss.backward()
        grads = trees.flat(weight_bridge.grads_to_flax(self.agent.network), np.asarray)
        self.agent.network.zero_grad()
        return trees.flat({'loss': loss, 'info': info, 'draws': draw_leaves(log)}, self._numpy), grads

    def _reach(self, call: LossCall, batch: Arrays, key: np.ndarray) -> dict[str, dict[str, float]]:
        _, info = self._call(call, batch, key)
        params = self.agent.network.params
        return {name: self._reach_of(term, params) for name, term in info.items() if is_term(name)}

    def _call(self, call: LossCall, batch: Arrays, key: np.ndarray) -> tuple[Any, dict[str, Any]]:
        params = None if call.frozen else self.agent.network.params
        options = dict(call.options)
        result: tuple[Any, dict[str, Any]] = getattr(self.agent, call.method)(
            self._batch(batch), params, rng=self._tensor(key), **options
        )
        return result

    def _reach_of(self, term: Any, params: dict[str, Any]) -> dict[str, float]:
        import torch

        reach = dict.fromkeys((path.split('.')[0] for path in params), 0.0)
        if term.requires_grad:
            grads = torch.autograd.grad(term, list(params.values()), retain_graph=True, allow_unused=True)
            for path, grad in zip(params, grads, strict=True):
                size = 0.0 if grad is None else float(grad.abs().max())
                reach[path.split('.')[0]] = max(reach[path.split('.')[0]], size)
        return reach

    def _batch(self, batch: Arrays) -> dict[str, Any]:
        return {name: self._tensor(array) for name, array in batch.items()}

    def _tensor(self, array: np.ndarray) -> Any:
        import torch

        return torch.tensor(array, device=self.device)

    def _numpy(self, value: Any) -> np.ndarray:
        value = value.detach().cpu().numpy() if hasattr(value, 'detach') else value
        return np.asarray(value)


@functools.lru_cache(maxsize=256)
def _compiled(function: Callable[..., Any], dtype: str, *static: Any) -> Callable[..., Any]:
    import jax

    options = COMPILER[dtype] if jax.default_backend() == 'cpu' else None
    return jax.jit(functools.partial(function, *static), compiler_options=options)


def _jax_array(array: np.ndarray) -> Any:
    import jax.numpy as jnp

    return jnp.asarray(array)


def _jax_tree(leaves: Arrays) -> Any:
    return trees.unflatten({path: _jax_array(leaf) for path, leaf in leaves.items()})


def _jax_forward(agent: Any, inputs: dict[str, list[Any]]) -> dict[str, Any]:
    return {name: agent.network.select(name)(*args) for name, args in inputs.items()}


def _jax_call(call: LossCall, agent: Any, batch: Any, key: Any, params: Any) -> tuple[Any, dict[str, Any]]:
    params = None if call.frozen else params
    result: tuple[Any, dict[str, Any]] = getattr(agent, call.method)(
        batch, params, rng=key, **dict(call.options)
    )
    return result


def _jax_losses(calls: Calls, agent: Any, batch: Any, key: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    # all calls in one program: XLA computes what they share only once, and compiles it only once
    results = {call.name: _jax_loss(call, agent, batch, key) for call in calls}
    values = {name: leaves for name, (leaves, _) in results.items()}
    return values, {call.name: results[call.name][1] for call in calls if not call.frozen}


def _jax_loss(call: LossCall, agent: Any, batch: Any, key: Any) -> tuple[dict[str, Any], Any]:
    import jax

    def loss_fn(params: Any) -> tuple[Any, Any]:
        with logged_draws(jax.random) as log:
            loss, info = _jax_call(call, agent, batch, key, params)
        return loss, (info, draw_leaves(log))

    (loss, (info, draws)), grads = jax.value_and_grad(loss_fn, has_aux=True)(agent.network.params)
    return {'loss': loss, 'info': info, 'draws': draws}, grads


def _jax_reach(calls: Calls, agent: Any, batch: Any, key: Any) -> dict[str, Any]:
    return {call.name: _jax_reach_of(call, agent, batch, key) for call in calls}


def _jax_reach_of(call: LossCall, agent: Any, batch: Any, key: Any) -> dict[str, Any]:
    import jax

    def terms(params: Any) -> dict[str, Any]:
        _, info = _jax_call(call, agent, batch, key, params)
        return {name: value for name, value in info.items() if is_term(name)}

    return {
        term: {network: _largest(leaves) for network, leaves in grads.items()}
        for term, grads in jax.jacrev(terms)(agent.network.params).items()
    }


def _largest(tree: Any) -> Any:
    import jax
    import jax.numpy as jnp

    return functools.reduce(jnp.maximum, [jnp.abs(leaf).max() for leaf in jax.tree.leaves(tree)])


def _jax_update(call: UpdateCall, agent: Any, batch: Any) -> tuple[Any, dict[str, Any]]:
    method = getattr(agent, call.method)
    if call.method == 'target_reset':
        return method(), {}
    result: tuple[Any, dict[str, Any]] = method(batch, **dict(call.options))
    return result
