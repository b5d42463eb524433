"""A network for Fashion-MNIST: 28 x 28 grey images of clothes, ten classes."""

from __future__ import annotations

import torch
from torch import nn

EPOCHS = 10
BATCH = 128
RATE = 4e-3


def _layer(channels_in: int, channels_out: int, kernel: int = 3, groups: int = 1, stride: int = 1) -> nn.Sequential:
    """Convolution, normalization, ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


class Net(nn.Module):
    """Convolution, depthwise-separable convolution, residual block, depthwise-separable convolution, mean, dense."""

    shape = (1, 28, 28)

    def __init__(self) -> None:
        super().__init__()
        self.stem = _layer(1, 16, stride=2)
        self.separable1 = nn.Sequential(_layer(16, 16, groups=16), _layer(16, 32, kernel=1))
        self.pool = nn.MaxPool2d(2)
        self.residual = _layer(32, 32)
        self.separable2 = nn.Sequential(_layer(32, 32, groups=32), _layer(32, 64, kernel=1))
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.classify = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images [N, 1, 28, 28] from 0 to 1 to logits [N, 10]."""
        x = self.pool(self.separable1(self.stem(x)))
        x = self.separable2(x + self.residual(x))
        return self.classify(torch.flatten(self.mean(x), 1))
