"""Checkpoints: what training code has saved, read without running any of it, and safetensors written whole.

    weight_bridge.checkpoints.read(path)                 -> Checkpoint(format, tree, metadata)
    weight_bridge.checkpoints.write(path, tree, metadata)

Read are pickles of plain containers and arrays, orbax checkpoints, flax msgpack and safetensors; the content
decides which it is, not the name. Whatever is in the file, the answer is a tree or a `BridgeError`.
"""

from weight_bridge.checkpoints.formats import Checkpoint, read
from weight_bridge.checkpoints.safetensors import write

__all__ = ['Checkpoint', 'read', 'write']
