"""The products of the sequential NPU: a column of the 4 x 4 array a step."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tidemill_hdl.prim.multiplier import Multiplier
from tidemill_hdl.sequential.assembler import WORD_BITS

LANES = 4
LANE_BITS = 8


class RowArray(wiring.Component):
    """Multiplies an activation row with the weights, column by column, and brings the sums into local memory.

    Four multipliers hold one column of the weights at a time. The rows of the weights rotate by a lane a step and are
    where they were after four.

    Parameters
    ----------
    address_bits : int, bits of a local memory word's address.

    Members
    -------
    load : In(4): `value` becomes the weights of that array row; only while not `busy`.
    start : In(1): begin a row, in the cycle in which the activation word is read; only while not `busy`.
    accumulate : In(1), acc : In(address_bits): with `start`: add to the words, the first word.
    value : In(32)
    busy : Out(1): the memory port below is the array's. A row takes 9 cycles after `start` with accumulate, else 6.
    en, write : Out(1), addr : Out(address_bits), w_data : Out(32), r_data : In(32): to `LocalWords`.
    """

    def __init__(self, address_bits: int) -> None:
        super().__init__(
            {
                "load": In(LANES),
                "start": In(1),
                "accumulate": In(1),
                "acc": In(address_bits),
                "value": In(WORD_BITS),
                "busy": Out(1),
                "en": Out(1),
                "write": Out(1),
                "addr": Out(address_bits),
                "w_data": Out(WORD_BITS),
                "r_data": In(WORD_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        activation = Signal(WORD_BITS, reset_less=True)
        accumulate = Signal(reset_less=True)
        column = Signal(range(LANES))
        rotate = Signal()
        products = []
        for row in range(LANES):
            weights = Signal(WORD_BITS, name=f"weights{row}", reset_less=True)
            with m.If(self.load[row]):
                m.d.sync += weights.eq(self.value)
            with m.Elif(rotate):
                m.d.sync += weights.eq(weights.rotate_right(LANE_BITS))
            m.submodules[f"multiplier{row}"] = multiplier = Multiplier(LANE_BITS, LANE_BITS, latency=1)
            m.d.comb += [
                multiplier.a.eq(activation.word_select(row, LANE_BITS)),
                multiplier.b.eq(weights[:LANE_BITS]),
            ]
            products.append(multiplier.p)
        total = Signal(signed(2 * LANE_BITS + 2))
        m.d.comb += [
            total.eq((products[0] + products[1]) + (products[2] + products[3])),
            self.w_data.eq(Mux(accumulate, self.r_data, 0).as_signed() + total),
        ]

        # The product of a column is there in the cycle after its weights were: the next column's move in just before.
        with m.FSM(name="row") as fsm:
            m.d.comb += self.busy.eq(~fsm.ongoing("IDLE"))
            with m.State("IDLE"):
                m.d.sync += [column.eq(0), accumulate.eq(self.accumulate), self.addr.eq(self.acc)]
                with m.If(self.start):
                    m.next = "ACTIVATION"
            with m.State("ACTIVATION"):
                m.d.sync += activation.eq(self.r_data)
                m.next = "READ"
            with m.State("READ"):
                m.d.comb += [self.en.eq(accumulate), rotate.eq(1)]
                m.next = "WRITE"
            with m.State("WRITE"):
                m.d.comb += [self.en.eq(1), self.write.eq(1), rotate.eq(~accumulate & (column != LANES - 1))]
                m.d.sync += [self.addr.eq(self.addr + 1), column.eq(column + 1)]
                with m.If(column == LANES - 1):
                    m.next = "IDLE"
                with m.Elif(accumulate):
                    m.next = "READ"
        return m
