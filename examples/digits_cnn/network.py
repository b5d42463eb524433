"""A network for scikit-learn's handwritten digits: 8 x 8 grey images, ten classes."""

from __future__ import annotations

import torch
from torch import nn

EPOCHS = 40
BATCH = 64
RATE = 3e-3


def _layer(channels_in: int, channels_out: int, kernel: int = 3, groups: int = 1) -> nn.Sequential:
    """Convolution, normalization, ReLU; the same height and width."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


class Net(nn.Module):
    """Convolution, residual block with a ReLU after the sum, depthwise-separable convolution, mean pool, dense."""

    shape = (1, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.stem = _layer(1, 16)
        self.residual = nn.Sequential(_layer(16, 16), nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16))
        self.pool = nn.MaxPool2d(2)
        self.separable = nn.Sequential(_layer(16, 16, groups=16), _layer(16, 32, kernel=1))
        self.average = nn.AvgPool2d(2)
        self.classify = nn.Linear(32 * 2 * 2, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images [N, 1, 8, 8] from 0 to 1 to logits [N, 10]."""
        x = self.stem(x)
        x = self.pool(torch.relu(x + self.residual(x)))
        return self.classify(torch.flatten(self.average(self.separable(x)), 1))
