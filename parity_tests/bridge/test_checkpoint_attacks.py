"""Whatever is in a checkpoint: nothing is run, memory is bounded, the answer is a tree or a clear error."""

import contextlib
import importlib
import os
import pickle
import pickletools
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from parity_tests.bridge.checkpoint_files import (
    assert_same,
    save_msgpack,
    save_orbax,
    save_pickle,
    save_safetensors,
)
from weight_bridge import BridgeError, checkpoints
from weight_bridge.paths import flatten

FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@contextlib.contextmanager
def watched():
    """What the attacks would call is listed instead of done; the twin below shows that calls are seen."""
    calls = []
    with pytest.MonkeyPatch.context() as patch:
        for module, name in (('posix', 'system'), ('builtins', 'eval'), ('builtins', 'exec')):
            target = importlib.import_module(module)
            patch.setattr(target, name, lambda *args, name=name: calls.append(name))
        patch.setattr(Innocent, '__setstate__', lambda self, state: calls.append('setstate'))
        patch.setattr(Innocent, '__new__', lambda cls, *args: calls.append('new') or object.__new__(cls))
        yield calls


class Innocent:
    def __setstate__(self, state):
        raise AssertionError('never called unpatched')


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function, *arguments, state=None):
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.reduced


def refusal(path):
    with pytest.raises(BridgeError) as error:
        checkpoints.read(path)
    return error.value


def refused_names(path):
    return [problem.path for problem in refusal(path).problems if problem.kind == 'refused']


def joined(*opcodes):
    return b''.join(opcodes)


def named(module, name):
    return b'c' + f'{module}\n{name}\n'.encode()


HERE = __name__
ATTACKS = {
    'system': (pickle.dumps(Call(os.system, 'true')), ['posix.system']),
    'eval': (pickle.dumps({'a': Call(eval, '1')}), ['builtins.eval']),
    'getattr chain': (
        joined(named('builtins', 'getattr'), named('os', 'path'), b'S"join"\n', b'\x86R.'),
        ['builtins.getattr', 'os.path'],
    ),
    'dotted name': (b'\x80\x04\x8c\x05numpy\x8c\x0adtype.type\x93.', ['numpy.dtype.type']),
    'object state': (pickle.dumps(Innocent()), [f'{HERE}.Innocent']),
    'new object': (joined(b'\x80\x02', named(HERE, 'Innocent'), b')\x81}b.'), [f'{HERE}.Innocent']),
    'new object with keywords': (
        joined(b'\x80\x04', named(HERE, 'Innocent'), b')}\x92.'),
        [f'{HERE}.Innocent'],
    ),
    'INST': (b'(i' + f'{HERE}\nInnocent\n'.encode() + b'.', [f'INST {HERE} Innocent']),
    'OBJ': (joined(b'(', named(HERE, 'Innocent'), b'o.'), [f'{HERE}.Innocent']),
    'EXT1': (b'\x80\x02\x82\x01.', ['EXT1 1']),
    'EXT4': (b'\x80\x02\x84\xff\xff\xff\x7f.', ['EXT4 2147483647']),
    'PERSID': (b'(Pid\n.', ['PERSID id']),
    'BINPERSID': (b'\x80\x02K\x01Q.', ['BINPERSID']),
    'out-of-band buffer': (b'\x80\x05\x97.', ['NEXT_BUFFER']),
    'objects in an array': (
        pickle.dumps(np.array([Call(os.system, 'true')])), ["numpy.dtype('O8')", 'posix.system']
    ),
    'another subtype': (
        pickle.dumps(Call(np.ones(1).__reduce__()[0], np.recarray, (0,), b'b')),
        [f'{np.recarray.__module__}.recarray'],
    ),
    'load a file': (pickle.dumps(Call(np.load, '/etc/passwd')), ['numpy.load']),
    'import': (pickle.dumps(Call(__import__, 'os')), ['builtins.__import__']),
    'several': (
        pickle.dumps({'a': [Call(os.system, 'true'), Call(eval, '1')], 'b': Call(exec, '1')}),
        ['posix.system', 'builtins.eval', 'builtins.exec'],
    ),
}  # fmt: skip


@pytest.mark.skipif(os.name != 'posix', reason='os.system is called posix.system there')
@pytest.mark.parametrize('attack', ATTACKS)
def test_every_name_is_refused_and_none_is_called(attack, tmp_path):
    content, names = ATTACKS[attack]
    path = tmp_path / 'params_1.pkl'
    path.write_bytes(content)
    with watched() as calls:
        found = refused_names(path)
    assert set(names) <= set(found)
    assert calls == []


@pytest.mark.skipif(os.name != 'posix', reason='os.system is called posix.system there')
@pytest.mark.parametrize('attack', ['system', 'eval', 'object state', 'new object', 'OBJ', 'INST'])
def test_twin_the_standard_reader_calls_them(attack):
    with watched() as calls:
        pickle.loads(ATTACKS[attack][0])
    assert calls != []


def test_the_error_has_its_parts(tmp_path):
    path = tmp_path / 'x'
    path.write_bytes(ATTACKS['several'][0])
    assert str(refusal(path)).split('\n') == [
        f'{path} cannot be read: it would run code; nothing of it was run or loaded',
        '  refused: posix.system: expected plain containers and arrays, found named',
        '  refused: builtins.eval: expected plain containers and arrays, found named',
        '  refused: builtins.exec: expected plain containers and arrays, found named',
        '  next: save plain containers of arrays, e.g. flax.serialization.to_bytes(state)',
    ]


RECONSTRUCT = (
    named('numpy.core.multiarray', '_reconstruct') + named('numpy', 'ndarray') + b'K\x00\x85C\x01b\x87R'
)
FLOAT = named('numpy', 'dtype') + b'X\x02\x00\x00\x00f4\x89\x88\x87R'
HUGE = b'\x8a\x08' + struct.pack('<q', 2**40)
BOMBS = {
    'a forged shape': b'\x80\x03' + RECONSTRUCT + b'(K\x01' + HUGE + b'\x85' + FLOAT + b'\x89C\x04abcdtb.',
    'a negative shape': b'\x80\x03'
    + RECONSTRUCT + b'(K\x01J\xff\xff\xff\xff\x85' + FLOAT + b'\x89C\x04abcdtb.',
    'a forged length': b'\x80\x04\x8e' + struct.pack('<Q', 2**40) + b'abc.',
    'a length beyond all': b'\x80\x04\x8e' + struct.pack('<Q', 2**63) + b'abc.',
    'itself': b'\x80\x04}\x94X\x01\x00\x00\x00ah\x00s.',
    'deep': b'\x80\x04' + b']' * 5000 + b'a' * 4999 + b'.',
    'one text encoded again and again': b'\x80\x04X' + struct.pack('<I', 10**5) + b'x' * 10**5 + b'\x940]('
    + (named('_codecs', 'encode') + b'h\x00X\x06\x00\x00\x00latin1\x86R') * 2000 + b'e.',
    'a number of many digits': b'L' + b'9' * 10**5 + b'L\n.',
    'a state for a list': b'\x80\x04]}b.',
    'a call of a text': b'\x80\x04X\x01\x00\x00\x00a)R.',
    'a call of a dtype that is no code': b'\x80\x04' + named('numpy', 'dtype') + b']\x85R.',
    'bytes after the end': pickle.dumps({'a': 1}) + b'}.',
    'an array that was never filled': b'\x80\x03}X\x01\x00\x00\x00a' + RECONSTRUCT + b's.',
}  # fmt: skip


HARMLESS = {  # the standard reader allocates 64 GiB for the first of them
    'a memo index': b'\x80\x04}r\xff\xff\xff\xff.',
    'a frame': b'\x80\x04\x95' + struct.pack('<Q', 2**62) + b'}.',
}


def laughs(levels=40):
    """Lists of the same list twice, forty times: 2**40 leaves in 200 bytes."""
    node = [1.0]
    for _ in range(levels):
        node = [node, node]
    return pickle.dumps({'a': node})


BOMBS['laughs'] = laughs()


@pytest.mark.parametrize('bomb', BOMBS)
def test_damage_and_bombs_end_in_a_clear_error_and_little_memory(bomb, tmp_path):
    path = tmp_path / 'x.pkl'
    path.write_bytes(BOMBS[bomb])
    tracemalloc.start()
    try:
        error = refusal(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert {problem.kind for problem in error.problems} <= {'damaged', 'format'}
    assert peak < 20e6
    assert str(error).count('\n') == 2


@pytest.mark.parametrize('content', HARMLESS.values(), ids=HARMLESS)
def test_forged_numbers_that_nothing_needs_take_no_memory(content, tmp_path):
    (tmp_path / 'x').write_bytes(content)
    tracemalloc.start()
    try:
        assert checkpoints.read(tmp_path / 'x').tree == {}
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1e6


def damage(content, data):
    """A truncation, or up to eight changed bytes."""
    if data.draw(st.booleans()):
        return content[: data.draw(st.integers(0, len(content) - 1))]
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 8))):
        changed[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    return bytes(changed)


def readable(path):
    """Reads all of it, or is refused; anything else fails the test."""
    with contextlib.suppress(BridgeError):
        for leaf in flatten(checkpoints.read(path).tree).values():
            np.asarray(leaf)


SAVERS = {'pickle': save_pickle, 'msgpack': save_msgpack, 'safetensors': save_safetensors}


@pytest.fixture(scope='module')
def contents(tmp_path_factory):
    folder = tmp_path_factory.mktemp('whole')
    made = {name: save(folder / name).read_bytes() for name, save in SAVERS.items()}
    made |= {
        f'pickle {protocol}': save_pickle(folder / 'p', protocol=protocol).read_bytes()
        for protocol in (0, 2, 5)
    }
    return made


@pytest.mark.parametrize('kind', [*SAVERS, 'pickle 0', 'pickle 2', 'pickle 5'])
@FUZZ
@given(data=st.data())
def test_damaged_files(kind, contents, tmp_path, data):
    path = tmp_path / 'x'
    path.write_bytes(damage(contents[kind], data))
    readable(path)


@pytest.mark.parametrize('kind', [*SAVERS, 'pickle 0', 'pickle 2', 'pickle 5'])
def test_every_truncation_is_refused(kind, contents, tmp_path):
    """Shorter by any number of bytes it is never mistaken for a whole one."""
    content = contents[kind]
    path = tmp_path / 'x'
    for length in {*range(0, len(content), max(1, len(content) // 300)), len(content) - 1}:
        path.write_bytes(content[:length])
        refusal(path)


OPCODES = [opcode.code.encode('latin1') for opcode in pickletools.opcodes]
PIECES = [
    *(named(*name.rsplit('.', 1)) for name in ('os.system', 'numpy.dtype', 'numpy.ndarray')),
    *(named('_codecs', 'encode'), RECONSTRUCT, FLOAT, HUGE, b'X\x01\x00\x00\x00a', b'K\x01', b'C\x04abcd'),
    *(b'q\x00', b'h\x00', b'\x8c\x02os'),
]  # fmt: skip


@FUZZ
@given(pieces=st.lists(st.sampled_from([*OPCODES, *PIECES]), max_size=40))
def test_random_opcodes(pieces, tmp_path):
    path = tmp_path / 'x'
    path.write_bytes(b'\x80\x04' + b''.join(pieces) + b'.')
    with watched() as calls:
        readable(path)
    assert calls == []


@pytest.fixture(scope='module')
def orbax_folder(tmp_path_factory):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter('ignore', ResourceWarning)
        return save_orbax(tmp_path_factory.mktemp('orbax') / 'ckpt')


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_orbax_folders(orbax_folder, tmp_path, data):
    """One file of the folder is damaged for a while."""
    files = sorted(file for file in orbax_folder.rglob('*') if file.is_file() and file.stat().st_size)
    file = data.draw(st.sampled_from(files), label='file')
    whole = file.read_bytes()
    try:
        file.write_bytes(damage(whole, data))
        readable(orbax_folder)
    finally:
        file.write_bytes(whole)
    assert_same(checkpoints.read(orbax_folder).tree)


def test_an_orbax_array_of_a_forged_shape_is_not_allocated(tmp_path):
    import json

    import orbax.checkpoint as ocp

    checkpointer = ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=False))
    folder = (tmp_path / 'ckpt').resolve()
    checkpointer.save(folder, {'a': np.ones(4)})
    checkpointer.close()
    description = folder / 'a' / '.zarray'
    forged = {**json.loads(description.read_text()), 'shape': [2**40]}
    description.write_text(json.dumps(forged))
    assert 'bytes up to a, of a folder that can hold' in str(refusal(folder))


def entry(name, *, dtype='U8', shape=(6,), start=0, end=6):
    return f'"{name}":{{"dtype":"{dtype}","shape":{list(shape)},"data_offsets":[{start},{end}]}}'


HEADERS = {
    'overlapping': f'{entry("a", shape=[4], end=4)},{entry("b", shape=[4], start=2)}',
    'a hole': entry('a', shape=[4], start=2),
    'too short': entry('a', shape=[4], end=4),
    'outside': entry('a', shape=[60], end=60),
    'another shape': entry('a', shape=[7]),
    'negative': entry('a', shape=[-6, -1]),
    'unknown dtype': entry('a', dtype='X8'),
    'twice': f'{entry("a")},{entry("a")}',
    'a leaf and a tree': f'{entry("a")},{entry("a/b", shape=[0], start=6)}',
    'deep': '"a":{' * 3000,
    'no object': '1',
    'metadata of numbers': f'"__metadata__":{{"a":1}},{entry("a")}',
}


def headed(header):
    content = f'{{{header}}}'.encode()
    return struct.pack('<Q', len(content)) + content + b'sixbyt'


@pytest.mark.parametrize('header', HEADERS)
def test_forged_headers_of_safetensors(header, tmp_path):
    (tmp_path / 'x').write_bytes(headed(HEADERS[header]))
    refusal(tmp_path / 'x')


def test_twin_a_true_header_is_read(tmp_path):
    (tmp_path / 'x').write_bytes(headed(entry('a')))
    assert np.asarray(checkpoints.read(tmp_path / 'x').tree['a']).tobytes() == b'sixbyt'
