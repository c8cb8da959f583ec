"""The inverse error function, operation by operation as XLA's CPU backend runs it.

Normals are made of it, and one ulp in its w is several in a normal. torch.erfinv is another approximation, up
to 91 float32 ulp and 7e5 float64 ulp away.
"""

import functools
import math

import torch


def erf_inv(x):
    """erf_inv(x), 0 < |x| < 1, float32 or float64 (M. Giles, "Approximating the erfinv function", 2011)."""
    w = _log1p(-x * x).neg_()
    (_, shift, coefficients), *tails = _GILES[x.dtype]
    p = _horner(coefficients, w - shift)
    for start, shift, coefficients in tails:
        if x.device.type != 'cpu' or torch.compiler.is_compiling():
            tail = torch.ge(w, start, out=torch.empty_like(w))
            p = _select(tail, _horner(coefficients, _sqrt(w).sub_(shift)), p)
        elif w.amax() >= start:  # of uniform x one in 300
            tail = w >= start
            p[tail] = _horner(coefficients, _sqrt(w[tail]).sub_(shift))
    return p.mul_(x)


def _log1p(x):
    """log(1 + x), -1 < x < 0: log of the rounded sum, or near 0 Cephes' x - x**2 / 2 + x**3 P(x) / Q(x)."""
    square = x * x
    cubic = _horner(_LOG1P_P, x).div_(_horner(_LOG1P_Q, x)).mul_(x * square)
    near = _rounded(cubic).add_(square, alpha=-0.5).add_(x)
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
    small = fma(fma(fma(a, cube, b), cube, c), cube, _rounded(exponent * -2.12194440e-4))
    return y.add_(square, alpha=-0.5).add_(small).add_(exponent, alpha=0.693359375)  # ln 2 in two parts


def _sqrt(x):
    # torch.sqrt is MKL's and not always correctly rounded; a Newton step with the exact residual makes it so.
    root = torch.sqrt(x)
    return root.addcdiv_(fma(-root, root, x), root, value=0.5)


def _horner(coefficients, x):
    if torch.compiler.is_compiling():  # where they become constants of the kernel
        first, *rest = (torch.full((), c, dtype=x.dtype, device=x.device) for c in coefficients)
    else:
        first, *rest = _tensors(coefficients, x.dtype, x.device)
    p = first
    for c in rest:
        p = torch.addcmul(c, p, x, out=None if p is first else p)
    return p


def fma(a, b, c):
    return torch.addcmul(c, a, b)  # rounded once where torch is built with FMA; a test measures it


def _rounded(product):
    # A compiled kernel would fuse the product with the sum that follows; a minimum between them prevents it.
    return product.clamp(max=math.inf) if torch.compiler.is_compiling() else product


def _select(mask, yes, no):
    # With weights 0 and 1 lerp returns its arguments exactly, ten times faster than torch.where on the CPU.
    return torch.lerp(no, yes, mask)


@functools.cache
def _tensors(numbers, dtype, device):
    return torch.tensor(numbers, dtype=dtype, device=device).unbind()


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
