"""Affine quantization, real = scale * (integer - zero_point), and the float32 steps both runtimes build on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tidemill.golden import vector
from tidemill.golden.requant import requantize
from tidemill.isa import RequantMode

Int8 = NDArray[np.int8]
Float32 = NDArray[np.float32]

INT8 = np.arange(256, dtype=np.uint8).view(np.int8)
"""Every int8 in the order of a table: INT8[i] & 255 == i."""


class Affine(NamedTuple):
    """Scale (a float32 number) and zero point of a tensor of 8-bit integers."""

    scale: float
    zero_point: int = 0


@dataclass(frozen=True)
class Requantization:
    """int32 to int8: clamp(requantize(v), qmin, qmax), with the fields of `requant.requantize`."""

    multiplier: int
    shift: int
    zero_point: int = 0
    qmin: int = -128
    qmax: int = 127
    mode: RequantMode = RequantMode.TFLITE
    bias: int = 0
    preshift: int = 0

    def __call__(self, v: ArrayLike) -> Int8:
        """Requantize int32 `v` of any shape."""
        y = requantize(
            v,
            self.bias,
            self.multiplier,
            self.shift,
            zero_point=self.zero_point,
            preshift=self.preshift,
            mode=self.mode,
        )
        return vector.clamp(y, self.qmin, self.qmax).astype(np.int8)


def dequantize(values: ArrayLike, q: Affine) -> Float32:
    """float32 scale * (value - zero_point), rounded once (ONNX DequantizeLinear)."""
    difference = np.asarray(values).astype(np.int32) - q.zero_point
    return np.float32(q.scale) * difference.astype(np.float32)


def quantize(values: Float32, q: Affine, *, unsigned: bool = False) -> NDArray[np.int32]:
    """ONNX QuantizeLinear as ONNX Runtime computes it: divide in float32, round half to even, add the zero point.

    Returns the int8 (or uint8) values as int32.
    """
    low, high = (0, 255) if unsigned else (-128, 127)
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = np.asarray(values, dtype=np.float32) / np.float32(q.scale)
    limited = np.minimum(np.maximum(scaled, np.float32(low - q.zero_point)), np.float32(high - q.zero_point))
    return np.asarray(np.rint(limited).astype(np.int32) + q.zero_point, dtype=np.int32)


def round_away(value: ArrayLike) -> NDArray[np.float64]:
    """The nearest integer, halves away from zero (C's round), in float64."""
    value = np.asarray(value, dtype=np.float64)
    return np.asarray(np.trunc(value) + np.trunc(2 * (value - np.trunc(value))), dtype=np.float64)


def activation_range(activation: str, q: Affine) -> tuple[int, int]:
    """(qmin, qmax) of a fused TFLite activation: none, relu, relu_n1_to_1 or relu6 (CalculateActivationRangeQuantized).

    Raises ValueError for another name.
    """
    limits = {"none": (None, None), "relu": (0.0, None), "relu_n1_to_1": (-1.0, 1.0), "relu6": (0.0, 6.0)}
    if activation not in limits:
        raise ValueError(f"a fused activation must be one of {', '.join(limits)}, not {activation}")
    quantized = [
        None if limit is None else q.zero_point + int(round_away(np.float32(limit) / np.float32(q.scale)))
        for limit in limits[activation]
    ]
    low, high = quantized
    return max(-128, -128 if low is None else low), min(127, 127 if high is None else high)
