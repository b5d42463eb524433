"""One requantizer lane: int32 sums to scaled integers, in the three roundings of `isa.RequantMode`."""

from __future__ import annotations

from amaranth.hdl import C, Cat, Module, Mux, Shape, Signal, Value, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tidemill.isa import RequantMode
from tidemill_hdl.prim.multiplier import Multiplier

_UNIT = 31
"""Back shift that brings the binary point of a product (31 fraction bits) to bit 0."""
_BACK_LEVELS = ((32, 16), (8, 4), (2, 1))
"""Levels of the back shifter in each pipeline stage."""


def add_with_carry(a: Value, b: Value, carry: Value, width: int) -> Value:
    """a + b + carry on one carry chain, modulo 2**width; `a` and `b` have `width` bits."""
    return (Cat(C(1, 1), a).as_unsigned() + Cat(carry, b).as_unsigned())[1 : width + 1]


def _leading_zeros(word: Value) -> tuple[Value, Value]:
    """Zeros above the topmost one of 16 bits, 15 if there is none: whether at least 8, and the rest in 3 bits."""
    eight = ~word[8:].any()
    rest = [_few_zeros(word[low : low + 8]) for low in (0, 8)]
    return eight, Mux(eight, *rest)


def _few_zeros(word: Value) -> Value:
    """Zeros above the topmost one of 8 bits, 7 if there is none."""
    four = ~word[4:].any()
    two = Mux(four, ~word[2:4].any(), ~word[6:].any())
    one = Mux(four, Mux(two, ~word[1], ~word[3]), Mux(two, ~word[5], ~word[7]))
    return Cat(one, two, four)


class _Pipe:
    """Values on their way through a pipeline: each `stage` registers everything that later stages read."""

    def __init__(self, m: Module) -> None:
        self.m = m
        self.latency = 0

    def stage(self, **values: Value) -> tuple[Signal, ...]:
        """Register `values`; returns the registers in the order of the arguments."""
        registers = []
        for name, value in values.items():
            register = Signal(Shape.cast(value.shape()), name=f"{name}_{self.latency + 1}", reset_less=True)
            self.m.d.sync += register.eq(value)
            registers.append(register)
        self.latency += 1
        return tuple(registers)


class Requantizer(wiring.Component):
    """One lane of requantization, exact as `docs/architecture.md` ("Requantization") defines it.

    All modes work on sign and magnitude. A front shifter applies tflite's left shift or normalises the onnx
    magnitude; the product comes from four 16x16 multipliers; a back shifter with guard and sticky bits rounds.

    Members
    -------
    v : In(signed 32): the value; a new one is taken in every cycle.
    bias, multiplier, shift : In(signed 32, 31, signed 8): parameters of this value, in the same cycle.
    mode : In(RequantMode): like `preshift` and `zero_point` constant from two cycles before the first value until
        the last result.
    preshift : In(5)
    zero_point : In(signed 8)
    y : Out(signed 32): result plus zero point modulo 2**32, before any clamp; `latency` cycles after its value.

    Throughput one value a cycle. No handshake, no control state: reset does nothing.
    """

    latency = 18
    """Cycles from `v` to `y`."""

    def __init__(self) -> None:
        super().__init__(
            {
                "v": In(signed(32)),
                "bias": In(signed(32)),
                "multiplier": In(unsigned(31)),
                "shift": In(signed(8)),
                "mode": In(2),
                "preshift": In(5),
                "zero_point": In(signed(8)),
                "y": Out(signed(32)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        pipe = _Pipe(m)

        # Constant during an instruction: registered here so that no stage decodes them.
        tflite = Signal()
        onnx = Signal()
        div = Signal()
        preshift = Signal(5)  # where a left shift adds to it
        base = Signal(signed(7))  # of the back shift
        dropped = Signal(32)  # bits that the preshift pushes out at the top
        sign_bit = Signal(32)  # one-hot: the bit that the preshift moves to bit 31
        effective = Mux(self.mode == RequantMode.DIV, 0, self.preshift)
        m.d.sync += [
            tflite.eq(self.mode == RequantMode.TFLITE),
            onnx.eq(self.mode == RequantMode.ONNX),
            div.eq(self.mode == RequantMode.DIV),
            preshift.eq(Mux(self.mode == RequantMode.TFLITE, self.preshift, 0)),
            base.eq(Mux(self.mode == RequantMode.ONNX, _UNIT - 8 - self.preshift, _UNIT)),
            dropped.eq(Cat(C(0, 1), *(effective > 31 - i for i in range(1, 32)))),
            sign_bit.eq(Cat(effective == 31 - i for i in range(32))),
        ]

        # Sum with the bias. The preshift itself is never done: it drops upper bits and adds to the exponent.
        limited = Signal(signed(8))
        m.d.comb += limited.eq(Mux(self.shift > 31, 31, Mux(self.shift < -31, -31, self.shift)))
        total, addend, shift, wide_shift, mul = pipe.stage(
            total=(self.v + Mux(div, 0, self.bias))[:32],
            addend=Mux(div, self.bias[:16], 0),
            shift=limited,
            wide_shift=self.shift,
            mul=self.multiplier,
        )
        # Sign, front shift (tflite) and the back shift so far (`back`; _UNIT is no shift of the integer part).
        to_left = tflite & ~shift[7]
        fixed_back = Mux(to_left, 0, shift)
        neg, total, addend, left, back, mul = pipe.stage(
            neg=(total & sign_bit).any(),
            total=total,
            addend=addend,
            left=(Mux(to_left, shift[:5], 0) + preshift)[:6],
            back=(base - Mux(onnx, wide_shift, fixed_back))[:10].as_signed(),
            mul=mul,
        )
        magnitude, neg, left, back, mul = pipe.stage(
            magnitude=add_with_carry(~dropped & (total ^ neg.replicate(32)), Cat(addend, C(0, 16)), neg, 32),
            neg=neg,
            left=left,
            back=back,
            mul=Mux(onnx, Cat(C(0, 7), mul[7:]), mul),
        )

        # Front shifter: by `left`, or (onnx) until the top bit is set; the onnx multiplier is normalised beside it.
        # Two stages shift by 16 and 8 and count the zeros that are left, the third shifts by that count.
        flush = left[5]
        zeros = onnx & ~magnitude[16:].any()
        take = zeros | (~onnx & left[4])
        take_mul = onnx & ~mul[15:].any()
        magnitude, neg, left, back, mul, flush, zeros, mul_zeros = pipe.stage(
            magnitude=Mux(take, Cat(C(0, 16), magnitude[:16]), magnitude),
            neg=neg,
            left=left[:4],
            back=back,
            mul=Mux(take_mul, Cat(C(0, 16), mul[:15]), mul),
            flush=flush,
            zeros=zeros,
            mul_zeros=take_mul,
        )
        take, few = _leading_zeros(magnitude[16:])
        take_mul, few_mul = _leading_zeros(mul[15:])
        take, take_mul = Mux(onnx, take, left[3]), onnx & take_mul
        few, few_mul = Mux(onnx, few, left[:3]), few_mul & onnx.replicate(3)
        magnitude, neg, back, mul, flush, zeros, mul_zeros, few, few_mul = pipe.stage(
            magnitude=Mux(take, Cat(C(0, 8), magnitude[:24]), magnitude),
            neg=neg,
            back=back,
            mul=Mux(take_mul, Cat(C(0, 8), mul[:23]), mul),
            flush=flush,
            zeros=Cat(take, zeros),
            mul_zeros=Cat(take_mul, mul_zeros),
            few=few,
            few_mul=few_mul,
        )
        for bit in (2, 1, 0):
            magnitude = Mux(few[bit], Cat(C(0, 1 << bit), magnitude[: 32 - (1 << bit)]), magnitude)
            mul = Mux(few_mul[bit], Cat(C(0, 1 << bit), mul[: 31 - (1 << bit)]), mul)
        magnitude, neg, back, mul, flush, leading_zeros, mul_leading_zeros = pipe.stage(
            magnitude=magnitude,
            neg=neg,
            back=back,
            mul=mul,
            flush=flush,
            leading_zeros=Cat(few, zeros),
            mul_leading_zeros=Cat(few_mul, mul_zeros),
        )

        # tflite: the shifted value wraps as a signed number. onnx: round to 24 significant bits, half to even;
        # a carry into bit 24 needs no correction because the product then stays below 2**48.
        wraps = tflite & magnitude[31]
        round_up = onnx & magnitude[7] & (magnitude[8] | magnitude[:7].any())
        operand, carry, neg, back, mul, mul_leading_zeros = pipe.stage(
            operand=Mux(onnx, magnitude[8:], magnitude ^ wraps.replicate(32)) & ~flush.replicate(32),
            carry=(wraps | round_up) & ~flush,
            neg=Mux(wraps, ~neg | ~magnitude[:31].any(), neg),
            back=Mux(onnx, back + leading_zeros, back).as_signed()[:10].as_signed(),
            mul=mul,
            mul_leading_zeros=mul_leading_zeros,
        )
        products = self._products(m, (operand + carry)[:32], mul)
        neg, back = pipe.stage(neg=neg, back=Mux(onnx, back + mul_leading_zeros, back).as_signed()[:10].as_signed())
        neg, back = pipe.stage(neg=neg, back=back)
        low, mid_a, mid_b, high = products
        low, mid, high, neg, back = pipe.stage(low=low, mid=mid_a + mid_b, high=high, neg=neg, back=back)
        product, neg, back = pipe.stage(
            product=Cat(low[:16], (Cat(low[16:], high) + mid)[:48])[:64], neg=neg, back=back
        )

        # Split at the binary point; onnx: the leading bit goes to bit 54, so 24 significant bits stand above it.
        # tflite: (x * multiplier + 2**30) >> 31 of the signed product; onnx: half to even.
        align = onnx & ~product[54]
        guard = Mux(align, product[29], product[30])
        odd = Mux(align, product[30], product[31])
        whole, sticky, up_exact, up_sticky, fraction, neg, back, nonzero = pipe.stage(
            whole=Mux(align, product[30:62], product[31:63]),
            sticky=product[:29].any() | (product[29] & ~align),
            up_exact=guard & ((tflite & ~neg) | (onnx & odd)),
            up_sticky=guard & ~div,
            fraction=Mux(div, product[:31], 0),
            neg=neg,
            back=(back + align)[:10].as_signed(),
            nonzero=product[53] | product[54],
        )
        value, neg, amount, saturate = pipe.stage(
            value=Cat(C(0, 1), fraction, (whole + Mux(sticky, up_sticky, up_exact))[:32]),
            neg=neg,
            amount=Mux(back > 2 * _UNIT, 2 * _UNIT, back)[:6],
            saturate=onnx & nonzero & (back <= _UNIT),
        )

        # Back shifter: bit 0 is the guard bit; each level keeps only bits that later levels can move into the result.
        # Only onnx reads `sticky`, and then the fraction is zero: the lowest 32 bits add nothing to it.
        sticky = amount[5] & amount[4] & value[32:48].any()
        reach = 33 + 63
        for stage_levels in _BACK_LEVELS:
            for level in stage_levels:
                reach -= level
                take = amount[level.bit_length() - 1]
                if level < 16:
                    sticky = sticky | (take & value[:level].any())
                value = Mux(take, value[level:], value[:reach])
            if stage_levels is _BACK_LEVELS[-1]:
                value = Mux(saturate, 1 << 24, value[:33])
            value, sticky, neg, amount, saturate = pipe.stage(
                value=value, sticky=sticky, neg=neg, amount=amount, saturate=saturate
            )
        up = value[0] & (tflite | (onnx & (sticky | value[1])))
        rounded, neg = pipe.stage(rounded=(value[1:33] + up)[:32], neg=neg)
        zero_point = Signal(signed(32))
        m.d.comb += zero_point.eq(self.zero_point)
        (y,) = pipe.stage(y=add_with_carry(rounded ^ neg.replicate(32), zero_point, neg, 32))
        m.d.comb += self.y.eq(y)
        if pipe.latency != self.latency:
            raise AssertionError(f"the pipeline has {pipe.latency} stages, latency says {self.latency}")
        return m

    @staticmethod
    def _products(m: Module, x: Value, mul: Value) -> list[Value]:
        """Low, both middle and high products of the halves of `x` (32 bits) and `mul` (31 bits), two stages later."""
        products: list[Value] = []
        for name, a, b in (
            ("low", x[:16], mul[:16]),
            ("mid_a", x[16:32], mul[:16]),
            ("mid_b", x[:16], mul[16:31]),
            ("high", x[16:32], mul[16:31]),
        ):
            m.submodules[name] = multiplier = Multiplier(17, 17, latency=2)
            m.d.comb += [multiplier.a.eq(a.as_unsigned()), multiplier.b.eq(b.as_unsigned())]
            products.append(multiplier.p[: len(a) + len(b)].as_unsigned())
        return products
