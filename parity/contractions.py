"""What einsum, tensordot and matmul return inside a loss: a wrong one can leave the loss as it was."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from parity.draws import replaced


@contextlib.contextmanager
def logged_contractions(module: Any, kinds: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Log what `module.<kind>` returns for each of `kinds`, as `0 einsum esd,td->est`, in order."""
    log: dict[str, Any] = {}
    with replaced(module, kinds, lambda kind, contract: _logging(kind, contract, log)):
        yield log


def _logging(kind: str, contract: Callable[..., Any], log: dict[str, Any]) -> Callable[..., Any]:
    @functools.wraps(contract)
    def logged(*args: Any, **kwargs: Any) -> Any:
        result = contract(*args, **kwargs)
        equation = f' {args[0]}' if args and isinstance(args[0], str) else ''
        log[f'{len(log)} {kind}{equation}'] = result
        return result

    return logged
