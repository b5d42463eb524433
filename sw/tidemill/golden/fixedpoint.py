"""gemmlowp's fixed-point functions, on which TFLite's int8 softmax, logistic and tanh are built.

Values are int64 arrays that hold int32; a number of format Qi has i integer bits and 31 - i fraction bits. Sources:
gemmlowp fixedpoint/fixedpoint.h (functions of the same names) and TFLite kernels/internal/common.h.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Raw = NDArray[np.int64]

INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1
EXP_MINUS_EIGHTH, THIRD = 1895147668, 715827883
"""exp(-1/8) and 1/3 in Q0."""
EXP_MINUS_POWERS = {-2: 1672461947, -1: 1302514674, 0: 790015084, 1: 290630308, 2: 39332535, 3: 720401, 4: 242}
"""exp(-2**n) in Q0 by n."""
NEWTON_48_17, NEWTON_MINUS_32_17 = 1515870810, -1010580540
"""48/17 and -32/17 in Q2: the linear start of the division by Newton's method."""
ONE_Q2 = 1 << 29
HALF_SQRT_2 = 1518500250
"""sqrt(2) / 2 in Q0."""
SQRT_SQRT_HALF, LN_2 = 1805811301, 1488522236
"""sqrt(sqrt(1/2)) and ln(2) in Q0."""
LOG_ALPHA_N, LOG_ALPHA_D, LOG_ALPHA_I, LOG_ALPHA_F = 117049297, 127690142, 1057819769, 638450708
"""Coefficients of the logarithm's rational function in Q0."""


def _raw(values: ArrayLike) -> Raw:
    return np.asarray(values, dtype=np.int64)


def rounding_doubling_high_mul(a: ArrayLike, b: ArrayLike) -> Raw:
    """a * b / 2**31, halves towards plus infinity, INT32_MAX for -2**31 * -2**31."""
    return np.asarray(np.minimum((_raw(a) * _raw(b) + (1 << 30)) >> 31, INT32_MAX), dtype=np.int64)


def rounding_divide_by_pot(x: ArrayLike, exponent: ArrayLike) -> Raw:
    """x / 2**exponent, halves away from zero."""
    x, exponent = _raw(x), _raw(exponent)
    mask = (np.int64(1) << exponent) - 1
    return np.asarray((x >> exponent) + ((x & mask) > (mask >> 1) + (x < 0)), dtype=np.int64)


def saturating_shift_left(x: ArrayLike, shift: int) -> Raw:
    """x * 2**shift limited to int32; gemmlowp's limits are -2**31 below -(2**(31 - shift) - 1)."""
    x, threshold = _raw(x), (1 << (31 - shift)) - 1
    return np.where(x > threshold, INT32_MAX, np.where(x < -threshold, INT32_MIN, x << shift))


def exp_on_negative_values(a: ArrayLike, integer_bits: int) -> Raw:
    """exp(a) in Q0 for a <= 0 in Q`integer_bits` (at most 5): exp_on_negative_values."""
    a = _raw(a)
    fraction_bits = 31 - integer_bits
    quarter = 1 << (fraction_bits - 2)
    reduced = (a & (quarter - 1)) - quarter
    x = saturating_shift_left(reduced, integer_bits) + (1 << 28)
    x2 = rounding_doubling_high_mul(x, x)
    x3 = rounding_doubling_high_mul(x2, x)
    x4 = rounding_doubling_high_mul(x2, x2)
    third = rounding_doubling_high_mul(rounding_divide_by_pot(x4, 2) + x3, THIRD)
    series = x + rounding_divide_by_pot(third + x2, 1)
    result = EXP_MINUS_EIGHTH + rounding_doubling_high_mul(EXP_MINUS_EIGHTH, series)
    remainder = reduced - a
    for exponent, factor in EXP_MINUS_POWERS.items():
        if integer_bits > exponent:
            bit = (remainder >> (fraction_bits + exponent)) & 1
            result = np.where(bit == 1, rounding_doubling_high_mul(result, factor), result)
    return np.where(a == 0, INT32_MAX, result)


def _newton_inverse(a: Raw) -> Raw:
    """2 / (1 + a) in Q2 for a in (0, 1) in Q0, by three Newton steps."""
    half_denominator = (a + INT32_MAX + 1) >> 1
    x = NEWTON_48_17 + rounding_doubling_high_mul(half_denominator, NEWTON_MINUS_32_17)
    for _ in range(3):
        rest = ONE_Q2 - rounding_doubling_high_mul(half_denominator, x)
        x = x + saturating_shift_left(rounding_doubling_high_mul(x, rest), 2)
    return x


def one_over_one_plus_x(a: ArrayLike) -> Raw:
    """1 / (1 + a) in Q0 for a in (0, 1) in Q0: one_over_one_plus_x_for_x_in_0_1."""
    return saturating_shift_left(_newton_inverse(_raw(a)), 1)


def one_minus_x_over_one_plus_x(a: ArrayLike) -> Raw:
    """(1 - a) / (1 + a) in Q0 for a in (0, 1) in Q0: one_minus_x_over_one_plus_x_for_x_in_0_1."""
    return saturating_shift_left(_newton_inverse(_raw(a)) - ONE_Q2, 2)


def logistic(a: ArrayLike, integer_bits: int) -> Raw:
    """1 / (1 + exp(-a)) in Q0 for a in Q`integer_bits`."""
    a = _raw(a)
    positive = one_over_one_plus_x(exp_on_negative_values(-np.abs(a), integer_bits))
    return np.where(a == 0, 1 << 30, np.where(a > 0, positive, INT32_MAX - positive))


def tanh(a: ArrayLike, integer_bits: int) -> Raw:
    """tanh(a) in Q0 for a in Q`integer_bits`."""
    a = _raw(a)
    positive = one_minus_x_over_one_plus_x(exp_on_negative_values(-np.abs(a), integer_bits + 1))
    return np.where(a == 0, 0, np.where(a > 0, positive, -positive))


def log_above_one(a: ArrayLike, integer_bits: int, output_bits: int) -> Raw:
    """ln(a) in Q`output_bits` of a >= 1 in Q`integer_bits`: log_x_for_x_greater_than_or_equal_to_1.

    a is written as a power of two times r near sqrt(sqrt(1/2)), in two ways of which the larger power counts; ln(r)
    is a rational function of r - sqrt(sqrt(1/2)).
    """
    a, accumulator, mul = _raw(a), output_bits + 1, rounding_doubling_high_mul

    def leading_zeros(values: Raw) -> Raw:
        return 32 - np.frexp(values.astype(np.float64))[1].astype(np.int64)

    zeros = leading_zeros(a)
    first = saturating_shift_left(mul(a << (zeros - 1), HALF_SQRT_2), 1)
    headroom = leading_zeros(mul(a, HALF_SQRT_2)) - 1
    second = np.minimum(a << headroom, INT32_MAX)
    r = np.minimum(first, second)
    quarter, unit = 1 << (29 - accumulator), 31 - accumulator
    power = np.maximum(((integer_bits - zeros) << unit) + quarter, ((integer_bits - headroom) << unit) - quarter)
    p = (r + SQRT_SQRT_HALF + 1) >> 1
    q = 2 * (r - SQRT_SQRT_HALF)
    square = mul(q, q)
    numerator = mul(q, r) + mul(mul(q, square), LOG_ALPHA_N)
    denominator = mul(p, LOG_ALPHA_I + q + mul(LOG_ALPHA_D, square)) + mul(LOG_ALPHA_F, q)
    fraction = mul(rounding_divide_by_pot(numerator, accumulator), one_over_one_plus_x(denominator))
    return saturating_shift_left(mul(power, LN_2) + fraction, 1)


def input_radius(integer_bits: int, left_shift: int) -> int:
    """CalculateInputRadius: the largest input that Q`integer_bits` holds after a multiplier with `left_shift`."""
    return int(((1 << integer_bits) - 1) * 2.0 ** (31 - integer_bits - left_shift) // 1)


def inverse_square_root(value: int) -> tuple[int, int]:
    """(multiplier, shift) with multiplier * 2**(shift - 31) near 1 / sqrt(value), value >= 0.

    GetInvSqrtQuantizedMultiplierExp with its right shift turned into a left shift. 0 counts as 1.
    """
    if value <= 1:
        return INT32_MAX, 0
    right = 11
    while value >= 1 << 29:
        value //= 4
        right += 1
    pairs = (31 - value.bit_length()) // 2 - 1
    right -= pairs
    argument = _raw(value << (2 * pairs)) >> 1
    half_argument = rounding_divide_by_pot(argument, 1)
    three_halves = (1 << 28) + (1 << 27)
    x = _raw(1 << 28)
    for _ in range(5):
        cube = saturating_shift_left(rounding_doubling_high_mul(rounding_doubling_high_mul(x, x), x), 6)
        difference = rounding_doubling_high_mul(three_halves, x) - rounding_doubling_high_mul(half_argument, cube)
        x = saturating_shift_left(difference, 3)
    result = int(rounding_doubling_high_mul(x, HALF_SQRT_2))
    return (result << -right, 0) if right < 0 else (result, -right)
