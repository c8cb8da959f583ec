"""The pair; the bridge is a table, which leaf is which parameter: the layers tell how it is laid out."""

from dataclasses import replace

from examples.optimizer import planted, port, reference
from parity import JaxModel, ModelPair, TorchModel

PAIR = ModelPair(
    name='optimizer',
    reference=JaxModel(init=reference.init, loss=reference.loss, optimizer=reference.optimizer),
    port=TorchModel(port.MLP, loss=port.loss, optimizer=port.optimizer, update=port.update),
    batch={'x': 'B 4', 'y': 'B'},
    bridge={
        'hidden.weight': 'hidden/kernel/value',
        'hidden.bias': 'hidden/bias/value',
        'out.weight': 'out/kernel/value',
        'out.bias': 'out/bias/value',
    },
)
PLANTED = replace(PAIR, name='optimizer_planted', port=replace(PAIR.port, update=planted.update))
