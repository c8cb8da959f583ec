"""jax's primitives in numpy, in float64: what needs no compilation."""

import string
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Array = np.ndarray


def evaluate(primitive: Any, arrays: Sequence[Array], params: dict[str, Any]) -> list[Array]:
    """The results of one primitive: by numpy where that is simple and exact, else by jax, uncompiled."""
    function = _NUMPY.get(primitive.name)
    if function is None or any(map(is_key, arrays)):
        return [
            result if is_key(result) else np.asarray(result) for result in _by_jax(primitive, arrays, params)
        ]
    with np.errstate(all='ignore'):
        result = function(*arrays, **params)
    return [np.asarray(part) for part in (result if isinstance(result, list) else [result])]


def _by_jax(primitive: Any, arrays: Sequence[Any], params: dict[str, Any]) -> list[Any]:
    import jax.numpy as jnp

    bound = primitive.get_bind_params(params)
    functions, params = bound if isinstance(bound, tuple) else ((), bound)
    result = primitive.bind(*functions, *(a if is_key(a) else jnp.asarray(a) for a in arrays), **params)
    return list(result) if primitive.multiple_results else [result]


def is_key(array: Any) -> bool:
    """Whether it is a typed random key, which numpy cannot hold."""
    if isinstance(array, np.ndarray | np.generic):
        return False
    import jax

    return bool(jax.numpy.issubdtype(array.dtype, jax.dtypes.prng_key))


def shown(array: Any) -> Array:
    """The array as numpy has it: of a typed key its words."""
    import jax

    return np.asarray(jax.random.key_data(array)) if is_key(array) else array


def _dot_general(a: Array, b: Array, dimension_numbers: Any, **_: Any) -> Array:
    (contracted_a, contracted_b), (batched_a, batched_b) = dimension_numbers
    letters = iter(string.ascii_letters)
    names_a, names_b = [''] * a.ndim, [''] * b.ndim
    for i, j in (*zip(batched_a, batched_b, strict=True), *zip(contracted_a, contracted_b, strict=True)):
        names_a[i] = names_b[j] = next(letters)
    names_a = [name or next(letters) for name in names_a]
    names_b = [name or next(letters) for name in names_b]
    free_a = [name for i, name in enumerate(names_a) if i not in batched_a and i not in contracted_a]
    free_b = [name for i, name in enumerate(names_b) if i not in batched_b and i not in contracted_b]
    result = [names_a[i] for i in batched_a] + free_a + free_b
    product: Array = np.einsum(
        f'{"".join(names_a)},{"".join(names_b)}->{"".join(result)}', a, b, optimize=True
    )
    return product


def _broadcast_in_dim(x: Array, *_: Any, shape: Any, broadcast_dimensions: Any, **__: Any) -> Array:
    lengths = [1] * len(shape)
    for axis, place in enumerate(broadcast_dimensions):
        lengths[place] = x.shape[axis]
    return np.broadcast_to(x.reshape(lengths), shape)


def _convert(x: Array, new_dtype: Any, **_: Any) -> Array:
    return x.astype(new_dtype)


def _slice(x: Array, start_indices: Any, limit_indices: Any, strides: Any, **_: Any) -> Array:
    steps = strides or (1,) * x.ndim
    return x[tuple(map(slice, start_indices, limit_indices, steps))]


def _iota(*_: Any, dtype: Any, shape: Any, dimension: int, **__: Any) -> Array:
    lengths = [-1 if axis == dimension else 1 for axis in range(len(shape))]
    return np.broadcast_to(np.arange(shape[dimension]).astype(dtype).reshape(lengths), shape)


def _divide(x: Array, y: Array, **_: Any) -> Array:
    if x.dtype.kind == 'f':
        return np.asarray(x / y)
    quotient: Array = (np.sign(x) * np.sign(y) * (np.abs(x) // np.abs(y))).astype(x.dtype)
    return quotient  # rounded towards zero


def _select(which: Array, *cases: Array, **_: Any) -> Array:
    return np.where(which, cases[1], cases[0]) if which.dtype == bool else np.choose(which, cases)


def _logistic(x: Array, **_: Any) -> Array:
    small = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1 / (1 + small), small / (1 + small)))


def _integer_pow(x: Array, y: int, **_: Any) -> Array:
    return x**y if y >= 0 else 1 / x**-y


def _erf(x: Array, **_: Any) -> Array:
    import scipy.special  # type: ignore[import-untyped]

    return np.asarray(scipy.special.erf(x))


def _erf_inv(x: Array, **_: Any) -> Array:
    import scipy.special

    return np.asarray(scipy.special.erfinv(x))


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arrays, **_: function(*arrays)


def _reduction(name: str) -> Callable[..., Any]:
    return lambda x, axes, **_: getattr(x, name)(axis=tuple(axes))


def _bitcast(x: Array, new_dtype: Any, **_: Any) -> Array:
    return x.view(new_dtype)


_UFUNCS: dict[str, Callable[..., Any]] = {
    'add': np.add, 'add_any': np.add, 'sub': np.subtract, 'mul': np.multiply, 'neg': np.negative, 'max':
    np.maximum,
    'min': np.minimum, 'exp': np.exp, 'exp2': np.exp2, 'log': np.log, 'log1p': np.log1p, 'expm1': np.expm1,
    'tanh': np.tanh, 'sin': np.sin, 'cos': np.cos, 'tan': np.tan, 'sqrt': np.sqrt, 'cbrt': np.cbrt,
    'square': np.square, 'abs': np.abs, 'sign': np.sign, 'pow': np.power, 'floor': np.floor, 'ceil': np.ceil,
    'gt': np.greater, 'lt': np.less, 'ge': np.greater_equal, 'le': np.less_equal, 'eq': np.equal,
    'ne': np.not_equal, 'and': np.bitwise_and, 'or': np.bitwise_or, 'xor': np.bitwise_xor, 'not': np.invert,
    'is_finite': np.isfinite, 'stop_gradient': np.asarray, 'copy': np.asarray, 'copy_p': np.asarray,
    'atanh': np.arctanh, 'sinh': np.sinh, 'cosh': np.cosh, 'atan2': np.arctan2, 'reduce_precision':
    np.asarray,
}  # fmt: skip
_NUMPY: dict[str, Callable[..., Any]] = {
    **{name: _plain(function) for name, function in _UFUNCS.items()},
    **{f'reduce_{name}': _reduction(name) for name in ('sum', 'max', 'min', 'prod')},
    'div': _divide,
    'rsqrt': lambda x, **_: 1 / np.sqrt(x),
    'integer_pow': _integer_pow,
    'erf': _erf,
    'erf_inv': _erf_inv,
    'logistic': _logistic,
    'dot_general': _dot_general,
    'broadcast_in_dim': _broadcast_in_dim,
    'convert_element_type': _convert,
    'reshape': lambda x, *_, new_sizes, **__: x.reshape(new_sizes),
    'squeeze': lambda x, dimensions, **_: x.squeeze(tuple(dimensions)),
    'expand_dims': lambda x, dimensions, **_: np.expand_dims(x, tuple(dimensions)),
    'transpose': lambda x, permutation, **_: x.transpose(permutation),
    'concatenate': lambda *arrays, dimension, **_: np.concatenate(arrays, dimension),
    'slice': _slice,
    'rev': lambda x, dimensions, **_: np.flip(x, dimensions),
    'select_n': _select,
    'clamp': lambda low, x, high, **_: np.clip(x, low, high),
    'split': lambda x, sizes, axis, **_: np.split(x, np.cumsum(sizes)[:-1], axis),
    'iota': _iota,
    'argmax': lambda x, axes, index_dtype, **_: x.argmax(axes[0]).astype(index_dtype),
    'argmin': lambda x, axes, index_dtype, **_: x.argmin(axes[0]).astype(index_dtype),
    'bitcast_convert_type': _bitcast,
    'shift_right_logical': _plain(np.right_shift),
}
