"""A small model in both frameworks, and the optimisers that step it: what the optimiser tests go through."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as fnn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from torch import nn

import weight_bridge
from weight_bridge.paths import flatten

LR, DECAY, CLIP = 3e-2, 0.1, 0.2


class FlaxNet(fnn.Module):
    @fnn.compact
    def __call__(self, x):
        x = fnn.LayerNorm()(jnp.tanh(fnn.Dense(3)(x)))
        return fnn.Dense(2)(x) + self.param('offset', fnn.initializers.zeros, (2,))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.Dense_0, self.LayerNorm_0 = nn.Linear(4, 3), nn.LayerNorm(3, eps=1e-6)
        self.Dense_1, self.offset = nn.Linear(3, 2), nn.Parameter(torch.zeros(2))

    def forward(self, x):
        return self.Dense_1(self.LayerNorm_0(torch.tanh(self.Dense_0(x)))) + self.offset


class Lion(torch.optim.Optimizer):
    """Torch has none: the algorithm of Chen et al. 2023 with decoupled decay, its state as ports name it."""

    def __init__(self, params, lr, betas=(0.9, 0.99), weight_decay=0.0):
        super().__init__(params, {'lr': lr, 'betas': betas, 'weight_decay': weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            b1, b2 = group['betas']
            for param in group['params']:
                state = self.state[param]
                momentum = state.setdefault('exp_avg', torch.zeros_like(param))
                update = torch.sign((1 - b1) * param.grad + b1 * momentum) + group['weight_decay'] * param
                param.sub_(group['lr'] * update)
                momentum.mul_(b2).add_((1 - b2) * param.grad)


def schedule(count):
    return LR * 0.9**count


def labels(params):
    """The kernels are one partition, everything else the other."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: 'kernel' if path[-1].key == 'kernel' else 'other', params
    )


def kernels(params):
    return jax.tree.map(lambda label: label == 'kernel', labels(params))


def partitioned(**transforms):
    return optax.multi_transform(transforms, labels)


def groups(module, **options):
    """The same partitions as parameter groups of torch, each with its options."""
    params = {'kernel': [module.Dense_0.weight, module.Dense_1.weight]}
    params['other'] = [p for p in module.parameters() if not any(p is kernel for kernel in params['kernel'])]
    return [{'params': params[label], **options[label]} for label in options]


@dataclass(frozen=True)
class Case:
    """An optimiser in Optax and in torch; `counted`: the count of steps must be passed to_torch, to_optax."""

    tx: Callable[[], optax.GradientTransformation]
    port: Callable[[nn.Module], torch.optim.Optimizer]
    counted: tuple[bool, bool] = (False, False)
    clip: bool = False
    scheduled: bool = False
    exact: bool = True


def _rmsprop(**options):
    return optax.rmsprop(LR, decay=0.99, eps=1e-8, eps_in_sqrt=False, **options)


CASES = {
    'adam': Case(lambda: optax.adam(LR), lambda m: torch.optim.Adam(m.parameters(), LR)),
    'adamw': Case(
        lambda: optax.adamw(LR, weight_decay=DECAY),
        lambda m: torch.optim.AdamW(m.parameters(), LR, weight_decay=DECAY),
    ),
    'adam with L2': Case(
        lambda: optax.chain(optax.add_decayed_weights(DECAY), optax.adam(LR)),
        lambda m: torch.optim.Adam(m.parameters(), LR, weight_decay=DECAY),
    ),
    'sgd': Case(lambda: optax.sgd(LR), lambda m: torch.optim.SGD(m.parameters(), LR)),
    'momentum': Case(
        lambda: optax.sgd(LR, momentum=0.9), lambda m: torch.optim.SGD(m.parameters(), LR, momentum=0.9)
    ),
    'nesterov': Case(
        lambda: optax.chain(optax.add_decayed_weights(DECAY), optax.sgd(LR, momentum=0.9, nesterov=True)),
        lambda m: torch.optim.SGD(m.parameters(), LR, momentum=0.9, nesterov=True, weight_decay=DECAY),
    ),
    'rmsprop': Case(
        _rmsprop, lambda m: torch.optim.RMSprop(m.parameters(), LR, alpha=0.99), counted=(True, False)
    ),
    'rmsprop centered': Case(
        lambda: _rmsprop(centered=True),
        lambda m: torch.optim.RMSprop(m.parameters(), LR, alpha=0.99, centered=True),
        counted=(True, False),
    ),
    'rmsprop momentum': Case(
        lambda: _rmsprop(momentum=0.9),
        lambda m: torch.optim.RMSprop(m.parameters(), LR, alpha=0.99, momentum=0.9),
        counted=(True, False),
        exact=False,
    ),
    'rmsprop momentum in order': Case(
        lambda: optax.chain(
            optax.scale_by_stddev(decay=0.99, eps=1e-8, eps_in_sqrt=False),
            optax.trace(0.9),
            optax.scale_by_learning_rate(schedule),
        ),
        lambda m: torch.optim.RMSprop(m.parameters(), LR, alpha=0.99, momentum=0.9, centered=True),
        scheduled=True,
    ),
    'lion': Case(
        lambda: optax.lion(LR, weight_decay=DECAY),
        lambda m: Lion(m.parameters(), LR, weight_decay=DECAY),
        counted=(False, True),
    ),
    'clip': Case(
        lambda: optax.chain(optax.clip_by_global_norm(CLIP), optax.sgd(LR, momentum=0.9)),
        lambda m: torch.optim.SGD(m.parameters(), LR, momentum=0.9),
        clip=True,
    ),
    'schedule': Case(
        lambda: optax.chain(optax.clip_by_global_norm(CLIP), optax.adamw(schedule, weight_decay=DECAY)),
        lambda m: torch.optim.AdamW(m.parameters(), LR, weight_decay=DECAY),
        clip=True,
        scheduled=True,
    ),
    'schedule of sgd': Case(
        lambda: optax.sgd(schedule, momentum=0.9),
        lambda m: torch.optim.SGD(m.parameters(), LR, momentum=0.9),
        counted=(False, True),
        scheduled=True,
    ),
    'inject adamw': Case(
        lambda: optax.inject_hyperparams(optax.adamw)(LR, b1=0.8, weight_decay=DECAY),
        lambda m: torch.optim.AdamW(m.parameters(), LR, betas=(0.8, 0.999), weight_decay=DECAY),
    ),
    'inject rmsprop': Case(
        lambda: optax.inject_hyperparams(optax.rmsprop)(LR, decay=0.99, eps_in_sqrt=False, momentum=0.9),
        lambda m: torch.optim.RMSprop(m.parameters(), LR, alpha=0.99, momentum=0.9),
        exact=False,
    ),
    'inject a schedule': Case(
        lambda: optax.inject_hyperparams(optax.sgd)(schedule, momentum=0.9),
        lambda m: torch.optim.SGD(m.parameters(), LR, momentum=0.9),
        counted=(False, True),
        scheduled=True,
    ),
    'partitions': Case(
        lambda: partitioned(kernel=optax.adamw(LR, weight_decay=DECAY), other=optax.adamw(1e-2, 0.5)),
        lambda m: torch.optim.AdamW(
            groups(
                m,
                kernel={'lr': LR, 'weight_decay': DECAY},
                other={'lr': 1e-2, 'betas': (0.5, 0.999), 'weight_decay': 1e-4},
            )
        ),
    ),
    'frozen': Case(
        lambda: partitioned(kernel=optax.adam(LR), other=optax.set_to_zero()),
        lambda m: torch.optim.Adam(groups(m, kernel={'lr': LR})),
    ),
    'inject in partitions': Case(
        lambda: partitioned(
            kernel=optax.inject_hyperparams(optax.adam)(LR),
            other=optax.inject_hyperparams(optax.adam)(1e-2, b2=0.9),
        ),
        lambda m: torch.optim.Adam(groups(m, kernel={'lr': LR}, other={'lr': 1e-2, 'betas': (0.9, 0.9)})),
    ),
    'masked': Case(
        lambda: optax.chain(optax.masked(optax.trace(0.9), kernels), optax.scale(-LR)),
        lambda m: torch.optim.SGD(groups(m, kernel={'momentum': 0.9}, other={}), LR),
    ),
    'masked decay': Case(
        lambda: optax.adamw(LR, weight_decay=DECAY, mask=kernels),
        lambda m: torch.optim.AdamW(
            groups(m, kernel={'weight_decay': DECAY}, other={'weight_decay': 0.0}), LR
        ),
    ),
}


class Reference:
    """The Flax model with its Optax state."""

    def __init__(self, case, params, model=None):
        self.params = params
        self.tx, self.step_once = transformation(case, model or FlaxNet())
        self.state = self.tx.init(params)

    def step(self, x, y):
        self.params, self.state = self.step_once(self.params, self.state, x, y)


@functools.cache
def transformation(case, model):
    """The case's, and a step of the model with it; made once, because each would be compiled again."""
    tx = case.tx()

    def step(params, state, x, y):
        def loss(params):
            return ((model.apply({'params': params}, x) - y) ** 2).mean()

        updates, state = tx.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    return tx, jax.jit(step)


class Port:
    """The torch model with its optimiser and, where the case has one, its scheduler."""

    def __init__(self, case, params, module=None, mapping=None):
        self.case, self.mapping = case, mapping
        self.module = weight_bridge.to_torch(params, module or Net(), mapping=mapping)
        self.optimizer = case.port(self.module)
        self.schedule(0)

    def schedule(self, count):
        """The learning rate of the step after `count` steps, which torch keeps in its schedulers."""
        for group in self.optimizer.param_groups if self.case.scheduled else []:
            group['lr'] = schedule(count)

    def step(self, x, y, count):
        self.schedule(count)
        self.module.zero_grad()
        ((self.module(torch.from_numpy(x)) - torch.from_numpy(y)) ** 2).mean().backward()
        grads = [param.grad for param in self.module.parameters() if param.requires_grad]
        # torch's own clip_grad_norm_ adds 1e-6 to the norm, optax's does not
        scale = (
            min(1.0, CLIP / float(torch.sqrt(sum((g**2).sum() for g in grads)))) if self.case.clip else 1.0
        )
        for grad in grads:
            grad.mul_(scale)
        self.optimizer.step()


def batch(rng):
    return rng.normal(size=(8, 4)), rng.normal(size=(8, 2))


def difference(reference, port):
    """The largest difference between the parameters of both sides."""
    ours = flatten(weight_bridge.to_flax(port.module, mapping=port.mapping))
    theirs = flatten(reference.params)
    assert ours.keys() == theirs.keys()
    return np.max([np.abs(ours[path] - np.asarray(theirs[path])).max() for path in ours])


def ten_steps(reference, port, rng, count):
    """The largest difference of a parameter over ten steps of both sides on the same batches."""
    worst = 0.0
    for done in range(count, count + 10):
        x, y = batch(rng)
        reference.step(x, y)
        port.step(x, y, done)
        worst = np.maximum(worst, difference(reference, port))  # NaN stays NaN, unlike in max
    return worst


def leaves(tree: Any) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
