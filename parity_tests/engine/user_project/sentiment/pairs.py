"""What is compared with what."""

import dataclasses
from functools import partial

from parity import JaxModel, ModelPair, TorchModel
from sentiment import port, reference

SENTIMENT = ModelPair(
    name='sentiment',
    reference=JaxModel(reference.init, reference.logits, reference.loss, reference.optimizer),
    port=TorchModel(port.Classifier, port.logits, port.loss, port.optimizer),
    batch={'words': 'B T | below 20', 'labels': 'B | below 3'},
    counts=('accuracy',),
    bridge=lambda params: {
        'words.weight': params['embedding'],
        'head.0.weight': params['hidden']['w'].T,
        'head.0.bias': params['hidden']['b'],
        'head.2.weight': params['out']['w'].T,
        'head.2.bias': params['out']['b'],
    },
)

# torch's own default, where jax.nn.gelu approximates
EXACT_GELU = dataclasses.replace(
    SENTIMENT,
    name='exact_gelu',
    port=dataclasses.replace(SENTIMENT.port, module=partial(port.Classifier, approximate='none')),
)
