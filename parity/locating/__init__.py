"""Which source line makes a port differ: both sides' values, matched without names."""

from parity.locating.sources import Line
from parity.locating.values import Frontier, Values, backward_frontiers, forward_frontiers

__all__ = ['Frontier', 'Line', 'Values', 'backward_frontiers', 'forward_frontiers']
