"""AXI4-Lite slave that turns transactions into single register accesses."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tidemill_hdl.interfaces import Axi4LiteSlave

WORD_BITS = Axi4LiteSlave.ADDR_BITS - 2


class AxiLiteBridge(wiring.Component):
    """One write and one read at a time; every access is answered OKAY.

    Members
    -------
    s_axil : Out(Axi4LiteSlave): address and data of a write may come in any order. All outputs are registers.
    w_valid : Out(1): a pulse: write the bytes of `w_data` (32) whose bit of `w_strb` (4) is set to word `w_addr` (10).
    r_addr : Out(10): word to read; holds until the answer.
    r_data : In(32): content of word `r_addr`, sampled 3 cycles after `r_addr` changed (so up to two register stages).

    A write takes 3 cycles, a read 5 with a ready host.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "s_axil": Out(Axi4LiteSlave()),
                "w_valid": Out(1),
                "w_addr": Out(WORD_BITS),
                "w_data": Out(32),
                "w_strb": Out(4),
                "r_addr": Out(WORD_BITS),
                "r_data": In(32),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bus = self.s_axil

        with m.If(bus.awvalid & bus.awready):
            m.d.sync += [self.w_addr.eq(bus.awaddr[2:]), bus.awready.eq(0)]
        with m.If(bus.wvalid & bus.wready):
            m.d.sync += [self.w_data.eq(bus.wdata), self.w_strb.eq(bus.wstrb), bus.wready.eq(0)]
        m.d.sync += self.w_valid.eq(0)
        with m.FSM(name="write"):
            with m.State("RESET"):
                m.d.sync += [bus.awready.eq(1), bus.wready.eq(1)]
                m.next = "COLLECT"
            with m.State("COLLECT"), m.If(~bus.awready & ~bus.wready):
                m.d.sync += [self.w_valid.eq(1), bus.bvalid.eq(1)]
                m.next = "ANSWER"
            with m.State("ANSWER"), m.If(bus.bready):
                m.d.sync += [bus.bvalid.eq(0), bus.awready.eq(1), bus.wready.eq(1)]
                m.next = "COLLECT"

        age = Signal(2)
        with m.FSM(name="read"):
            with m.State("RESET"):
                m.d.sync += bus.arready.eq(1)
                m.next = "ADDRESS"
            with m.State("ADDRESS"), m.If(bus.arvalid):
                m.d.sync += [bus.arready.eq(0), self.r_addr.eq(bus.araddr[2:]), age.eq(0)]
                m.next = "LOOK"
            with m.State("LOOK"):
                m.d.sync += [age.eq(age + 1), bus.rdata.eq(self.r_data)]
                with m.If(age == 2):
                    m.d.sync += bus.rvalid.eq(1)
                    m.next = "ANSWER"
            with m.State("ANSWER"), m.If(bus.rready):
                m.d.sync += [bus.rvalid.eq(0), bus.arready.eq(1)]
                m.next = "ADDRESS"
        return m
