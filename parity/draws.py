"""Which random numbers a computation drew: kind, shape and key, in order."""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

KINDS = ('normal', 'uniform', 'bits', 'permutation')
FLOATING = ('normal', 'uniform')


@contextlib.contextmanager
def logged_draws(module: Any) -> Iterator[list[Any]]:
    """Log the draws made through `module.<kind>` as (kind, key, result); without a module there are none.

    A draw that another one makes is a part of it: jax's permutation draws bits, and only some modules
    name them.
    """
    log: list[Any] = []
    with replaced(module, KINDS, lambda kind, draw: _logging(kind, draw, log)):
        yield log


def chosen_draws(
    module: Any, dtype: str, choose: Callable[[Any, Any], Any]
) -> contextlib.AbstractContextManager[None]:
    """Draw floats in `dtype` as well: choose(that, widened to what was asked for; what was asked for).

    jax draws other numbers in float64 than in float32 from the same key.
    """
    return replaced(module, FLOATING, lambda _, draw: _both(draw, dtype, choose))


@contextlib.contextmanager
def replaced(
    module: Any, kinds: Iterable[str], replacement: Callable[[str, Callable[..., Any]], Callable[..., Any]]
) -> Iterator[None]:
    """Put replacement(kind, original) in the place of each `module.<kind>` for a while."""
    originals = {kind: getattr(module, kind) for kind in kinds if hasattr(module, kind)}
    try:
        for kind, original in originals.items():
            setattr(module, kind, replacement(kind, original))
        yield
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
        before = len(log)
        result = draw(key, *args, **kwargs)
        log[before:] = [(kind, key, result)]
        return result

    return logged


def _both(draw: Callable[..., Any], dtype: str, choose: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    def drawn(key: Any, *args: Any, **kwargs: Any) -> Any:
        asked = draw(key, *args, **kwargs)
        arguments = inspect.signature(draw).bind(key, *args, **kwargs).arguments
        return choose(draw(**{**arguments, 'dtype': dtype}).astype(asked.dtype), asked)

    return drawn
