"""Means and sums of int8 as an int32 sum of the elements and one requantization, which depends on their number.

The functions return the requantization of the sum of `count` elements; its bias takes the input's zero point away.
`reduce` evaluates it along axes of a tensor.
"""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import numpy as np

from tidemill.golden import vector
from tidemill.golden.affine import Affine, Int8, Requantization
from tidemill.golden.elementwise import Int64, rounded_with_zero_point
from tidemill.golden.requant import float_scale, quantize_multiplier
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
