"""The performance counters `csr/counters.py`: no event is lost."""

from __future__ import annotations

from functools import partial

from amaranth.hdl import Array, Module, Signal
from amaranth.lib import data

from tidemill_hdl.csr.counters import EVENT_COUNTERS, Counters, Events
from tidemill_verif.formal.harness import Harness
from tidemill_verif.formal.proof import Proof, Twin

_FILE = "csr/counters.py"


class CounterHarness(Harness):
    """Any events; one counter, any, is watched."""

    def build(self, m: Module) -> None:
        m.submodules.dut = dut = Counters()
        self.free_inputs(dut)
        which = self.constant("which", range(len(EVENT_COUNTERS)))
        names = [counter.name for counter in EVENT_COUNTERS]
        self.assume(which < len(names))
        event = Array(dut.events[name.lower()] for name in names)[which]
        value = Array(dut.values[name] for name in names)[which]

        total, shown = Signal(32), Signal(32)
        cycles, carries = Signal(64), Signal()
        m.d.sync += [shown.eq(total), cycles.eq(cycles + dut.run), carries.eq(dut.run & cycles[:32].all())]
        with m.If(dut.enable):
            m.d.sync += total.eq(total + event)
        with m.If(dut.clear):
            m.d.sync += [total.eq(0), shown.eq(0), cycles.eq(0), carries.eq(0)]

        self.prove("no_event_lost", value == shown)
        self.prove("cleared", ~self.past(dut.clear, "was_clear") | (dut.values.as_value() == 0))
        self.prove("cycles", carries | (cycles == dut.values.CYCLES))
        seen = data.View(Events, self.inner("dut.seen", Events.size))
        on_its_way = Array(seen[name.lower()] for name in names)[which]
        self.lemma("on_its_way", total == (shown + on_its_way)[:32])
        low, high, wrap = self.inner("dut.low", 32), self.inner("dut.high", 32), self.inner("dut.wrap")
        self.lemma("carry", (low == cycles[:32]) & (wrap == carries) & ((high + wrap)[:32] == cycles[32:]))
        self.cover("counts", value == 5)
        self.cover("runs", cycles == 5)


PROOFS = (
    Proof(
        "counts",
        partial(CounterHarness),
        {
            "no_event_lost": "each counter is the sum of its enabled events up to two cycles before, modulo 2^32",
            "cleared": "every counter is zero in the cycle after `clear`",
            "cycles": "CYCLES is the number of `run` cycles modulo 2^64, but for the cycle in which a carry travels",
        },
        (
            Twin("no_event_lost", _FILE, "self.enable & ~self.clear", "self.enable & ~self.clear & ~seen.queue_full"),
            Twin("cleared", _FILE, "[count.eq(0) for count in counts]", "[count.eq(0) for count in counts[1:]]"),
            Twin("cycles", _FILE, "[low.eq(low + self.run)", "[low.eq(low + (self.run & self.enable))"),
        ),
        {"counts": "a counter reaches 5", "runs": "five cycles are counted"},
        depth=10,
    ),
)  # fmt: skip
