"""The pair; Equinox lays its weights out as torch does, so that the bridge only names them."""

from dataclasses import replace

from examples.flow_sampler import planted, port, reference
from parity import JaxModel, ModelPair, TorchModel


def bridge(model):
    return {
        'hidden.weight': model.hidden.weight,
        'hidden.bias': model.hidden.bias,
        'out.weight': model.out.weight,
        'out.bias': model.out.bias,
    }


PAIR = ModelPair(
    name='flow_sampler',
    reference=JaxModel(
        init=reference.Velocity,
        apply=reference.sample,
        loss=reference.loss,
        optimizer=reference.optimizer,
    ),
    port=TorchModel(port.Velocity, apply=port.sample, loss=port.loss, optimizer=port.optimizer),
    batch={'x': 'B 2', 'key': '2 | key'},
    bridge=bridge,
    draws='torch_agents.random',
)
PLANTED = replace(PAIR, name='flow_planted', port=replace(PAIR.port, loss=planted.loss))
