"""Which random numbers a computation drew: kind, shape and key, in order."""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

KINDS = ('normal', 'uniform', 'bits', 'permutation')
FLOATING = ('normal', 'uniform')


@contextlib.contextmanager
def logged_draws(module: Any, dtype: str | None = None) -> Iterator[list[Any]]:
    """Log the draws made through `module.<kind>` as (kind, key, result); without a module there are none.

    With dtype, draw in it and widen: jax draws other numbers in float64 than in float32 from the same key.
    """
    log: list[Any] = []
    originals = {kind: getattr(module, kind) for kind in KINDS if module is not None}
    try:
        for kind, original in originals.items():
            draw = original if dtype is None or kind not in FLOATING else _widened(original, dtype)
            setattr(module, kind, _logging(kind, draw, log))
        yield log
    finally:
        for kind, original in originals.items():
            setattr(module, kind, original)


def draw_leaves(log: list[Any]) -> dict[str, Any]:
    """The keys of the draws under names that say what was drawn: `0 normal[8,5]`."""
    return {
        f'{i} {kind}{list(result.shape)}'.replace(', ', ','): key for i, (kind, key, result) in enumerate(log)
    }


def _logging(kind: str, draw: Callable[..., Any], log: list[Any]) -> Callable[..., Any]:
    @functools.wraps(draw)
    def logged(key: Any, *args: Any, **kwargs: Any) -> Any:
        result = draw(key, *args, **kwargs)
        log.append((kind, key, result))
        return result

    return logged


def _widened(draw: Callable[..., Any], dtype: str) -> Callable[..., Any]:
    def widened(key: Any, *args: Any, **kwargs: Any) -> Any:
        arguments = inspect.signature(draw).bind(key, *args, **kwargs).arguments
        return draw(**{**arguments, 'dtype': dtype}).astype('float64')

    return widened
