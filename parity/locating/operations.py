"""Known differences between what both frameworks call by one name, as replacements of torch's operations."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from parity.locating import kinds
from parity.locating.counterfactuals import Result

CONVOLUTION = ('input', 'weight', 'bias', 'stride', 'padding', 'dilation', 'groups')
ACTIVATIONS = ('gelu', 'relu', 'silu', 'tanh', 'elu', 'sigmoid', 'leaky_relu', 'softplus')


@dataclass(frozen=True)
class Operation:
    """A known difference: `result` in the place of what the torch functions of these names return."""

    name: str
    description: str
    functions: tuple[str, ...]
    result: Result


def _gelu(approximate: str) -> Result:
    return lambda function, args, kwargs: function(*args[:1], **{**kwargs, 'approximate': approximate})


def _other(name: str) -> Result:
    """Another activation function of the same input."""

    def result(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        import torch.nn.functional as F

        chosen = {'gelu by tanh': lambda x: F.gelu(x, approximate='tanh')}.get(name) or getattr(F, name)
        return chosen(args[0])

    return result


def _first(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    return args[0]


def _setting(name: str, value: Any) -> Result:
    """The same function with another argument, given by name or by its place in the signature."""

    def result(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        place = {'eps': {'layer_norm': 4, 'group_norm': 4, 'rms_norm': 3, 'batch_norm': 7}}.get(name, {})
        at = place.get(function.__name__, len(args))
        return function(*args[:at], *args[at + 1 :], **{**kwargs, name: value})

    return result


def _reduced(name: str) -> Result:
    """Another reduction over the same axis."""

    def result(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        import torch

        return getattr(torch.Tensor, name)(*args, **kwargs)

    return result


def _softplus(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    import torch

    return torch.logaddexp(args[0], torch.zeros_like(args[0]))


def _clip(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    import torch

    x, low, high = (*args, None, None)[:3]
    low, high = kwargs.get('min', low), kwargs.get('max', high)
    x = x if low is None else torch.maximum(x, torch.as_tensor(low, dtype=x.dtype))
    return x if high is None else torch.minimum(x, torch.as_tensor(high, dtype=x.dtype))


def _abs(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    import torch

    return torch.where(args[0] >= 0, args[0], -args[0])


def _transposed(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    x, weight, *bias = args
    return function(x, weight.mT, *bias, **kwargs)


def _mask_the_other_way(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """The attention to what was left out; a mask is the fourth argument, or named."""
    mask = kwargs.get('attn_mask', args[3] if len(args) > 3 else None)
    return function(*args[:3], *args[4:], **{**kwargs, 'attn_mask': ~mask})


def _same_padding(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """The convolution with as much padding as `SAME` has, an odd pixel behind."""
    import torch.nn.functional as F

    given = {**dict(zip(CONVOLUTION, args, strict=False)), **kwargs}
    x, weight, stride = given['input'], given['weight'], given.get('stride', 1)
    strides = (stride, stride) if isinstance(stride, int) else tuple(stride)
    sizes = zip(x.shape[-2:], strides, weight.shape[-2:], strict=True)
    totals = [max((math.ceil(n / step) - 1) * step + window - n, 0) for n, step, window in sizes]
    (top, left), (bottom, right) = ([t // 2 for t in totals], [t - t // 2 for t in totals])
    return function(**{**given, 'input': F.pad(x, (left, right, top, bottom)), 'padding': 0})


# The likeliest first: of several that make a difference vanish the first is named.
OPERATIONS = (
    Operation('gelu variant', 'exact gelu where Flax has the tanh approximation', ('gelu',), _gelu('tanh')),
    Operation('gelu variant', 'tanh gelu where the original has the exact one', ('gelu',), _gelu('none')),
    *(
        Operation(
            'normalisation epsilon',
            f'epsilon {eps:g}',
            ('layer_norm', 'group_norm', 'rms_norm', 'batch_norm'),
            _setting('eps', eps),
        )
        for eps in (1e-6, 1e-5, 1e-3, 1e-8, 1e-12)
    ),
    Operation('softplus threshold', 'F.softplus is x itself above 20', ('softplus',), _softplus),
    Operation('biased variance', 'ddof 0 instead of 1', kinds.VARIANCES, _setting('correction', 0)),
    Operation(
        'clamp for clip',
        'half of the gradient passes at a bound',
        ('clamp', 'clip', 'clamp_min', 'clamp_max'),
        _clip,
    ),
    Operation('gradient at a tie', 'the gradient of abs is 1 at zero', ('abs', 'absolute'), _abs),
    *(
        Operation(
            'softmax axis',
            f'over axis {axis}',
            ('softmax', 'log_softmax', 'logsumexp'),
            _setting('dim', axis),
        )
        for axis in (-1, -2, 0)
    ),
    *(
        Operation(
            'other reduction',
            f'{name} instead',
            ('mean', 'sum', 'amin', 'amax', 'min', 'max'),
            _reduced(name),
        )
        for name in ('mean', 'sum', 'amin', 'amax')
    ),
    Operation('transposed kernel', 'the weight the other way', ('linear',), _transposed),
    Operation(
        'attention scale',
        "by the root of a head's width",
        ('scaled_dot_product_attention',),
        _setting('scale', None),
    ),
    *(
        Operation(
            'attention mask',
            f'is_causal={causal}',
            ('scaled_dot_product_attention',),
            _setting('is_causal', causal),
        )
        for causal in (True, False)
    ),
    Operation(
        'attention mask',
        'the mask tells what to attend to, and not what to leave out',
        ('scaled_dot_product_attention',),
        _mask_the_other_way,
    ),
    Operation('SAME padding', 'an odd pixel lies behind', ('conv2d',), _same_padding),
    *(
        Operation('other activation', f'{name} instead', ACTIVATIONS, _other(name))
        for name in ('relu', 'gelu by tanh', 'silu', 'tanh', 'elu', 'sigmoid', 'gelu')
    ),
    Operation('function left out', 'the input is returned', ACTIVATIONS, _first),
    Operation('detach too many', 'the gradient flows', ('detach',), _first),
)
