"""`jax.random` in torch: the same keys, the same bits, the same draws, without importing jax.

The generator is Threefry-2x32 with 20 rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
SC 2011), counting as jax does by default (`jax_threefry_partitionable=True`): element i of a draw depends on
the key and on i alone. A key is a uint32 tensor of shape (2,); draws lie on the device of their key. Where
jax reads `jax_enable_x64`, this file reads whether `torch.get_default_dtype()` is float64.

Measured against jitted jax 0.10 on an x86-64 CPU, everything is equal bit for bit, normals included. XLA
fuses multiply-adds there, and so does `torch.addcmul` where torch is built with FMA; where it is not, normals
are up to 3 ulp away.

Words are held as int32, which wraps as uint32 does; torch has almost no uint32 arithmetic. On the CPU the
work goes block by block, so that the hundred-odd passes over a block stay in cache.
"""

import functools
import math
import operator

import torch

_CPU_BLOCK = 1 << 18  # elements; measured fastest on two cores with 1 MB of L2 each
_BLOCK = 1 << 24  # elsewhere, to bound the memory of the intermediate values
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA  # the third key word is k0 ^ k1 ^ this constant
_LOW_WORD = 0xFFFFFFFF


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
    words = _threefry2x32(key, *_counters(0, math.prod(shape), key.device))
    return torch.stack(words, dim=-1).view(torch.uint32).reshape(*shape, 2)


def fold_in(key, data):
    """A new key, uint32[2], from a key and an integer of 32 bits: the hash of (0, data).

    data: an int in [0, 2**32), or an integer scalar of numpy or torch, of which the low word counts.
    Raises OverflowError for an int out of range, TypeError for what is not a key or not one integer.
    """
    _check_key(key, 'fold_in')
    data = _integer(data, 'fold_in', 'data', 0, _LOW_WORD) & _LOW_WORD
    low = torch.as_tensor(data, device=key.device).to(torch.int32)
    return torch.stack(_threefry2x32(key, torch.zeros_like(low), low)).view(torch.uint32)


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
    return _fill(key, shape, signed[dtype], lambda x0, x1: _bits(x0, x1, dtype.itemsize)).view(dtype)


def uniform(key, shape=(), dtype=None, minval=0.0, maxval=1.0):
    """Uniform floats in [minval, maxval), shape `shape`: a mantissa of random bits, then scaled.

    dtype: float64, float32, float16 or bfloat16; None is the default dtype.
    minval, maxval: numbers, or tensors that broadcast to `shape`.
    Raises TypeError for what is not a key, ValueError for another dtype.
    """
    _check_key(key, 'uniform')
    dtype = _float_dtype(dtype, 'uniform')
    unit = _fill(key, shape, dtype, lambda x0, x1: _unit(x0, x1, dtype))
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
    return torch.maximum(low, _fma(unit, high - low, low))


def normal(key, shape=(), dtype=None):
    """Standard normal floats, shape `shape`: sqrt(2) * erf_inv(u) with u uniform in (-1, 1), as in jax.

    dtype: float64, float32, float16 or bfloat16; None is the default dtype.
    Raises TypeError for what is not a key, ValueError for another dtype.
    """
    _check_key(key, 'normal')
    dtype = _float_dtype(dtype, 'normal')
    work = torch.promote_types(dtype, torch.float32)
    low = torch.finfo(dtype).eps / 2 - 1  # the smallest float above -1
    sqrt2 = torch.tensor(math.sqrt(2), dtype=dtype).item()

    def values(x0, x1):
        u = _unit(x0, x1, dtype).to(work).mul_(2).add_(low)
        return _erf_inv(u).to(dtype).mul_(sqrt2)

    return _fill(key, shape, dtype, values)


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
    sqrt2 = torch.tensor(math.sqrt(2), dtype=dtype).item()
    u = uniform(key, shape, dtype, *(math.erf(bound) for bound in (bounds / sqrt2).tolist()))
    inside = torch.nextafter(bounds, bounds.flip(0))
    return _erf_inv(u).mul_(sqrt2).clamp_(*inside.tolist())


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
    """The block cipher, in place on the int32 counter words x0 and x1, which it returns."""
    k0, k1 = key.view(torch.int32).unbind()
    keys = (k0, k1, k0 ^ k1 ^ _PARITY)
    x0.add_(keys[0])
    x1.add_(keys[1])
    rotated = torch.empty_like(x1)
    for i in range(5):
        for r in _ROTATIONS[i % 2]:
            x0.add_(x1)
            torch.bitwise_right_shift(x1, 32 - r, out=rotated)
            rotated.bitwise_and_((1 << r) - 1)  # the shift of an int32 copies the sign bit
            rotated.add_(x1, alpha=1 << r)  # the left shift and the union in one pass
            torch.bitwise_xor(x0, rotated, out=x1)
        x0.add_(keys[(i + 1) % 3])
        x1.add_(keys[(i + 2) % 3] + (i + 1))
    return x0, x1


def _counters(start, count, device):
    """High and low words of start, ..., start + count - 1. Blocks start at their multiples: one high word."""
    low = torch.arange(count, dtype=torch.int32, device=device)
    return torch.full_like(low, start >> 32), low.add_(_signed(start & _LOW_WORD))


def _fill(key, shape, dtype, values):
    out = torch.empty(_shape(shape), dtype=dtype, device=key.device)
    flat = out.view(-1)
    block = _CPU_BLOCK if key.device.type == 'cpu' else _BLOCK
    if flat.numel() > block:  # freeing 16 MB keeps glibc from returning freed blocks: 1.8 times faster
        torch.empty(1 << 22)
    for start in range(0, flat.numel(), block):
        part = flat[start : start + block]
        part.copy_(values(*_threefry2x32(key, *_counters(start, part.numel(), key.device))))
    return out


def _bits(x0, x1, itemsize):
    if itemsize == 8:
        return x0.long().bitwise_left_shift_(32).bitwise_or_(x1.long().bitwise_and_(_LOW_WORD))
    return x0.bitwise_xor_(x1)  # narrower draws keep the low bits


def _unit(x0, x1, dtype):
    """Floats in [0, 1), multiples of eps. jax takes the 7 bits of a bfloat16 from a draw of 8, not 16."""
    shift = {torch.float64: 12, torch.float32: 9, torch.float16: 6, torch.bfloat16: 1}[dtype]
    eps = torch.finfo(dtype).eps
    mantissa = _bits(x0, x1, dtype.itemsize).bitwise_right_shift_(shift).bitwise_and_(int(1 / eps) - 1)
    return mantissa.to(dtype).mul_(eps)


# The inverse error function, operation by operation as XLA's CPU backend runs it: one ulp in w is several
# in a normal. torch.erfinv is another approximation, up to 91 float32 ulp and 7e5 float64 ulp away.


def _erf_inv(x):
    """erf_inv(x), 0 < |x| < 1, float32 or float64 (M. Giles, "Approximating the erfinv function", 2011)."""
    w = _log1p(-x * x).neg_()
    (_, shift, coefficients), *tails = _GILES[x.dtype]
    p = _horner(coefficients, w - shift)
    for start, shift, coefficients in tails:
        if x.device.type != 'cpu' or w.amax() >= start:  # asking costs a device synchronisation elsewhere
            tail = torch.ge(w, start, out=torch.empty_like(w))
            p = _select(tail, _horner(coefficients, _sqrt(w).sub_(shift)), p)
    return p.mul_(x)


def _log1p(x):
    """log(1 + x), -1 < x < 0: log of the rounded sum, or near 0 Cephes' x - x**2 / 2 + x**3 P(x) / Q(x)."""
    square = x * x
    near = _horner(_LOG1P_P, x).div_(_horner(_LOG1P_Q, x)).mul_(x * square).add_(square, alpha=-0.5).add_(x)
    far = _log_float32(1 + x) if x.dtype == torch.float32 else _log_float64(1 + x)
    return _select(torch.gt(x, 1 - math.sqrt(2), out=square), near, far)


def _log_float64(x):
    # The C library's log, which XLA calls as well; torch.log is MKL's and differs in one value of 900.
    return torch.special.xlogy(torch.ones((), dtype=x.dtype, device=x.device), x)


def _log_float32(x):
    """Cephes' logf for normal x > 0, the polynomial split in three as in Eigen's plog, which XLA follows."""
    word = x.view(torch.int32)
    mantissa = (word & 0x7FFFFF).bitwise_or_(0x3F000000).view(torch.float32)  # x = mantissa * 2 ** exponent
    low = torch.lt(mantissa, math.sqrt(0.5), out=torch.empty_like(x))
    exponent = (word >> 23).sub_(126).to(x.dtype).sub_(low)
    y = (mantissa - 1).addcmul_(mantissa, low)
    square = y * y
    cube = square * y
    a, b, c = (_horner(_LOG[i : i + 3], y) for i in (0, 3, 6))
    small = _fma(_fma(_fma(a, cube, b), cube, c), cube, exponent * -2.12194440e-4)
    return y.add_(square, alpha=-0.5).add_(small).add_(exponent, alpha=0.693359375)  # ln 2 in two parts


def _sqrt(x):
    # torch.sqrt is MKL's and not always correctly rounded; a Newton step with the exact residual makes it so.
    root = torch.sqrt(x)
    return root.addcdiv_(_fma(-root, root, x), root, value=0.5)


def _horner(coefficients, x):
    first, *rest = _tensors(coefficients, x.dtype, x.device)
    p = torch.empty_like(x).copy_(first)
    for c in rest:
        torch.addcmul(c, p, x, out=p)
    return p


def _fma(a, b, c):
    return torch.addcmul(c, a, b)  # rounded once where torch is built with FMA; a test measures it


def _select(mask, yes, no):
    # With weights 0 and 1 lerp returns its arguments exactly, ten times faster than torch.where on the CPU.
    return torch.lerp(no, yes, mask)


@functools.cache
def _tensors(numbers, dtype, device):
    return torch.tensor(numbers, dtype=dtype, device=device).unbind()


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
    _check_dtype(dtype, (torch.float64, torch.float32, torch.float16, torch.bfloat16), name)
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


# fmt: off
_LOG1P_P = (4.52700008624452e-05, 0.49854102823193375, 6.578732594206104, 29.911919328553072,
    60.94966798098779, 57.11296359058554, 20.039553499201283)
_LOG1P_Q = (1.0, 15.062909083469192, 83.04756596796722, 221.76239823732857, 309.09872225312057,
    216.42788614495947, 60.11866049760384)
_LOG = (0.070376836292, -0.1151461031, 0.1167699874, -0.12420140846, 0.14249322787, -0.16668057665,
    0.20000714765, -0.24999993993, 0.33333331174)
# dtype: branches (start, shift, coefficients, highest power first). The first is a polynomial in w - shift, a
# later one is a polynomial in sqrt(w) - shift and holds from w = start on.
_GILES = {
    torch.float32: (
        (0.0, 2.5, (2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087,
        -0.00125372503, -0.00417768164, 0.246640727, 1.50140941)),
        (5.0, 3.0, (-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773,
        -0.0076224613, 0.00943887047, 1.00167406, 2.83297682)),
    ),
    torch.float64: (
        (0.0, 3.125, (-3.64441206401782e-21, -1.6850591381820166e-19, 1.28584807152564e-18,
        1.1157877678025181e-17, -1.333171662854621e-16, 2.0972767875968562e-17, 6.637638134358324e-15,
        -4.054566272975207e-14, -8.151934197605472e-14, 2.6335093153082323e-12, -1.2975133253453532e-11,
        -5.415412054294628e-11, 1.0512122733215323e-09, -4.112633980346984e-09, -2.9070369957882005e-08,
        4.2347877827932404e-07, -1.3654692000834679e-06, -1.3882523362786469e-05, 0.00018673420803405714,
        -0.000740702534166267, -0.006033670871430149, 0.24015818242558962, 1.6536545626831027)),
        (6.25, 3.25, (2.2137376921775787e-09, 9.075656193888539e-08, -2.7517406297064545e-07,
        1.8239629214389228e-08, 1.5027403968909828e-06, -4.013867526981546e-06, 2.9234449089955446e-06,
        1.2475304481671779e-05, -4.7318229009055734e-05, 6.828485145957318e-05, 2.4031110387097894e-05,
        -0.0003550375203628475, 0.0009532893797373805, -0.0016882755560235047, 0.002491442096107851,
        -0.003751208507569241, 0.005370914553590064, 1.0052589676941592, 3.0838856104922208)),
        (16.0, 5.0, (-2.7109920616438573e-11, -2.555641816996525e-10, 1.5076572693500548e-09,
        -3.789465440126737e-09, 7.61570120807834e-09, -1.496002662714924e-08, 2.914795345090108e-08,
        -6.771199775845234e-08, 2.2900482228026655e-07, -9.9298272942317e-07, 4.526062597223154e-06,
        -1.968177810553167e-05, 7.599527703001776e-05, -0.00021503011930044477, -0.00013871931833623122,
        1.0103004648645344, 4.849906401408584)),
    ),
}
# fmt: on
