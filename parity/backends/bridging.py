"""Which entry of the reference's parameters is which entry of the port's, for both directions.

The user's bridge goes one way only, from the reference's variables to the names of the module. It is run once
on numbered entries: where each number arrives says how to copy parameters, moments and gradients either way,
and shows whether anything is lost, doubled or computed.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from parity.backends.pytrees import Skeleton
from parity.errors import ParityError
from parity.trees import Arrays

if TYPE_CHECKING:
    from weight_bridge.mapping import Mapping as Table
    from weight_bridge.pieces import Leaf
    from weight_bridge.plan import Plan

Given: TypeAlias = 'Callable[[Any], Mapping[str, Any]] | Mapping[str, str] | Table | None'


@dataclass(frozen=True)
class Bridge:
    """shapes: of the reference's leaves; places: for each name of the port, the number of each entry.

    The entries of all leaves are numbered from 1, in order; 0 is an entry that the reference lacks and that
    starts as zero, such as one of the second bias of a recurrent layer.
    """

    shapes: Mapping[str, tuple[int, ...]]
    places: Mapping[str, np.ndarray]

    def to_torch(self, leaves: Arrays) -> Arrays:
        """The reference's leaves under the port's names, in the port's layout."""
        flat = np.concatenate([np.zeros(1, bool), *(leaves[path].ravel() for path in self.shapes)])
        return {name: flat[places] for name, places in self.places.items()}

    def to_reference(self, arrays: Arrays) -> Arrays:
        """The leaves of the reference all of whose entries are in the port's `arrays`."""
        if not arrays:
            return {}
        dtype = np.result_type(*(array.dtype for array in arrays.values()))
        flat = np.zeros(1 + sum(map(_size, self.shapes.values())), dtype)
        known = np.zeros(len(flat), bool)
        for name, array in arrays.items():
            flat[self.places[name]] = array
            known[self.places[name]] = True
        return {
            path: flat[span].reshape(self.shapes[path]) for path, span in self.spans() if known[span].all()
        }

    def spans(self) -> list[tuple[str, slice]]:
        ends = np.cumsum([1, *map(_size, self.shapes.values())], dtype=int).tolist()
        return [
            (path, slice(start, end))
            for path, start, end in zip(self.shapes, ends[:-1], ends[1:], strict=True)
        ]


def find_bridge(given: Given, skeleton: Skeleton, fixed: Arrays, params: Arrays, module: Any) -> Bridge:
    """The bridge from the reference's `params` to a module. Raises ParityError with all that does not fit."""
    numbered, start = {}, 1
    for path, leaf in params.items():
        numbered[path] = np.arange(start, start + leaf.size, dtype=np.float64).reshape(leaf.shape)
        start += leaf.size
    if callable(given):
        arrived = {name: _array(value) for name, value in given(skeleton.fill({**fixed, **numbered})).items()}
        problems: list[str] = []
    elif isinstance(given, Mapping):
        arrived, problems = _laid_out(given, numbered, module)
    else:
        arrived, problems = _copied(given, numbered, module)
    targets = _targets(module)
    arrived = {name: array for name, array in arrived.items() if name not in _others(module, targets)}
    bridge = Bridge(
        {path: leaf.shape for path, leaf in params.items()},
        {name: array.astype(np.int64) for name, array in arrived.items()},
    )
    if callable(given) or isinstance(given, Mapping):
        problems += _misfits(arrived, targets, start) or _uses(bridge)
    if problems:
        raise ParityError(
            'the bridge does not lead from the reference to the port',
            values='; '.join(problems),
            error=f'{len(problems)} problems; allowed: 0',
            where=f'bridge to {type(module).__name__}',
            next_step='give every parameter of the module its array: transposed, reshaped, cut or joined',
        )
    return bridge


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape))


def _array(value: Any) -> np.ndarray:
    return np.asarray(value.detach().cpu() if hasattr(value, 'detach') else value)


def _targets(module: Any) -> dict[str, Any]:
    """The module's floating parameters and buffers; one under two names has the first."""
    found = [*module.named_parameters(), *module.named_buffers()]
    return {name: tensor for name, tensor in found if tensor.is_floating_point()}


def _others(module: Any, targets: Mapping[str, Any]) -> set[str]:
    """What else a state_dict names: integer buffers, which count steps, and second names of tied weights."""
    return set(module.state_dict()) - set(targets)


def _laid_out(names: Mapping[str, str], numbered: Arrays, module: Any) -> tuple[Arrays, list[str]]:
    """The arrays that {name: path} tells, laid out by the rules of weight_bridge."""
    from weight_bridge.plan import plan

    leaves = {leaf.name: leaf for leaf in plan(module).leaves}
    arrays: Arrays = {}
    problems = []
    for name, path in names.items():
        if path not in numbered:
            problems.append(f'{path} of {name} is not in the reference')
        elif name not in leaves:
            arrays[name] = numbered[path]
        elif problem := _unlike(leaves[name], numbered[path]):
            problems.append(problem)
        else:
            (piece,) = leaves[name].pieces
            arrays[name] = piece.layout.to_torch(numbered[path], piece.extent)
    return arrays, problems


def _unlike(leaf: 'Leaf', array: np.ndarray) -> str:
    """Why the array is not the whole of the leaf; nothing, if it is."""
    piece = leaf.pieces[0]
    if len(leaf.pieces) > 1 or piece.path is None or piece.sizes:
        return f'{leaf.name} is no whole leaf of the reference: give a weight_bridge.Mapping'
    return (
        ''
        if array.shape == piece.shape
        else f'{leaf.name}: expected {piece.shape} in the reference, found {array.shape}'
    )


def _copied(table: 'Table | None', numbered: Arrays, module: Any) -> tuple[Arrays, list[str]]:
    """The numbers as weight_bridge copies them, by a mapping or by the module's own names."""
    import torch

    from weight_bridge import BridgeError
    from weight_bridge.checks import misfits
    from weight_bridge.convert import copy_leaves

    try:
        found, wanted = _planned(table, numbered, module)
    except BridgeError as error:
        return {}, [str(problem) for problem in error.problems]
    if problems := misfits(found, wanted, values=False):
        return {}, [str(problem) for problem in problems]
    tensors = {leaf.name: torch.zeros(leaf.parameter.shape, dtype=torch.float64) for leaf in wanted.leaves}
    copy_leaves(found, wanted, tensors)
    return {name: tensor.numpy() for name, tensor in tensors.items()}, []


def _planned(table: 'Table | None', numbered: Arrays, module: Any) -> tuple[Arrays, 'Plan']:
    """The plan of the module, without buffers that the reference lacks, and the reference's leaves for it."""
    from weight_bridge.pieces import PARAMS
    from weight_bridge.plan import Plan, form_of, plan

    wanted = plan(module, table)
    wanted = wanted.in_form(form_of(numbered, wanted.targets))
    found = {  # nnx keeps the array of a variable beneath it
        path if path in wanted.targets else path.removesuffix('/value'): leaf
        for path, leaf in numbered.items()
    }
    kept = (leaf for leaf in wanted.leaves if leaf.collection == PARAMS or found.keys() & set(leaf.paths))
    return found, Plan(tuple(kept), wanted.tied)


def _misfits(arrived: Arrays, targets: Mapping[str, Any], end: int) -> list[str]:
    import torch

    problems = [f'{name} is not in the module' for name in arrived if name not in targets]
    problems += [
        f'{name} is not in the bridge'
        for name, tensor in targets.items()
        if isinstance(tensor, torch.nn.Parameter) and name not in arrived
    ]
    for name in (name for name in arrived if name in targets):
        array, shape = arrived[name], tuple(targets[name].shape)
        if array.shape != shape:
            problems.append(f'{name}: expected shape {shape}, found {array.shape}')
        elif not np.all((array >= 1) & (array < end) & (array == np.floor(array))):
            problems.append(f"{name} is not a rearrangement of the reference's values")
    return problems


def _uses(bridge: Bridge) -> list[str]:
    """Leaves of the reference that are not used once."""
    flat = [places.ravel() for places in bridge.places.values()]
    counts = Counter(np.concatenate(flat).tolist() if flat else [])
    problems = []
    for path, span in bridge.spans():
        used = {counts[number] for number in range(span.start, span.stop)}
        if 0 in used:
            problems.append(f'{path} of the reference is not used' + ('' if used == {0} else ' as a whole'))
        if any(count > 1 for count in used):
            problems.append(f'{path} of the reference is used more than once')
    return problems
