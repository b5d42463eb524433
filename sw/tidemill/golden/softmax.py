"""Softmax over the last axis.

TFLite's int8 SOFTMAX twice: `tflite_softmax` after the runtime's fixed-point code, `machine_softmax` as the sequence of
vector operations that computes it, which is the plan of the kernel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tidemill.golden import fixedpoint, vector
from tidemill.golden.affine import Int8
from tidemill.golden.requant import SHIFT_LIMIT, quantize_multiplier, requantize
from tidemill.isa import RequantMode

Int32 = NDArray[np.int32]

DIFFERENCE_BITS = 5
"""Integer bits of the scaled differences from the maximum: Q5."""
SUM_BITS = 12
"""Integer bits of the sum of exponentials: Q12, so that one is 2**19."""
LENGTH_MAX = (1 << SUM_BITS) - 1
"""Longest row whose sum cannot overflow."""
SUM_SHIFT = 31 - SUM_BITS
OUTPUT_SHIFT = 31 - 8
"""Right shift from Q0 to the output's scale 1/256."""
LOG_SHIFT = 31 - DIFFERENCE_BITS - 4
"""Right shift from Q5 to the scale 1/16 of a LOG_SOFTMAX's output."""


def _multiplier(scale: float, beta: float) -> tuple[int, int]:
    """(multiplier, shift) of differences from the maximum to Q5 (PreprocessSoftmaxScaling)."""
    real = min(float(np.float32(beta)) * float(np.float32(scale)) * (1 << (31 - DIFFERENCE_BITS)), 2.0**31 - 1)
    if not real > 1:
        raise ValueError(f"beta * scale of a SOFTMAX must be above 2**-26, not {beta * scale}")
    return quantize_multiplier(real)


def _scaled_differences(scale: float, beta: float) -> tuple[NDArray[np.int64], Int32, int]:
    """Differences from the maximum d = -255..0, these in Q5, both indexed by d & 255, and the multiplier's shift."""
    multiplier, shift = _multiplier(scale, beta)
    difference = -(-np.arange(256) & 255)
    return difference, requantize(difference, 0, multiplier, shift), shift


def exponentials(scale: float, beta: float = 1.0) -> Int32:
    """exp(beta * scale * d) in Q0 of the differences d = -255..0 from the maximum: int32 [256], indexed by d & 255.

    Differences that TFLite skips (CalculateSoftmaxParams' diff_min) have 0. Raises ValueError for beta * scale
    not positive or so small that TFLite's multiplier is not above one.
    """
    difference, scaled, shift = _scaled_differences(scale, beta)
    counted = difference >= -fixedpoint.input_radius(DIFFERENCE_BITS, shift)
    values = fixedpoint.exp_on_negative_values(np.where(counted, scaled, 0), DIFFERENCE_BITS)
    return np.where(counted, values, 0).astype(np.int32)


def _check_length(x: Int8) -> None:
    if not 1 <= x.shape[-1] <= LENGTH_MAX:
        raise ValueError(f"a softmax must have 1 to {LENGTH_MAX} elements, not {x.shape[-1]}")


def tflite_softmax(x: Int8, scale: float, beta: float = 1.0) -> Int8:
    """TFLite's SOFTMAX of int8 [..., n]; the output has scale 1 / 256 and zero point -128 (reference_ops::Softmax).

    TFLite Micro stops the program where the sum of exponentials, the largest counting as 1, reaches 512; here the last
    shift stays 31 then and results are at most -127.
    """
    _check_length(x)
    difference = x.astype(np.int64) - x.max(axis=-1, keepdims=True)
    exponential = exponentials(scale, beta)[difference & 255].astype(np.int64)
    total = fixedpoint.rounding_divide_by_pot(exponential, SUM_BITS).sum(axis=-1, keepdims=True)
    headroom = 32 - np.frexp(total.astype(np.float64))[1].astype(np.int64)
    reciprocal = fixedpoint.one_over_one_plus_x((total << headroom) - (1 << 31))
    product = fixedpoint.rounding_doubling_high_mul(reciprocal, exponential)
    exponent = np.minimum(SUM_BITS - headroom + OUTPUT_SHIFT, SHIFT_LIMIT)
    return np.clip(fixedpoint.rounding_divide_by_pot(product, exponent) - 128, -128, 127).astype(np.int8)


def tflite_log_softmax(x: Int8, scale: float) -> Int8:
    """TFLite's LOG_SOFTMAX of int8 [..., n]; the output has scale 16 / 256 and zero point 127 (LogSoftmaxQuantized)."""
    _check_length(x)
    multiplier, shift = _multiplier(scale, 1.0)
    _, scaled, _ = _scaled_differences(scale, 1.0)
    difference = x.astype(np.int64) - x.max(axis=-1, keepdims=True)
    exponential = exponentials(scale)[difference & 255].astype(np.int64)
    total = fixedpoint.rounding_divide_by_pot(exponential, SUM_BITS).sum(axis=-1, keepdims=True)
    logarithm = fixedpoint.log_above_one(total, SUM_BITS, DIFFERENCE_BITS)
    back = quantize_multiplier((1 << (31 - shift)) / multiplier)
    smallest = np.maximum(
        -fixedpoint.input_radius(DIFFERENCE_BITS, shift) - 1, requantize(logarithm + fixedpoint.INT32_MIN, 0, *back)
    )
    steps = fixedpoint.rounding_divide_by_pot(scaled[difference & 255] - logarithm, LOG_SHIFT) + 127
    return np.where(difference > smallest, np.clip(steps, -128, 127), -128).astype(np.int8)


@dataclass(frozen=True)
class SoftmaxTables:
    """The two tables of `machine_softmax`, int32 [256]: exponentials, and floor(log2(v)) of v = 1..255 (-1 for 0)."""

    exponential: Int32
    logarithm: Int32

    @staticmethod
    def build(scale: float, beta: float = 1.0) -> SoftmaxTables:
        """Tables of a SOFTMAX with this input scale."""
        logarithm = [v.bit_length() - 1 for v in range(256)]
        return SoftmaxTables(exponentials(scale, beta), np.array(logarithm, dtype=np.int32))


def machine_softmax(x: Int8, tables: SoftmaxTables) -> Int8:
    """TFLite's SOFTMAX by vector operations only, x [..., n] in the lanes of one row (longer ones: see below).

    Every line is one instruction; e, s, l, h, y, q are accumulator rows. A number as operand B that does not fit an
    immediate is a row of constants.

     1. m = max of all lanes                        vx.max  post=lmax
     2. d = x - m                                   vx.sub
     3. e = exponential[d & 255]                    (post=lut of 2)
     4. t = (e + 2**11) >> 12, rounded Q12          vx.* post=rq, mode div: bias 2**11, multiplier 1, shift 19
     5. s = sum of all lanes                        vx.*    post=lsum
     6. l = log2[min(s >> 19, 255)] + log2[s >> 27] + 1   vx.shr, vx.min post=lut, vx.shr post=lut, vx.add, vx.add
        (floor(log2(s)) - 19; rows of up to 255 elements have s >> 27 = 0 and need only log2[s >> 19])
     7. h = s << (11 - l)                           vx.sub, vx.shl     half the denominator, Q0 in [1/2, 1)
     8. y = 48/17 - h * 32/17 in Q2                 vx.sub, post=rq (multiplier 32/17, shift 0), vx.add
     9. three times, y being the multiplier row of vx.param (shift 0):
        r = 2**29 - (h * y)                         vx.* post=rq, vx.sub
        y = y + ((r * y) << 2)                      vx.* post=rq, vx.shl, vx.add
    10. q = (min(y, 2**30 - 1) << 1) + (y >> 30)    vx.min, vx.shl, vx.shr, vx.add   saturates as TFLite does
    11. result = e * q >> (23 + l), rounded twice   vx.* post=rq, mode tflite: multiplier row q, shift row -(23 + l),
                                                    zero point -128, saturated to the scratchpad

    Where a row of x takes several rows, 1 and 5 fold them first (vx.max, vx.add) and all else is the same. Padding
    lanes must hold -128 for 1 and nothing of them may enter 5. 6 to 10 work on one row for each row of x, or, with the
    sums of many rows of x in the lanes of one row, once for all of them.
    """
    _check_length(x)
    alu = vector.ALU

    def row(name: str, a: Int32 | Int8, b: Int32 | int) -> Int32:
        return alu[name](np.asarray(a, dtype=np.int32), np.asarray(b, dtype=np.int32), -128, 127)

    difference = row("vx.sub", x, vector.lane_max(x))
    e = vector.post_lut(difference, tables.exponential)
    total = vector.lane_sum(requantize(e, 1 << (SUM_BITS - 1), 1, SUM_SHIFT, mode=RequantMode.DIV))
    low = vector.post_lut(row("vx.min", row("vx.shr", total, SUM_SHIFT), 255), tables.logarithm)
    high = vector.post_lut(row("vx.shr", total, SUM_SHIFT + 8), tables.logarithm)
    log = row("vx.add", row("vx.add", low, high), 1)
    h = row("vx.shl", total, row("vx.sub", np.full_like(log, SUM_BITS - 1), log))
    minus = requantize(row("vx.sub", np.zeros_like(h), h), 0, -fixedpoint.NEWTON_MINUS_32_17, 0)
    y = row("vx.add", minus, fixedpoint.NEWTON_48_17)
    for _ in range(3):
        rest = row("vx.sub", np.full_like(h, fixedpoint.ONE_Q2), requantize(h, 0, y, 0))
        y = row("vx.add", y, row("vx.shl", requantize(rest, 0, y, 0), 2))
    q = row("vx.add", row("vx.shl", row("vx.min", y, (1 << 30) - 1), 1), row("vx.shr", y, 30))
    shift = row("vx.sub", np.full_like(log, -OUTPUT_SHIFT), log)
    return vector.saturate_int8(requantize(e, 0, q, shift, zero_point=-128))
