"""Unary int8 operators as 256-entry tables: table[x & 255] is the int8 result for the int8 input x.

The functions tflite_* are TFLite Micro's int8 kernels, in the integer (or float32) arithmetic these use. Multipliers
come from scales multiplied and divided in double, as the released runtime does even where its source has float32
(measured on quotients of scales that round differently).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tidemill.golden import fixedpoint
from tidemill.golden.affine import INT8, Affine, Int8, round_away
from tidemill.golden.requant import quantize_multiplier, requantize

_Q = INT8.astype(np.int64)


def _saturate(values: NDArray[np.int64], low: int = -128, high: int = 127) -> Int8:
    return np.clip(values, low, high).astype(np.int8)


def _scale(values: NDArray[np.int64], real: float) -> NDArray[np.int64]:
    """MultiplyByQuantizedMultiplier of `values` by `real`; a negative real number negates the result."""
    scaled = requantize(values, 0, *quantize_multiplier(abs(real))).astype(np.int64)
    return -scaled if real < 0 else scaled


def _ratio(x: Affine, y: Affine) -> float:
    return float(np.float32(x.scale)) / float(np.float32(y.scale))


def tflite_quantize(x: Affine, y: Affine) -> Int8:
    """QUANTIZE int8 to int8: requantization to another scale and zero point."""
    return _saturate(_scale(_Q - x.zero_point, _ratio(x, y)) + y.zero_point)


def tflite_relu(x: Affine, y: Affine) -> Int8:
    """RELU."""
    return _saturate(_scale(_Q - x.zero_point, _ratio(x, y)) + y.zero_point, max(-128, y.zero_point))


def tflite_relu6(x: Affine) -> Int8:
    """RELU6; TFLite Micro takes the output's scale and zero point to be the input's."""
    six = x.zero_point + int(round_away(np.float32(6) / np.float32(x.scale)))
    return _saturate(_Q, x.zero_point, min(127, six))


def tflite_leaky_relu(x: Affine, y: Affine, alpha: float) -> Int8:
    """LEAKY_RELU, alpha a float32 number of any sign."""
    value = _Q - x.zero_point
    negative = float(np.float32(x.scale)) * float(np.float32(alpha)) / float(np.float32(y.scale))
    scaled = np.where(value >= 0, _scale(value, _ratio(x, y)), _scale(value, negative))
    return _saturate(scaled + y.zero_point)


def tflite_prelu(x: Affine, y: Affine, alpha: Affine, quantized_alpha: int) -> Int8:
    """PRELU with one int8 alpha; a tensor of alphas takes a table for each value it has."""
    value = _Q - x.zero_point
    sx, sy, sa = (float(np.float32(q.scale)) for q in (x, y, alpha))
    scaled = np.where(
        value >= 0, _scale(value, sx / sy), _scale(value * (quantized_alpha - alpha.zero_point), sx * sa / sy)
    )
    return _saturate(scaled + y.zero_point)


def tflite_abs(x: Affine, y: Affine) -> Int8:
    """ABS."""
    value = np.abs(_Q - x.zero_point)
    if np.float32(x.scale) != np.float32(y.scale):
        value = _scale(value, _ratio(x, y))
    return _saturate(value + y.zero_point)


def tflite_rsqrt(x: Affine, y: Affine) -> Int8:
    """RSQRT. TFLite Micro refuses inputs below the zero point; their entries are those of a zero input: 127."""
    shift = 20
    multiplier, exponent = quantize_multiplier(
        1.0 / (math.sqrt(float(np.float32(x.scale))) * float(np.float32(y.scale)))
    )
    table = np.full(256, 127, dtype=np.int8)
    for index, value in enumerate(int(v) for v in _Q - x.zero_point):
        if value > 0:
            root, root_shift = fixedpoint.inverse_square_root(value)
            data = requantize(1, 0, root, root_shift + shift)
            table[index] = np.clip(int(requantize(data, 0, multiplier, exponent - shift)) + y.zero_point, -128, 127)
    return table


def tflite_elu(x: Affine, y: Affine) -> Int8:
    """ELU with alpha 1: a table of float32 results in TFLite Micro too."""
    value = np.float32(x.scale) * (_Q - x.zero_point).astype(np.float32)
    exponential = np.exp(np.minimum(value, 0).astype(np.float64)).astype(np.float32)
    transformed = np.where(value < 0, exponential - np.float32(1), value)
    rescaled = transformed * (np.float32(1) / np.float32(y.scale))
    rounded = round_away(np.clip(rescaled, -(2.0**20), 2.0**20))
    return _saturate((rounded + y.zero_point).astype(np.int64))


def _high_mul16(a: NDArray[np.int64], b: int) -> NDArray[np.int64]:
    return np.asarray((a * b + (1 << 14)) >> 15, dtype=np.int64)


def _int16_multiplier(real: float) -> tuple[int, int]:
    """(16-bit multiplier, shift): QuantizeMultiplier and DownScaleInt32ToInt16Multiplier."""
    multiplier, shift = quantize_multiplier(real)
    return min((multiplier + (1 << 15)) >> 16, (1 << 15) - 1), shift


def tflite_hard_swish(x: Affine, y: Affine) -> Int8:
    """HARD_SWISH, in 16-bit fixed point. Raises ValueError where TFLite Micro refuses: y's scale < x's / 128."""
    low, high = -(1 << 15), (1 << 15) - 1
    out_multiplier, out_shift = _int16_multiplier(_ratio(x, y) / 128)
    if out_shift > 0:
        raise ValueError(f"HARD_SWISH needs an output scale of at least input scale / 128, not {y.scale}")
    multiplier, shift = _int16_multiplier(float(np.float32(x.scale)) / 128 / (3 / 32768))
    value = (_Q - x.zero_point) << 7
    on_output_scale = _high_mul16(value, out_multiplier)
    relu = np.clip(value << min(shift - 1, 16), low, high) if shift > 0 else value
    relu = _high_mul16(relu, multiplier)
    relu = np.clip(relu << 1, low, high) if shift > 0 else fixedpoint.rounding_divide_by_pot(relu, -shift)
    product = ((relu + (1 << 15)) >> 1) * on_output_scale
    truncated = np.sign(product) * (np.abs(product) >> 15)
    return _saturate(fixedpoint.rounding_divide_by_pot(truncated, -out_shift) + y.zero_point)


def _sigmoid_input(x: Affine) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """(input minus zero point, input in Q4, radius beyond which the result saturates) of TFLite's LOGISTIC and TANH."""
    fraction, shift = math.frexp(float(np.float32(x.scale)) * (1 << 27))
    multiplier = math.floor(fraction * (1 << 31) + 0.5)
    value = _Q - x.zero_point
    return value, requantize(value, 0, multiplier, shift).astype(np.int64), fixedpoint.input_radius(4, shift)


def tflite_logistic(x: Affine) -> Int8:
    """LOGISTIC; the output has scale 1 / 256 and zero point -128."""
    value, q4, radius = _sigmoid_input(x)
    inside = _saturate(fixedpoint.rounding_divide_by_pot(fixedpoint.logistic(q4, 4), 23) - 128)
    return np.where(value <= -radius, -128, np.where(value >= radius, 127, inside)).astype(np.int8)


def tflite_tanh(x: Affine) -> Int8:
    """TANH; the output has scale 1 / 128 and zero point 0."""
    value, q4, radius = _sigmoid_input(x)
    inside = _saturate(fixedpoint.rounding_divide_by_pot(fixedpoint.tanh(q4, 4), 24))
    return np.where(value <= -radius, -128, np.where(value >= radius, 127, inside)).astype(np.int8)
