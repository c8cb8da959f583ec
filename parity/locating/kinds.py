"""Operations of both frameworks, by the names that jax's primitives and torch's dispatcher give them."""


def _set(names: str) -> frozenset[str]:
    return frozenset(names.split())


# Their result is the value that they are given, laid out anew.
LAYOUT = _set(
    'reshape broadcast_in_dim squeeze expand_dims transpose stop_gradient copy copy_p device_put '
    'optimization_barrier reduce_precision random_wrap random_unwrap '
    'view _unsafe_view t permute expand unsqueeze detach alias clone _to_copy contiguous view_as '
    '_reshape_alias reshape_as swapaxes movedim view_as_real _conj expand_as flatten unflatten'
)

# They take entries of a value, or put values together.
MOVES = _set(
    'slice select unbind split split_with_sizes chunk narrow index gather dynamic_slice index_select '
    'cat concatenate stack scan_slice scan_stack pad constant_pad_nd diagonal flip rev roll'
)

# They put a margin around a value. In jax it often is an argument of the operation that follows.
PADDING = _set('pad constant_pad_nd')

# They take no value and no gradient from their operand, only its shape.
FACTORIES = _set(
    'ones_like zeros_like empty_like full_like new_zeros new_ones new_full new_empty new_empty_strided '
    'rand_like randn_like'
)

# Their result is an entry of an operand, with that one's rounding; and what rounding may decide.
CHOICES = MOVES | _set(
    'max min maximum minimum reduce_max reduce_min amax amin clamp clamp_min clamp_max select_n where '
    'masked_fill relu sort topk median'
)
COMPARISONS = _set('gt lt ge le eq ne')

# Sums of terms: the rounding of the result is that of the largest term, however much of it cancels.
SUMS = _set(
    'add sub add_any rsub sum mean reduce_sum cumsum lerp var std var_mean addcmul addcdiv trace '
    'linalg_vector_norm'
)
ADDING = _set('sum reduce_sum')
PRODUCTS = _set('dot_general mm addmm bmm baddbmm mv dot conv_general_dilated convolution')
# torch's divide by n - 1, if they are not told otherwise.
VARIANCES = ('var', 'std', 'var_mean', 'std_mean')
# torch adds to a product in one operation.
FUSED = _set('addmm baddbmm convolution')

# Operations that can stand for each other, or be a part of each other.
_KINDS = tuple(
    _set(names)
    for names in (
        ' '.join(PRODUCTS),
        'reduce_sum sum mean trace addmm add add_any cumsum baddbmm',
        'mean div',
        'sub rsub add neg lerp',
        'div mul reciprocal rsqrt',
        'integer_pow square pow mul sqrt rsqrt',
        'max maximum reduce_max amax clamp clamp_min relu clip argmax threshold',
        'min minimum reduce_min amin clamp clamp_max clip argmin',
        'select_n where masked_fill clamp',
        'concatenate cat stack scan_stack',
        'slice select unbind split narrow index gather dynamic_slice squeeze split_with_sizes index_select '
        'scan_slice diagonal',
        'gt lt ge le eq ne logical_not not and logical_and or logical_or',
        'gelu tanh integer_pow erf erfc',
        'logistic sigmoid silu softplus log_sigmoid_forward',
        '_softmax _log_softmax logsumexp reduce_max exp log div sub',
        'softplus logaddexp max log1p select_n',
        'native_layer_norm native_group_norm var std var_mean linalg_vector_norm reduce_sum rsqrt sqrt div',
        'mse_loss smooth_l1_loss huber_loss integer_pow square sub',
        'abs neg sign select_n where',
        'reduce_window_max max_pool2d_with_indices max_pool2d max_pool3d_with_indices',
        'reduce_window_sum avg_pool2d avg_pool3d _adaptive_avg_pool2d mean',
    )
)


def alike(first: str, second: str) -> bool:
    """Whether the operation of one side can be that of the other, or a part of it."""
    drawn = first.startswith('random') and second.startswith('random')
    return first == second or drawn or any(first in kind and second in kind for kind in _KINDS)
