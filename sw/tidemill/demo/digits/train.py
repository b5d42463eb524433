"""Train and quantize the digits network: `python -m tidemill.demo.digits.train` writes `weights.npz`.

Needs PyTorch (`pip install 'tidemill[train]'`); running the demo does not. The split, the initial weights and the
order of the batches follow from `SEED`. Quantization is post-training: int8 weights per output channel, int8
activations per tensor with ranges measured on the training images, TFLite's fixed-point multipliers.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tidemill.demo.digits.network import INPUT_SCALE, INPUT_ZERO_POINT, WEIGHTS_FILE, load_split
from tidemill.golden.requant import quantize_multiplier

SEED = 20
EPOCHS = 60
BATCH = 64
ACTIVATION_ZERO_POINT = -128
"""Activations follow a ReLU, so the whole int8 range stands for 0 and above."""


class Net(nn.Module):
    """The float network; shapes in `tidemill.demo.digits.network`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.fc = nn.Linear(3 * 3 * 32, 10)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Images [N, 1, 8, 8] in 0..1 to (first activation, second activation, logits)."""
        first = torch.relu(self.conv1(x))
        second = torch.max_pool2d(torch.relu(self.conv2(first)), 2)
        return first, second, self.fc(torch.flatten(nn.functional.dropout(second, 0.3, self.training), 1))


def train(images: NDArray[np.float32], labels: NDArray[np.int64]) -> Net:
    """Fit the network to images [N, 8, 8] in 0..1."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    x, y = torch.from_numpy(images)[:, None], torch.from_numpy(labels)
    for epoch in range(EPOCHS):
        net.train()
        for index in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(x[index])[2], y[index])
            loss.backward()
            optimizer.step()
        schedule.step()
        if epoch % 10 == 9:
            print(f"epoch {epoch + 1}: loss {loss.item():.4f}")
    net.eval()
    return net


def quantize_layer(
    weights: NDArray[np.float64], bias: NDArray[np.float64], scale_in: float, scale_out: float
) -> dict[str, NDArray[np.generic]]:
    """int8 weights per last axis, int32 bias, multiplier and shift of one layer."""
    scale = np.abs(weights).reshape(-1, weights.shape[-1]).max(axis=0) / 127
    pairs = np.array([quantize_multiplier(value) for value in scale * scale_in / scale_out], np.int32)
    return {
        "weights": np.clip(np.rint(weights / scale), -127, 127).astype(np.int8),
        "bias": np.rint(bias / (scale * scale_in)).astype(np.int32),
        "multiplier": pairs[:, 0],
        "shift": pairs[:, 1],
    }


def main() -> None:
    """Train, quantize, write the weights."""
    split = load_split()
    images = (split.train_images / 16).astype(np.float32)
    net = train(images, split.train_labels)
    with torch.no_grad():
        first, second, logits = net(torch.from_numpy(images)[:, None])
    scale1, scale2 = float(first.max()) / 255, float(second.max()) / 255
    low, high = float(logits.min()), float(logits.max())
    scale3 = (high - low) / 255
    zero3 = int(np.clip(round(-128 - low / scale3), -128, 127))
    parameters = {name: value.detach().numpy().astype(np.float64) for name, value in net.named_parameters()}
    # Kernels to [height, width, input channel, output channel], the dense layer to NHWC order.
    dense = parameters["fc.weight"].reshape(10, 32, 3, 3).transpose(2, 3, 1, 0)
    layers = {
        "conv1": quantize_layer(
            parameters["conv1.weight"].transpose(2, 3, 1, 0), parameters["conv1.bias"], INPUT_SCALE, scale1
        ),
        "conv2": quantize_layer(
            parameters["conv2.weight"].transpose(2, 3, 1, 0), parameters["conv2.bias"], scale1, scale2
        ),
        "fc": quantize_layer(dense, parameters["fc.bias"], scale2, scale3),
    }
    points = {
        "conv1": (INPUT_ZERO_POINT, ACTIVATION_ZERO_POINT),
        "conv2": (ACTIVATION_ZERO_POINT, ACTIVATION_ZERO_POINT),
        "fc": (ACTIVATION_ZERO_POINT, zero3),
    }
    arrays = {f"{layer}_{name}": value for layer, values in layers.items() for name, value in values.items()}
    arrays |= {f"{layer}_zero_points": np.array(pair, np.int32) for layer, pair in points.items()}
    np.savez_compressed(Path(WEIGHTS_FILE), allow_pickle=False, **arrays)
    print(f"wrote {WEIGHTS_FILE}")


if __name__ == "__main__":
    main()
