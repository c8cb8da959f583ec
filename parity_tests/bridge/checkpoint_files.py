"""Checkpoints as their own libraries save them, of a small tree with every kind of leaf."""

import pickle

import flax.serialization
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import safetensors.numpy

from weight_bridge.paths import flatten


def tree():
    """What a state dict holds: arrays of both frameworks, several dtypes, scalars and an empty part."""
    rng = np.random.default_rng(0)
    return {
        'agent': {
            'rng': np.array([1, 2], np.uint32),
            'params': {
                'kernel': rng.normal(size=(4, 3)).astype(np.float32),
                'jax': jnp.asarray(rng.normal(size=(2, 2)), jnp.float32),
                'half': rng.normal(size=5).astype(np.float16),
                'wide': rng.normal(size=(1, 3)),
                'brain': rng.normal(size=3).astype(ml_dtypes.bfloat16),
            },
            'mask': np.array([True, False]),
            'step': 7,
            'empty': {},
        }
    }


def expected(of=None):
    return {path: np.asarray(leaf) for path, leaf in flatten(tree() if of is None else of).items()}


def assert_same(found, of=None):
    """The same paths, shapes, dtypes and bits."""
    ours, theirs = flatten(found), expected(of)
    assert ours.keys() == theirs.keys()
    for path, leaf in ours.items():
        array = np.asarray(leaf)
        assert (array.shape, array.dtype) == (theirs[path].shape, theirs[path].dtype), path
        assert array.tobytes() == theirs[path].tobytes(), path


def save_pickle(path, value=None, protocol=pickle.DEFAULT_PROTOCOL):
    path.write_bytes(pickle.dumps(tree() if value is None else value, protocol=protocol))
    return path


def save_msgpack(path, value=None):
    path.write_bytes(flax.serialization.to_bytes(tree() if value is None else value))
    return path


def save_safetensors(path, value=None):
    flat = expected(value)
    # the library's numpy side knows no bfloat16
    flat = {name: array for name, array in flat.items() if array.dtype.isbuiltin == 1}
    safetensors.numpy.save_file(flat, path, metadata={'made': 'by the library'})
    return path


def save_orbax(path, value=None):
    import orbax.checkpoint

    checkpointer = orbax.checkpoint.PyTreeCheckpointer()
    checkpointer.save(path.resolve(), tree() if value is None else value)
    checkpointer.close()
    return path
