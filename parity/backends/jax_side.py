"""The reference: a Flax agent, driven with numpy arrays; its calls are compiled once per structure."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, Self

import numpy as np

from parity import trees
from parity.backends.compiling import compiled, on, unjitted
from parity.backends.rounding import EXACT, factors
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


class JaxSide:
    """A Flax agent.

    mode 'wide' computes in float64 with the draws of float32 (jax draws other numbers in each precision): the
    truth by which float32 results are judged. It runs the programs of float64, which draw both and choose.
    contractions: the functions of jax.numpy whose results in losses are logged.
    device: the jax platform that it computes on. jit: False to run every operation by itself.
    """

    device = 'cpu'
    jit = True

    def __init__(self, target: Any, mode: Mode, contractions: tuple[str, ...] = ()) -> None:
        self.target, self.mode, self.contractions = target, mode, contractions
        self.dtype = 'float32' if mode == 'float32' else 'float64'
        self.agent: Any = None
        self.scales = EXACT

    def like(self, mode: Mode) -> 'JaxSide':
        """The same agent in another mode; cheap, because a Flax agent never changes in place."""
        side = JaxSide(self.target, mode, self.contractions)
        side.agent, side.device = self.agent, self.device
        side.restore(self.state().astype(side.dtype))
        return side

    def unjitted(self) -> Self:
        """This side, from now on without jit, as its authors debug it."""
        self.jit = False
        return self

    def rounding_as(self, sample: int) -> Self:
        """This side, from now on with other rounding in float64; a sample of it, see `backends.rounding`."""
        self.scales = factors(sample)
        return self

    def create(self, seed: int, batch: Arrays, config: dict[str, Any]) -> None:
        import jax

        # Flax makes float32 parameters in every mode: one compilation serves all of them
        with jax.enable_x64(False), on(self.device):
            self.agent = self.target.create(seed, batch['observations'], batch['actions'], config)
        self.restore(self.state().astype(self.dtype))

    def state(self) -> State:
        adam = self.agent.network.opt_state[0]
        params, mu, nu = (_flat(tree) for tree in (self.agent.network.params, adam.mu, adam.nu))
        counts = dict.fromkeys(params, np.asarray(adam.count))
        return State(params, mu, nu, counts, np.asarray(self.agent.rng))

    def restore(self, state: State) -> None:
        adam, *rest = self.agent.network.opt_state
        params, mu, nu = (trees.unflatten(leaves) for leaves in (state.params, state.opt_mu, state.opt_nu))
        adam = adam._replace(mu=mu, nu=nu, count=state.count)
        network = self.agent.network.replace(params=params, opt_state=(adam, *rest))
        self.agent = self.agent.replace(network=network, rng=state.key)

    def forward(self, networks: Networks, arrays: Arrays) -> Arrays:
        return _flat(self._run(outputs_of, networks)(self.agent, arrays))

    def losses(self, calls: Calls, batch: Arrays, key: np.ndarray) -> tuple[Arrays, Arrays]:
        values, grads = self._run(_losses, calls, self.contractions)(self.agent, batch, key)
        return _flat(values), _flat(grads)

    def reach(self, calls: Calls, batch: Arrays, key: np.ndarray) -> Arrays:
        return _flat(self._run(_reach, calls)(self.agent, batch, key))

    def update(self, call: UpdateCall, batch: Arrays) -> Arrays:
        self.agent, info = self._run(_update, call)(self.agent, batch)
        return _flat(info)

    def counted(self) -> int | None:
        return counted_by(self.agent)

    def infer_latent(self, batch: Arrays) -> np.ndarray:
        return np.asarray(self._run(_infer_latent)(self.agent, batch))

    def actions(
        self, observations: np.ndarray, latents: np.ndarray | None, key: np.ndarray, temperature: float | None
    ) -> np.ndarray:
        inputs = [observations] if latents is None else [observations, latents]
        return np.asarray(self._run(_actions)(self.agent, inputs, key, temperature))

    def longest_step(self, config: dict[str, Any]) -> float:
        """The learning rate: about how far Adam moves a parameter."""
        return float(config['lr'])

    def _run(self, function: Callable[..., Any], *static: Any) -> Callable[..., Any]:
        """`function` with its static arguments, compiled, in the precision and with the draws of the mode."""
        import jax

        def call(*args: Any) -> Any:
            with jax.enable_x64(self.dtype == 'float64'), on(self.device):
                return self._program(function, *static)(self.mode == 'wide', self.scales, *args)

        return call

    def _program(self, function: Callable[..., Any], *static: Any) -> Callable[..., Any]:
        if not self.jit:
            return unjitted(function, self.dtype, *static)
        return compiled(function, self.dtype, self.device, *static)


@contextlib.contextmanager
def inlined(cls: type) -> Iterator[None]:
    """Make the jitted methods of a class plain ones: the key of a draw cannot leave a jit inside a jit."""
    jitted = [
        (owner, name, method)
        for owner in cls.__mro__
        for name, method in vars(owner).items()
        if hasattr(method, 'lower') and hasattr(method, '__wrapped__')
    ]
    try:
        for owner, name, method in jitted:
            setattr(owner, name, method.__wrapped__)
        yield
    finally:
        for owner, name, method in jitted:
            setattr(owner, name, method)


def _flat(tree: Any) -> Arrays:
    """`trees.flat`, with the paths of each structure found once: a case asks for thousands of states."""
    import jax

    leaves, structure = jax.tree.flatten(tree)
    return {path: np.asarray(leaves[i]) for path, i in _paths(structure).items()}


@functools.lru_cache(maxsize=256)
def _paths(structure: Any) -> dict[str, int]:
    """Where the leaf of each path is among all leaves."""
    import jax

    numbered = jax.tree.unflatten(structure, range(structure.num_leaves))
    return {path: int(i) for path, i in trees.flat(numbered, np.asarray).items()}


def _infer_latent(agent: Any, batch: Any) -> Any:
    return agent.infer_latent(batch)


def _actions(agent: Any, inputs: list[Any], key: Any, temperature: Any) -> Any:
    given = {} if temperature is None else {'temperature': temperature}
    return agent.sample_actions(*inputs, seed=key, **given)


def _losses(
    calls: Calls, contractions: tuple[str, ...], agent: Any, batch: Any, key: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    # all calls in one program: XLA computes what they share only once, and compiles it only once
    results = {call.name: _loss(call, contractions, agent, batch, key) for call in calls}
    values = {name: leaves for name, (leaves, _) in results.items()}
    return values, {call.name: results[call.name][1] for call in calls if not call.frozen}


def _loss(
    call: LossCall, contractions: tuple[str, ...], agent: Any, batch: Any, key: Any
) -> tuple[dict[str, Any], Any]:
    import jax
    import jax.numpy as jnp

    def loss_fn(params: Any) -> tuple[Any, dict[str, Any]]:
        logged = logged_draws(jax.random), logged_contractions(jnp, contractions)
        with inlined(type(agent)), logged[0] as draws, logged[1] as arrays:
            loss, info = call.on(agent, batch, key, params)
        return loss, {'info': info, 'draws': draw_leaves(draws), 'contractions': arrays}

    (loss, values), grads = jax.value_and_grad(loss_fn, has_aux=True)(agent.network.params)
    return {'loss': loss, **values}, grads


def _reach(calls: Calls, agent: Any, batch: Any, key: Any) -> dict[str, Any]:
    return {call.name: _reach_of(call, agent, batch, key) for call in calls}


def _reach_of(call: LossCall, agent: Any, batch: Any, key: Any) -> dict[str, Any]:
    import jax

    def terms(params: Any) -> dict[str, Any]:
        _, info = call.on(agent, batch, key, params)
        return {name: value for name, value in info.items() if is_term(name)}

    # One transposition for each term: jacrev would send zeros through the others, and 0 * inf is not 0
    values, linear = jax.linearize(terms, agent.network.params)
    return {
        term: {network: _largest(leaves) for network, leaves in grads.items()}
        for term, grads in ((term, _transposed(linear, term, value, agent)) for term, value in values.items())
    }


def _transposed(linear: Callable[..., Any], term: str, value: Any, agent: Any) -> Any:
    import jax
    import jax.numpy as jnp

    transposed = jax.linear_transpose(lambda tangents: linear(tangents)[term], agent.network.params)
    (grads,) = transposed(jnp.ones_like(value))
    return grads


def _largest(tree: Any) -> Any:
    import jax
    import jax.numpy as jnp

    return functools.reduce(jnp.maximum, [jnp.abs(leaf).max() for leaf in jax.tree.leaves(tree)])


def _update(call: UpdateCall, agent: Any, batch: Any) -> tuple[Any, dict[str, Any]]:
    method = getattr(agent, call.method)
    if call.method == 'target_reset':
        return method(), {}
    result: tuple[Any, dict[str, Any]] = method(batch, **dict(call.options))
    return result
