"""Pairs of models that have no agent's interface: plain functions of parameters, and an nn.Module."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from parity.backends import JaxSide, TorchSide
from parity.backends.bridging import Given
from parity.errors import ParityError
from parity.pair import Pair
from parity.sides import Calls, LossCall, Mode, UpdateCall, Updates

# What each stage calls; a model that has none of it has no such stage.
NEEDS = {
    'params': (),
    'forward': ('apply',),
    'loss': ('loss',),
    'grads': ('loss',),
    'update': ('optimizer',),
    'rollout': ('optimizer',),
}


@dataclass(frozen=True, eq=False)
class JaxModel:
    """A reference as functions, whatever library its model is from; what is not given is not checked.

    init:      key u32[2] -> variables: any pytree, `linen_module.init(key, x)['params']`, an equinox module,
               an nnx module, haiku's parameters. Its floating arrays are the parameters, by their paths.
    apply:     (variables, batch) -> outputs, a pytree.
    loss:      (variables, batch) -> loss, or (loss, info), or (loss, info, variables) where a call changes
               what is not trained, such as running statistics. info: {name: array}.
    optimizer: an optax transformation.
    update:    (variables, opt_state, batch) -> (variables, opt_state, info), one step, where it is more than
               the optimiser's step on the loss; `opt_state` is that of `optimizer`.
    state:     beginnings of the paths that are not trained: `('batch_stats',)`.
    """

    init: Callable[[Any], Any]
    apply: Callable[[Any, Any], Any] | None = None
    loss: Callable[[Any, Any], Any] | None = None
    optimizer: Any | None = None
    update: Callable[[Any, Any, Any], Any] | None = None
    state: tuple[str, ...] = ()

    def __str__(self) -> str:
        return 'JaxModel'


@dataclass(frozen=True, eq=False)
class TorchModel:
    """A port as an nn.Module and functions of it, the counterparts of JaxModel's.

    module:    () -> nn.Module, a class or a function; called for each precision.
    apply:     (module, batch) -> outputs.
    loss:      (module, batch) -> loss, or (loss, info); the module's buffers may change.
    optimizer: parameters -> torch.optim.Optimizer: `functools.partial(torch.optim.Adam, lr=1e-3)`.
    update:    (module, optimizer, batch) -> info, one step; where it is more than zero_grad, backward, step.

    The module is in the mode in which it was made whenever one of them is called: choose eval() in `apply`.
    """

    module: Callable[[], Any]
    apply: Callable[[Any, Any], Any] | None = None
    loss: Callable[[Any, Any], Any] | None = None
    optimizer: Callable[[Any], Any] | None = None
    update: Callable[[Any, Any, Any], Any] | None = None

    def __str__(self) -> str:
        return 'TorchModel'


@dataclass(frozen=True)
class ModelPair(Pair):
    """A JaxModel as reference and a TorchModel as port, or the `'module:attr'` of such.

        PAIR = ModelPair(
            name='mine',
            reference=JaxModel(init=..., apply=..., loss=..., optimizer=optax.adam(1e-3)),
            port=TorchModel(Mine, apply=..., loss=..., optimizer=partial(torch.optim.Adam, lr=1e-3)),
            batch={'x': 'B 4', 'y': 'B'},
            bridge=lambda params: {'fc1.weight': params['Dense_0']['kernel'].T, ...},
        )

    batch:  as in Pair; numbers are sizes that the model fixes. Labels are 'B | below 10', a key is '2 | key'.
    bridge: variables -> {name in the module's state_dict: array}, which may transpose, reshape, cut and join
            the variables' arrays but not compute; or {name: path}, laid out as weight_bridge does for the
            module's layers; or a `weight_bridge.Mapping`, such as `weight_bridge.match(params, module)`
            makes; or None, where the port has the reference's names. Every parameter must be in it, and
            every floating array of the reference. Buffers may be left out.
    """

    losses: ClassVar[Calls] = (LossCall('train', 'loss'),)
    script: ClassVar[Updates] = (UpdateCall('train'),) * 7
    port_reads_reference: ClassVar[bool] = True

    bridge: Given = None

    def __post_init__(self) -> None:
        object.__setattr__(self, 'forward', {'outputs': ' '.join(self.batch)})

    def load(self, side: str) -> Any:
        """The JaxModel of `'reference'` or the TorchModel of `'port'`."""
        expected = {'reference': JaxModel, 'port': TorchModel}[side]
        model: Any = super().load(side)
        if isinstance(model, expected):
            return model
        raise ParityError(
            f'{self.name}: the {side} is no {expected.__name__}',
            values=f'expected parity.{expected.__name__}; found {type(model).__name__}',
            error='wrong type',
            where=f'pair {self.name}',
            next_step="describe it by its functions, or use parity.Pair for agents' classes",
        )

    def get_config(self, side: str) -> dict[str, Any]:
        """Models have no configuration."""
        return {}

    def has(self, stage: str) -> bool:
        """Whether both models have what the stage calls. Raises ParityError where only one has it."""
        if stage not in NEEDS:
            return False
        given = {side: _given(self.load(side), stage) for side in ('reference', 'port')}
        if given['reference'] != given['port']:
            raise self._one_sided(stage, given)
        return given['reference']

    def reference_side(self) -> JaxSide:
        """The reference, not created."""
        from parity.backends.jax_model import JaxModelSide

        return JaxModelSide(self.load('reference'), 'float32')

    def port_side(self, mode: Mode, device: str, reference: JaxSide) -> TorchSide:
        """The port, not created; it will have the parameters of the created reference."""
        from parity.backends.jax_model import JaxModelSide
        from parity.backends.torch_model import TorchModelSide

        assert isinstance(reference, JaxModelSide)
        return TorchModelSide(self.load('port'), mode, self.draws, device, self.bridge, reference)

    def _one_sided(self, stage: str, given: dict[str, bool]) -> ParityError:
        (has,), (lacks,) = ([side for side in given if given[side] is value] for value in (True, False))
        return ParityError(
            f'{self.name}: the {lacks} has nothing for the stage {stage}',
            values=f'expected {" and ".join(NEEDS[stage])} on both sides; found it for the {has} alone',
            error='1 side; allowed: 0 or 2',
            where=f'pair {self.name}',
            next_step=f'give it to the {lacks}, or to neither',
        )


def _given(model: JaxModel | TorchModel, stage: str) -> bool:
    steps = stage not in ('update', 'rollout') or model.update or model.loss
    return bool(steps) and all(getattr(model, name) is not None for name in NEEDS[stage])
