"""What check asks of one agent of either framework, and what goes in and out: flat {path: numpy array}."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from parity import trees
from parity.trees import Arrays, astype

Mode = Literal['float64', 'float32', 'wide']
NO_KEY = np.zeros(0, np.uint32)  # of what draws no random numbers of its own


@dataclass(frozen=True)
class State:
    """Everything that an update changes: parameters, Adam's moments and counts, and the agent's key.

    The moments and counts have the paths of the trained parameters: optax counts steps once for the whole
    tree, torch for each parameter. What has no optimiser has none of them; what has no key has NO_KEY.
    """

    params: Arrays
    opt_mu: Arrays
    opt_nu: Arrays
    opt_count: Arrays
    key: np.ndarray

    @property
    def count(self) -> np.ndarray:
        """The count of the whole tree."""
        return next(iter(self.opt_count.values()))

    def leaves(self) -> Arrays:
        """All of it under one set of paths."""
        return {
            **trees.with_prefix('params', self.params),
            **trees.with_prefix('opt_mu', self.opt_mu),
            **trees.with_prefix('opt_nu', self.opt_nu),
            **trees.with_prefix('opt_count', self.opt_count),
            **self.key_leaf(),
        }

    def key_leaf(self) -> Arrays:
        """The key under its name, if there is one."""
        return {'key': self.key} if self.key.size else {}

    def astype(self, dtype: str) -> 'State':
        """The same state, with floating values in another precision."""
        params, opt_mu, opt_nu = (astype(leaves, dtype) for leaves in (self.params, self.opt_mu, self.opt_nu))
        return State(params, opt_mu, opt_nu, self.opt_count, self.key)

    def scaled(self, sample: int, step: float) -> 'State':
        """The state with every parameter leaf scaled by a factor of its own, off 1 by up to `step`.

        One factor for a whole leaf keeps what is equal in it equal, so that a tie stays a tie.
        """
        rng = np.random.default_rng([sample])
        factors = 1 + step * rng.uniform(-1, 1, len(self.params))
        params = {
            path: (leaf * factor).astype(leaf.dtype) if leaf.dtype.kind == 'f' else leaf
            for (path, leaf), factor in zip(self.params.items(), factors, strict=True)
        }
        return dataclasses.replace(self, params=params)


@dataclass(frozen=True)
class LossCall:
    """A call of a loss: `method(batch, params, rng=key, **options)`.

    frozen:  None is passed as params.
    own_key: None is passed as the key, for which the agent takes its own.
    """

    name: str
    method: str
    options: tuple[tuple[str, Any], ...] = ()
    frozen: bool = False
    own_key: bool = False

    def on(self, agent: Any, batch: Any, key: Any, params: Any) -> tuple[Any, dict[str, Any]]:
        """(loss, info) of an agent of either side; params: what is differentiated."""
        params, key = None if self.frozen else params, None if self.own_key else key
        result: tuple[Any, dict[str, Any]] = getattr(agent, self.method)(
            batch, params, rng=key, **dict(self.options)
        )
        return result


Calls = tuple[LossCall, ...]
# (network or `method()`, names of its inputs), a name being an array's, BATCH or one of LITERALS
Networks = tuple[tuple[str, tuple[str, ...]], ...]
LITERALS: dict[str, bool | None] = {'None': None, 'True': True, 'False': False}
BATCH = 'batch'  # all of it, as a mapping


@dataclass(frozen=True)
class UpdateCall:
    """A call that changes the agent: `pretrain`, `finetune` or `target_reset`."""

    method: str
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """`finetune_partial`."""
        partial = dict(self.options).get('full_update', True) is False
        return f'{self.method}_partial' if partial else self.method


Updates = tuple[UpdateCall, ...]


class Side(Protocol):
    """One agent of one framework in one precision."""

    dtype: str

    def create(self, seed: int, batch: Arrays, config: dict[str, Any]) -> None:
        """Make the agent, as its users do."""

    def state(self) -> State:
        """A copy of what updates change."""

    def restore(self, state: State) -> None:
        """Set it."""

    def forward(self, networks: Networks, arrays: Arrays) -> Arrays:
        """The outputs of each network on its inputs, read frozen."""

    def losses(self, calls: Calls, batch: Arrays, key: np.ndarray) -> tuple[Arrays, Arrays]:
        """Values and gradients.

        {<call>/loss, <call>/info/..., <call>/draws/..., <call>/contractions/...}, and the gradients of the
        calls that are not frozen.
        """

    def reach(self, calls: Calls, batch: Arrays, key: np.ndarray) -> Arrays:
        """The largest gradient that each loss term sends into each network, `<call>/<term>/<network>`."""

    def update(self, call: UpdateCall, batch: Arrays) -> Arrays:
        """Do one update; its info."""

    def counted(self) -> int | None:
        """How many updates the agent says it has done; None if it does not count them."""

    def infer_latent(self, batch: Arrays) -> np.ndarray:
        """The latent that explains the batch's rewards, for agents that infer one."""

    def actions(
        self, observations: np.ndarray, latents: np.ndarray | None, key: np.ndarray, temperature: float | None
    ) -> np.ndarray:
        """Sampled actions; a temperature of None is left to the default."""


def outputs_of(networks: Networks, agent: Any, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The outputs of each network, read frozen, and of each method of an agent of either side."""
    values = {**arrays, **LITERALS, BATCH: arrays}
    return {name: _called(agent, name)(*(values[word] for word in words)) for name, words in networks}


def _called(agent: Any, name: str) -> Any:
    return getattr(agent, name.removesuffix('()')) if name.endswith('()') else agent.network.select(name)


def counted_by(agent: Any) -> int | None:
    """The step of an agent's network, as both frameworks' agents have it; None if it has none."""
    step = getattr(getattr(agent, 'network', None), 'step', None)
    return None if step is None else int(step)


def is_term(info_key: str) -> bool:
    """Whether an info value is a term of a loss, by its name."""
    return info_key.endswith('loss')
