"""One cell of the systolic array."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tidemill_hdl.prim.multiplier import Multiplier


class ProcessingElement(wiring.Component):
    """Multiplies an activation by a resident weight and adds the product to the sum from above.

    Parameters
    ----------
    psum_bits : int
        Bits of a partial sum.
    multiplier_latency : int
        See `Multiplier`.

    Members
    -------
    act_in, act_out : In / Out(signed(8)): activation, one register from left to right.
    swap_in, swap_out : In / Out(1): with the first activation that the shadow weight is for; travels with it.
    load_in, load_out : In / Out(1): take `weight` into the shadow weight; one register from left to right.
    weight : In(signed(8)): the column's weight bus.
    psum_in, psum_out : In / Out(signed(psum_bits)): `psum_out` is `psum_in` of the cycle before plus the product of the
        activation that came `multiplier_latency` + 2 cycles before.

    Reset clears the active weight and the control bits.
    """

    def __init__(self, psum_bits: int, multiplier_latency: int) -> None:
        self.psum_bits = psum_bits
        self.multiplier_latency = multiplier_latency
        super().__init__(
            {
                "act_in": In(signed(8)),
                "act_out": Out(signed(8)),
                "swap_in": In(1),
                "swap_out": Out(1),
                "load_in": In(1),
                "load_out": Out(1),
                "weight": In(signed(8)),
                "psum_in": In(signed(psum_bits)),
                "psum_out": Out(signed(psum_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        activation = Signal(signed(8), reset_less=True)
        shadow = Signal(signed(8), reset_less=True)
        active = Signal(signed(8))
        swap = Signal()
        load = Signal()
        psum = Signal(signed(self.psum_bits), reset_less=True)
        m.submodules.multiplier = multiplier = Multiplier(8, 8, self.multiplier_latency)
        with m.If(self.load_in):
            m.d.sync += shadow.eq(self.weight)
        with m.If(self.swap_in):
            m.d.sync += active.eq(shadow)
        m.d.sync += [
            activation.eq(self.act_in),
            swap.eq(self.swap_in),
            load.eq(self.load_in),
            psum.eq(self.psum_in + multiplier.p),
        ]
        m.d.comb += [
            multiplier.a.eq(activation),
            multiplier.b.eq(active),
            self.act_out.eq(activation),
            self.swap_out.eq(swap),
            self.load_out.eq(load),
            self.psum_out.eq(psum),
        ]
        return m
