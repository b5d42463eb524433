"""The AXI4 master of the sequential NPU: one burst at a time."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tidemill.config import Config
from tidemill_hdl.interfaces import Axi4Master
from tidemill_hdl.sequential.assembler import WORD_BITS
from tidemill_hdl.sequential.microcode.control import LATE_CYCLES

_INCR, _NORMAL_BUFFERABLE = 0b01, 0b0011


class BusMaster(wiring.Component):
    """Bursts begun and beats moved by microinstructions.

    Parameters
    ----------
    config : Config

    Members
    -------
    m_axi : Out(Axi4Master)
    read, write : In(1): begin a burst at `address`, `beats` + 1 beats long; only while no other is under way.
    address : In(32), beats : In(8), load : In(1): the read burst is a load, not a fetch.
    give : In(1): offer a beat: `data`, all strobes `strobe`; only while none waits.
    data : In(32), strobe : In(1)
    begin : In(1): the next cycle is the first of a wait.
    take, given, response : In(1): in each cycle of a wait: for a read beat, for the beat offered, for the response.
    done : Out(1): what it waits for has come, or `LATE_CYCLES` have passed; until the next `begin`.
    beat : Out(32): the read beat, meaningful with `take` and `done`.
    reading, writing, owed : Out(1): beats of a burst are left; a write burst has not been answered.
    bad, late, decerr : Out(1): of the latest wait: an error or late; late; the response was DECERR.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        flags = ("reading", "writing", "owed", "bad", "late", "decerr", "done")
        super().__init__(
            {
                "m_axi": Out(Axi4Master(config)),
                **{name: In(1) for name in ("read", "write", "load", "give", "strobe", "begin")},
                **{name: In(1) for name in ("take", "given", "response")},
                "address": In(WORD_BITS),
                "beats": In(8),
                "data": In(WORD_BITS),
                "beat": Out(WORD_BITS),
                **{name: Out(1) for name in flags},
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        axi = self.m_axi
        address = Signal(WORD_BITS, reset_less=True)
        length, left = Signal(8, reset_less=True), Signal(8, reset_less=True)
        for channel in ("ar", "aw"):
            m.d.comb += [
                getattr(axi, f"{channel}addr").eq(address),
                getattr(axi, f"{channel}len").eq(length),
                getattr(axi, f"{channel}size").eq((self.config.axi_bytes - 1).bit_length()),
                getattr(axi, f"{channel}burst").eq(_INCR),
                getattr(axi, f"{channel}cache").eq(_NORMAL_BUFFERABLE),
            ]
        with m.If(axi.arready):
            m.d.sync += axi.arvalid.eq(0)
        with m.If(axi.awready):
            m.d.sync += axi.awvalid.eq(0)
        with m.If(self.read | self.write):
            m.d.sync += [address.eq(self.address), length.eq(self.beats), left.eq(self.beats)]
        with m.If(self.read):
            m.d.sync += [axi.arvalid.eq(1), axi.arid.eq(self.load), self.reading.eq(1)]
        with m.If(self.write):
            m.d.sync += [axi.awvalid.eq(1), self.writing.eq(1), self.owed.eq(1)]

        m.d.comb += [axi.rready.eq(self.take & ~self.done), axi.bready.eq(self.response & ~self.done)]
        m.d.comb += axi.wlast.eq(left == 0)
        with m.If(self.give):
            m.d.sync += [axi.wvalid.eq(1), axi.wdata.eq(self.data), axi.wstrb.eq(self.strobe.replicate(len(axi.wstrb)))]
        with m.Elif(axi.wvalid & axi.wready):
            m.d.sync += [axi.wvalid.eq(0), left.eq(left - 1)]
            with m.If(left == 0):
                m.d.sync += self.writing.eq(0)
        with m.If(axi.rready & axi.rvalid & axi.rlast):
            m.d.sync += self.reading.eq(0)
        with m.If(axi.bready & axi.bvalid):
            m.d.sync += self.owed.eq(0)

        # What was waited for is looked at a cycle later, so that no path goes from the bus through the sequencer.
        age = Signal(range(LATE_CYCLES))
        come, last, error = Signal(), Signal(), Signal(2)
        m.d.comb += [
            last.eq(age == LATE_CYCLES - 1),
            come.eq((axi.rready & axi.rvalid) | (self.given & (~axi.wvalid | axi.wready)) | (axi.bready & axi.bvalid)),
            error.eq(Mux(self.take, axi.rresp, Mux(self.response, axi.bresp, 0))),
        ]
        m.d.sync += age.eq(age + 1)
        with m.If(self.begin):
            m.d.sync += [age.eq(0), self.done.eq(0)]
        with m.Elif((self.take | self.given | self.response) & ~self.done & (come | last)):
            m.d.sync += [
                self.done.eq(1),
                self.late.eq(~come),
                self.bad.eq(~come | error[1]),
                self.decerr.eq(error[0]),
                self.beat.eq(axi.rdata),
            ]
        return m
