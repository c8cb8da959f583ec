"""The pair; both sides have the same names for their layers, so that it needs no bridge."""

from dataclasses import replace

from examples.cnn_batchnorm import planted, port, reference
from parity import JaxModel, ModelPair, TorchModel

PAIR = ModelPair(
    name='cnn_batchnorm',
    reference=JaxModel(
        init=reference.init,
        apply=reference.apply,
        loss=reference.loss,
        optimizer=reference.optimizer,
        state=('batch_stats',),
    ),
    port=TorchModel(port.CNN, apply=port.apply, loss=port.loss, optimizer=port.optimizer),
    batch={'images': 'B 8 8 3', 'labels': 'B | below 5'},
)
PLANTED = replace(PAIR, name='cnn_planted', port=replace(PAIR.port, module=planted.CNN))
