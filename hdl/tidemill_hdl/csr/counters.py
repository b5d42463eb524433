"""Performance counters."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from tidemill.csr import COUNTERS

EVENT_COUNTERS = tuple(counter for counter in COUNTERS if counter.name != "CYCLES")

Events = data.StructLayout(
    {counter.name.lower(): 2 if counter.name.startswith("CONFLICT_") else 1 for counter in EVENT_COUNTERS}
)
"""What happened in this cycle, one member per counter but CYCLES, named like it in lower case: 1 bit, or for the
conflict counters a number from 0 to 3 (an engine has several ports)."""

COUNT_BITS = 32
"""Width of the counters of events; CYCLES has two such words."""


def values_layout(bits: int = COUNT_BITS) -> data.StructLayout:
    """The counters' values, those of events `bits` wide."""
    return data.StructLayout({counter.name: counter.width * bits // COUNT_BITS for counter in COUNTERS})


class Counters(wiring.Component):
    """The counters of `csr.COUNTERS`.

    Parameters
    ----------
    bits : int: width of an event counter and of each half of CYCLES; 32 in the machine.

    Members
    -------
    clear : In(1): zero all; wins over counting.
    run : In(1): CYCLES counts.
    enable : In(1): events count.
    events : In(Events)
    values : Out(values_layout(bits)): events show two cycles later. Counts are modulo 2^bits, CYCLES modulo
        2^(2 * bits) (its high word follows the low word's wrap one cycle later).
    """

    def __init__(self, bits: int = COUNT_BITS) -> None:
        self.bits = bits
        super().__init__(
            {"clear": In(1), "run": In(1), "enable": In(1), "events": In(Events), "values": Out(values_layout(bits))}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        seen = Signal(Events)
        m.d.sync += seen.eq(Mux(self.enable & ~self.clear, self.events.as_value(), 0))
        counts = []
        for counter in EVENT_COUNTERS:
            count = Signal(self.bits, name=counter.name.lower())
            counts.append(count)
            m.d.sync += count.eq(count + seen[counter.name.lower()])
            m.d.comb += self.values[counter.name].eq(count)
        low = Signal(self.bits)
        high = Signal(self.bits)
        wrap = Signal()
        m.d.sync += [low.eq(low + self.run), wrap.eq(self.run & low.all()), high.eq(high + wrap)]
        m.d.comb += self.values["CYCLES"].eq(Cat(low, high))
        with m.If(self.clear):
            m.d.sync += [count.eq(0) for count in counts]
            m.d.sync += [low.eq(0), high.eq(0), wrap.eq(0)]
        return m
