"""Means and sums of int8 as an int32 sum of the elements and one requantization, which depends on their number.

The functions return the requantization of the sum of `count` elements; its bias takes the input's zero point away.
`reduce` evaluates it along axes of a tensor.
"""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import numpy as np

from tidemill.golden import fixedpoint, vector
from tidemill.golden.affine import Affine, Int8, Requantization
from tidemill.golden.elementwise import ADD_SHIFT, Int64, rounded_with_zero_point
from tidemill.golden.requant import float_scale, quantize_multiplier, requantize
from tidemill.isa import Combine, RequantMode


def reduce(x: Int8, axes: tuple[int, ...], requantization: Requantization) -> Int8:
    """Sum over `axes`, which stay with size 1, then the requantization."""
    total = vector.fold(Combine.SUM, x, axes)
    return np.expand_dims(requantization(total), axes)


def tflite_sum(x: Affine, y: Affine, count: int) -> Requantization:
    """TFLite's int8 SUM (QuantizedMeanOrSum)."""
    multiplier, shift = quantize_multiplier(float(np.float32(x.scale)) / float(np.float32(y.scale)))
    return Requantization(multiplier, shift, y.zero_point, bias=-x.zero_point * count)


def tflite_mean(x: Affine, y: Affine, count: int) -> Requantization:
    """TFLite's int8 MEAN: 1 / count enters the multiplier of SUM (QuantizedMeanOrSum)."""
    total = tflite_sum(x, y, count)
    more = min(count.bit_length() - 1, 32, 31 + total.shift)
    return dataclasses.replace(total, multiplier=(total.multiplier << more) // count, shift=total.shift - more)


def tflite_cumsum(x: Int8, axis: int, before: Affine, after: Affine, *, exclusive: bool, reverse: bool) -> Int8:
    """TFLite Micro's int8 CUMSUM; its sums start with minus the input's zero point, not with zero."""
    values = (x.astype(np.int64) - before.zero_point) << (ADD_SHIFT - 1)
    values = np.flip(values, axis) if reverse else values
    sums = np.cumsum(values, axis) - (values if exclusive else 0) - (before.zero_point << (ADD_SHIFT - 1))
    twice = 2 * float(np.float32(before.scale))
    multiplier, shift = quantize_multiplier(twice / ((1 << ADD_SHIFT) * float(np.float32(after.scale))))
    result = Requantization(multiplier, shift, after.zero_point)(sums.astype(np.int32))
    return np.flip(result, axis) if reverse else result


def tflite_l2_normalization(x: Int8, zero_point: int) -> Int8:
    """TFLite's int8 L2_NORMALIZATION over the last axis; the output has scale 1 / 128 and zero point 0."""
    values = x.astype(np.int64) - zero_point
    squares = np.sum(values * values, axis=-1, keepdims=True)
    pairs = np.array([fixedpoint.inverse_square_root(int(total)) for total in squares.reshape(-1)], dtype=np.int64)
    multiplier, shift = (pairs[:, i].reshape(squares.shape) for i in (0, 1))
    return vector.saturate_int8(requantize(values, 0, multiplier, shift + 7))


def onnx_global_average_pool(x: Affine, y: Affine, count: int) -> Requantization:
    """QLinearGlobalAveragePool (MlasQLinearGlobalAveragePool); QDQ models with GlobalAveragePool run it too."""
    scale = np.float32(x.scale) / (np.float32(y.scale) * np.float32(count))
    return Requantization(*float_scale(scale), y.zero_point, mode=RequantMode.ONNX, bias=-x.zero_point * count)


def float_mean(sums: Int64, x: Affine, y: Affine, count: int, *, unsigned: bool = False) -> Int64:
    """QLinearAveragePool of sums of (x - zero point), if float32 sums were exact: rounded with the zero point added."""
    offset = 128 if unsigned else 0
    mean = (np.float32(x.scale) * sums.astype(np.float32)) / np.float32(count)
    rounded = np.rint(mean / np.float32(y.scale) + np.float32(y.zero_point + offset))
    return np.asarray(np.clip(rounded, offset - 128, offset + 127).astype(np.int64) - offset)


def onnx_average_pool(x: Affine, y: Affine, count: int, *, unsigned: bool = False) -> Requantization:
    """QLinearAveragePool of windows with `count` pixels; QDQ models with AveragePool run it too.

    ONNX Runtime sums float32 numbers in the window's order. The requantization equals the rounded mean of the exact
    sum in all cases that `rounded_with_zero_point` reaches; ONNX Runtime differs where its sum's error crosses a half.
    Where x.scale / y.scale is a power of two that leaves windows of 15 pixels, whose halves a float32 scale can miss.
    """
    sums = np.arange(-255 * count, 255 * count + 1)
    target = float_mean(sums, x, y, count, unsigned=unsigned)
    scale = Fraction(float(np.float32(x.scale))) / Fraction(float(np.float32(y.scale))) / count
    best: tuple[int, Requantization] | None = None
    for candidate in rounded_with_zero_point(sums, target, scale, y):
        misses = int(np.count_nonzero(candidate(sums) != target))
        if best is None or misses < best[0]:
            best = misses, candidate
        if misses == 0:
            break
    assert best is not None
    return dataclasses.replace(best[1], bias=best[1].bias - x.zero_point * count)
