"""What a microinstruction computes: arithmetic in one cycle, products in a few."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tidemill_hdl.sequential.assembler import WORD_BITS, Op

OP_BITS = 5
BITS_PER_CYCLE = 4
"""Of a product; each costs an adder."""
FIRST_WITHOUT_FLAGS = Op.HIGH
"""Operations below set the flags."""


class Arithmetic(wiring.Component):
    """Adder, logic and shifter. Combinational.

    Members
    -------
    op : In(5): an `Op`.
    a, b : In(32)
    high : In(32): what `HIGH` gives.
    sum : Out(32): a + b or a - b; of `STORE` a + 1.
    result : Out(32): of operations up to `HIGH`, and of `STORE`.
    negative, carry, less : Out(1): flags, as in `assembler.Flag`.
    """

    def __init__(self) -> None:
        word = {name: In(WORD_BITS) for name in ("a", "b", "high")}
        flags = {name: Out(1) for name in ("negative", "carry", "less")}
        super().__init__({"op": In(OP_BITS), **word, "sum": Out(WORD_BITS), "result": Out(WORD_BITS), **flags})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        a, b, op = self.a, self.b, self.op
        subtract, store, left = Signal(), Signal(), Signal()
        m.d.comb += [subtract.eq(op == Op.SUB), store.eq(op == Op.STORE), left.eq(op == Op.SLL)]
        second = Signal(WORD_BITS)
        total = Signal(WORD_BITS + 1)
        m.d.comb += [
            second.eq(Mux(store, 0, b) ^ subtract.replicate(WORD_BITS)),
            total.eq(Cat(1, a) + Cat(subtract | store, second) >> 1),
            self.sum.eq(total),
            self.carry.eq(total[WORD_BITS]),
        ]
        logic = Signal(WORD_BITS)
        with m.Switch(op):
            with m.Case(Op.AND):
                m.d.comb += logic.eq(a & b)
            with m.Case(Op.ANDN):
                m.d.comb += logic.eq(a & ~b)
            with m.Case(Op.OR):
                m.d.comb += logic.eq(a | b)
            with m.Default():
                m.d.comb += logic.eq(a ^ b)

        shifted = Signal(WORD_BITS, name="shifted0")
        m.d.comb += shifted.eq(Mux(left, a[::-1], a))
        filling = a[-1] & (op == Op.SRA)
        for step in range(5):
            distance = 1 << step
            after = Signal(WORD_BITS, name=f"shifted{step + 1}")
            m.d.comb += after.eq(Mux(b[step], Cat(shifted[distance:], filling.replicate(distance)), shifted))
            shifted = after

        with m.Switch(op):
            with m.Case(Op.AND, Op.ANDN, Op.OR, Op.XOR):
                m.d.comb += self.result.eq(logic)
            with m.Case(Op.SLL):
                m.d.comb += self.result.eq(shifted[::-1])
            with m.Case(Op.SRL, Op.SRA):
                m.d.comb += self.result.eq(shifted)
            with m.Case(Op.HIGH):
                m.d.comb += self.result.eq(self.high)
            with m.Default():
                m.d.comb += self.result.eq(self.sum)
        m.d.comb += [
            self.negative.eq(self.result[-1]),
            self.less.eq(Mux(a[-1] ^ b[-1], a[-1], self.sum[-1])),
        ]
        return m


class Product(wiring.Component):
    """Unsigned product of two 32-bit numbers, `BITS_PER_CYCLE` bits a cycle.

    Members
    -------
    start : In(1): begin; `a` and `b` are taken.
    a, b : In(32)
    done : Out(1): the product is there: from 9 cycles after `start` until the next.
    low, high : Out(32)
    """

    def __init__(self) -> None:
        word = {name: In(WORD_BITS) for name in ("a", "b")}
        super().__init__({"start": In(1), **word, "done": Out(1), "low": Out(WORD_BITS), "high": Out(WORD_BITS)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        factor = Signal(WORD_BITS, reset_less=True)
        left = Signal(range(WORD_BITS // BITS_PER_CYCLE + 1))
        high, low = self.high, self.low
        for step in range(BITS_PER_CYCLE):
            added = Signal(WORD_BITS + 1, name=f"added{step}")
            m.d.comb += added.eq(high + Mux(low[0], factor, 0))
            high, low = added[1:], Cat(low[1:], added[0])
        m.d.comb += self.done.eq(left == 0)
        with m.If(self.start):
            m.d.sync += [factor.eq(self.a), self.low.eq(self.b), self.high.eq(0)]
            m.d.sync += left.eq(WORD_BITS // BITS_PER_CYCLE)
        with m.Elif(~self.done):
            m.d.sync += [self.low.eq(low), self.high.eq(high), left.eq(left - 1)]
        return m
