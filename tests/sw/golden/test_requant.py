"""The requantizer against exact rational arithmetic, and the parameters of its three modes."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from tidemill.golden.requant import (
    DIV_LIMIT,
    DIVISOR_MAX,
    ONNX_LIMIT,
    float_scale,
    quantize_multiplier,
    reciprocal,
    requantize,
)
from tidemill.isa import RequantMode

EDGES = [0, 1, -1, 2, -2, 3, 2**23, 2**24 - 1, 2**24 + 1, -(2**24) - 3, 2**30, -(2**30), 2**31 - 1, -(2**31)]


def _wrap(x: int) -> int:
    return (x + 2**31) % 2**32 - 2**31


def _float24(x: Fraction) -> Fraction:
    """The nearest number with 24 significant bits, half to even, with no limit of the exponent."""
    if x == 0:
        return x
    exponent = math.floor(math.log2(abs(x))) - 23
    exponent += (abs(x) >= Fraction(2) ** (exponent + 24)) - (abs(x) < Fraction(2) ** (exponent + 23))
    unit = Fraction(2) ** exponent
    return round(x / unit) * unit


def _reference(
    v: int, bias: int, multiplier: int, shift: int, zero_point: int, preshift: int, mode: RequantMode
) -> int:
    multiplier &= 2**31 - 1
    shift = (shift + 128) % 256 - 128
    x = _wrap(_wrap(v + bias) << preshift)
    limited = max(-31, min(31, shift))
    if mode is RequantMode.DIV:
        y = math.floor((abs(v) + bias % 2**16) * multiplier * Fraction(2) ** (limited - 31)) * (-1 if v < 0 else 1)
    elif mode is RequantMode.ONNX:
        real = _float24(_float24(Fraction(x)) * (multiplier >> 7)) * Fraction(2) ** (shift - 24)
        y = max(-ONNX_LIMIT, min(ONNX_LIMIT, round(real)))
    else:
        high = (_wrap(x << max(limited, 0)) * multiplier + 2**30) >> 31
        magnitude = math.floor(Fraction(abs(high), 2 ** max(-limited, 0)) + Fraction(1, 2))
        y = -magnitude if high < 0 else magnitude
    return _wrap(y + zero_point)


@pytest.mark.parametrize("mode", RequantMode)
@pytest.mark.parametrize("preshift", [0, 1, 20, 31])
def test_every_field_value_has_its_documented_meaning(mode: RequantMode, preshift: int) -> None:
    rng = np.random.default_rng(100 * mode + preshift)
    n = 4000
    v = rng.integers(-(2**31), 2**31, n) >> rng.integers(0, 32, n)
    v[: len(EDGES)] = EDGES
    bias = rng.integers(-(2**31), 2**31, n) >> rng.integers(0, 40, n)
    multiplier = rng.integers(-(2**31), 2**31, n) >> rng.choice([0, 0, 1, 5, 24, 31], n)
    shift = rng.integers(-200, 200, n)
    shift[::2] = rng.integers(-35, 35, n)[::2]
    actual = requantize(v, bias, multiplier, shift, zero_point=-7, preshift=preshift, mode=mode)
    for i in range(n):
        case = (int(v[i]), int(bias[i]), int(multiplier[i]), int(shift[i]))
        assert actual[i] == _reference(*case, -7, preshift, mode), case


def test_a_preshift_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="preshift must be 0 to 31, not 32"):
        requantize(0, 0, 0, 0, preshift=32)


@pytest.mark.parametrize("n", [*range(1, 70), 127, 128, 129, 4095, 4097, 65535, 65536, 65537, 99991, DIVISOR_MAX])
def test_reciprocal_divides_exactly_in_its_whole_range(n: int) -> None:
    rng = np.random.default_rng(n)
    bias, multiplier, shift = reciprocal(n)
    limit = DIV_LIMIT - bias
    whole = np.concatenate([rng.integers(0, limit // n + 1, 3000), np.arange(100), limit // n - np.arange(100)]) * n
    v = np.concatenate([whole + d for d in (-1, 0, 1, bias, -bias, bias - 1, bias + 1, -bias - 1, -bias + 1)])
    v = np.clip(np.append(v, [limit, limit - 1]), 0, limit)
    y = requantize(v, bias, multiplier, shift, mode=RequantMode.DIV)
    assert np.array_equal(y, (v + n // 2) // n)
    assert np.array_equal(requantize(-v, bias, multiplier, shift, mode=RequantMode.DIV), -y)


@pytest.mark.parametrize("n", [0, -1, DIVISOR_MAX + 1])
def test_a_divisor_out_of_range_is_refused(n: int) -> None:
    with pytest.raises(ValueError, match=f"must be 1 to {DIVISOR_MAX}, not {n}"):
        reciprocal(n)


def test_multipliers_are_normalized() -> None:
    assert quantize_multiplier(0.0) == (0, 0)
    assert quantize_multiplier(1.0) == (1 << 30, 1)
    assert quantize_multiplier(1 - 2**-40) == (1 << 30, 1)
    assert quantize_multiplier(2.0**-32) == (1 << 30, -31)
    assert quantize_multiplier(2.0**-33) == (0, 0)
    assert float_scale(0.0) == (0, 0)
    assert float_scale(1.0) == (1 << 30, 1)
    assert float_scale(np.float32(1) - np.float32(2**-24)) == ((2**24 - 1) << 7, 0)


@pytest.mark.parametrize("convert", [quantize_multiplier, float_scale])
@pytest.mark.parametrize("scale", [-1.0, math.inf, math.nan, 2.0**128])
def test_scales_that_cannot_be_meant_are_refused(convert: object, scale: float) -> None:
    with pytest.raises(ValueError, match="a scale must be"), np.errstate(over="ignore"):
        convert(scale)  # type: ignore[operator]
