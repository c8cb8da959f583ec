"""The port: the same classifier in PyTorch, images in NCHW."""

from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

optimizer = partial(torch.optim.SGD, lr=0.1, momentum=0.9)


class BatchNorm2d(nn.BatchNorm2d):
    """Keeps the biased variance of the batch, as Flax does; torch keeps n / (n - 1) of it."""

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        with torch.no_grad():
            self.running_mean.lerp_(x.mean(dim=(0, 2, 3)), self.momentum)
            self.running_var.lerp_(x.var(dim=(0, 2, 3), correction=0), self.momentum)
        return F.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.eps)


class CNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.norm1 = BatchNorm2d(4, momentum=0.1)  # parity: the share taken, Flax's is the share kept
        self.conv2 = nn.Conv2d(4, 6, 3, stride=2, bias=False)
        self.norm2 = BatchNorm2d(6, momentum=0.1)
        self.head = nn.Linear(6, 5)

    def forward(self, x):
        x = F.relu(self.norm1(self.conv1(x)))
        x = F.pad(x, (0, 1, 0, 1))  # parity: SAME at stride 2 pads the end alone, if the size is even
        x = F.relu(self.norm2(self.conv2(x)))
        return self.head(x.mean(dim=(2, 3)))


def apply(model, batch):
    return model.eval()(batch['images'].permute(0, 3, 1, 2))


def loss(model, batch):
    logits = model.train()(batch['images'].permute(0, 3, 1, 2))
    return F.cross_entropy(logits, batch['labels'].long())
