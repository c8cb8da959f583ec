"""Ports of IQL, each with one classic mistake.

They are pairs like any other: `parity run parity_tests.engine.broken_ports:LAYER_NORM_EPSILON`.
"""

import dataclasses

import torch

from parity_tests.engine.other_default import OtherDefault
from torch_agents.agent import expectile_loss
from torch_agents.iql import IQLAgent
from torch_agents.layers import LayerNorm
from torch_agents.pairs import IQL
from torch_agents.train_state import TrainState


class LayerNormEpsilon(IQLAgent):
    """LayerNorm left at torch's default epsilon, 1e-5 instead of Flax's 1e-6."""

    @classmethod
    def create(cls, *args, **kwargs):
        agent = super().create(*args, **kwargs)
        for module in agent.network.modules():
            if isinstance(module, LayerNorm):
                module.eps = 1e-5
        return agent


class MeanForMin(IQLAgent):
    """The value regresses towards the mean of the target critics instead of the smaller one."""

    def value_loss(self, batch, grad_params):
        q = self.network.select('target_critic')(batch['observations'], batch['actions']).mean(axis=0)
        v = self.network.select('value')(batch['observations'], params=grad_params)
        value_loss = expectile_loss(q - v, q - v, self.config['expectile']).mean()
        info = {'value_loss': value_loss, 'v_mean': v.mean(), 'v_max': v.max(), 'v_min': v.min()}
        return value_loss, info


class LateTargets(TrainState):
    """Targets follow the values from after the step instead of those from before it."""

    def apply_loss_fn(self, loss_fn, targets=None, tau=None):
        _, info = super().apply_loss_fn(loss_fn)
        for target, online in (targets or {}).items():
            self.moving_average(target, online, tau)
        return self, info


class SkippingAdam(torch.optim.Adam):
    """Parameters that a loss does not use have gradient None, and are skipped."""

    def step(self, closure=None):
        for parameter in (p for group in self.param_groups for p in group['params']):
            if parameter.grad is not None and not parameter.grad.any():
                parameter.grad = None
        return super().step(closure)


class TargetAfterStep(IQLAgent):
    """IQL with LateTargets."""

    @classmethod
    def create(cls, *args, **kwargs):
        agent = super().create(*args, **kwargs)
        agent.network.__class__ = LateTargets
        return agent


class NoneForZero(IQLAgent):
    """IQL with SkippingAdam."""

    @classmethod
    def create(cls, *args, **kwargs):
        agent = super().create(*args, **kwargs)
        agent.network.tx = SkippingAdam(agent.network.parameters(), lr=agent.config['lr'])
        return agent


LAYER_NORM_EPSILON = dataclasses.replace(IQL, name='layer_norm_epsilon', port=LayerNormEpsilon)
MEAN_FOR_MIN = dataclasses.replace(IQL, name='mean_for_min', port=MeanForMin)
TARGET_AFTER_STEP = dataclasses.replace(IQL, name='target_after_step', port=TargetAfterStep)
NONE_FOR_ZERO = dataclasses.replace(IQL, name='none_for_zero', port=NoneForZero)


class LeakyTarget(IQLAgent):
    """The value loss differentiates through the target critic: the loss is the same, the gradient is not."""

    def value_loss(self, batch, grad_params):
        q1, q2 = self.network.select('target_critic')(
            batch['observations'], batch['actions'], params=grad_params
        )
        q = torch.minimum(q1, q2)
        v = self.network.select('value')(batch['observations'], params=grad_params)
        value_loss = expectile_loss(q - v, q - v, self.config['expectile']).mean()
        info = {'value_loss': value_loss, 'v_mean': v.mean(), 'v_max': v.max(), 'v_min': v.min()}
        return value_loss, info


class NoTemperature(IQLAgent):
    """The temperature is accepted and forgotten."""

    def sample_actions(self, observations, seed=None, temperature=1.0):
        return super().sample_actions(observations, seed=seed)


class HalfPrecision(IQLAgent):
    """Every layer rounds its output to bfloat16."""

    @classmethod
    def create(cls, *args, **kwargs):
        agent = super().create(*args, **kwargs)
        for module in agent.network.modules():
            module.register_forward_hook(lambda module, inputs, output: _rounded(output))
        return agent


def _rounded(output):
    return output.bfloat16().to(output.dtype) if isinstance(output, torch.Tensor) else output


class TorchInitialValues(IQLAgent):
    """Initial values from torch's generator."""

    @classmethod
    def create(cls, *args, **kwargs):
        agent = super().create(*args, **kwargs)
        for parameter in agent.network.parameters():
            torch.nn.init.uniform_(parameter, -0.1, 0.1)
        return agent


class BiasesOfOne(IQLAgent):
    """The biases of one network start with ones."""

    @classmethod
    def create(cls, *args, **kwargs):
        agent = super().create(*args, **kwargs)
        for name, parameter in agent.network.named_parameters():
            if 'modules_value' in name and name.endswith('bias'):
                torch.nn.init.ones_(parameter)
        return agent


class TargetOfItsOwn(IQLAgent):
    """The target critic starts with values of its own."""

    @classmethod
    def create(cls, *args, **kwargs):
        agent = super().create(*args, **kwargs)
        for name, parameter in agent.network.named_parameters():
            if 'modules_target_critic' in name and parameter.ndim > 1:
                torch.nn.init.uniform_(parameter, -0.1, 0.1)
        return agent


class ManyRows(TargetOfItsOwn):
    """Wrong for a large batch only."""

    @classmethod
    def create(cls, seed, observations, *args, **kwargs):
        right = len(observations) < 50
        create = IQLAgent.create if right else super().create
        return create(seed, observations, *args, **kwargs)


MANY_ROWS = dataclasses.replace(IQL, name='many_rows', port=ManyRows)
BIASES_OF_ONE = dataclasses.replace(IQL, name='biases_of_one', port=BiasesOfOne)
TARGET_OF_ITS_OWN = dataclasses.replace(IQL, name='target_of_its_own', port=TargetOfItsOwn)
LEAKY_TARGET = dataclasses.replace(IQL, name='leaky_target', port=LeakyTarget)
NO_TEMPERATURE = dataclasses.replace(IQL, name='no_temperature', port=NoTemperature)
HALF_PRECISION = dataclasses.replace(IQL, name='half_precision', port=HalfPrecision)
TORCH_INITIAL_VALUES = dataclasses.replace(IQL, name='torch_initial_values', port=TorchInitialValues)
OTHER_DEFAULT = dataclasses.replace(IQL, name='other_default', port=OtherDefault)


class Raising(IQLAgent):
    """Not finished."""

    def value_loss(self, batch, grad_params):
        raise NotImplementedError('not ported yet')


RAISING = dataclasses.replace(IQL, name='raising', port=Raising)
