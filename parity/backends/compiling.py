"""How jax runs what a check asks of it: compiled once per structure, in the precision and draws asked for."""

import contextlib
import functools
import gc
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from parity.backends.rounding import as_written
from parity.draws import chosen_draws
from parity.errors import ParityError

# XLA's CPU compiler is what a check spends its time on. Without its optimiser it is four times faster, and
# the results differ by rounding; compiling one piece of code instead of 32 side by side saves a third more.
COMPILER: dict[str, Any] = {
    'xla_backend_optimization_level': 0,
    'xla_cpu_parallel_codegen_split_count': 1,
}
OF_OLDER = {'xla_cpu_use_fusion_emitters': False}
NO_SUCH_EMITTERS = (0, 11)  # of jaxlib; XLA ends the process for what it does not know
# What agents jit themselves makes initial parameters, which are compared exactly: level 1 has the bits of the
# default one in half its time.
LEVEL_OF_AGENTS = {'xla_backend_optimization_level': 1}

# On a GPU: results that are the same each time, without trying which of many kernels is the fastest.
ON_GPU = {'xla_gpu_deterministic_ops': True, 'xla_gpu_autotune_level': 0}

MAPS, MOST_MAPS = Path('/proc/self/maps'), 30_000

# Tracing makes millions of small objects and drops few: Python's collector, by default after each 700 of
# them, would take a tenth of a check.
COLLECT_AFTER = 50_000


def prepare() -> None:
    """For processes of our own, before jax starts: compile faster also what agents jit themselves.

    Leaves the compiler alone where XLA_FLAGS is set.
    """
    options = {**compiler_options(), **LEVEL_OF_AGENTS}
    flags = (f'--{name}={str(value).lower()}' for name, value in options.items())
    os.environ.setdefault('XLA_FLAGS', ' '.join(flags))
    os.environ.setdefault('JAX_DEFAULT_DEVICE', 'cpu')  # a GPU is used where it is asked for, see `on`
    os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')  # and shared with torch
    gc.set_threshold(COLLECT_AFTER)


@functools.cache
def compiler_options() -> dict[str, Any]:
    """XLA's options for programs of checks on a CPU, as far as the installed version has them."""
    from importlib.metadata import version

    installed = tuple(map(int, version('jaxlib').split('.')[:2]))
    return {**COMPILER, **(OF_OLDER if installed < NO_SUCH_EMITTERS else {})}


def require_x64() -> None:
    """Raise ParityError unless jax computes in float64 when it is asked to, whatever it did before."""
    import jax
    import jax.numpy as jnp

    with jax.enable_x64(True):
        found = jnp.zeros(()) + 1
    if not isinstance(found, jax.Array) or found.dtype != 'float64':
        raise ParityError(
            'jax cannot compute in float64 here',
            values=f'expected float64 inside jax.enable_x64(True); found {found.dtype}',
            error='the precision that tells bugs from rounding is missing',
            where=f'jax {jax.__version__} on {jax.default_backend()}',
            next_step='check in a process of its own, on the CPU, outside jitted functions: parity check',
        )


def release() -> None:
    """Drop all compiled programs.

    Each holds some of the memory maps that a process may have, 65,530 by default on Linux; without more of
    them XLA ends the process with a segmentation fault.
    """
    import jax

    compiled.cache_clear()
    jax.clear_caches()  # type: ignore[no-untyped-call]
    gc.collect()


def release_if_crowded() -> None:
    """`release`, if half of the memory maps that Linux gives a process by default are in use."""
    if MAPS.exists() and MAPS.read_bytes().count(b'\n') > MOST_MAPS:
        release()


def on(platform: str) -> contextlib.AbstractContextManager[Any]:
    """New arrays and computations of jax go to the first device of a platform, in whole float32 there."""
    import jax
    import jax.numpy as jnp

    _trace_context()  # before anything is traced: with one context more jax traces all of it again
    contexts = contextlib.ExitStack()
    if platform == jax.default_backend() == 'cpu':
        return contexts
    device = jax.local_devices(backend=platform)[0]
    if jnp.zeros(()).device != device:
        contexts.enter_context(jax.default_device(device))
    if platform != 'cpu':  # where products of float32 may use TF32 by default
        contexts.enter_context(jax.default_matmul_precision('highest'))
    return contexts


@functools.lru_cache(maxsize=256)
def compiled(function: Callable[..., Any], dtype: str, device: str, *static: Any) -> Callable[..., Any]:
    """`function(*static, ...)`, compiled for a platform.

    Its first arguments say whether to draw as in float32, and how to round: one program for all of it.
    """
    import jax

    def run(wide: Any, scales: Any, *args: Any) -> Any:
        call = functools.partial(function, *static)
        with unshared(), _draws_of(wide, dtype):
            return as_written(call, None if dtype == 'float32' else scales)(*args)

    run.__name__ = function.__name__  # what compilation logs and profiles show
    return jax.jit(run, compiler_options=compiler_options() if device == 'cpu' else ON_GPU)


def eager(function: Callable[..., Any], dtype: str, *static: Any) -> Callable[..., Any]:
    """The same, operation by operation: for what jax cannot trace as a whole."""

    def run(wide: bool, scales: np.ndarray, *args: Any) -> Any:
        # what is traced in it can be shared between calls that draw alike
        with _trace_context()(-2 if wide else -1), _draws_of(wide, dtype):
            return function(*static, *args)

    return run


def unjitted(function: Callable[..., Any], dtype: str, *static: Any) -> Callable[..., Any]:
    """The same, where what the function jits itself is not compiled either."""

    def run(wide: bool, scales: np.ndarray, *args: Any) -> Any:
        import jax
        import jax.numpy as jnp

        with jax.disable_jit():  # a numpy array would compute by itself
            return eager(function, dtype, *static)(wide, scales, *jax.tree.map(jnp.asarray, args))

    return run


@functools.cache
def _trace_context() -> Any:
    import jax

    return jax.make_user_context(0)  # type: ignore[no-untyped-call]


_traces = itertools.count(1)


def unshared() -> contextlib.AbstractContextManager[Any]:
    """Keep what an agent's own jit traces in here out of other traces: it may hold this trace's `wide`."""
    context: contextlib.AbstractContextManager[Any] = _trace_context()(next(_traces))
    return context


def _draws_of(wide: Any, dtype: str) -> contextlib.AbstractContextManager[None]:
    import jax
    import jax.numpy as jnp

    if dtype == 'float32':
        return contextlib.nullcontext()
    return chosen_draws(jax.random, 'float32', lambda narrow, asked: jnp.where(wide, narrow, asked))
