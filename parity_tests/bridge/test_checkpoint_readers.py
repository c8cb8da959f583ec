"""Every format that training code saves is read into the same tree, bit for bit; safetensors are written."""

import collections
import pickle

import flax.core
import flax.serialization
import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn

import weight_bridge
from parity_tests.bridge.checkpoint_files import (
    assert_same,
    expected,
    save_msgpack,
    save_orbax,
    save_pickle,
    save_safetensors,
    tree,
)
from weight_bridge import BridgeError, checkpoints
from weight_bridge.paths import flatten, unflatten


@pytest.fixture(autouse=True)
def quiet_orbax():
    """orbax saves from an event loop and leaves the closing of files to the collector."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter('ignore', ResourceWarning)
        yield


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_every_protocol(protocol, tmp_path):
    found = checkpoints.read(save_pickle(tmp_path / 'params_500.pkl', protocol=protocol))
    assert found.format == 'pickle'
    assert_same(found.tree)


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_every_layout_in_pickles(protocol, tmp_path):
    values = {
        'fortran': np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        'big': np.arange(3, dtype='>f4'),
        'scalar': np.float32(2.5),
        'none': np.zeros((0, 3)),
        'complex': np.ones(2, np.complex64),
        'ordered': collections.OrderedDict(a=np.ones(1)),
        'frozen': flax.core.FrozenDict({'a': {'b': np.ones(1)}}),
        'listed': [np.ones(1), (np.zeros(1), None, 3)],
        'shared': {'one': (same := np.ones(2)), 'other': same},
    }
    found = checkpoints.read(save_pickle(tmp_path / 'x', values, protocol)).tree
    listed = {'0': values['listed'][0], '1': {'0': np.zeros(1), '2': 3}}
    assert_same(found, {**values, 'listed': listed})


def test_msgpack(tmp_path):
    found = checkpoints.read(save_msgpack(tmp_path / 'agent'))
    assert found.format == 'msgpack'
    assert_same(found.tree)


def test_msgpack_in_chunks(tmp_path, monkeypatch):
    """flax cuts arrays above 1 GiB into pieces."""
    monkeypatch.setattr(flax.serialization, 'MAX_CHUNK_SIZE', 16)
    path = save_msgpack(tmp_path / 'agent')
    assert b'__msgpack_chunked_array__' in path.read_bytes()
    assert_same(checkpoints.read(path).tree)


def test_orbax(tmp_path):
    found = checkpoints.read(save_orbax(tmp_path / 'ckpt'))
    assert found.format == 'orbax'
    assert_same(found.tree)


def test_orbax_of_a_manager_and_its_standard_format(tmp_path):
    import orbax.checkpoint as ocp

    with ocp.CheckpointManager((tmp_path / 'run').resolve()) as manager:
        manager.save(3, args=ocp.args.StandardSave(tree()))
        manager.wait_until_finished()
    assert_same(checkpoints.read(tmp_path / 'run' / '3').tree)
    with pytest.raises(BridgeError, match=r'found 3 .of a CheckpointManager, name the folder of one step'):
        checkpoints.read(tmp_path / 'run')


@pytest.mark.parametrize('options', [{'use_ocdbt': False}, {'use_ocdbt': False, 'use_zarr3': True}], ids=str)
def test_orbax_in_its_other_layouts(options, tmp_path):
    import orbax.checkpoint as ocp

    checkpointer = ocp.Checkpointer(ocp.PyTreeCheckpointHandler(**options))
    checkpointer.save((tmp_path / 'ckpt').resolve(), tree())
    checkpointer.close()
    assert_same(checkpoints.read(tmp_path / 'ckpt').tree)


def test_safetensors_of_the_library(tmp_path):
    found = checkpoints.read(save_safetensors(tmp_path / 'x'))
    assert (found.format, found.metadata) == ('safetensors', {'made': 'by the library'})
    assert_same(found.tree, unflatten({k: v for k, v in expected().items() if v.dtype.isbuiltin == 1}))


def test_what_is_written_the_library_reads(tmp_path):
    path = checkpoints.write(tmp_path / 'x.safetensors', tree(), {'note': 'ä'})
    wanted = expected()
    with safe_open(path, 'pt') as file:
        assert file.metadata() == {'note': 'ä'}
        assert set(file.keys()) == set(wanted)
        for name in file.keys():  # noqa: SIM118
            tensor = file.get_tensor(name)
            assert tuple(tensor.shape) == wanted[name].shape
            assert tensor.reshape(-1).view(torch.uint8).numpy().tobytes() == wanted[name].tobytes()
    assert_same(checkpoints.read(path).tree)
    assert list(tmp_path.iterdir()) == [path]


def test_leaves_of_a_file_go_into_a_module_one_by_one(tmp_path, rng):
    module = nn.Linear(300, 400, dtype=torch.float32)
    leaves = {'kernel': rng.normal(size=(300, 400)).astype('f4'), 'bias': np.ones(400, 'f4')}
    found = checkpoints.read(checkpoints.write(tmp_path / 'x', leaves, {})).tree
    assert all(leaf.in_file for leaf in flatten(found).values())
    weight_bridge.to_torch(found, module)
    np.testing.assert_array_equal(module.weight.detach().numpy().T, leaves['kernel'])
    with pytest.raises(BridgeError, match=r'shape: kernel: expected f32\[300,2\], found f32\[300,400\]'):
        weight_bridge.to_torch(found, nn.Linear(300, 2, dtype=torch.float32))


@pytest.mark.parametrize(
    'leaf', ['text', None, np.array(['a']), np.zeros(1, object), np.zeros(1, 'M8[s]')], ids=str
)
def test_nothing_is_written_of_a_tree_that_does_not_fit(leaf, tmp_path):
    path = tmp_path / 'x'
    path.write_bytes(b'before')
    with pytest.raises(BridgeError, match='was not written'):
        checkpoints.write(path, {'good': np.ones(1), 'bad': leaf}, {})
    assert path.read_bytes() == b'before'
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_while_writing_leaves_the_file_that_was_there(tmp_path):
    class Broken:
        dtype, shape = np.dtype('f4'), (1,)

        def __array__(self, dtype=None, copy=None):
            raise OSError('the disk is gone')

    path = tmp_path / 'x'
    path.write_bytes(b'before')
    with pytest.raises(OSError, match='the disk is gone'):
        checkpoints.write(path, {'good': np.ones(9), 'late': Broken()}, {})
    assert path.read_bytes() == b'before'
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize('content', [b'', b'\x00', b'hello, world', b'PK\x03\x04' * 9])
def test_unknown_formats_are_named_by_their_start(content, tmp_path):
    (tmp_path / 'x.pkl').write_bytes(content)
    with pytest.raises(BridgeError, match='expected a pickle, orbax, flax msgpack or safetensors checkpoint'):
        checkpoints.read(tmp_path / 'x.pkl')


def test_what_is_not_there(tmp_path):
    with pytest.raises(BridgeError, match='expected a checkpoint, found No such file'):
        checkpoints.read(tmp_path / 'nothing')
    with pytest.raises(BridgeError, match='found an empty folder'):
        checkpoints.read(tmp_path)
