"""A pipelined signed multiplier: the one place where a target's own multiplier blocks can come in."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class Multiplier(wiring.Component):
    """Product of two signed numbers, one a cycle.

    A platform with a method `get_multiplier(multiplier)` supplies the implementation (an elaboratable that drives `p`
    from `a` and `b` with `latency` registers); without it the multiplier is inferred.

    Parameters
    ----------
    a_bits, b_bits : int
        Bits of the factors.
    latency : int
        Registers from the factors to the product, 1 to 3: product; factors and product; factors and product twice
        (the second product register keeps the way out of a DSP block off the adder's path).

    Members
    -------
    a : In(signed(a_bits))
    b : In(signed(b_bits))
    p : Out(signed(a_bits + b_bits)): a * b of `latency` cycles ago. The registers are not reset.
    """

    def __init__(self, a_bits: int, b_bits: int, latency: int = 3) -> None:
        if not 1 <= latency <= 3:
            raise ValueError(f"latency must be 1 to 3, not {latency!r}")
        self.a_bits = a_bits
        self.b_bits = b_bits
        self.latency = latency
        super().__init__({"a": In(signed(a_bits)), "b": In(signed(b_bits)), "p": Out(signed(a_bits + b_bits))})

    def elaborate(self, platform: object) -> Module:
        if hasattr(platform, "get_multiplier"):
            return platform.get_multiplier(self)
        m = Module()
        a, b = self.a, self.b
        if self.latency > 1:
            a = Signal.like(self.a, name="a_register", reset_less=True)
            b = Signal.like(self.b, name="b_register", reset_less=True)
            m.d.sync += [a.eq(self.a), b.eq(self.b)]
        product = Signal.like(self.p, name="product", reset_less=True)
        m.d.sync += product.eq(a * b)
        if self.latency > 2:
            output = Signal.like(self.p, name="output", reset_less=True)
            m.d.sync += output.eq(product)
            product = output
        m.d.comb += self.p.eq(product)
        return m
