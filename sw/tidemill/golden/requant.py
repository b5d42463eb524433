"""The requantizer: int32 to int32 with a per-lane bias, multiplier and shift, in three roundings.

`requantize` is what the vector engine does for `post=rq` before the clamp; the other functions turn a layer's real
scale, or a divisor, into the lane parameters. A multiplier with its shift stands for the real number
multiplier / 2**31 * 2**shift.
"""

from __future__ import annotations

import math
import operator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tidemill.isa import RequantMode

SHIFT_LIMIT = 31
"""Modes tflite and div limit a shift to -SHIFT_LIMIT..SHIFT_LIMIT."""
ONNX_LIMIT = 1 << 23
"""Largest magnitude of a result in mode onnx, before the zero point."""
DIV_LIMIT = 1 << 30
"""`reciprocal` divides exactly while |v| + n // 2 is at most this."""
DIVISOR_MAX = (1 << 17) - 1
"""Largest divisor: half of it is the 16-bit bias of mode div."""


def requantize(
    v: ArrayLike,
    bias: ArrayLike,
    multiplier: ArrayLike,
    shift: ArrayLike,
    *,
    zero_point: int = 0,
    preshift: int = 0,
    mode: RequantMode = RequantMode.TFLITE,
) -> NDArray[np.int32]:
    """Rescale `v`, int32 [..., C], and add `zero_point`; no clamp.

    `bias`, `multiplier` and `shift` are scalars or [C], any integers: the low 32 bits of a bias (signed; in mode div
    the low 16, unsigned), the low 31 bits of a multiplier and the low 8 bits of a shift (signed) count. `preshift` is
    0 to 31. Returns int32 [..., C], modulo 2**32. Raises ValueError for a preshift out of range.
    """
    if not 0 <= preshift <= 31:
        raise ValueError(f"preshift must be 0 to 31, not {preshift}")
    v = np.asarray(v).astype(np.int32).astype(np.int64)
    bias = np.asarray(bias, dtype=np.int64)
    multiplier = np.asarray(multiplier, dtype=np.int64) & 0x7FFF_FFFF
    shift = np.asarray(shift, dtype=np.int64).astype(np.int8).astype(np.int64)
    if mode is RequantMode.DIV:
        y = _divide(v, bias & 0xFFFF, multiplier, shift)
    else:
        x = _wrap(_wrap(v + bias) << preshift)
        y = _tflite(x, multiplier, shift) if mode is RequantMode.TFLITE else _onnx(x, multiplier, shift)
    return (y + zero_point).astype(np.int32)


def _wrap(x: NDArray[np.int64]) -> NDArray[np.int64]:
    """Modulo 2**32, signed."""
    return np.asarray(x).astype(np.int32).astype(np.int64)


def _limit(shift: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.asarray(np.clip(shift, -SHIFT_LIMIT, SHIFT_LIMIT), dtype=np.int64)


def _tflite(x: NDArray[np.int64], multiplier: NDArray[np.int64], shift: NDArray[np.int64]) -> NDArray[np.int64]:
    """Doubling high multiply, then rounding shift right with ties away from zero."""
    shift = _limit(shift)
    right = np.maximum(-shift, 0)
    high = (_wrap(x << np.maximum(shift, 0)) * multiplier + (1 << 30)) >> 31
    mask = (np.int64(1) << right) - 1
    threshold = (mask >> 1) + (high < 0)
    up = (high & mask) > threshold
    return np.asarray((high >> right) + up, dtype=np.int64)


def _onnx(x: NDArray[np.int64], multiplier: NDArray[np.int64], shift: NDArray[np.int64]) -> NDArray[np.int64]:
    """float32(x) * scale in float32, then to an integer, each half to even, in integer arithmetic.

    A float32 number here is a significand of 24 bits (top bit set unless zero) and an exponent.
    """
    significand, exponent = _significand(np.abs(x))
    significand, product_exponent = _significand(significand * (multiplier >> 7))
    # the value is significand * 2**left; a left shift of 24 and more and a right shift of 26 and more are all alike
    left = exponent + product_exponent + shift - 24
    magnitude = _shift_right_even(significand, np.clip(-left, 0, 26)) << np.clip(left, 0, 24)
    magnitude = np.minimum(magnitude, ONNX_LIMIT)
    return np.asarray(np.where(x < 0, -magnitude, magnitude), dtype=np.int64)


def _significand(magnitude: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(s, e) with s * 2**e the float32 nearest to `magnitude` (0 to 2**48) and 2**23 <= s < 2**24, or s = 0."""
    length = np.frexp(magnitude.astype(np.float64))[1].astype(np.int64)
    exponent = length - 24
    significand = _shift_right_even(magnitude << np.maximum(-exponent, 0), np.maximum(exponent, 0))
    carry = significand >> 24
    return significand >> carry, exponent + carry


def _shift_right_even(value: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """Non-negative `value` * 2**-right, to an integer with halves to even; `right` is 0 to 62."""
    quotient = value >> right
    rest = (value & ((np.int64(1) << right) - 1)) << 1
    unit = np.int64(1) << right
    up = (rest > unit) | ((rest == unit) & (quotient & 1 == 1))
    return np.asarray(quotient + up, dtype=np.int64)


def _divide(
    v: NDArray[np.int64], half: NDArray[np.int64], multiplier: NDArray[np.int64], shift: NDArray[np.int64]
) -> NDArray[np.int64]:
    magnitude = ((np.abs(v) + half) * multiplier) >> (31 - _limit(shift))
    return np.asarray(np.where(v < 0, -magnitude, magnitude), dtype=np.int64)


def quantize_multiplier(real: float) -> tuple[int, int]:
    """(multiplier, shift) of mode tflite for the scale `real`, as TFLite's QuantizeMultiplier computes them.

    0 <= real < 2**31. The multiplier is in [2**30, 2**31), or (0, 0) for zero and for scales too small for a shift of
    -31. Raises ValueError for a scale that is negative, not finite or too large.
    """
    if not math.isfinite(real) or real < 0:
        raise ValueError(f"a scale must be finite and not negative, not {real}")
    if real == 0:
        return 0, 0
    fraction, shift = math.frexp(real)
    multiplier = math.floor(fraction * (1 << 31) + 0.5)
    if multiplier == 1 << 31:
        multiplier, shift = 1 << 30, shift + 1
    if shift < -SHIFT_LIMIT:
        return 0, 0
    if shift > SHIFT_LIMIT:
        raise ValueError(f"a scale must be below 2**31, not {real}")
    return multiplier, shift


def float_scale(real: float | np.float32) -> tuple[int, int]:
    """(multiplier, shift) of mode onnx for the float32 scale `real`: multiplier = significand << 7, in [2**30, 2**31).

    `real` is rounded to float32 first. 0 gives (0, 0). Raises ValueError for a scale that is negative, not finite or
    not in the range of normal float32 numbers.
    """
    scale = np.float32(real)
    if not np.isfinite(scale) or scale < 0:
        raise ValueError(f"a scale must be finite and not negative, not {real}")
    if scale == 0:
        return 0, 0
    if scale < np.finfo(np.float32).tiny:
        raise ValueError(f"a scale must be a normal float32 number, not {real}")
    fraction, shift = math.frexp(float(scale))
    if shift > 127:
        raise ValueError(f"a scale must be below 2**127, not {real}")
    return int(fraction * (1 << 24)) << 7, shift


def reciprocal(n: int) -> tuple[int, int, int]:
    """(bias, multiplier, shift) with which mode div divides by `n`, ties away from zero: sign(v) * ((|v| + n//2) // n).

    Exact while |v| + n // 2 <= DIV_LIMIT. 1 <= n <= DIVISOR_MAX, else ValueError.

    Proof: with k = 31 - shift the multiplier is m = ceil(2**k / n), so m * n = 2**k + e with 0 <= e < n, and
    floor(u * m / 2**k) = floor(u / n) while u * e < 2**k. k is 30 + ceil(log2(n)), so 2**k >= n * 2**30 > u * e.
    """
    n = operator.index(n)
    if not 1 <= n <= DIVISOR_MAX:
        raise ValueError(f"a divisor must be 1 to {DIVISOR_MAX}, not {n}")
    k = 30 + (n - 1).bit_length()
    return n // 2, -(-(1 << k) // n), 31 - k
