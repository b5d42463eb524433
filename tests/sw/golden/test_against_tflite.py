"""The golden models equal TensorFlow Lite Micro, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tidemill.golden import operators
from tidemill.golden.affine import Affine
from tidemill.golden.elementwise import tflite_add
from tidemill.golden.requant import quantize_multiplier
from tidemill_verif.runtimes.tflite_models import Tensor, run, schema

MILLION = 1_000_000


def conv_options(strides: tuple[int, int] = (1, 1), padding: int = schema.Padding.VALID) -> object:
    options = schema.Conv2DOptionsT()
    options.strideH, options.strideW = strides
    options.dilationHFactor = options.dilationWFactor = 1
    options.padding = padding
    return options


def multipliers(scale_in: float, scales: NDArray[np.float32], scale_out: float) -> NDArray[np.int64]:
    real = [float(np.float32(scale_in)) * float(s) / float(np.float32(scale_out)) for s in scales]
    return np.array([quantize_multiplier(r) for r in real])


@pytest.mark.parametrize("scales", ["random", "powers of two", "multipliers at their ends"])
@pytest.mark.parametrize("zero_point", [-128, 7, 127])
def test_requantization_equals_a_pointwise_convolution_on_a_million_values(scales: str, zero_point: int) -> None:
    rng = np.random.default_rng(zero_point + 1000)
    channels, pixels = 4096, 256
    w = rng.integers(-127, 128, (channels, 1, 1, 1)).astype(np.int8)
    bias = (rng.integers(-(2**31), 2**31, channels) >> rng.integers(0, 31, channels)).astype(np.int32)
    bias[:12] = [2**31 - 1, -(2**31), 2**30, -(2**30), 2**30 - 1, -(2**30) - 1, 0, 1, -1, 2**16, 2**23, 2**24 + 1]
    x = np.arange(-128, 128).astype(np.int8).reshape(1, 1, pixels, 1)
    exponent = rng.integers(-31, 12, channels)
    if scales == "random":
        filter_scales = np.exp2(rng.uniform(-32, 12, channels))
    elif scales == "powers of two":
        filter_scales = np.exp2(exponent)
    else:
        filter_scales = np.exp2(exponent) * np.where(rng.random(channels) < 0.5, 1 - 2**-24, 1 + 2**-23)
    filter_scales = filter_scales.astype(np.float32)
    q = multipliers(1.0, filter_scales, 1.0)
    expected = run(
        "CONV_2D",
        conv_options(),
        [
            Tensor(x.shape, [1.0]),
            Tensor(w.shape, filter_scales, data=w),
            Tensor(bias.shape, [1.0], dtype=np.int32, data=bias),
        ],
        Tensor((1, 1, pixels, channels), [1.0], zero_point),
        x,
    )
    assert expected.size >= MILLION
    actual = operators.conv2d(x, w, bias, q[:, 0], q[:, 1], zero_point=zero_point)
    assert np.count_nonzero(actual != expected) == 0


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("operator", ["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"])
def test_layers_with_input_zero_points(operator: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    zero_in, zero_out = (int(z) for z in rng.integers(-128, 128, 2))
    scale_in, scale_out = 0.02, 0.9
    if operator == "FULLY_CONNECTED":
        x_shape, w_shape, y_shape, outputs = (4, 128), (32, 128), (4, 32), 32
        options: object = schema.FullyConnectedOptionsT()
    elif operator == "CONV_2D":
        x_shape, w_shape, y_shape, outputs = (1, 13, 11, 24), (16, 3, 3, 24), (1, 7, 6, 16), 16
        options = conv_options((2, 2), schema.Padding.SAME)
    else:
        x_shape, w_shape, y_shape, outputs = (1, 12, 10, 24), (1, 3, 3, 48), (1, 12, 10, 48), 48
        options = schema.DepthwiseConv2DOptionsT()
        options.strideH = options.strideW = options.dilationHFactor = options.dilationWFactor = 1
        options.padding, options.depthMultiplier = schema.Padding.SAME, 2
    x = rng.integers(-128, 128, x_shape).astype(np.int8)
    w = rng.integers(-127, 128, w_shape).astype(np.int8)
    bias = rng.integers(-5000, 5000, outputs).astype(np.int32)
    scales = rng.uniform(0.01, 0.2, 1 if operator == "FULLY_CONNECTED" else outputs).astype(np.float32)
    expected = run(
        operator,
        options,
        [
            Tensor(x_shape, [scale_in], zero_in),
            Tensor(w_shape, scales, data=w, axis=3 if operator == "DEPTHWISE_CONV_2D" else 0),
            Tensor(bias.shape, scales * np.float32(scale_in), dtype=np.int32, data=bias),
        ],
        Tensor(y_shape, [scale_out], zero_out),
        x,
    )
    q = multipliers(scale_in, scales, scale_out)
    zero_points = {"input_zero_point": zero_in, "zero_point": zero_out}
    if operator == "FULLY_CONNECTED":
        actual = operators.fully_connected(x, w, bias, q[:, 0], q[:, 1], **zero_points)
    elif operator == "CONV_2D":
        padding = ((1, 1), (1, 1))
        actual = operators.conv2d(x, w, bias, q[:, 0], q[:, 1], strides=(2, 2), padding=padding, **zero_points)
    else:
        actual = operators.depthwise_conv2d(x, w, bias, q[:, 0], q[:, 1], padding=((1, 1), (1, 1)), **zero_points)
    assert np.array_equal(actual, expected)


def test_add_of_all_pairs_equals_tflite_for_many_scales() -> None:
    rng = np.random.default_rng(5)
    a, b = (grid.reshape(1, -1).astype(np.int8) for grid in np.meshgrid(np.arange(-128, 128), np.arange(-128, 128)))
    compared = 0
    for case in range(32):
        if case < 16:
            scales = np.exp(rng.uniform(-3, 3, 3)).astype(np.float32)
        else:
            scales = np.exp2(rng.integers(-4, 4, 3)).astype(np.float32)
        zero_points = tuple(int(z) for z in ((-128, 127, 0) if case % 8 == 0 else rng.integers(-128, 128, 3)))
        sides = [Tensor(a.shape, [s], z) for s, z in zip(scales, zero_points, strict=True)]
        expected = run("ADD", schema.AddOptionsT(), sides[:2], sides[2], a, b)
        actual = tflite_add(*(Affine(float(s), z) for s, z in zip(scales, zero_points, strict=True)))(a, b)
        assert np.count_nonzero(actual != expected) == 0, (scales, zero_points)
        compared += expected.size
    assert compared >= MILLION


def pool_options(kernel: tuple[int, int], strides: tuple[int, int], padding: int) -> object:
    options = schema.Pool2DOptionsT()
    options.filterHeight, options.filterWidth = kernel
    options.strideH, options.strideW = strides
    options.padding = padding
    return options


@pytest.mark.parametrize("operator", ["AVERAGE_POOL_2D", "MAX_POOL_2D"])
def test_pooling_of_a_million_windows_equals_tflite(operator: str) -> None:
    rng = np.random.default_rng(6)
    golden = operators.average_pool2d if operator == "AVERAGE_POOL_2D" else operators.max_pool2d
    compared = 0
    for kernel in [(1, 1), (2, 2), (3, 3), (2, 3), (4, 4), (5, 3), (6, 4), (7, 7), (8, 8), (1, 12)]:
        size = (16 + kernel[0] - 1, 16 + kernel[1] - 1)
        spread = int(rng.integers(1, 129))
        x = rng.integers(-spread, spread, (1, *size, 448)).astype(np.int8)
        options = pool_options(kernel, (1, 1), schema.Padding.VALID)
        expected = run(operator, options, [Tensor(x.shape, [0.5], 3)], Tensor((1, 16, 16, 448), [0.5], 3), x)
        assert np.count_nonzero(golden(x, kernel) != expected) == 0, kernel
        compared += expected.size
    assert compared >= MILLION


@pytest.mark.parametrize("operator", ["AVERAGE_POOL_2D", "MAX_POOL_2D"])
def test_padding_does_not_count_in_pooling(operator: str) -> None:
    x = np.random.default_rng(7).integers(-128, 128, (1, 9, 9, 64)).astype(np.int8)
    golden = operators.average_pool2d if operator == "AVERAGE_POOL_2D" else operators.max_pool2d
    options = pool_options((3, 3), (2, 2), schema.Padding.SAME)
    expected = run(operator, options, [Tensor(x.shape, [0.5], 3)], Tensor((1, 5, 5, 64), [0.5], 3), x)
    assert np.array_equal(golden(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1))), expected)
