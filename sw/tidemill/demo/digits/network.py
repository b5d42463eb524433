"""The digits network: data, quantized weights, and its exact meaning in numpy.

    image 8x8x1 -> conv 3x3 valid, 16, ReLU -> 6x6x16 -> conv 3x3 same, 32, ReLU -> max pool 2x2 -> 3x3x32 -> dense 10

Activations are int8 NHWC; weights int8 [height, width, input channels, output channels].
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tidemill.golden.requant import requantize
from tidemill.isa import RequantMode

WEIGHTS_FILE = Path(__file__).with_name("weights.npz")
TEST_IMAGES = 360
SPLIT_SEED = 0
INPUT_SCALE = 1 / 240
INPUT_ZERO_POINT = -128
"""A pixel p (0 to 16) becomes 15 * p - 128."""
CLASSES = 10


@dataclass(frozen=True)
class Split:
    """scikit-learn's digits, pixels 0 to 16 as float [N, 8, 8]; 360 images held out, stratified."""

    train_images: NDArray[np.float64]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.float64]
    test_labels: NDArray[np.int64]


@cache
def load_split() -> Split:
    """The images, cut by `SPLIT_SEED`."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    train_x, test_x, train_y, test_y = train_test_split(
        digits.images, digits.target, test_size=TEST_IMAGES, random_state=SPLIT_SEED, stratify=digits.target
    )
    return Split(train_x, train_y, test_x, test_y)


def quantize_images(images: NDArray[np.float64]) -> NDArray[np.int8]:
    """Pixels 0 to 16 [N, 8, 8] to int8 [N, 8, 8]."""
    return (15 * images + INPUT_ZERO_POINT).astype(np.int8)


@dataclass(frozen=True)
class Layer:
    """One quantized layer; `bias` has the input's zero point folded in: acc = sum(x * w) + bias."""

    weights: NDArray[np.int8]
    bias: NDArray[np.int32]
    multiplier: NDArray[np.int32]
    shift: NDArray[np.int32]
    zero_point_in: int
    zero_point_out: int

    @property
    def params(self) -> NDArray[np.int32]:
        """Bias, multiplier and shift: int32 [3, output channels]."""
        return np.stack([self.bias, self.multiplier, self.shift])

    def finish(self, acc: NDArray[np.int64]) -> NDArray[np.int8]:
        """Requantize sums [..., output channels]."""
        y = requantize(
            acc.astype(np.int32), self.bias, self.multiplier, self.shift,
            zero_point=self.zero_point_out, preshift=0, mode=RequantMode.TFLITE,
        )  # fmt: skip
        return np.clip(y, -128, 127).astype(np.int8)


@dataclass(frozen=True)
class Network:
    """The three layers."""

    conv1: Layer
    conv2: Layer
    fc: Layer

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image."""
        return 36 * self.conv1.weights.size + 36 * self.conv2.weights.size + self.fc.weights.size

    def forward(self, images: NDArray[np.int8]) -> NDArray[np.int8]:
        """Logits int8 [N, 10] of int8 images [N, 8, 8]: plain numpy sums, independent of the NPU's schedule."""
        x = images[..., None].astype(np.int64)
        first = self.conv1.finish(_convolve(x, self.conv1.weights))
        border = ((0, 0), (1, 1), (1, 1), (0, 0))
        padded = np.pad(first.astype(np.int64), border, constant_values=self.conv2.zero_point_in)
        second = self.conv2.finish(_convolve(padded, self.conv2.weights))
        n = len(images)
        pooled = second.reshape(n, 3, 2, 3, 2, -1).max(axis=(2, 4))
        return self.fc.finish(np.einsum("nyxc,yxco->no", pooled.astype(np.int64), self.fc.weights.astype(np.int64)))


def _convolve(x: NDArray[np.int64], weights: NDArray[np.int8]) -> NDArray[np.int64]:
    """Valid convolution of [N, H, W, I] with [KH, KW, I, O]."""
    windows = np.lib.stride_tricks.sliding_window_view(x, weights.shape[:2], axis=(1, 2))
    sums: NDArray[np.int64] = np.einsum("nyxiab,abio->nyxo", windows, weights.astype(np.int64), optimize=True)
    return sums


def load_network(path: Path = WEIGHTS_FILE) -> Network:
    """The committed weights."""
    with np.load(path) as arrays:
        layers = {}
        for name in ("conv1", "conv2", "fc"):
            weights, bias = arrays[f"{name}_weights"], arrays[f"{name}_bias"]
            zero_in, zero_out = arrays[f"{name}_zero_points"].tolist()
            folded = bias - zero_in * weights.astype(np.int32).sum(axis=(0, 1, 2), dtype=np.int32)
            multiplier, shift = arrays[f"{name}_multiplier"], arrays[f"{name}_shift"]
            layers[name] = Layer(weights, folded, multiplier, shift, zero_in, zero_out)
    return Network(**layers)
