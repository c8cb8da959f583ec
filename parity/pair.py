"""A pair: which JAX agent is the reference, which torch agent ports it, and what both are called with."""

import importlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar

from parity.backends import JaxSide, TorchSide
from parity.errors import ParityError, unknown
from parity.sides import Calls, Mode, Updates

GROUP = 'parity.pairs'


@dataclass(frozen=True)
class Pair:
    """A reference and its port, as `'module:attr'`, imported on first use, or as the classes themselves.

    batch:      {key: dimension letters}, `{'observations': 'B O', 'rewards': 'B'}`: what a batch holds.
    forward:    {network: names of its inputs}, `{'critic': 'observations actions'}`, from batch or extra; the
                words None, True and False stand for themselves, and batch for all of it. A name with `()` is
                one of the agent's methods: `{'infer_latent()': 'batch'}`.
    plain:      those of forward that are ill-posed for all but plain values, such as least squares.
    extra:      like batch: further inputs of the networks, drawn for the forward stage only.
    ensembles:  networks with stacked members, whose members a case can make equal.
    switches:   {config key: values}, what generated cases choose from.
    sizes:      config overrides that make the agent small enough to check in seconds.
    sizes_from: {config key: dimension letter}, for configuration values that are sizes of the batch.
    smallest:   dimension letter -> the smallest size that the agent is defined for, where that is not 1.
    counts:     info values that count comparisons, by the last part of their names: where two values agree to
                rounding a comparison may fall either way, so that float32 allows one row more or less, and a
                batch of equal rows, which ties all of them, says nothing about a count.
    extremes:   info values of an update that are the largest and the smallest entry of its gradient: as exact
                as the gradient, though they may be all that rounding left where its terms cancelled.
    norms:      info values of an update that sum the norms of its gradient's leaves: some of these may be the
                norm of what rounding left, and are as exact as that.
    contractions: the functions of both jax.numpy and torch whose results in the losses are compared, such as
                ('einsum', 'matmul'); both sides must call them as `jnp.einsum`, `torch.einsum`, in one order.
    draws:      the module through which the port draws random numbers, 'torch_agents.random'.
    creating:   called with 'reference' or 'port', a context manager in which that side's agent is created.
    reshaped:   parameters whose shape an update changes, by their paths.
    presets:    {config key: (the reference's table, the port's)}, as 'module:attr': what the key's values are
                names of, {name: a class, or a functools.partial of one}. The stage config compares both.
    """

    # what the stages call where it is not an agent's: see parity.stages
    losses: ClassVar[Calls] = ()
    script: ClassVar[Updates] = ()
    # whether `port_side` reads the created reference, and not only the case
    port_reads_reference: ClassVar[bool] = False

    name: str
    reference: Any
    port: Any
    batch: Mapping[str, str]
    forward: Mapping[str, str] = field(default_factory=dict)
    plain: tuple[str, ...] = ()
    extra: Mapping[str, str] = field(default_factory=dict)
    ensembles: tuple[str, ...] = ()
    switches: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    sizes: Mapping[str, Any] = field(default_factory=dict)
    sizes_from: Mapping[str, str] = field(default_factory=dict)
    smallest: Mapping[str, int] = field(default_factory=dict)
    counts: tuple[str, ...] = ()
    extremes: tuple[str, ...] = ('grad/max', 'grad/min')
    norms: tuple[str, ...] = ('grad/norm',)
    contractions: tuple[str, ...] = ()
    draws: str | None = None
    creating: Callable[[str], AbstractContextManager[Any]] = nullcontext
    reshaped: tuple[str, ...] = ()
    presets: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def load(self, side: str) -> type:
        """The agent class of `'reference'` or `'port'`."""
        target = getattr(self, side)
        loaded: type = (
            load_target(target, where=f'pair {self.name}, {side}') if isinstance(target, str) else target
        )
        return loaded

    def module_of(self, side: str) -> str:
        """The name of the module that `'reference'` or `'port'` is defined in."""
        target: Any = self.load(side)
        made = getattr(target, 'module', target)  # a model is described by functions, or by its module
        made = getattr(made, 'func', made)
        return str(made.__module__)

    def get_config(self, side: str) -> dict[str, Any]:
        """The default configuration: `get_config()` beside the class, or beside one that it inherits from."""
        for cls in self.load(side).__mro__:
            get_config = getattr(importlib.import_module(cls.__module__), 'get_config', None)
            if get_config is not None:
                return dict(get_config())
        raise ParityError(
            f'{self.name}: the {side} has no default configuration',
            values=f'expected get_config() beside {self.load(side).__name__}; found none',
            error='not defined',
            where=self.load(side).__module__,
            next_step='define get_config() -> dict in that module',
        )

    def has(self, stage: str) -> bool:
        """Whether the stage has something to compare."""
        return stage != 'contractions' or bool(self.contractions)

    def reference_side(self) -> JaxSide:
        """The reference, not created."""
        return JaxSide(self.load('reference'), 'float32', self.contractions)

    def port_side(self, mode: Mode, device: str, reference: JaxSide) -> TorchSide:
        """The port, not created; reference: the created one."""
        return TorchSide(self.load('port'), mode, self.draws, device, self.reshaped, self.contractions)


def load_target(target: str, *, where: str) -> Any:
    """The object that `module:attr` names. Raises ParityError, with the cause, if there is none."""
    module_name, _, attr = target.partition(':')
    try:
        value: Any = importlib.import_module(module_name)
        for name in attr.split('.') if attr else ():
            value = getattr(value, name)
    except Exception as cause:  # a user's module can fail in any way
        raise ParityError(
            f'cannot load {target!r}',
            values=f"expected 'module:attr'; found {type(cause).__name__}: {cause}",
            error='not importable',
            where=where,
            next_step=f'python -c "import {module_name or "..."}"',
        ) from cause
    return value


def registered() -> dict[str, Pair]:
    """All pairs of the entry-point group `parity.pairs`, by name."""
    from importlib.metadata import entry_points

    points = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    return {
        point.name: load_target(point.value, where=f'entry point {point.name} of {GROUP}') for point in points
    }


def find(name: str) -> Pair:
    """A registered pair by its name, or any pair by `module:ATTR`."""
    found = load_target(name, where='the command line') if ':' in name else registered().get(name)
    if found is None:
        raise unknown('pair', name, list(registered()), where='the command line', next_step='parity list')
    if not isinstance(found, Pair):
        raise ParityError(
            f'{name} is not a pair',
            values=f'expected a parity.Pair; found {type(found).__name__}',
            error='wrong type',
            where=name,
            next_step='name a module-level parity.Pair, as in torch_agents/pairs.py',
        )
    return found
