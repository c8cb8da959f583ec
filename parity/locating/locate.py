"""The entry point: a pair on a case, or on the first that differs, or two bare functions."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator

from parity.cases import Case
from parity.errors import ParityError
from parity.execution import Execution
from parity.functions import Function, FunctionRuns, Given
from parity.locating.calls import uncompiled
from parity.locating.differing import Tell
from parity.locating.divergence import Divergence
from parity.locating.search import Locating
from parity.pair import Pair, find
from parity.runs import Runs

# A pair without a case is tried on the default one and on so many generated ones.
GENERATED = 3
# Of a large batch so many rows are tried first: what modules are given is kept, and most mistakes show there.
ROWS, LARGE = 16, 64


def locate(
    pair: Pair | str | None = None,
    *,
    reference: Function | str | None = None,
    port: Function | str | None = None,
    inputs: Given | None = None,
    grads: bool = True,
    jit: bool = True,
    case: Case | None = None,
    stage: str | None = None,
    loss: str | None = None,
    seed: int = 0,
    device: str = 'cpu',
    progress: Callable[[str], None] | None = None,
) -> Divergence:
    """Where a port differs from its reference: the lines, the modules and the cause.

        parity.locate('iql', stage='loss')
        parity.locate(reference=jax.nn.silu, port=my_silu, inputs=(x,))

    pair:   as in `parity.check`; or instead of it `reference`, `port` and `inputs` of two bare functions,
            with `grads`, `seed` and `jit` as in `parity.check_functions`.
    case:   what to run both on; by default the first that differs of the default and a few generated ones.
            Of more than LARGE rows it is first tried with ROWS, and located there if it differs.
    stage:  the one to look at, by default the first that differs; loss: the name of the one to look at.
    progress: called with a line of text before each step.
    Raises ParityError for bad arguments, and where the reference raises. What the port raises is located.
    """
    tell = progress or (lambda _: None)
    if pair is None:
        with uncompiled():
            return _of_functions(reference, port, inputs, grads, jit, seed, device, stage, tell)
    cases = None if case is None else [case]
    return first_divergence(pair, cases, stage, loss, seed, device, tell)[1]


def first_divergence(
    pair: Pair | str,
    cases: Iterable[Case] | None,
    stage: str | None,
    loss: str | None,
    seed: int,
    device: str,
    tell: Tell,
) -> tuple[Case, Divergence]:
    """The first of the cases that differs and what was located in it; else the last, which stands for all."""
    target = pair if isinstance(pair, str) else pair.name
    pair = find(pair) if isinstance(pair, str) else pair
    tried: list[Divergence] = []
    chosen = _default_cases(pair, seed) if cases is None else cases
    for case in itertools.chain.from_iterable(map(_fewer_rows_first, chosen)):
        tell(f'{pair.name}: {case.describe()}')
        with uncompiled():
            command = _command(case, target, stage, loss)
            runs = Runs(pair, case, Execution(device))
            tried.append(Locating(runs, command, stage, loss, tell).divergence())
        if tried[-1].outcome != 'match':
            return case, tried[-1]
    return case, dataclasses.replace(tried[-1], case='; '.join(found.case for found in tried))


def _of_functions(
    reference: Function | str | None,
    port: Function | str | None,
    inputs: Given | None,
    grads: bool,
    jit: bool,
    seed: int,
    device: str,
    stage: str | None,
    tell: Tell,
) -> Divergence:
    if reference is None or port is None or inputs is None:
        raise _nothing_to_locate()
    pair = Pair(str(getattr(port, '__name__', port)), reference, port, batch={})
    runs = FunctionRuns(pair, Case(seed), inputs, grads, device, jit)
    names = (str(getattr(function, '__name__', function)) for function in (reference, port))
    command = 'parity.locate(reference={}, port={}, inputs=..., seed={})'.format(*names, seed)
    return Locating(runs, command, stage, None, tell).divergence()


def _default_cases(pair: Pair, seed: int) -> Iterator[Case]:
    from parity.generated import generated_cases  # it loads hypothesis

    yield Case(seed)
    yield from generated_cases(pair, GENERATED, seed + 1)


def _fewer_rows_first(case: Case) -> Iterator[Case]:
    """The case, and before it the same with fewer rows where it has many of its own making."""
    if case.sizes.get('B', 0) > LARGE and not case.source.endswith('.safetensors'):
        yield dataclasses.replace(case, sizes={**case.sizes, 'B': ROWS})
    yield case


def _command(case: Case, target: str, stage: str | None, loss: str | None) -> str:
    options = (('--stage', stage), ('--loss', loss))
    words = [f'{option} {value}' for option, value in options if value is not None]
    return ' '.join([case.command(target, 'locate'), *words])


def _nothing_to_locate() -> ParityError:
    return ParityError(
        'there is nothing to locate in',
        values='expected a pair, or reference, port and inputs of two functions; found neither',
        error='0 things to look into; allowed: 1',
        where='parity.locate',
        next_step="parity.locate('iql'), or parity.locate(reference=f, port=g, inputs={...})",
    )
