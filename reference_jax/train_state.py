"""All networks of an agent in one parameter tree, stepped by one Adam."""

import functools
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax.core import FrozenDict


@functools.lru_cache
def adam(learning_rate):
    """The one optimiser of an agent; cached, because jit compiles anew for each new pair of functions."""
    return optax.adam(learning_rate, b1=0.9, b2=0.999, eps=1e-8)


class ModuleDict(nn.Module):
    """All networks of an agent as submodules of one, so that they share a tree: `modules_<name>/...`."""

    modules: FrozenDict[str, nn.Module]

    def __call__(self, *args, name=None, **kwargs):
        """The output of network `name`; without a name every network is called once, to initialise it."""
        if name is None:
            return {key: self.modules[key](*inputs) for key, inputs in kwargs.items()}
        return self.modules[name](*args, **kwargs)


class TrainState(flax.struct.PyTreeNode):
    """All networks of an agent (online and target), and the Adam that steps them as one tree.

    step:      the number of updates done, ().
    params:    {'modules_<name>': ...}, the tree of all parameters.
    opt_state: optax's Adam state over the whole tree.
    """

    step: Any
    params: Any
    opt_state: Any
    model_def: nn.Module = flax.struct.field(pytree_node=False)
    tx: optax.GradientTransformation = flax.struct.field(pytree_node=False)

    @classmethod
    def create(cls, networks, rng, learning_rate):
        """networks: {name: (module, example inputs)}, initialised in this order with the key rng."""
        model_def = ModuleDict(FrozenDict({name: module for name, (module, _) in networks.items()}))
        inputs = FrozenDict({name: tuple(map(example, args)) for name, (_, args) in networks.items()})
        params = init_params(model_def, inputs, rng)
        tx = adam(learning_rate)
        opt_state = jax.jit(tx.init)(params)  # zeros of each shape by itself would be a program each
        return cls(step=0, params=params, opt_state=opt_state, model_def=model_def, tx=tx)

    def __call__(self, *args, name, params=None, **kwargs):
        """The output of network `name`: trained if params are given, else frozen (the stored values)."""
        params = self.params if params is None else params
        return self.model_def.apply({'params': params}, *args, name=name, **kwargs)

    def select(self, name):
        """Network `name` as a function; pass `params=grad_params` to train it, nothing to read it frozen."""
        return functools.partial(self, name=name)

    def copy_params(self, source, target):
        """Set the parameters of network `target` equal to those of network `source`."""
        return self.replace(params={**self.params, f'modules_{target}': self.params[f'modules_{source}']})

    def set_param(self, name, value):
        """Set the parameter of network `name`, a Param. Its shape may change; its moments are then broadcast.

        optax would broadcast them itself, in the next update.
        """
        params = {**self.params, f'modules_{name}': {'value': value}}
        opt_state = optax.tree.map_params(
            self.tx, lambda moment, param: jnp.broadcast_to(moment, param.shape), self.opt_state, params
        )
        return self.replace(params=params, opt_state=opt_state)

    def apply_loss_fn(self, loss_fn, targets=None, tau=None):
        """One Adam step of the whole tree on loss_fn(params) -> (loss, info), then the target updates.

        targets: {target network: online network}; target <- tau * online + (1 - tau) * target, where both are
                 the values from before this step.
        Returns (new state, info with grad/max, grad/min and grad/norm added).
        """
        grads, info = jax.grad(loss_fn, has_aux=True)(self.params)
        info = {**info, **gradient_info(jax.tree.leaves(grads))}
        updates, opt_state = self.tx.update(grads, self.opt_state, self.params)
        params = optax.apply_updates(self.params, updates)
        for target, online in (targets or {}).items():
            params[f'modules_{target}'] = self.moving_average(target, online, tau)
        return self.replace(step=self.step + 1, params=params, opt_state=opt_state), info

    def moving_average(self, target, online, tau):
        """tau * online + (1 - tau) * target, of the stored values."""
        return jax.tree.map(
            lambda p, tp: p * tau + tp * (1 - tau),
            self.params[f'modules_{online}'],
            self.params[f'modules_{target}'],
        )


def example(x):
    """What an example input stands for: its shape and dtype; None and booleans stand for themselves."""
    if x is None or isinstance(x, bool):
        return x
    return jax.ShapeDtypeStruct(x.shape, jax.dtypes.canonicalize_dtype(x.dtype))


@functools.partial(jax.jit, static_argnums=(0, 1))
def init_params(model_def, inputs, rng):
    """The initial parameters of the networks for inputs like these; compiled once for equal arguments."""
    zeros = {
        name: [jnp.zeros(x.shape, x.dtype) if hasattr(x, 'shape') else x for x in args]
        for name, args in inputs.items()
    }
    return model_def.init(rng, **zeros)['params']


def gradient_info(grads):
    """Maximum and minimum over all entries, and the *sum* of the leaves' Euclidean norms."""
    return {
        'grad/max': jnp.stack([g.max() for g in grads]).max(),
        'grad/min': jnp.stack([g.min() for g in grads]).min(),
        'grad/norm': jnp.stack([(g**2).sum() ** 0.5 for g in grads]).sum(),
    }
