"""The pair; the bridge is the table in mapping.toml, proposed by `propose.py` and then used strictly."""

from dataclasses import replace
from pathlib import Path

from examples.transformer import planted, port, reference
from parity import JaxModel, ModelPair, TorchModel
from weight_bridge import Mapping

PAIR = ModelPair(
    name='transformer',
    reference=JaxModel(
        init=reference.init,
        apply=reference.apply,
        loss=reference.loss,
        optimizer=reference.optimizer,
    ),
    port=TorchModel(port.Transformer, apply=port.apply, loss=port.loss, optimizer=port.optimizer),
    batch={'tokens': 'B 7 | below 11'},
    bridge=Mapping.from_toml(Path(__file__).with_name('mapping.toml').read_text()),
)
PLANTED = replace(PAIR, name='transformer_planted', port=replace(PAIR.port, module=planted.Transformer))
