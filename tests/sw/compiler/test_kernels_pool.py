"""Pooling kernels on the simulator against `reference`: windows, borders, dilation, images larger than local memory."""

from __future__ import annotations

import numpy as np
import pytest

from tidemill.compiler.ir import MaxPool2D, Padding, Pair, Requantize, SumPool2D, Tensor
from tidemill.config import Config, preset
from tidemill.golden.requant import quantize_multiplier, reciprocal
from tidemill.isa import RequantMode
from tidemill_verif.one_op import expect, int8, tensor

CONFIGS = [preset(name) for name in ("tiny", "small", "base")]


def result(size: int, kernel: int, stride: int, padding: Pair, dilation: int) -> int:
    """Results along one axis."""
    return (size + sum(padding) - (kernel - 1) * dilation - 1) // stride + 1


def output(shape: tuple[int, ...], kernel: Pair, strides: Pair, padding: Padding, dilation: Pair = (1, 1)) -> Tensor:
    """The result's tensor."""
    sizes = [result(shape[1 + i], kernel[i], strides[i], padding[i], dilation[i]) for i in (0, 1)]
    return Tensor("y", (shape[0], *sizes, shape[3]))


def averages(largest: int, channels: int = 0) -> dict[int, Requantize]:
    """Division by every number of pixels; with `channels` in mode tflite with a scale for each."""
    entries = {}
    for n in range(1, largest + 1):
        if channels:
            pairs = np.array([quantize_multiplier(0.9 / n + c / 1000) for c in range(channels)], np.int64)
            entries[n] = Requantize(pairs[:, 0].astype(np.int32), pairs[:, 1].astype(np.int32), -3, -100, 90)
        else:
            bias, multiplier, shift = reciprocal(n)
            entries[n] = Requantize(multiplier, shift, 0, -100, 90, RequantMode.DIV, bias)
    return entries


def random_case(rng: np.random.Generator) -> tuple[tuple[int, ...], Pair, Pair, Padding, Pair]:
    """Shape, kernel, strides, padding, dilation; windows always touch the image."""
    kernel = (int(rng.integers(1, 4)), int(rng.integers(1, 5)))
    dilation = (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
    shape = (int(rng.integers(1, 4)), int(rng.integers(7, 14)), int(rng.integers(9, 20)), int(rng.integers(1, 40)))
    strides = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    padding = tuple((int(rng.integers(0, k)), int(rng.integers(0, k))) for k in kernel)
    return shape, kernel, strides, (padding[0], padding[1]), dilation


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_random(config: Config) -> None:
    rng = np.random.default_rng(1)
    for case in range(12):
        shape, kernel, strides, padding, dilation = random_case(rng)
        x = int8(rng, shape)
        limits = (-128, 127) if case % 2 else (-50, 60)
        y = output(shape, kernel, strides, padding, dilation)
        expect(
            config,
            MaxPool2D("m", "MAX_POOL_2D", [tensor("x", x)], [y], kernel, strides, padding, dilation, *limits),
            [x],
        )
        y = output(shape, kernel, strides, padding)
        entries = averages(kernel[0] * kernel[1], shape[3] if case % 3 == 0 else 0)
        expect(config, SumPool2D("a", "AVERAGE_POOL_2D", [tensor("x", x)], [y], kernel, strides, padding, entries), [x])


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
@pytest.mark.parametrize(
    ("shape", "kernel", "strides"),
    [
        ((1, 8, 8, 64), (8, 8), (8, 8)),
        ((3, 7, 7, 33), (7, 7), (1, 1)),
        ((1, 100, 60, 5), (100, 60), (1, 1)),
        ((2, 1, 3000, 3), (1, 3000), (1, 1)),
        ((1, 3000, 1, 3), (3000, 1), (1, 1)),
        ((1, 2, 1500, 9), (2, 2), (2, 2)),
        ((40, 2, 2, 20), (2, 2), (2, 2)),
        ((9, 4, 6, 20), (2, 2), (2, 2)),
        ((1, 60, 50, 9), (3, 3), (1, 1)),
        ((1, 70, 70, 4), (50, 50), (10, 10)),
    ],
    ids=str,
)
def test_shapes(config: Config, shape: tuple[int, ...], kernel: Pair, strides: Pair) -> None:
    rng = np.random.default_rng(2)
    x = int8(rng, shape)
    padding = ((0, 0), (0, 0))
    y = output(shape, kernel, strides, padding)
    expect(config, MaxPool2D("m", "MAX_POOL_2D", [tensor("x", x)], [y], kernel, strides, padding), [x])
    n = kernel[0] * kernel[1]
    bias, multiplier, shift = reciprocal(n)
    entries = {n: Requantize(multiplier, shift, 0, mode=RequantMode.DIV, bias=bias)}
    expect(config, SumPool2D("a", "MEAN", [tensor("x", x)], [y], kernel, strides, padding, entries), [x])


def test_wide_padding() -> None:
    rng = np.random.default_rng(3)
    x = int8(rng, (2, 3, 5, 6))
    padding = ((1, 2), (300, 280))
    y = output(x.shape, (2, 310), (1, 7), padding)
    op = MaxPool2D("m", "MaxPool", [tensor("x", x)], [y], (2, 310), (1, 7), padding)
    for config in CONFIGS:
        expect(config, op, [x])


def test_on_hardware() -> None:
    rng = np.random.default_rng(4)
    shape, kernel, strides, padding, _ = random_case(rng)
    x = int8(rng, shape)
    y = output(shape, kernel, strides, padding)
    entries = averages(kernel[0] * kernel[1])
    op = SumPool2D("a", "AVERAGE_POOL_2D", [tensor("x", x)], [y], kernel, strides, padding, entries)
    expect(preset("tiny"), op, [x], "rtl")
