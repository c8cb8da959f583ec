"""What keeps values from being copied, found before anything is written and without converting anything."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from weight_bridge.arrays import described, lost_values, number_kind, numpy_dtype, summary, summary_of
from weight_bridge.errors import Problem, ProblemKind
from weight_bridge.pieces import Leaf, Target
from weight_bridge.plan import Plan


def misfits(flat: Mapping[str, Any], wanted: Plan, prefix: str = '', values: bool = True) -> list[Problem]:
    """All that keeps `flat` from being copied: every target of the plan takes exactly one leaf of `flat`.

    `prefix` goes before the paths in the problems. Without `values`, only shapes and kinds of number are
    looked at, and the leaves need have no values.
    """
    problems: list[Problem] = []
    for path, target in wanted.targets.items():
        if path not in flat:
            problems.append(Problem('missing path', prefix + path, target.summary, 'nothing', target.where))
        elif (found := _misfit(target, flat[path], values)) is not None:
            kind, text = found
            problems.append(Problem(kind, prefix + path, target.summary, text, target.where))
    return problems + [
        _unexpected(path, leaf, wanted, prefix) for path, leaf in flat.items() if path not in wanted.targets
    ]


def unwritable(wanted: Plan) -> Iterator[Problem]:
    """Parameters with fewer values in memory than entries, as `tensor.expand` makes them."""
    for leaf in wanted.leaves:
        axes = zip(leaf.parameter.shape, leaf.parameter.stride(), strict=True)
        if any(size > 1 and stride == 0 for size, stride in axes):
            found = f'an expanded one with strides {leaf.parameter.stride()}'
            yield Problem('memory', leaf.name, 'a value in memory for every entry', found)


def surplus(leaf: Leaf, tensor: torch.Tensor, what: str = '') -> Iterator[Problem]:
    """Values that Flax has no place for and that are not zero; `what` they are, if not the parameter's."""
    for piece in leaf.zeros:
        if count := int(torch.count_nonzero(tensor.detach()[piece.region])):
            text = summary(numpy_dtype(tensor.dtype), piece.extent)
            where = f'torch: {what}{leaf.name}'
            yield Problem('zero', leaf.path, 'zeros', f'{text} with {count} other values', where)


def _misfit(target: Target, value: object, values: bool) -> tuple[ProblemKind, str] | None:
    dtype, found = numpy_dtype(target.dtype), described(value, abstract=not values)
    if found is None:
        return 'dtype', f'no array but {type(value).__name__}'
    text = summary(found.dtype, found.shape)
    if found.shape != target.shape:
        return 'shape', text
    if number_kind(found.dtype) != number_kind(dtype):
        return 'dtype', text
    if values and found.dtype != dtype and (lost := lost_values(np.asarray(found), dtype)):
        total = math.prod(found.shape)
        return 'value', f'{text} with {lost} of {total} values that {dtype.name} cannot hold'
    return None


def _unexpected(path: str, leaf: object, wanted: Plan, prefix: str) -> Problem:
    where = f'in the module it is tied to {wanted.tied[path]}' if path in wanted.tied else ''
    return Problem('unexpected path', prefix + path, 'nothing', summary_of(leaf), where)
