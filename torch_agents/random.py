"""`jax.random` in torch: the same keys, the same bits, the same draws, without importing jax.

The generator is Threefry-2x32 with 20 rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
SC 2011), counting as jax does by default (`jax_threefry_partitionable=True`): element i of a draw depends on
the key and on i alone. A key is a uint32 tensor of shape (2,); draws lie on the device of their key. Where
jax reads `jax_enable_x64`, this file reads whether `torch.get_default_dtype()` is float64.

Measured against jitted jax 0.10 on an x86-64 CPU, everything is equal bit for bit, normals included. XLA
fuses multiply-adds there, and so does `torch.addcmul` where torch is built with FMA; where it is not, normals
are up to 3 ulp away. Compiled kernels (`compile()`) give the same bits; in a graph of `torch.compile` a draw
is one operator, `torch_agents::draw`.

Words are held as int32, which wraps as uint32 does; torch has almost no uint32 arithmetic. On the CPU the
work goes block by block, so that the hundred-odd passes over a block stay in cache.
"""

import functools
import math
import operator

import numpy as np
import torch

from torch_agents.erf_inv import erf_inv, fma

_CPU_BLOCK = 1 << 18  # elements; measured fastest on two cores with 1 MB of L2 each
_FEW = 1 << 14  # elements; numpy was faster below 1 << 15
_HANDFUL = 8  # elements; Python's integers were faster below 16
_BLOCK = 1 << 24  # elsewhere, to bound the memory of the intermediate values
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA  # the third key word is k0 ^ k1 ^ this constant
_LOW_WORD = 0xFFFFFFFF
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_CONTRACTING = {'cpp.enable_floating_point_contract_flag': 'fast'}  # addcmul rounds once, as it does in torch
_SQRT2 = {dtype: torch.tensor(math.sqrt(2), dtype=dtype).item() for dtype in _FLOATS}  # rounded to each

_compiling = False  # set by compile()


def compile():
    """Draw large float32 arrays on the CPU by compiled kernels from now on: the same bits, much faster.

    Needs a C++ compiler (`torch.compile`), which takes half a minute at the first large draw of each kind.
    On a GPU every draw is one kernel as it is; in graphs of `torch.compile` large draws are compiled anyway.
    """
    global _compiling
    _compiling = True


# Keys.


def PRNGKey(seed):
    """A key, uint32[2]: the high and the low word of a 64-bit seed, on the device of a tensor seed.

    seed: an int of 64 bits signed, or an integer scalar of numpy or torch. As in jax without x64, the high
    word is 0 unless the default dtype is float64: -1 and 2**32 - 1 give the same key.
    Raises OverflowError for an int beyond 64 bits, TypeError for anything that is not one integer.
    """
    wide = getattr(seed, 'itemsize', 8) == 8 and torch.get_default_dtype() == torch.float64
    seed = _integer(seed, 'PRNGKey', 'seed', -(1 << 63), (1 << 63) - 1)
    words = (seed >> 32 & _LOW_WORD if wide else seed & 0, seed & _LOW_WORD)
    device = getattr(seed, 'device', None)
    return torch.stack([torch.as_tensor(word, device=device) for word in words]).to(torch.uint32)


def split(key, num=2):
    """New keys, uint32[num, 2], or uint32[*num, 2] for a tuple: word pair i of the stream of `key`.

    Raises TypeError for what is not a key.
    """
    _check_key(key, 'split')
    shape = _shape(num)
    return _draw(key, 'pairs', torch.int32, [*shape, 2]).view(torch.uint32)


def fold_in(key, data):
    """A new key, uint32[2], from a key and an integer of 32 bits: the hash of (0, data).

    data: an int in [0, 2**32), or an integer scalar of numpy or torch, of which the low word counts.
    Raises OverflowError for an int out of range, TypeError for what is not a key or not one integer.
    """
    _check_key(key, 'fold_in')
    data = _integer(data, 'fold_in', 'data', 0, _LOW_WORD) & _LOW_WORD
    low = torch.as_tensor(data, device=key.device).to(torch.int32).reshape(1)
    return torch.cat(_hashed(key.view(torch.int32), torch.zeros_like(low), low)).view(torch.uint32)


# Draws.


def bits(key, shape=(), dtype=None):
    """Uniform random integers of all bits, shape `shape`, dtype uint8, uint16, uint32 or uint64.

    dtype: None is uint32, or uint64 where the default dtype is float64.
    Raises TypeError for what is not a key, ValueError for another dtype.
    """
    _check_key(key, 'bits')
    if dtype is None:
        dtype = torch.uint64 if torch.get_default_dtype() == torch.float64 else torch.uint32
    signed = {
        torch.uint8: torch.int8,
        torch.uint16: torch.int16,
        torch.uint32: torch.int32,
        torch.uint64: torch.int64,
    }
    _check_dtype(dtype, signed, 'bits')
    return _draw(key, 'bits', signed[dtype], shape).view(dtype)


def uniform(key, shape=(), dtype=None, minval=0.0, maxval=1.0):
    """Uniform floats in [minval, maxval), shape `shape`: a mantissa of random bits, then scaled.

    dtype: float64, float32, float16 or bfloat16; None is the default dtype.
    minval, maxval: numbers, or tensors that broadcast to `shape`.
    Raises TypeError for what is not a key, ValueError for another dtype.
    """
    _check_key(key, 'uniform')
    dtype = _float_dtype(dtype, 'uniform')
    unit = _draw(key, 'uniform', dtype, shape)
    if (
        not isinstance(minval, torch.Tensor)
        and not isinstance(maxval, torch.Tensor)
        and (minval, maxval) == (0, 1)
    ):
        return unit
    low, high = (
        torch.as_tensor(v, dtype=dtype, device=key.device).expand(unit.shape) for v in (minval, maxval)
    )
    if dtype.itemsize == 2:  # XLA rounds 16-bit floats after every operation
        return torch.maximum(low, unit * (high - low) + low)
    return torch.maximum(low, fma(unit, high - low, low))


def normal(key, shape=(), dtype=None):
    """Standard normal floats, shape `shape`: sqrt(2) * erf_inv(u) with u uniform in (-1, 1), as in jax.

    dtype: float64, float32, float16 or bfloat16; None is the default dtype.
    Raises TypeError for what is not a key, ValueError for another dtype.
    """
    _check_key(key, 'normal')
    dtype = _float_dtype(dtype, 'normal')
    return _draw(key, 'normal', dtype, shape)


def truncated_normal(key, lower, upper, shape=(), dtype=None):
    """Standard normal floats in (lower, upper), shape `shape`: erf_inv of a uniform draw, as in jax.

    lower, upper: numbers.
    dtype: float64 or float32; None is the default dtype.
    Raises TypeError for what is not a key, ValueError for another dtype.
    """
    _check_key(key, 'truncated_normal')
    dtype = torch.get_default_dtype() if dtype is None else dtype
    _check_dtype(dtype, (torch.float64, torch.float32), 'truncated_normal')
    bounds = torch.tensor([lower, upper], dtype=dtype)
    sqrt2 = _SQRT2[dtype]
    u = uniform(key, shape, dtype, *(math.erf(bound) for bound in (bounds / sqrt2).tolist()))
    inside = torch.nextafter(bounds, bounds.flip(0))
    return erf_inv(u).mul_(sqrt2).clamp_(*inside.tolist())


def permutation(key, x, axis=0, independent=False):
    """x shuffled along `axis`, with the shape and dtype of x; an int x stands for arange(x), of int64.

    independent: shuffle each vector along the axis on its own.
    Raises TypeError for what is not a key, or for x neither an integer nor a tensor.
    """
    _check_key(key, 'permutation')
    if not isinstance(x, torch.Tensor) or x.ndim == 0:
        x = torch.arange(max(0, int(_integer(x, 'permutation', 'x', -math.inf, math.inf))), device=key.device)
    axis = range(x.ndim)[axis]  # IndexError for an axis that x lacks
    order = torch.arange(x.shape[axis], device=key.device)
    if independent:
        order = order.view([-1 if i == axis else 1 for i in range(x.ndim)]).expand(x.shape)
        return torch.take_along_dim(x, _shuffle(key, order, axis), axis)
    return x[(slice(None),) * axis + (_shuffle(key, order, 0),)]


def _shuffle(key, x, axis):
    # Stable sorts by fresh words, so many that a tie in all of them is unlikely: jax's count of rounds.
    rounds = math.ceil(3 * math.log(max(1, x.numel())) / math.log(_LOW_WORD))
    for _ in range(rounds):
        key, subkey = split(key)
        words = bits(subkey, x.shape, torch.uint32).view(torch.int32)
        order = torch.sort(
            words ^ -(1 << 31), dim=axis, stable=True
        ).indices  # sign flipped: order as unsigned
        x = torch.gather(x, axis, order)
    return x


# The generator.


def _threefry2x32(key, x0, x1):
    """The block cipher of an int32 key on int32 counter words x0 and x1, which it overwrites: two words.

    Tensors or numpy arrays.
    """
    rotate = _rotate_array if isinstance(x0, np.ndarray) else _rotate
    k0, k1 = key[:1], key[1:]
    keys = (k0, k1, k0 ^ k1 ^ _PARITY)
    x0 += keys[0]
    x1 += keys[1]
    spare = x1.copy() if isinstance(x1, np.ndarray) else torch.empty_like(x1)
    for i in range(5):
        for r in _ROTATIONS[i % 2]:
            x0 += x1
            rotate(x1, r, spare)
            spare ^= x0
            x1, spare = spare, x1
        x0 += keys[(i + 1) % 3]
        x1 += keys[(i + 2) % 3] + (i + 1)
    return x0, x1


def _rotate(x, r, out):
    torch.bitwise_right_shift(x, 32 - r, out=out)
    out &= (1 << r) - 1  # the shift of an int32 copies the sign bit
    out.add_(x, alpha=1 << r)  # the left shift and the union in one pass


def _rotate_array(x, r, out):
    np.right_shift(x, 32 - r, out=out)
    out &= (1 << r) - 1
    out |= x << r


def _threefry2x32_of_ints(key, x0, x1):
    """The same for one pair of words, all of them Python's integers from 0."""
    k0, k1 = key
    keys = (k0, k1, k0 ^ k1 ^ _PARITY)
    x0, x1 = x0 + keys[0] & _LOW_WORD, x1 + keys[1] & _LOW_WORD
    for i in range(5):
        for r in _ROTATIONS[i % 2]:
            x0 = x0 + x1 & _LOW_WORD
            x1 = (x1 << r & _LOW_WORD | x1 >> 32 - r) ^ x0
        x0 = x0 + keys[(i + 1) % 3] & _LOW_WORD
        x1 = x1 + keys[(i + 2) % 3] + i + 1 & _LOW_WORD
    return x0, x1


def _hashed(key, x0, x1):
    """The cipher on tensors; on few words by numpy, whose calls cost a third of torch's, or by Python."""
    if x0.numel() > _FEW or x0.device.type != 'cpu' or torch.compiler.is_compiling():
        return _threefry2x32(key, x0, x1)
    key, x0, x1 = (words.numpy() for words in (key, x0, x1))
    if len(x0) > _HANDFUL:
        return tuple(map(torch.from_numpy, _threefry2x32(key, x0, x1)))
    key, x0, x1 = (words.view(np.uint32).tolist() for words in (key, x0, x1))
    hashed = [_threefry2x32_of_ints(key, *pair) for pair in zip(x0, x1, strict=True)]
    return torch.from_numpy(np.array(hashed, np.uint32).reshape(-1, 2).T.copy().view(np.int32)).unbind()


def _counters(high, low, count, device):
    """The words of `count` counters from high, low on. Blocks start at their multiples: one high word."""
    counters = torch.arange(count, dtype=torch.int32, device=device)
    return torch.full_like(counters, high), counters.add_(low)


def _draw(key, kind, dtype, shape):
    """A draw of this kind (see `_VALUES`) from a key, as a tensor of this shape."""
    shape = _shape(shape)
    if torch.compiler.is_compiling():  # with a draw's 200 operations a graph took half a minute longer
        return _operator(key, kind, dtype, shape)
    return _drawn(key, kind, dtype, shape, _compiling)


def _drawn(key, kind, dtype, shape, compiling):
    """The draw block by block: the values of the word pairs 0, 1, ... of the stream of a key."""
    if kind == 'pairs':
        return _block(kind, dtype, key, 0, math.prod(shape[:-1])).reshape(shape)
    count = math.prod(shape)
    in_kernel = compiling and dtype == torch.float32 and count > _FEW
    if key.device.type != 'cpu' or in_kernel:
        parts = [
            _block(kind, dtype, key, start, min(_BLOCK, count - start), in_kernel)
            for start in range(0, count or 1, _BLOCK)
        ]
        return (torch.cat(parts) if len(parts) > 1 else parts[0]).to(dtype).view(shape)
    out = torch.empty(shape, dtype=dtype)
    flat = out.view(-1)
    if count > _CPU_BLOCK:  # freeing 16 MB keeps glibc from returning freed blocks: 1.8 times faster
        torch.empty(1 << 22)
    for start in range(0, count, _CPU_BLOCK):
        part = flat[start : start + _CPU_BLOCK]
        part.copy_(_block(kind, dtype, key, start, part.numel()))
    return out


_operator = torch.library.custom_op(
    'torch_agents::draw',
    lambda key, kind, dtype, shape: _drawn(key, kind, dtype, shape, compiling=True),
    mutates_args=(),
    schema='(Tensor key, str kind, ScalarType dtype, SymInt[] shape) -> Tensor',
)
_operator.register_fake(lambda key, kind, dtype, shape: key.new_empty(shape, dtype=dtype))


def _block(kind, dtype, key, start, count, in_kernel=False):
    """The values of `count` word pairs from start on; on a GPU, or in_kernel, one kernel instead of 200."""
    on_gpu = key.device.type == 'cuda'
    if on_gpu and (kind, dtype) in _GPU_DRAWS:
        from torch_agents import random_gpu  # needs Triton, as torch.compile does there

        return random_gpu.draw(key, start, count, kind)
    compute = _compiled if in_kernel or on_gpu else _stream
    return compute(kind, dtype)(key.view(torch.int32), start >> 32, _signed(start & _LOW_WORD), count)


def _stream(kind, dtype):
    """The function (key, high and low word of the first counter, count) -> values of the stream of a key."""

    def stream(key, high, low, count):
        return _VALUES[kind](*_hashed(key, *_counters(high, low, count, key.device)), dtype)

    return stream


@functools.cache
def _compiled(kind, dtype):
    # torch keeps but a few compiled versions of a code object, hence a copy for each kind of values
    stream = _stream(kind, dtype)
    stream.__code__ = stream.__code__.replace()
    return torch.compile(stream, dynamic=True, fullgraph=True, options=_CONTRACTING)


# What is made of the word pairs.


def _pairs(x0, x1, dtype):
    return torch.stack((x0, x1), dim=-1)


def _bits(x0, x1, dtype):
    if dtype.itemsize == 8:
        return x0.long().bitwise_left_shift_(32).bitwise_or_(x1.long().bitwise_and_(_LOW_WORD))
    return x0.bitwise_xor_(x1)  # narrower draws keep the low bits


def _unit(x0, x1, dtype):
    """Floats in [0, 1), multiples of eps. jax takes the 7 bits of a bfloat16 from a draw of 8, not 16."""
    shift = {torch.float64: 12, torch.float32: 9, torch.float16: 6, torch.bfloat16: 1}[dtype]
    eps = torch.finfo(dtype).eps
    mantissa = _bits(x0, x1, dtype).bitwise_right_shift_(shift).bitwise_and_(int(1 / eps) - 1)
    return mantissa.to(dtype).mul_(eps)


def _normal(x0, x1, dtype):
    low = torch.finfo(dtype).eps / 2 - 1  # the smallest float above -1
    u = _unit(x0, x1, dtype).to(torch.promote_types(dtype, torch.float32)).mul_(2).add_(low)
    return erf_inv(u).to(dtype).mul_(_SQRT2[dtype])


_VALUES = {'pairs': _pairs, 'bits': _bits, 'uniform': _unit, 'normal': _normal}
_GPU_DRAWS = {  # those that `random_gpu` has a kernel for
    ('pairs', torch.int32),
    *(('bits', dtype) for dtype in (torch.int8, torch.int16, torch.int32)),
    ('uniform', torch.float32),
    ('normal', torch.float32),
}


# Arguments.


def _check_key(key, name):
    if isinstance(key, torch.Tensor) and key.dtype == torch.uint32 and key.shape == (2,):
        return
    got = f'{key.dtype}{list(key.shape)}' if isinstance(key, torch.Tensor) else repr(key)
    raise TypeError(
        f'{name}: expected one key, torch.uint32[2], got {got}. '
        'Make a key with PRNGKey(seed); of several keys pass one, as in keys[0]'
    )


def _check_dtype(dtype, allowed, name):
    if dtype not in allowed:
        raise ValueError(f'{name}: dtype {dtype} cannot be drawn. Pass one of {", ".join(map(str, allowed))}')


def _float_dtype(dtype, name):
    dtype = torch.get_default_dtype() if dtype is None else dtype
    _check_dtype(dtype, _FLOATS, name)
    return dtype


def _shape(shape):
    return tuple(shape) if isinstance(shape, list | tuple) else (operator.index(shape),)


def _integer(value, name, argument, low, high):
    """An int, or the int64 of a torch scalar. A python int must lie in [low, high]; others wrap."""
    if isinstance(value, torch.Tensor):
        if value.ndim == 0 and not value.is_floating_point() and value.dtype != torch.bool:
            return value.long()
        value = f'{value.dtype}{list(value.shape)}'
    if not hasattr(value, '__index__') or getattr(value, 'ndim', 0):
        raise TypeError(
            f'{name}: {argument} must be one integer, got {value!r}. Pass an int, as in int({argument})'
        )
    if isinstance(value, int) and not low <= value <= high:
        raise OverflowError(
            f'{name}: {argument} must lie in [{low}, {high}], got {value}. Pass {argument} % 2**32'
        )
    return operator.index(value)


def _signed(word):
    return word - (word >> 31 << 32)
