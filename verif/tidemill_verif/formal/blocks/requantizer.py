"""One requantizer lane, `vector/requantizer.py`, against the formulas of `docs/architecture.md`, at full width.

A solver cannot compare two 32 x 31 bit multiplications that are built differently, so the proof has three parts,
which meet at registers of the pipeline: the front brings the value to a sign, a magnitude x and a scale; the product is
put together from four 16 x 16 bit products of x and the multiplier; the back takes any product to the result. What no
solver shows is school arithmetic: (x0 + 2^16 x1) (m0 + 2^16 m1) = x0 m0 + 2^16 (x1 m0 + x0 m1) + 2^32 x1 m1, and the
bounds of a product that follow from those of its factors.
"""

from __future__ import annotations

from functools import partial

from amaranth.hdl import C, Cat, Module, Mux, Value

from tidemill.isa import RequantMode
from tidemill_hdl.vector.requantizer import Requantizer
from tidemill_verif.formal.harness import Harness
from tidemill_verif.formal.proof import Proof, Twin

_FILE = "vector/requantizer.py"
_FRONT, _PRODUCT, _BACK = 7, 4, 7
"""Stages of the three parts."""


class _LaneHarness(Harness):
    """Any values and parameters in every cycle.

    Parameters
    ----------
    mode : RequantMode
        It stays, as the contract says, like preshift and zero point.
    preshift : int or None
        None: any.
    """

    def __init__(self, mode: RequantMode, preshift: int | None = None) -> None:
        self.mode = mode
        self.preshift = preshift
        super().__init__()

    def _lane(self, m: Module) -> Requantizer:
        m.submodules.dut = dut = Requantizer()
        self.free_inputs(dut, but=["mode", "preshift", "zero_point"])
        m.d.comb += dut.mode.eq(self.mode)
        m.d.comb += dut.preshift.eq(self.constant("preshift", 5) if self.preshift is None else self.preshift)
        m.d.comb += dut.zero_point.eq(self.constant("zero_point", 8))
        return dut

    def _magnitude(self) -> Value:
        """x, on its way into the multipliers."""
        return (self.inner("dut.operand_7", 32) + self.inner("dut.carry_7"))[:32]

    def _before(self, value: Value, name: str, cycles: int) -> Value:
        """`value` of `cycles` cycles ago."""
        for i in range(cycles):
            value = self.past(value, f"{name}{i}")
        return value

    def _after(self, cycles: int) -> Value:
        """Whether so many cycles have passed since reset."""
        return self._before(C(1, 1), "passed", cycles)


def _negate(value: Value, negative: Value, width: int) -> Value:
    """`value` or its negative, `width` bits, signed."""
    return Mux(negative, -value, value)[:width].as_signed()


class FrontHarness(_LaneHarness):
    """From the inputs to sign, magnitude and scale."""

    def build(self, m: Module) -> None:
        dut = self._lane(m)
        ready = self._after(_FRONT + 2)
        v, bias = (self._before(value, name, _FRONT) for value, name in ((dut.v, "v"), (dut.bias, "bias")))
        multiplier = self._before(dut.multiplier, "multiplier", _FRONT)
        shift = self._before(dut.shift, "shift", _FRONT)
        limited = Mux(shift > 31, 31, Mux(shift < -31, -31, shift))
        x, negative = self._magnitude(), self.inner("dut.neg_7")
        back, scale = self.inner("dut.back_7", 10).as_signed(), self.inner("dut.mul_7", 31)
        value = (((v + bias)[:32] << dut.preshift)[:32]).as_signed()
        if self.mode is not RequantMode.DIV:
            self._sum(dut)
        if self.mode is RequantMode.TFLITE:
            left, right = Mux(limited > 0, limited, 0)[:5], Mux(limited < 0, -limited, 0)[:5]
            shifted = (value << left)[:32].as_signed()
            self.prove("value", ~ready | (_negate(x, negative, 33) == shifted))
            self.prove("scale", ~ready | ((back == 31 + right) & (scale == multiplier)))
        elif self.mode is RequantMode.DIV:
            magnitude = _negate(v, v < 0, 33) + bias[:16]
            self.prove("value", ~ready | ((x == magnitude) & (negative == (v < 0))))
            self.prove("scale", ~ready | ((back == 31 - limited) & (scale == multiplier)))
        else:
            self._onnx(value, multiplier, shift, ready, x, negative, back, scale)
        self.cover("large", ready & negative & (x >= 0x800000))

    def _sum(self, dut: Requantizer) -> None:
        """Lemma: three stages in there are the sign of the value and its magnitude, not yet shifted; six stages in the
        magnitude is shifted."""
        v, bias = (self._before(value, f"{name}_sum", 3) for value, name in ((dut.v, "v"), (dut.bias, "bias")))
        value = (((v + bias)[:32] << dut.preshift)[:32]).as_signed()
        magnitude, negative = self.inner("dut.magnitude_3", 32), self.inner("dut.neg_3")
        same = (magnitude << dut.preshift) == _negate(value, value < 0, 33)[:32]
        self.lemma("sum", ~self._before(C(1, 1), "passed_sum", 5) | (same & (negative == (value < 0))))
        if self.mode is RequantMode.TFLITE:
            left = self._before(self.inner("dut.left_3", 6), "left_before", 3)
            shifted = (self._before(magnitude, "magnitude_before", 3) << left[:5])[:32]
            self.lemma(
                "shifted", ~self._before(C(1, 1), "passed_shift", 8) | (self.inner("dut.magnitude_6", 32) == shifted)
            )

    def _onnx(
        self, value: Value, multiplier: Value, shift: Value, ready: Value, x: Value, negative: Value, back: Value,
        scale: Value,
    ) -> None:  # fmt: skip
        """|value| rounded to 24 significant bits, half to even, is x * 2^(8 - zeros)."""
        magnitude = _negate(value, value < 0, 33)[:32]
        zeros, rounded = C(0, 5), magnitude
        for length in range(1, 33):
            zeros = Mux(magnitude[length - 1], 32 - length, zeros)
            if (drop := length - 24) > 0:
                kept = magnitude[drop:]
                up = magnitude[drop - 1] & (magnitude[: drop - 1].any() | kept[0])
                rounded = Mux(magnitude[length - 1], Cat(C(0, drop), (kept + up)[: 33 - drop]), rounded)
        self.prove("value", ~ready | ((Cat(C(0, 8), x)[:40] == (rounded << zeros)[:40]) & (x[25:] == 0)))
        self.prove("sign", ~ready | (x == 0) | (negative == (value < 0)))
        # The multiplier's upper 24 bits with their top bit at bit 30.
        mantissa, mantissa_zeros = multiplier[7:], C(0, 5)
        for length in range(1, 25):
            mantissa_zeros = Mux(mantissa[length - 1], 24 - length, mantissa_zeros)
        normal = Cat(C(0, 7), (mantissa << mantissa_zeros)[:24])
        exponent = 23 - shift + zeros
        moved = self.inner("dut.mul_leading_zeros_7", 5) == mantissa_zeros
        self.prove("scale", ~ready | ((scale == normal) & ((x == 0) | (back == exponent)) & ((mantissa == 0) | moved)))


class ProductHarness(_LaneHarness):
    """From magnitude and multiplier to the product's parts and their sum; sign and scale go with them."""

    def build(self, m: Module) -> None:
        self._lane(m)
        ready = self._after(_PRODUCT + 2)
        widths = {"low": 32, "mid_a": 32, "mid_b": 31, "high": 31}
        whole = {name: self.inner(f"dut.{name}.product", 34) for name in widths}
        x, mul = self._magnitude(), self.inner("dut.mul_7", 31)
        halves = {"low": (x[:16], mul[:16]), "mid_a": (x[16:], mul[:16])}
        halves |= {"mid_b": (x[:16], mul[16:]), "high": (x[16:], mul[16:])}
        right = {}
        for name, factors in halves.items():
            # Formed like the hardware's, of its registers: no solver shows that two kinds of multiplication agree.
            a, b = (self.inner(f"dut.{name}.{side}_register", 17).as_signed() for side in "ab")
            taken = Cat(
                register == self._before(half, f"{name}_{side}", 1)
                for side, register, half in zip("ab", (a, b), factors, strict=True)
            )
            right[name] = (whole[name] == self._before(a * b, f"{name}_expected", 1)) & taken.all()
        part = {name: whole[name][:width] for name, width in widths.items()}
        self.prove("low", ~ready | right["low"])
        self.prove("middle", ~ready | (right["mid_a"] & right["mid_b"]))
        self.prove("high", ~ready | right["high"])
        low, mid_a, mid_b, high = (self._before(value, f"{name}_before", 2) for name, value in part.items())
        total = low + ((mid_a + mid_b) << 16) + (high << 32)
        self.prove("total", ~ready | (self.inner("dut.product_11", 64) == total[:64]))
        back = self.inner("dut.back_7", 10).as_signed()
        if self.mode is RequantMode.ONNX:
            back = (back + self.inner("dut.mul_leading_zeros_7", 5))[:10].as_signed()
        travels = self.inner("dut.back_11", 10).as_signed() == self._before(back, "back_before", 4)
        travels &= self.inner("dut.neg_11") == self._before(self.inner("dut.neg_7"), "neg_before", 4)
        self.prove("travels", ~ready | travels)
        self.cover("product", ready & (self.inner("dut.product_11", 64) == 1 << 54))


class BackHarness(_LaneHarness):
    """From any product, sign and scale that the parts before can give to the result."""

    def build(self, m: Module) -> None:
        dut = self._lane(m)
        ready = self._after(_BACK + 2)
        now = self.inner("dut.product_11", 64)
        exponent = self.inner("dut.back_11", 10).as_signed()
        product = self._before(now, "product", _BACK)
        negative = self._before(self.inner("dut.neg_11"), "negative", _BACK)
        back = self._before(exponent, "back", _BACK)
        if self.mode is RequantMode.TFLITE:
            self.assume((now <= 1 << 62) & (exponent >= 31) & (exponent <= 62))
            result = self._tflite(product, negative, back)
        elif self.mode is RequantMode.DIV:
            self.assume((now < 1 << 63) & (exponent >= 0) & (exponent <= 62))
            result = _negate((product >> back[:6])[:32], negative, 32)
        else:
            self.assume((now == 0) | ((now >= 1 << 53) & (now < 1 << 55)))
            self.assume((exponent >= 23 - 127) & (exponent <= 23 + 128 + 31 + 23))
            result = self._onnx(product, negative, back)
        self.prove("result", ~ready | (dut.y == (result + dut.zero_point)[:32].as_signed()))
        self.cover("negative", ready & negative & (dut.y == -5 + dut.zero_point))

    def _tflite(self, product: Value, negative: Value, back: Value) -> Value:
        """(x * multiplier + 2^30) >> 31, then a rounding right shift, ties away from zero."""
        high = ((_negate(product, negative, 64) + (1 << 30)) >> 31)[:33].as_signed()
        right = (back - 31)[:5]
        mask = ((C(1, 32) << right) - 1)[:32]
        rest = high[:32] & mask
        return (high >> right) + (rest > (mask >> 1) + (high < 0))

    def _onnx(self, product: Value, negative: Value, back: Value) -> Value:
        """24 significant bits, half to even; times 2^-back, to an integer, half to even; at most 2^23."""
        wide = product[54]
        kept = Mux(wide, product[31:], product[30:])[:25]
        guard = Mux(wide, product[30], product[29])
        rest = Mux(wide, product[:30].any(), product[:29].any())
        significand = (kept + (guard & (rest | kept[0])))[:25]
        right = back - Mux(wide, 31, 30)
        amount = Mux(right > 26, 26, right)[:5]
        quotient = (significand >> amount)[:25]
        unit = (C(1, 27) << amount)[:27]
        doubled = Cat(C(0, 1), significand & (unit - 1)[:25])
        up = (doubled > unit) | ((doubled == unit) & quotient[0])
        integer = Mux(right <= 0, Mux(significand == 0, 0, 1 << 23), quotient + up)
        limited = Mux(integer > 1 << 23, 1 << 23, integer)
        return _negate(limited, negative, 32)


_PRESHIFTS: dict[RequantMode, tuple[int | None, ...]] = {
    RequantMode.TFLITE: (0, 7, 31),
    RequantMode.DIV: (None,),
    RequantMode.ONNX: (0, 7, 31),
}
"""With a free preshift the fronts of tflite and onnx are out of the solvers' reach: proved are these."""
_FRONT_SAYS = {
    RequantMode.TFLITE: {
        "value": "(v + bias) << preshift << max(shift, 0), modulo 2^32, as sign and magnitude: any input",
        "scale": "the right shift is 31 + max(-shift, 0) with shift limited to -31..31; the multiplier is unchanged",
    },
    RequantMode.DIV: {
        "value": "sign of v and |v| + (bias & 0xFFFF): any input",
        "scale": "the right shift is 31 - shift, limited; the multiplier is unchanged",
    },
    RequantMode.ONNX: {
        "value": "|(v + bias) << preshift| rounded to 24 significant bits, half to even, and normalised: any input",
        "sign": "its sign",
        "scale": "multiplier >> 7 normalised; the exponents of both and of the shift",
    },
}
_PRODUCT_SAYS = {
    "low": "the product of the lower halves",
    "middle": "the two mixed products",
    "high": "the product of the upper halves",
    "total": "their sum, each at its place, modulo 2^64",
    "travels": "sign and scale arrive with the product; onnx: with the multiplier's exponent",
}
_BACK_SAYS = {
    RequantMode.TFLITE: "(x * multiplier + 2^30) >> 31, rounding right shift with ties away from zero, plus the zero "
    "point, modulo 2^32: any product up to 2^62, shift 0 to 31, zero point",
    RequantMode.DIV: "sign * (product >> right), plus the zero point, modulo 2^32: any product below 2^63, right 0 to "
    "62",
    RequantMode.ONNX: "24 significant bits half to even, then to an integer half to even, at most 2^23, plus the zero "
    "point: any product of two 24-bit significands, any exponent",
}
_FRONT_TWINS = {
    RequantMode.TFLITE: (
        Twin("value", _FILE, "neg=Mux(wraps, ~neg | ~magnitude[:31].any(), neg)", "neg=Mux(wraps, ~neg, neg)"),
        Twin("scale", _FILE, "Mux(self.shift < -31, -31, self.shift)", "Mux(self.shift < -32, -31, self.shift)"),
    ),
    RequantMode.DIV: (
        Twin("value", _FILE, "Mux(div, self.bias[:16], 0)", "Mux(div, self.bias[:15], 0)"),
        Twin("scale", _FILE, "Mux(to_left, 0, shift)", "Mux(shift[7], shift, 0)"),
    ),
    RequantMode.ONNX: (
        Twin("value", _FILE, "Mux(onnx, magnitude[8:],", "Mux(onnx, magnitude[9:],"),
        Twin("sign", _FILE, "neg=(total & sign_bit).any()", "neg=total[30]"),
        Twin("scale", _FILE, "Mux(onnx, wide_shift, fixed_back)", "Mux(onnx, shift, fixed_back)"),
    ),
}
_TIE_TWIN = Twin("value", _FILE, "magnitude[7] & (magnitude[8] | magnitude[:7].any())", "magnitude[7]")
_PRODUCT_TWINS = (
    Twin("low", _FILE, '("low", x[:16], mul[:16])', '("low", x[:16], mul[1:17])'),
    Twin("middle", _FILE, '("mid_b", x[:16], mul[16:31])', '("mid_b", x[16:32], mul[16:31])'),
    Twin("high", _FILE, '("high", x[16:32], mul[16:31])', '("high", x[:16], mul[16:31])'),
    Twin("total", _FILE, "mid=mid_a + mid_b", "mid=mid_a | mid_b"),
    Twin("travels", _FILE, "back=Mux(onnx, back + mul_leading_zeros, back)", "back=Mux(onnx, back, back + 1)"),
)
_BACK_TWINS = {
    RequantMode.TFLITE: Twin("result", _FILE, "((tflite & ~neg) |", "(tflite |"),
    RequantMode.DIV: Twin("result", _FILE, "fraction=Mux(div, product[:31], 0)", "fraction=C(0, 31)"),
    RequantMode.ONNX: Twin("result", _FILE, "(onnx & (sticky | value[1]))", "onnx"),
}

PROOFS = (
    *(
        Proof(
            f"front_{mode.name.lower()}" + ("" if preshift is None else f"_{preshift}"),
            partial(FrontHarness, mode, preshift),
            says,
            _FRONT_TWINS[mode] + ((_TIE_TWIN,) if mode is RequantMode.ONNX and preshift == 0 else ()),
            {"large": "a magnitude of at least 2^23"},
            depth=_FRONT + 5,
        )
        for mode, says in _FRONT_SAYS.items()
        for preshift in _PRESHIFTS[mode]
    ),
    *(
        Proof(
            f"product_{mode.name.lower()}",
            partial(ProductHarness, mode),
            _PRODUCT_SAYS,
            _PRODUCT_TWINS,
            {"product": "a product of 2^54"},
            depth=_PRODUCT + 4,
        )
        for mode in RequantMode
    ),
    *(
        Proof(
            f"back_{mode.name.lower()}",
            partial(BackHarness, mode),
            {"result": says},
            (_BACK_TWINS[mode],),
            {"negative": "a result of -5 before the zero point"},
            depth=_BACK + 5,
        )
        for mode, says in _BACK_SAYS.items()
    ),
)
