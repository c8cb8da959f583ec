"""The loss of either side as a function, ready to be computed once more: what all stations start from."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from parity.backends import JaxSide, TorchSide
from parity.runs import Runs
from parity.sides import LossCall, State
from parity.trees import Arrays


@dataclass(frozen=True)
class ReferenceLoss:
    """function(params, data) -> (loss, info), to be traced with x64 on, and what it takes.

    params: what is differentiated; data: everything else, arrays in a pytree.
    """

    function: Callable[[Any, Any], tuple[Any, Any]]
    params: Any
    data: Any


@dataclass(frozen=True)
class PortLoss:
    """compute() -> (loss, info) on the live parameters.

    modules:      {path of the reference: the port's module that has its parameters}.
    params:       the live parameters, by their names in the port.
    to_reference: arrays like some parameters, by these names -> the leaves of the reference in them.
    """

    compute: Callable[[], tuple[Any, Any]]
    modules: dict[str, Any]
    params: dict[str, Any]
    to_reference: Callable[[Arrays], Arrays]


def reference_loss(runs: Runs, call: LossCall) -> ReferenceLoss:
    """The reference's loss in float64 on the case's inputs."""
    runner = runs.reference64
    runner.side.restore(runner.start)
    side: Any = runner.side
    if isinstance(side, JaxSide) and hasattr(side, 'skeleton'):
        return _model_loss(side, runner.batch)
    return _agent_loss(side, call, runner.batch, runs.inputs.key)


def port_loss(runs: Runs, call: LossCall, move: Callable[[State], State] = lambda state: state) -> PortLoss:
    """The port's loss in float64 on the case's inputs; move: what its state becomes before."""
    runner = runs.port64
    runner.side.restore(move(runner.start))
    side: Any = runner.side
    if hasattr(side, 'bridge'):
        return _port_model_loss(side, runner.batch)
    return _port_agent_loss(side, call, runner.batch, runs.inputs.key)


def _agent_loss(side: Any, call: LossCall, batch: Arrays, key: Any) -> ReferenceLoss:
    from parity.backends import compiling, jax_side

    def loss(params: Any, data: Any) -> tuple[Any, Any]:
        agent, batch, key = data
        with jax_side.inlined(type(agent)), compiling.unshared():
            return call.on(agent, batch, key, params)

    return ReferenceLoss(loss, side.agent.network.params, (side.agent, batch, key))


def _model_loss(side: Any, batch: Arrays) -> ReferenceLoss:
    from parity.backends.jax_model import call_loss, trained

    def loss(leaves: Any, data: Any) -> tuple[Any, Any]:
        fixed, params, batch = data
        loss, info, _ = call_loss(side.target, side.skeleton, fixed, {**params, **leaves}, batch)
        return loss, info

    return ReferenceLoss(loss, trained(side.target, side.params), (side.fixed, side.params, batch))


def _port_agent_loss(side: TorchSide, call: LossCall, batch: Arrays, key: Any) -> PortLoss:
    network = side.agent.network
    modules = {name.replace('.', '/'): module for name, module in network.named_modules() if name}
    compute = functools.partial(side.call, call, batch, key)
    return PortLoss(compute, modules, network.params, functools.partial(_laid_out, network))


def _laid_out(network: Any, arrays: Arrays) -> Arrays:
    from weight_bridge.plan import plan

    leaves = [leaf for leaf in plan(network).leaves if leaf.name in arrays and len(leaf.pieces) == 1]
    return {str(leaf.pieces[0].path): leaf.pieces[0].layout.to_flax(arrays[leaf.name]) for leaf in leaves}


def _port_model_loss(side: Any, batch: Arrays) -> PortLoss:
    def compute() -> tuple[Any, Any]:
        with side.ready():
            loss: tuple[Any, Any] = side.loss_of(side.to_tensors(batch))
        return loss

    def to_reference(arrays: Arrays) -> Arrays:
        leaves = side.bridge.to_reference(arrays)
        return {without_collection(path): leaf for path, leaf in leaves.items()}

    params = dict(side.module.named_parameters())
    return PortLoss(compute, modules_of(side.bridge, side.module), params, to_reference)


def modules_of(bridge: Any, module: Any) -> dict[str, Any]:
    """{path of the reference: module of the port}, by where the parameters beneath each of them went.

    Where several modules hold the same parameters, one in the other, the innermost are paired, and then
    outwards.
    """
    held_by = homes(bridge)
    ours: dict[frozenset[str], list[Any]] = {}
    for name, child in module.named_modules():
        prefix = f'{name}.' if name else ''
        below = [paths for port, paths in held_by.items() if port.startswith(prefix)]
        ours.setdefault(frozenset[str]().union(*below), []).append(child)
    theirs: dict[frozenset[str], list[str]] = {}
    leaves = sorted(set().union(*held_by.values()))
    for path in sorted({parent for leaf in leaves for parent in _parents(leaf)}):
        held = frozenset(leaf for leaf in leaves if not path or leaf.startswith(f'{path}/'))
        theirs.setdefault(held, []).append(path)
    return {
        path: child
        for held, modules in ours.items()
        for path, child in zip(theirs.get(held, [])[::-1], modules[::-1], strict=False)
    }


def without_collection(path: str) -> str:
    """The path of a parameter as modules know it, who do not see linen's collections."""
    collection, _, rest = path.partition('/')
    return rest if collection in ('params', 'batch_stats') else path


def network_of(side: Any) -> Any:
    """The module that holds all parameters of a port's side; None of a bare function."""
    agent = getattr(side, 'agent', None)
    return getattr(side, 'module', None) if agent is None else agent.network


def homes(bridge: Any) -> dict[str, set[str]]:
    """For each name in the port, the leaves of the reference that are in it."""
    return {
        name: {
            without_collection(path)
            for path, span in bridge.spans()
            if ((places >= span.start) & (places < span.stop)).any()
        }
        for name, places in bridge.places.items()
    }


def _parents(path: str) -> list[str]:
    """All modules that a parameter is in, the root's '' first."""
    parts = path.split('/')[:-1]
    return ['/'.join(parts[:count]) for count in range(len(parts) + 1)]
