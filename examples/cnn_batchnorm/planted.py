"""The port with a planted bug: torch's own BatchNorm2d, whose running variance is the unbiased one."""

from torch import nn

from examples.cnn_batchnorm import port


class CNN(port.CNN):
    def __init__(self):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(4, momentum=0.1)
        self.norm2 = nn.BatchNorm2d(6, momentum=0.1)
