"""The draws of `random` on a GPU, each one Triton kernel. Triton comes with torch's builds for GPUs.

They compute what random.py and erf_inv.py do, to the same bits; torch.compile makes such kernels of those as
well, but takes two to five times as long to launch one.
"""

import torch
import triton
import triton.language as tl

from torch_agents import erf_inv, random

_BLOCK = 1024  # elements of a program; 512 and 2048 took as long on an H200
_PARITY, _SQRT2 = tl.constexpr(random._PARITY), tl.constexpr(random._SQRT2[torch.float32])
_EVEN, _ODD = (tl.constexpr(rotations) for rotations in random._ROTATIONS)
_CENTER, _TAIL = (tl.constexpr(coefficients) for *_, coefficients in erf_inv._GILES[torch.float32])
_CENTER_SHIFT, _TAIL_SHIFT = (tl.constexpr(shift) for _, shift, _ in erf_inv._GILES[torch.float32])
_TAIL_START = tl.constexpr(erf_inv._GILES[torch.float32][1][0])
_LOG1P_P, _LOG1P_Q = (tl.constexpr(table) for table in (erf_inv._LOG1P_P, erf_inv._LOG1P_Q))
_LOG_HIGH, _LOG_MIDDLE, _LOG_LOW = (tl.constexpr(erf_inv._LOG[i : i + 3]) for i in (0, 3, 6))


def draw(key, start, count, kind):
    """`count` elements of a draw, from `start` on, of a key, uint32[2] on a GPU, which is where they lie.

    kind: 'pairs' are int32[count, 2], 'bits' int32[count]; 'uniform' and 'normal' float32[count].
    """
    dtype = torch.int32 if kind in ('pairs', 'bits') else torch.float32
    out = torch.empty((count, 2) if kind == 'pairs' else count, dtype=dtype, device=key.device)
    if count:
        with torch.cuda.device(key.device):
            programs = (triton.cdiv(count, _BLOCK),)
            _draw[programs](key.contiguous(), out, start, count, kind, _BLOCK, enable_fp_fusion=False)
    return out


@triton.jit(do_not_specialize=['start', 'count'], do_not_specialize_on_alignment=['key'])
def _draw(key, out, start: tl.int64, count, KIND: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    counter = start + i
    high, low = (counter >> 32).to(tl.uint32), counter.to(tl.uint32)
    x0, x1 = _threefry2x32(tl.load(key), tl.load(key + 1), high, low)
    if KIND == 'pairs':
        tl.store(out + 2 * i, x0.to(tl.int32, bitcast=True), i < count)
        tl.store(out + 2 * i + 1, x1.to(tl.int32, bitcast=True), i < count)
    elif KIND == 'bits':
        tl.store(out + i, (x0 ^ x1).to(tl.int32, bitcast=True), i < count)
    elif KIND == 'uniform':
        tl.store(out + i, _unit(x0 ^ x1), i < count)
    else:
        tl.store(out + i, _normal(_unit(x0 ^ x1)), i < count)


@triton.jit
def _threefry2x32(k0, k1, x0, x1):
    k2 = k0 ^ k1 ^ _PARITY
    x0, x1 = _four_rounds(x0 + k0, x1 + k1, _EVEN)
    x0, x1 = _four_rounds(x0 + k1, x1 + (k2 + 1), _ODD)
    x0, x1 = _four_rounds(x0 + k2, x1 + (k0 + 2), _EVEN)
    x0, x1 = _four_rounds(x0 + k0, x1 + (k1 + 3), _ODD)
    x0, x1 = _four_rounds(x0 + k1, x1 + (k2 + 4), _EVEN)
    return x0 + k2, x1 + (k0 + 5)


@triton.jit
def _four_rounds(x0, x1, ROTATIONS: tl.constexpr):
    for i in tl.static_range(4):
        x0 = x0 + x1
        x1 = (x1 << ROTATIONS[i] | x1 >> (32 - ROTATIONS[i])) ^ x0
    return x0, x1


@triton.jit
def _unit(word):
    return (word >> 9 | 0x3F800000).to(tl.float32, bitcast=True) - 1  # of [1, 2), whose floats are eps apart


@triton.jit
def _normal(unit):
    return _erf_inv(tl.fma(unit, 2.0, 2.0**-24 - 1)) * _SQRT2


@triton.jit
def _erf_inv(x):
    w = -_log1p(-x * x)
    center = _horner(w - _CENTER_SHIFT, _CENTER)
    tail = _horner(_sqrt(w) - _TAIL_SHIFT, _TAIL)
    return tl.where(w < _TAIL_START, center, tail) * x


@triton.jit
def _log1p(x):
    square = x * x
    cubic = _quotient(_horner(x, _LOG1P_P), _horner(x, _LOG1P_Q)) * (x * square)
    near = tl.fma(square, -0.5, cubic) + x
    return tl.where(x > -0.41421356237309515, near, _log(1 + x))


@triton.jit
def _log(x):
    word = x.to(tl.int32, bitcast=True)
    mantissa = (word & 0x7FFFFF | 0x3F000000).to(tl.float32, bitcast=True)  # x = mantissa * 2 ** exponent
    low = tl.where(mantissa < 0.7071067811865476, 1.0, 0.0)
    exponent = ((word >> 23) - 126).to(tl.float32) - low
    y = tl.fma(mantissa, low, mantissa - 1)
    square = y * y
    cube = square * y
    a, b, c = _horner(y, _LOG_HIGH), _horner(y, _LOG_MIDDLE), _horner(y, _LOG_LOW)
    small = tl.fma(tl.fma(tl.fma(a, cube, b), cube, c), cube, exponent * -2.12194440e-4)
    return tl.fma(exponent, 0.693359375, tl.fma(square, -0.5, y) + small)  # ln 2 in two parts


@triton.jit
def _horner(x, COEFFICIENTS: tl.constexpr):
    p = tl.fma(x, COEFFICIENTS[0], COEFFICIENTS[1])
    for i in tl.static_range(2, len(COEFFICIENTS)):
        p = tl.fma(p, x, COEFFICIENTS[i])
    return p


# Rounded as a / b and sqrt(x) are, with a residual that is exact, but without the care for numbers beyond the
# range of these, which costs an eighth of a draw.


@triton.jit
def _quotient(a, b):
    root = tl.rsqrt(b)
    inverse = root * root
    inverse = tl.fma(inverse, tl.fma(-b, inverse, 1.0), inverse)
    quotient = a * inverse
    return tl.fma(tl.fma(-b, quotient, a), inverse, quotient)


@triton.jit
def _sqrt(x):
    inverse = tl.rsqrt(x)
    root = x * inverse
    return tl.fma(tl.fma(-root, root, x), 0.5 * inverse, root)
