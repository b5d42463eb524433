"""Binary int8 operators in the two forms the machine has: a sum of two tables, or a product, then one requantization.

An addition is requantization(table_a[a & 255] + table_b[b & 255]) with int32 tables, a multiplication
requantization((a - zero_a) * (b - zero_b)). Shapes broadcast. The functions tflite_* give TFLite Micro's results
exactly. ONNX Runtime computes in float32; the functions onnx_* start from the exact values, compare all 65,536 pairs
with the float32 computation and correct the parameters until none differs; `misses` counts the pairs where that was not
possible. A uint8 tensor is given by its values and zero points lowered by 128 and `unsigned`, since ONNX Runtime's
rounding errors depend on the values it sees.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tidemill.golden import fixedpoint, vector
from tidemill.golden.affine import INT8, Affine, Float32, Int8, Requantization, dequantize, quantize
from tidemill.golden.requant import float_scale, quantize_multiplier, requantize
from tidemill.isa import RequantMode

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]

ADD_SHIFT = 20
"""Left shift of both inputs of TFLite's ADD and SUB."""
SQUARE_SHIFT = 7
"""Left shift of both inputs of TFLite's SQUARED_DIFFERENCE: the square of the difference fits an int32."""
FRACTION_BITS = 22
"""Most fraction bits of the tables of an ONNX addition: results that are not clamped stay below 2**30."""
ROUNDS = 200
"""Most corrections of the tables of an ONNX addition."""


@dataclass(frozen=True)
class Addition:
    """y = requantization(table_a[a & 255] + table_b[b & 255]); tables int32 [256]; `misses` of 65,536 pairs differ."""

    table_a: Int32
    table_b: Int32
    requantization: Requantization
    misses: int = 0

    def __call__(self, a: Int8, b: Int8) -> Int8:
        """Evaluate on int8 arrays that broadcast."""
        return self.requantization(
            vector.ALU["vx.add"](vector.post_lut(a, self.table_a), vector.post_lut(b, self.table_b), 0, 0)
        )


@dataclass(frozen=True)
class Multiplication:
    """y = requantization((a - zero_a) * (b - zero_b)); `misses` of 65,536 pairs differ."""

    zero_a: int
    zero_b: int
    requantization: Requantization
    misses: int = 0

    def __call__(self, a: Int8, b: Int8) -> Int8:
        """Evaluate on int8 arrays that broadcast."""
        first = vector.ALU["vx.sub"](a, np.int32(self.zero_a), 0, 0)  # type: ignore[arg-type]
        second = vector.ALU["vx.sub"](b, np.int32(self.zero_b), 0, 0)  # type: ignore[arg-type]
        return self.requantization(vector.ALU["vx.mul"](first, second, 0, 0))


def _scaled_table(zero_point: int, real: float, preshift: int) -> Int32:
    return requantize(INT8, -zero_point, *quantize_multiplier(real), preshift=preshift)


def tflite_add(a: Affine, b: Affine, y: Affine, *, qmin: int = -128, qmax: int = 127) -> Addition:
    """TFLite's int8 ADD; `qmin` and `qmax` are those of its fused activation."""
    scale_a, scale_b, scale = (float(np.float32(q.scale)) for q in (a, b, y))
    twice = 2 * max(scale_a, scale_b)
    final = quantize_multiplier(twice / (scale * (1 << ADD_SHIFT)))
    return Addition(
        _scaled_table(a.zero_point, scale_a / twice, ADD_SHIFT),
        _scaled_table(b.zero_point, scale_b / twice, ADD_SHIFT),
        Requantization(*final, y.zero_point, qmin, qmax),
    )


def tflite_sub(a: Affine, b: Affine, y: Affine, *, qmin: int = -128, qmax: int = 127) -> Addition:
    """TFLite's int8 SUB: ADD with the negative of its second table."""
    added = tflite_add(a, b, y, qmin=qmin, qmax=qmax)
    return Addition(added.table_a, -added.table_b, added.requantization)


def tflite_mul(a: Affine, b: Affine, y: Affine, *, qmin: int = -128, qmax: int = 127) -> Multiplication:
    """TFLite's int8 MUL."""
    scale_a, scale_b, scale = (float(np.float32(q.scale)) for q in (a, b, y))
    final = quantize_multiplier(scale_a * scale_b / scale)
    return Multiplication(a.zero_point, b.zero_point, Requantization(*final, y.zero_point, qmin, qmax))


def tflite_squared_difference(x: Int8, z: Int8, a: Affine, b: Affine, y: Affine) -> Int8:
    """TFLite's int8 SQUARED_DIFFERENCE: the square of a difference of two tables, requantized."""
    scale_a, scale_b, scale = (float(np.float32(q.scale)) for q in (a, b, y))
    twice = 2 * max(scale_a, scale_b)
    table_a = _scaled_table(a.zero_point, scale_a / twice, SQUARE_SHIFT)
    table_b = _scaled_table(b.zero_point, scale_b / twice, SQUARE_SHIFT)
    difference = vector.ALU["vx.sub"](vector.post_lut(x, table_a), vector.post_lut(z, table_b), 0, 0)
    unit = float(np.float32(1 << 2 * SQUARE_SHIFT) * np.float32(scale))
    final = Requantization(*quantize_multiplier(twice * twice / unit), y.zero_point)
    return final(vector.ALU["vx.mul"](difference, difference, 0, 0))


def tflite_add_n(values: Sequence[Int8], x: Affine, y: Affine) -> Int8:
    """TFLite Micro's int8 ADD_N of inputs with one quantization; its sum starts with minus their zero point."""
    total = sum((value.astype(np.int64) - x.zero_point for value in values), np.int64(-x.zero_point))
    final = Requantization(*quantize_multiplier(_add_n_scale(x, y)), y.zero_point)
    return final(np.asarray(total << (ADD_SHIFT - 1)).astype(np.int32))


def tflite_add_two(x: Affine, y: Affine) -> Addition:
    """`tflite_add_n` of two inputs."""
    table = ((INT8.astype(np.int32) - x.zero_point) << (ADD_SHIFT - 1)).astype(np.int32)
    start = np.int32(-x.zero_point << (ADD_SHIFT - 1))
    return Addition(table + start, table, Requantization(*quantize_multiplier(_add_n_scale(x, y)), y.zero_point))


def _add_n_scale(x: Affine, y: Affine) -> float:
    return 2 * float(np.float32(x.scale)) / ((1 << ADD_SHIFT) * float(np.float32(y.scale)))


def tflite_div(x: Int8, z: Int8, a: Affine, b: Affine, y: Affine, *, qmin: int = -128, qmax: int = 127) -> Int8:
    """TFLite's int8 DIV: x times the reciprocal of z, both shifted to 31 bits (DivElementwise).

    Small quotients need a last shift of more than 31, which C++ leaves open; here it is what the released x86 runtime
    does: the shift counts modulo 32 and 1 is added to what is not negative. A divisor equal to its zero point, which
    TFLite refuses, counts as one step.
    """
    dividend, divisor = np.broadcast_arrays(x.astype(np.int64) - a.zero_point, z.astype(np.int64) - b.zero_point)
    dividend, divisor = np.where(divisor < 0, -dividend, dividend), np.maximum(np.abs(divisor), 1)
    scale_a, scale_b, scale = (float(np.float32(q.scale)) for q in (a, b, y))
    multiplier, shift = quantize_multiplier(scale_a / (scale_b * scale))
    length = np.frexp(divisor.astype(np.float64))[1].astype(np.int64)
    reciprocal = fixedpoint.one_over_one_plus_x((divisor << (32 - length)) - (1 << 31))
    headroom = 31 - np.frexp((np.abs(dividend) - (dividend < 0)).astype(np.float64))[1].astype(np.int64)
    quotient = fixedpoint.rounding_doubling_high_mul(dividend << headroom, reciprocal)
    product = fixedpoint.rounding_doubling_high_mul(quotient, multiplier)
    right = length - 1 + headroom - shift
    scaled = np.where(
        right <= 31,
        fixedpoint.rounding_divide_by_pot(product, np.clip(right, 0, 31)),
        (product >> (right & 31)) + (product >= 0),
    )
    return vector.clamp(scaled + y.zero_point, qmin, qmax).astype(np.int8)


def tflite_comparison_table(q: Affine) -> Int32:
    """What TFLite's int8 comparisons compare: the real value of each int8, in 1 / 256, int32 [256] by x & 255."""
    return requantize(INT8, -q.zero_point, *quantize_multiplier(float(np.float32(q.scale))), preshift=8)


def _fma(a: ArrayLike, b: ArrayLike, c: ArrayLike) -> Float32:
    """a * b + c of float32 numbers, rounded once (but for halves of float64's last bit)."""
    exact = np.asarray(a, dtype=np.float64) * np.asarray(b, dtype=np.float64)
    return np.asarray(exact + np.asarray(c, dtype=np.float64), dtype=np.float32)


def _seen(a: Affine, b: Affine, y: Affine, unsigned: bool) -> tuple[Int64, tuple[int, int, int], int]:
    """What ONNX Runtime sees: the values of a table's entries, the three zero points, the smallest result."""
    offset = 128 if unsigned else 0
    zeros = (a.zero_point + offset, b.zero_point + offset, y.zero_point + offset)
    return INT8.astype(np.int64) + offset, zeros, offset - 128


def qlinear_add(a: Affine, b: Affine, y: Affine, *, unsigned: bool = False) -> Int64:
    """ONNX Runtime's QLinearAdd (MlasQLinearAdd, x86 with FMA) of all pairs: [256, 256], row a & 255, column b & 255.

    QDQ models run it too: DequantizeLinear, Add, QuantizeLinear are fused into it.
    """
    values, (zero_a, zero_b, zero), low = _seen(a, b, y, unsigned)
    scale_a, scale_b = (np.float32(np.float32(q.scale) / np.float32(y.scale)) for q in (a, b))
    fixed = np.float32(zero) - _fma(scale_a, zero_a, scale_b * np.float32(zero_b))
    sums = _fma(values[:, None], scale_a, _fma(values, scale_b, fixed))
    return np.asarray(np.clip(np.rint(sums), low, low + 255).astype(np.int64) - low - 128)


def float_sum(a: Affine, b: Affine, y: Affine, *, subtract: bool = False, unsigned: bool = False) -> Int64:
    """DequantizeLinear, Add or Sub in float32, QuantizeLinear, of all pairs: [256, 256] like `qlinear_add`.

    ONNX Runtime runs Sub in this way, and Add only without graph optimizations.
    """
    values, (zero_a, zero_b, zero), low = _seen(a, b, y, unsigned)
    first = dequantize(values, Affine(a.scale, zero_a))[:, None]
    second = dequantize(values, Affine(b.scale, zero_b))
    sums = first - second if subtract else first + second
    return quantize(sums, Affine(y.scale, zero), unsigned=unsigned).astype(np.int64) - low - 128


def _upper_ends(final: Requantization) -> Int64:
    """For every result k = -129..127 (entry k + 129) the largest int32 below 2**30 that gives at most k."""
    wanted = np.arange(-129, 128) - final.zero_point
    low = np.full(257, -(1 << 30), dtype=np.int64)
    high = np.full(257, 1 << 30, dtype=np.int64)
    while np.any(high - low > 1):
        middle = (low + high) >> 1
        result = requantize(middle, final.bias, final.multiplier, final.shift, mode=final.mode)
        low, high = np.where(result <= wanted, middle, low), np.where(result <= wanted, high, middle)
    return low


def _addition(
    target: Int64, real_a: NDArray[np.float64], real_b: NDArray[np.float64], zero_point: int, qmin: int, qmax: int
) -> Addition:
    """Tables whose requantized sum gives `target` [256, 256]; real_a[a] + real_b[b] are its exact values, in units of
    y, without the zero point that the requantization adds.

    Each pair bounds the sum of its two entries from both sides. Such a system of difference constraints is solved by
    relaxation (Bellman and Ford): an entry that is too large for one of its pairs is lowered until nothing moves.
    """
    largest = float(np.max(np.abs(real_a)) + np.max(np.abs(real_b)))
    bits = min(FRACTION_BITS, 29 - max(math.frexp(largest)[1], 0))
    if bits < 1:
        raise ValueError(f"the inputs' scales are too large for the output's: the sum reaches {largest:.3g} steps")
    final = Requantization(*float_scale(2.0**-bits), zero_point, qmin, qmax, RequantMode.ONNX)
    target = np.clip(target, qmin, qmax)
    ends = _upper_ends(final)
    unbounded = 1 << 40
    upper = np.where(target == qmax, unbounded, ends[target + 129])
    lower = np.where(target == qmin, -unbounded, ends[target + 128] + 1)
    table_a = np.rint(real_a * 2.0**bits).astype(np.int64)
    minus_b = -np.rint(real_b * 2.0**bits).astype(np.int64)
    first = None
    for _ in range(ROUNDS):
        candidate = Addition(table_a.astype(np.int32), (-minus_b).astype(np.int32), final)
        misses = int(np.count_nonzero(candidate(INT8[:, None], INT8) != target))
        best = Addition(candidate.table_a, candidate.table_b, final, misses)
        if misses == 0:
            return best
        first = first or best
        table_a = np.minimum(table_a, (minus_b + upper).min(axis=1))
        minus_b = np.minimum(minus_b, (table_a[:, None] - lower).min(axis=0))
    assert first is not None
    return first


def onnx_add(
    a: Affine,
    b: Affine,
    y: Affine,
    *,
    subtract: bool = False,
    fused: bool = True,
    unsigned: bool = False,
    qmin: int = -128,
    qmax: int = 127,
) -> Addition:
    """QLinearAdd, or with `subtract` or without `fused` a float32 Sub or Add with its QDQ nodes (`float_sum`).

    Raises ValueError where a sum reaches 2**28 steps of the output.
    """
    if subtract or not fused:
        target = float_sum(a, b, y, subtract=subtract, unsigned=unsigned)
    else:
        target = qlinear_add(a, b, y, unsigned=unsigned)
    scale_a, scale_b, scale = (float(np.float32(q.scale)) for q in (a, b, y))
    real_a = (INT8.astype(np.float64) - a.zero_point) * (scale_a / scale)
    real_b = (INT8.astype(np.float64) - b.zero_point) * (scale_b / scale)
    if subtract or not fused:
        return _addition(target, real_a, -real_b if subtract else real_b, y.zero_point, qmin, qmax)
    return _addition(target, real_a, real_b + y.zero_point, 0, qmin, qmax)


def qlinear_mul(products: Int64, a: Affine, b: Affine, y: Affine, *, unsigned: bool = False) -> Int64:
    """ONNX Runtime's QLinearMul (MlasQLinearMul, x86) of `products` = (a - zero_a) * (b - zero_b).

    The scaled product is rounded to float32, so is its sum with the zero point, then comes the integer.
    """
    offset = 128 if unsigned else 0
    scale = np.float32(np.float32(a.scale) * np.float32(b.scale)) / np.float32(y.scale)
    sums = products.astype(np.float32) * scale + np.float32(y.zero_point + offset)
    return np.asarray(np.clip(np.rint(sums), offset - 128, offset + 127).astype(np.int64) - offset)


def rounded_with_zero_point(products: Int64, target: Int64, scale: Fraction, y: Affine) -> Iterator[Requantization]:
    """Requantizations that may give `target` = the rounded product * scale + zero point, most likely first.

    `products` are in ascending order. ONNX Runtime rounds halves to even with the zero point added. Mode onnx does so
    before adding it, which differs for odd zero points: there a bias of n shifts the product by an odd number m where
    the scale is m / n. Where the float32 sum turns what is just beside a half into a half, another scale close by in
    mode tflite may serve.
    """
    split = float_scale(float(scale))
    yield Requantization(*split, y.zero_point, mode=RequantMode.ONNX)
    m, n = scale.numerator, scale.denominator
    if m % 2 == 1 and m < 1 << 9 and n < 1 << 20:
        for sign in (1, -1):
            yield Requantization(*split, y.zero_point - sign * m, mode=RequantMode.ONNX, bias=sign * n)
    step = np.flatnonzero(np.diff(target))
    below, above = products[step].astype(np.float64), products[step + 1].astype(np.float64)
    half = target[step] - y.zero_point + 0.5
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = np.sort(np.stack([half / below, half / above]), axis=0)
    inside = np.isfinite(ends).all(axis=0) & (ends[0] > 0)
    if np.any(inside):
        low, high = float(np.max(ends[0][inside])), float(np.min(ends[1][inside]))
        for real in ((low + high) / 2, low, high):
            multiplier, shift = quantize_multiplier(real)
            for preshift in (13, 0):
                yield Requantization(multiplier, shift - preshift, y.zero_point, preshift=preshift)


def onnx_mul(
    a: Affine, b: Affine, y: Affine, *, unsigned: bool = False, qmin: int = -128, qmax: int = 127
) -> Multiplication:
    """QLinearMul; QDQ models run it too."""
    pairs = (INT8.astype(np.int64)[:, None] - a.zero_point) * (INT8.astype(np.int64) - b.zero_point)
    products, counts = np.unique(pairs, return_counts=True)
    target = qlinear_mul(products, a, b, y, unsigned=unsigned)
    scale = np.float32(np.float32(a.scale) * np.float32(b.scale)) / np.float32(y.scale)
    best: tuple[int, Requantization] | None = None
    for candidate in rounded_with_zero_point(products, target, Fraction(float(scale)), y):
        misses = int(counts[candidate(products) != target].sum())
        if best is None or misses < best[0]:
            best = misses, candidate
        if misses == 0:
            break
    assert best is not None
    found = best[1]
    final = Requantization(
        found.multiplier, found.shift, found.zero_point, qmin, qmax, found.mode, found.bias, found.preshift
    )
    return Multiplication(a.zero_point, b.zero_point, final, best[0])
