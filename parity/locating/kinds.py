"""Operations of both frameworks under common names: what can stand for what."""

# Operations that only lay values out anew: their result is the value that they are given.
LAYOUT = frozenset(
    (
        # jax
        'reshape', 'broadcast_in_dim', 'squeeze', 'expand_dims', 'transpose', 'stop_gradient', 'copy', 'copy_p',
        'device_put', 'optimization_barrier', 'reduce_precision', 'random_wrap', 'random_unwrap',
        # torch
        'view', '_unsafe_view', 't', 'permute', 'expand', 'unsqueeze', 'detach', 'alias', 'clone', '_to_copy',
        'contiguous', 'view_as', '_reshape_alias', 'copy', 'reshape_as', 'swapaxes', 'movedim', 'detach_',
        'view_as_real', '_conj', 'numpy_T', 'expand_as', 'flatten', 'unflatten', 'squeeze_', 'unsqueeze_', 'mT',
    )
)  # fmt: skip

# Operations that take entries of a value, or put values together.
MOVES = frozenset(
    (
        'slice', 'select', 'unbind', 'split', 'split_with_sizes', 'chunk', 'narrow', 'index', 'gather', 'dynamic_slice',
        'index_select', 'cat', 'concatenate', 'stack', 'scan_slice', 'scan_stack', 'pad', 'constant_pad_nd', 'diagonal',
        'flip', 'rev', 'roll',
    )
)  # fmt: skip

# Results that carry no gradient and no value of their operand, only its shape.
FACTORIES = frozenset(
    (
        'ones_like', 'zeros_like', 'empty_like', 'full_like', 'new_zeros', 'new_ones', 'new_full', 'new_empty',
        'new_empty_strided', 'rand_like', 'randn_like',
    )
)  # fmt: skip

# Sums of terms: the rounding of the result is that of the largest term, however much of it cancels.
SUMS = frozenset(
    (
        'add', 'sub', 'add_any', 'rsub', 'sum', 'mean', 'reduce_sum', 'cumsum', 'lerp', 'var', 'std', 'var_mean',
        'addcmul', 'addcdiv', 'trace', 'linalg_vector_norm',
    )
)  # fmt: skip
PRODUCTS = frozenset(
    ('dot_general', 'mm', 'addmm', 'bmm', 'baddbmm', 'mv', 'dot', 'conv_general_dilated', 'convolution')
)
# torch adds to a product in one operation.
FUSED = frozenset(('addmm', 'baddbmm', 'convolution'))

_ALIASES: dict[str, tuple[str, ...]] = {
    'product': tuple(PRODUCTS),
    'sum': ('reduce_sum', 'sum', 'mean', 'trace', 'addmm', 'add', 'add_any', 'cumsum', 'baddbmm'),
    'average': ('mean', 'div'),
    'difference': ('sub', 'rsub', 'add', 'neg', 'lerp'),
    'quotient': ('div', 'mul', 'reciprocal', 'rsqrt'),
    'power': ('integer_pow', 'square', 'pow', 'mul', 'sqrt', 'rsqrt'),
    'largest': ('max', 'maximum', 'reduce_max', 'amax', 'clamp', 'clamp_min', 'relu', 'clip', 'argmax', 'threshold'),
    'smallest': ('min', 'minimum', 'reduce_min', 'amin', 'clamp', 'clamp_max', 'clip', 'argmin'),
    'choice': ('select_n', 'where', 'masked_fill', 'clamp'),
    'joined': ('concatenate', 'cat', 'stack', 'scan_stack'),
    'part': ('slice', 'select', 'unbind', 'split', 'narrow', 'index', 'gather', 'dynamic_slice', 'squeeze',
             'split_with_sizes', 'index_select', 'scan_slice', 'diagonal'),
    'compare': ('gt', 'lt', 'ge', 'le', 'eq', 'ne', 'logical_not', 'not', 'and', 'logical_and', 'or', 'logical_or'),
    'gelu': ('gelu', 'tanh', 'integer_pow', 'erf', 'erfc'),
    'sigmoid': ('logistic', 'sigmoid', 'silu', 'softplus', 'log_sigmoid_forward'),
    'softmax': ('_softmax', '_log_softmax', 'logsumexp', 'reduce_max', 'exp', 'log', 'div', 'sub'),
    'softplus': ('softplus', 'logaddexp', 'max', 'log1p', 'select_n'),
    'norm': ('native_layer_norm', 'native_group_norm', 'var', 'std', 'var_mean', 'linalg_vector_norm', 'reduce_sum',
             'rsqrt', 'sqrt', 'div'),
    'loss': ('mse_loss', 'smooth_l1_loss', 'huber_loss', 'integer_pow', 'square', 'sub'),
    'size': ('abs', 'neg', 'sign', 'select_n', 'where'),
}  # fmt: skip
_KINDS: dict[str, frozenset[str]] = {}
for _kind, _names in _ALIASES.items():
    for _name in _names:
        _KINDS[_name] = _KINDS.get(_name, frozenset()) | {_kind}


def alike(first: str, second: str) -> bool:
    """Whether the operation of one side can be that of the other, or a part of it."""
    drawn = first.startswith('random') and second.startswith('random')
    return first == second or drawn or bool(_KINDS.get(first, frozenset()) & _KINDS.get(second, frozenset()))
