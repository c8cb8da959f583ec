"""What every module of the reference was given and returned in a loss, and the cotangents of both.

Taps are identities that hand their values to the host, forward and backward; they see through `nn.vmap`
(values arrive with the members' axis), `lax.scan` (one visit for each iteration) and jit. Measured on small
agents: compiling a loss with its taps at XLA's lowest level takes one to two seconds, evaluating it operation
by operation five to twelve.
"""

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np

from parity.backends.compiling import compiler_options
from parity.locating.losses import ReferenceLoss
from parity.locating.structures import bound, is_array, mapped
from parity.trees import Arrays, subtree

Log = dict[str, list[np.ndarray]]
# Settings of modules that can be compared.
PLAIN = (bool, int, float, str)


@dataclass(frozen=True)
class ModuleCall:
    """One call of one module.

    path:       where the module is, `modules_critic/value_net/Dense_0`; the root's is ''.
    order:      the place of the call among all of them, outer calls before inner ones.
    parent:     the order of the call that it is in, None outside of all.
    values:     `inputs/<name>`, `params/<name>` and `outputs/<name>`.
    cotangents: under the same names, of what was differentiated and used.
    live:       the names of what was differentiated.
    unused:     the names of what nothing depends on, so that it was not computed.
    settings:   what the module was made with, as far as it is plain: {'epsilon': 1e-06}.
    cls:        its class.
    """

    path: str
    order: int
    parent: int | None
    values: Arrays
    cotangents: Arrays
    live: frozenset[str]
    unused: frozenset[str]
    settings: dict[str, Any]
    cls: type | None = None

    @property
    def trained(self) -> frozenset[str]:
        """The names of the parameters that were differentiated in this call."""
        return frozenset(subtree(dict.fromkeys(self.live), 'params'))


@dataclass(eq=False)
class _Site:
    """A call as it is traced: it runs once, or once for each iteration of a loop."""

    path: str
    parent: '_Site | None'
    settings: dict[str, Any]
    cls: type
    values: Log = field(default_factory=dict)
    cotangents: Log = field(default_factory=dict)
    live: set[str] = field(default_factory=set)

    @property
    def visits(self) -> int:
        """How often it ran; what does not change in a loop may have been seen once only."""
        return max((len(seen) for seen in self.values.values()), default=0)


class Recorder:
    """Collects what the taps of one computation see."""

    def __init__(self) -> None:
        self.sites: list[_Site] = []
        self.open: list[_Site] = []

    def called(self, path: str, module: Any, args: Any, kwargs: Any, call: Callable[..., Any]) -> Any:
        """call(*args, **kwargs) of the module at path, with everything tapped."""
        site = _Site(path, self.open[-1] if self.open else None, _settings(module), type(module))
        self.sites.append(site)
        names = iter(_paths(bound(module.__call__, args, kwargs)))
        tap = functools.partial(self._tap, site)
        # the names are those of the parameters; the structure stays that of the call
        args, kwargs = mapped((args, kwargs), lambda _, x: tap(f'inputs/{next(names)}', x))
        self.open.append(site)
        try:
            outputs = call(*args, **kwargs)
        finally:
            self.open.pop()
        return mapped(outputs, lambda path, x: tap(f'outputs/{path}', x))

    def parameter(self, path: str, name: str, value: Any) -> Any:
        """A parameter of the module at path, tapped for the innermost call of it."""
        sites = [site for site in self.open if site.path == path]
        return self._tap(sites[-1], f'params/{name}', value) if sites else value

    def calls(self) -> list[ModuleCall]:
        """All calls of which anything was seen, in order of execution: loops iteration by iteration."""
        seen = [site for site in self.sites if any(subtree(site.values, 'outputs').values())]
        visits: list[tuple[_Site, int]] = []
        for count, sites in itertools.groupby(seen, key=lambda site: site.visits):
            body = list(sites)
            visits += [(site, i) for i in range(count) for site in body]
        orders = {visit: order for order, visit in enumerate(visits)}
        return [
            ModuleCall(
                site.path,
                order,
                _parent(site, i, orders),
                {name: seen[min(i, len(seen) - 1)] for name, seen in site.values.items() if seen},
                # the iterations of a loop are differentiated backwards
                {name: seen[::-1][min(i, len(seen) - 1)] for name, seen in site.cotangents.items()},
                frozenset(site.live),
                frozenset(name for name, seen in site.values.items() if not seen),
                site.settings,
                site.cls,
            )
            for (site, i), order in orders.items()
        ]

    def _tap(self, site: _Site, name: str, leaf: Any) -> Any:
        """The leaf itself, seen; its cotangent, too, where it is differentiated."""
        import jax
        import jax.numpy as jnp

        if not is_array(leaf):
            return leaf
        array = jnp.asarray(leaf)
        site.values.setdefault(name, [])  # in the order of the call, not of the callbacks
        if not jnp.issubdtype(array.dtype, jnp.floating):
            return seen_by_host(site.values, name, jax.lax.stop_gradient(array))

        @jax.custom_vjp
        def tapped(x: Any) -> Any:
            return seen_by_host(site.values, name, x)

        def forward(x: Any) -> Any:
            site.live.add(name)
            return seen_by_host(site.values, name, x), None

        def backward(_: None, cotangent: Any) -> Any:
            return (seen_by_host(site.cotangents, name, cotangent),)

        tapped.defvjp(forward, backward)
        return tapped(array)


@contextlib.contextmanager
def recorded() -> Iterator[Recorder]:
    """Record every call of a linen or NNX module that is traced within this context."""
    recorder = Recorder()
    with _linen(recorder), _nnx(recorder):
        yield recorder


def module_calls(loss: ReferenceLoss) -> list[ModuleCall]:
    """The calls of all modules in the reference's loss, computed and differentiated in float64."""
    import jax

    with recorded() as recorder:
        compiled(jax.value_and_grad(loss.function, has_aux=True), loss)
    return recorder.calls()


def compiled(function: Callable[..., Any], loss: ReferenceLoss) -> Any:
    """function(params, data) of the reference's loss, compiled as fast as can be, in float64."""
    import jax

    options = compiler_options() if jax.default_backend() == 'cpu' else None
    with jax.enable_x64(True):
        results = jax.jit(function, compiler_options=options)(loss.params, loss.data)
        return jax.block_until_ready(results)  # type: ignore[no-untyped-call]


def seen_by_host(log: Log, name: str, array: Any) -> Any:
    """The array, by way of the host, where its values are appended to log[name] whenever it is computed."""
    import jax
    import jax.numpy as jnp

    def keep(words: Any) -> Any:
        words = np.asarray(words)
        log.setdefault(name, []).append(_from_words(words, array.dtype))
        return words

    # as words of 32 bits: the host's thread has x64 off, and would round what is wider
    wide = array.dtype.itemsize == 8
    words = jax.lax.bitcast_convert_type(array, jnp.uint32) if wide else array
    shape = jax.ShapeDtypeStruct(words.shape, words.dtype)  # type: ignore[no-untyped-call]
    words = jax.pure_callback(keep, shape, words, vmap_method='broadcast_all')
    return jax.lax.bitcast_convert_type(words, array.dtype) if wide else words


def _from_words(words: np.ndarray, dtype: Any) -> np.ndarray:
    if words.dtype == dtype:
        return words.copy()
    array: np.ndarray = np.ascontiguousarray(words).view(dtype)[..., 0]
    return array.copy()


def _parent(site: _Site, visit: int, orders: dict[tuple[_Site, int], int]) -> int | None:
    parent = site.parent
    return None if parent is None else orders.get((parent, min(visit, parent.visits - 1)))


def _settings(module: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if isinstance(value, PLAIN)}


def _paths(tree: Any) -> list[str]:
    found: list[str] = []
    mapped(tree, lambda path, _: found.append(path))
    return found


def _linen(recorder: Recorder) -> contextlib.AbstractContextManager[Any]:
    """Tap the calls of linen modules and the parameters that they make or look up."""
    import flax.linen as nn

    param = nn.Module.param

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if context.method_name != '__call__':
            return call(*args, **kwargs)
        path = '/'.join(context.module.path)
        return recorder.called(path, context.module, args, kwargs, call)

    def tapped(self: Any, name: str, *args: Any, **kwargs: Any) -> Any:
        value = param(self, name, *args, **kwargs)
        return recorder.parameter('/'.join(self.path), name, value) if is_array(value) else value

    stack = contextlib.ExitStack()
    stack.enter_context(nn.intercept_methods(intercept))
    stack.enter_context(mock.patch.object(nn.Module, 'param', tapped))
    return stack


@contextlib.contextmanager
def _nnx(recorder: Recorder) -> Iterator[None]:
    """Tap the calls of NNX modules; the outermost one knows the paths of those in it."""
    from flax import nnx

    paths: dict[int, str] = {}

    def wrap(call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def tapped(self: Any, *args: Any, **kwargs: Any) -> Any:
            if not recorder.open:
                paths.clear()
                paths.update(
                    (id(module), '/'.join(map(str, path))) for path, module in nnx.iter_modules(self)
                )
            path = paths.get(id(self))
            bare = functools.partial(call, self)
            return bare(*args, **kwargs) if path is None else recorder.called(path, self, args, kwargs, bare)

        return tapped

    with contextlib.ExitStack() as stack:
        for cls in _subclasses(nnx.Module):
            if '__call__' in vars(cls):
                stack.enter_context(mock.patch.object(cls, '__call__', wrap(vars(cls)['__call__'])))
        yield


def _subclasses(cls: type) -> set[type]:
    children: set[type] = set(cls.__subclasses__())
    return children.union(*map(_subclasses, children))
