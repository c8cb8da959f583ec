"""The reference of a ModelPair: functions of a pytree of variables, and an optax transformation."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from parity import trees
from parity.backends.compiling import on
from parity.backends.jax_side import JaxSide
from parity.backends.pytrees import Skeleton, named_leaves, split
from parity.draws import draw_leaves, logged_draws
from parity.sides import NO_KEY, Calls, Mode, Networks, State, UpdateCall, is_term
from parity.trees import Arrays

if TYPE_CHECKING:
    from parity.models import JaxModel

# Where optax keeps what has the shapes of the parameters, and how a State calls it.
SLOTS = {'mu': 'opt_mu', 'trace': 'opt_mu', 'nu': 'opt_nu'}


class JaxModelSide(JaxSide):
    """A JaxModel; its parameters are all floating arrays of its variables, by their paths."""

    target: 'JaxModel'
    skeleton: Skeleton
    fixed: Arrays

    def like(self, mode: Mode) -> 'JaxModelSide':
        """The same model in another mode."""
        side = JaxModelSide(self.target, mode)
        side.skeleton, side.fixed, side.device = self.skeleton, self.fixed, self.device
        side.params = trees.astype(self.params, side.dtype)
        side.opt_state = side.fresh()
        side.restore(self.state().astype(side.dtype))
        return side

    def create(self, seed: int, batch: Arrays, config: dict[str, Any]) -> None:
        import jax

        with jax.enable_x64(False), on(self.device):
            self.skeleton, arrays = split(self.target.init(jax.random.PRNGKey(seed)))
        self.params = {path: array for path, array in arrays.items() if array.dtype.kind == 'f'}
        self.fixed = {path: array for path, array in arrays.items() if path not in self.params}
        self.opt_state = self.fresh()

    def fresh(self) -> Any:
        """The optimiser's state before the first step."""
        return self._run(_init, self.target, self.skeleton)(self.params) if self.target.optimizer else ()

    def state(self) -> State:
        slots: dict[str, Arrays] = {'opt_mu': {}, 'opt_nu': {}}
        counts: dict[str, np.ndarray] = {}
        found = list(_places(self.opt_state))
        steps = {parent: np.asarray(leaf) for parent, slot, _, leaf in found if slot == 'count'}
        for parent, slot, path, leaf in found:
            if slot in SLOTS:
                slots[SLOTS[slot]][path] = np.asarray(leaf)
                counts |= {path: steps[parent]} if parent in steps else {}
        return State(self.params, slots['opt_mu'], slots['opt_nu'], counts, NO_KEY)

    def restore(self, state: State) -> None:
        import jax

        kept = {'opt_mu': state.opt_mu, 'opt_nu': state.opt_nu}
        leaves = []
        for _, slot, path, leaf in _places(self.opt_state):
            if slot in SLOTS:
                leaf = kept[SLOTS[slot]][path]
            leaves.append(state.count if slot == 'count' and state.opt_count else leaf)
        self.params = state.params
        self.opt_state = jax.tree.unflatten(jax.tree.structure(self.opt_state), leaves)

    def forward(self, networks: Networks, arrays: Arrays) -> Arrays:
        outputs = self._run(outputs_of, self.target, self.skeleton)(self.fixed, self.params, arrays)
        return trees.flat(outputs, np.asarray)

    def losses(self, calls: Calls, batch: Arrays, key: np.ndarray) -> tuple[Arrays, Arrays]:
        run = self._run(_losses, self.target, self.skeleton)
        values, grads = run(self.fixed, self.params, batch)
        prefix = calls[0].name
        return trees.flat(values, np.asarray, prefix), trees.flat(grads, np.asarray, prefix)

    def reach(self, calls: Calls, batch: Arrays, key: np.ndarray) -> Arrays:
        sizes = self._run(_reach, self.target, self.skeleton)(self.fixed, self.params, batch)
        return trees.flat(sizes, np.asarray, calls[0].name)

    def update(self, call: UpdateCall, batch: Arrays) -> Arrays:
        run = self._run(_update, self.target, self.skeleton)
        self.params, self.opt_state, info = run(self.fixed, self.params, self.opt_state, batch)
        self.params = trees.flat(self.params, np.asarray)
        return trees.flat(info, np.asarray)

    def longest_step(self, config: dict[str, Any]) -> float:
        """The first step of the optimiser on a gradient of ones: the learning rate of Adam."""
        return float(self._run(_longest_step, self.target, self.skeleton)(self.params))


def _places(opt_state: Any) -> Iterator[tuple[str, str, str, Any]]:
    """(the state it is in, field, path of the parameter, leaf), for every leaf in order."""
    import jax

    for path, leaf in jax.tree_util.tree_flatten_with_path(opt_state)[0]:
        names = [getattr(key, 'name', None) for key in path]
        at = next((i for i, name in enumerate(names) if name in SLOTS), len(path) - 1)
        parent, rest = (
            jax.tree_util.keystr(part, simple=True, separator='/') for part in (path[:at], path[at + 1 :])
        )
        yield parent, str(names[at]), rest, leaf


def trained(model: 'JaxModel', params: dict[str, Any]) -> dict[str, Any]:
    """The parameters that the optimiser steps."""
    return {
        path: leaf
        for path, leaf in params.items()
        if not any(path == start or path.startswith(f'{start}/') for start in model.state)
    }


def _tree(skeleton: Skeleton, leaves: dict[str, Any]) -> Any:
    """The variables as an optimiser sees them: None in the place of what is not trained."""
    return skeleton.treedef.unflatten(leaves.get(path) for path in skeleton.paths)


def _init(model: 'JaxModel', skeleton: Skeleton, params: dict[str, Any]) -> Any:
    assert model.optimizer is not None
    return model.optimizer.init(_tree(skeleton, trained(model, params)))


def outputs_of(
    model: 'JaxModel', skeleton: Skeleton, fixed: dict[str, Any], params: dict[str, Any], batch: Any
) -> dict[str, Any]:
    """The leaves that the model returns, by path."""
    assert model.apply is not None
    return trees.real_leaves(model.apply(skeleton.fill({**fixed, **params}), batch))


def call_loss(
    model: 'JaxModel', skeleton: Skeleton, fixed: dict[str, Any], params: dict[str, Any], batch: Any
) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """The loss, its info, and the parameters after the call, of which only the untrained ones may change."""
    assert model.loss is not None
    result = model.loss(skeleton.fill({**fixed, **params}), batch)
    loss, info, *after = result if isinstance(result, tuple) else (result, {})
    kept = named_leaves(after[0]) if after else params
    return loss, dict(info), {path: kept[path] for path in params}


def _differentiated(
    model: 'JaxModel', skeleton: Skeleton, fixed: dict[str, Any], params: dict[str, Any], batch: Any
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Values, gradients of what is trained, and the parameters after the call."""
    import jax

    def loss_fn(leaves: dict[str, Any]) -> tuple[Any, Any]:
        with logged_draws(jax.random) as draws:
            loss, info, after = call_loss(model, skeleton, fixed, {**params, **leaves}, batch)
        return loss, ({'info': info, 'draws': draw_leaves(draws)}, after)

    leaves = trained(model, params)
    (loss, (values, after)), grads = jax.value_and_grad(loss_fn, has_aux=True)(leaves)
    return {'loss': loss, **values}, grads, {**after, **leaves}


def _losses(
    model: 'JaxModel', skeleton: Skeleton, fixed: dict[str, Any], params: dict[str, Any], batch: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    values, grads, _ = _differentiated(model, skeleton, fixed, params, batch)
    return values, grads


def _reach(
    model: 'JaxModel', skeleton: Skeleton, fixed: dict[str, Any], params: dict[str, Any], batch: Any
) -> dict[str, Any]:
    """{term: {parameter: the largest gradient}}, for the loss and each info value that is a term of it."""
    import jax
    import jax.numpy as jnp

    def terms(leaves: dict[str, Any]) -> dict[str, Any]:
        loss, info, _ = call_loss(model, skeleton, fixed, {**params, **leaves}, batch)
        return {'loss': loss, **{f'info.{name}': value for name, value in info.items() if is_term(name)}}

    leaves = trained(model, params)
    values, linear = jax.linearize(terms, leaves)
    sizes: dict[str, Any] = {}
    for term, value in values.items():
        transposed = jax.linear_transpose(lambda tangents, term=term: linear(tangents)[term], leaves)
        (grads,) = transposed(jnp.ones_like(value))
        sizes[term] = {trees.dotted(path): jnp.abs(grad).max(initial=0.0) for path, grad in grads.items()}
    return sizes


def _update(
    model: 'JaxModel',
    skeleton: Skeleton,
    fixed: dict[str, Any],
    params: dict[str, Any],
    opt_state: Any,
    batch: Any,
) -> tuple[dict[str, Any], Any, dict[str, Any]]:
    if model.update is not None:
        variables, opt_state, info = model.update(skeleton.fill({**fixed, **params}), opt_state, batch)
        after = named_leaves(variables)
        return {path: after[path] for path in params}, opt_state, dict(info)
    assert model.optimizer is not None
    values, grads, after = _differentiated(model, skeleton, fixed, params, batch)
    leaves = trained(model, params)
    tree = _tree(skeleton, leaves)
    updates, opt_state = model.optimizer.update(_tree(skeleton, grads), opt_state, tree)
    steps = named_leaves(updates)
    stepped = {path: (leaf + steps[path]).astype(leaf.dtype) for path, leaf in leaves.items()}
    return {**after, **stepped}, opt_state, {'loss': values['loss'], **values['info']}


def _longest_step(model: 'JaxModel', skeleton: Skeleton, params: dict[str, Any]) -> Any:
    import jax
    import jax.numpy as jnp

    assert model.optimizer is not None
    zeros = _tree(skeleton, {path: jnp.zeros_like(leaf) for path, leaf in trained(model, params).items()})
    ones = jax.tree.map(jnp.ones_like, zeros)
    updates, _ = model.optimizer.update(ones, model.optimizer.init(zeros), zeros)
    return jnp.stack([jnp.abs(leaf).max(initial=0.0) for leaf in jax.tree.leaves(updates)]).max()
