"""The operators by theme; importing this package fills the table."""

from parity.mutating.operators import (
    arithmetic,
    configuration,
    draws,
    gradients,
    layers,
    networks,
    reductions,
    shapes,
    targets,
    updates,
)
from parity.mutating.operators.table import OPERATORS, Operator

__all__ = [
    'OPERATORS',
    'Operator',
    'arithmetic',
    'configuration',
    'draws',
    'gradients',
    'layers',
    'networks',
    'reductions',
    'shapes',
    'targets',
    'updates',
]
