"""Whole layers on int8 NHWC tensors, composed from the machine's operations as a program would compose them.

Input zero points fold into the biases and padding holds the input's zero point, so the matrix engine only multiplies
int8 by int8. `padding` is ((top, bottom), (left, right)); `strides` and `dilation` are (vertical, horizontal).
Multipliers and shifts are those of `requant.quantize_multiplier` (mode tflite) or `requant.float_scale` (mode onnx).
Sums and products are in `elementwise`.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from tidemill.golden import matrix, vector
from tidemill.golden.requant import float_scale, reciprocal, requantize
from tidemill.isa import Combine, RequantMode

Int8 = NDArray[np.int8]
Pair = tuple[int, int]
Padding = tuple[Pair, Pair]
NO_PADDING: Padding = ((0, 0), (0, 0))


def _windows(x: Int8, kernel: Pair, strides: Pair, dilation: Pair, padding: Padding, value: int) -> Int8:
    """View of all windows: [N, Ho, Wo, C, kh, kw]."""
    padded = np.pad(x, ((0, 0), *padding, (0, 0)), constant_values=value)
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    windows = sliding_window_view(padded, extent, axis=(1, 2))
    return windows[:, :: strides[0], :: strides[1], :, :: dilation[0], :: dilation[1]]


def _folded(bias: ArrayLike, weight_sum: ArrayLike, input_zero_point: int) -> NDArray[np.int32]:
    return np.asarray(np.asarray(bias, dtype=np.int64) - input_zero_point * np.asarray(weight_sum)).astype(np.int32)


def conv2d(
    x: Int8,
    w: Int8,
    bias: ArrayLike,
    multiplier: ArrayLike,
    shift: ArrayLike,
    *,
    strides: Pair = (1, 1),
    dilation: Pair = (1, 1),
    padding: Padding = NO_PADDING,
    input_zero_point: int = 0,
    zero_point: int = 0,
    qmin: int = -128,
    qmax: int = 127,
    mode: RequantMode = RequantMode.TFLITE,
) -> Int8:
    """Convolution: x [N, H, W, Ci], w [Co, kh, kw, Ci], bias, multiplier, shift [Co] or scalar -> [N, Ho, Wo, Co]."""
    outputs, kh, kw, _ = w.shape
    windows = _windows(x, (kh, kw), strides, dilation, padding, input_zero_point)
    acc = np.zeros((*windows.shape[:3], outputs), dtype=np.int32)
    for i, j in np.ndindex(kh, kw):
        acc = matrix.accumulate(acc, matrix.product(windows[..., i, j], w[:, i, j, :].T))
    folded = _folded(bias, w.astype(np.int64).sum(axis=(1, 2, 3)), input_zero_point)
    return vector.clamp(
        requantize(acc, folded, multiplier, shift, zero_point=zero_point, mode=mode), qmin, qmax
    ).astype(np.int8)


def depthwise_conv2d(
    x: Int8,
    w: Int8,
    bias: ArrayLike,
    multiplier: ArrayLike,
    shift: ArrayLike,
    *,
    strides: Pair = (1, 1),
    dilation: Pair = (1, 1),
    padding: Padding = NO_PADDING,
    input_zero_point: int = 0,
    zero_point: int = 0,
    qmin: int = -128,
    qmax: int = 127,
    mode: RequantMode = RequantMode.TFLITE,
) -> Int8:
    """Depthwise convolution: x [N, H, W, C], w [1, kh, kw, C * m], the rest [C * m] -> [N, Ho, Wo, C * m].

    Output channel c * m + i is input channel c.
    """
    _, kh, kw, outputs = w.shape
    repeated = np.repeat(x, outputs // x.shape[3], axis=3)
    windows = _windows(repeated, (kh, kw), strides, dilation, padding, input_zero_point)
    products = vector.ALU["vx.mul"](windows, np.moveaxis(w[0], 2, 0), qmin, qmax)  # type: ignore[arg-type]
    acc = vector.fold(Combine.SUM, products, (-2, -1))
    folded = _folded(bias, w.astype(np.int64).sum(axis=(0, 1, 2)), input_zero_point)
    return vector.clamp(
        requantize(acc, folded, multiplier, shift, zero_point=zero_point, mode=mode), qmin, qmax
    ).astype(np.int8)


def fully_connected(
    x: Int8,
    w: Int8,
    bias: ArrayLike,
    multiplier: ArrayLike,
    shift: ArrayLike,
    *,
    input_zero_point: int = 0,
    zero_point: int = 0,
    qmin: int = -128,
    qmax: int = 127,
    mode: RequantMode = RequantMode.TFLITE,
) -> Int8:
    """Fully connected layer: x [M, K], w [N, K], bias, multiplier, shift [N] or scalar -> [M, N]."""
    acc = matrix.product(x, w.T)
    folded = _folded(bias, w.astype(np.int64).sum(axis=1), input_zero_point)
    y = requantize(acc, folded, multiplier, shift, zero_point=zero_point, mode=mode)
    return vector.clamp(y, qmin, qmax).astype(np.int8)


def average_pool2d(
    x: Int8,
    kernel: Pair,
    *,
    strides: Pair = (1, 1),
    padding: Padding = NO_PADDING,
    qmin: int = -128,
    qmax: int = 127,
    mode: RequantMode = RequantMode.TFLITE,
) -> Int8:
    """Mean of the pixels of each window, padding not counted, with the input's scale and zero point.

    Mode tflite divides with ties away from zero (TFLite AVERAGE_POOL_2D), mode onnx multiplies by the float32 1 / n
    and rounds half to even (QLinearAveragePool with count_include_pad=0, exact for scales that are powers of two).
    """
    sums = vector.fold(Combine.SUM, _windows(x, kernel, strides, (1, 1), padding, 0), (-2, -1))
    ones = np.ones((1, *x.shape[1:3], 1), dtype=np.int8)
    counts = _windows(ones, kernel, strides, (1, 1), padding, 0).astype(np.int64).sum(axis=(-2, -1))
    y = np.empty_like(sums)
    for n in np.unique(counts):
        where = np.broadcast_to(counts == n, sums.shape)
        if mode is RequantMode.TFLITE:
            y[where] = requantize(sums[where], *reciprocal(n), mode=RequantMode.DIV)
        else:
            y[where] = requantize(sums[where], 0, *float_scale(np.float32(1) / np.float32(n)), mode=mode)
    return vector.clamp(y, qmin, qmax).astype(np.int8)


def max_pool2d(
    x: Int8, kernel: Pair, *, strides: Pair = (1, 1), padding: Padding = NO_PADDING, qmin: int = -128, qmax: int = 127
) -> Int8:
    """Maximum of each window, [N, H, W, C] -> [N, Ho, Wo, C]; padding never wins over a pixel."""
    largest = vector.fold(Combine.MAX, _windows(x, kernel, strides, (1, 1), padding, -128), (-2, -1))
    return vector.clamp(largest, qmin, qmax).astype(np.int8)
