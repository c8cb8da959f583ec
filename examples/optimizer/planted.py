"""The port's update with a planted bug: torch's own clipping, which adds 1e-6 to the norm."""

from torch import nn

from examples.optimizer.port import loss


def update(model, optimizer, batch):
    optimizer.zero_grad()
    value = loss(model, batch)
    value.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    optimizer.step()
    return {'loss': value}
