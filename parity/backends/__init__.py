"""What knows jax or torch: one agent of either framework behind the same methods (`parity.sides.Side`).

Both take and return flat {path: numpy array}, and name paths as Flax does.
"""

from parity.backends.compiling import prepare, release, release_if_crowded, require_x64
from parity.backends.jax_side import JaxSide
from parity.backends.torch_side import TorchSide

__all__ = ['JaxSide', 'TorchSide', 'prepare', 'release', 'release_if_crowded', 'require_x64']
