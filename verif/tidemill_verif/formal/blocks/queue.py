"""Stream buffers: `prim/queue.py`."""

from __future__ import annotations

from functools import partial

from amaranth.hdl import Module, Mux, Signal

from tidemill_hdl.prim.queue import Queue, SkidBuffer
from tidemill_verif.formal.harness import Harness
from tidemill_verif.formal.proof import Proof, Twin

_WIDTH = 4
_FILE = "prim/queue.py"


class StreamHarness(Harness):
    """A buffer with a free producer that keeps the stream rules and a free consumer.

    Parameters
    ----------
    depth : int
        Entries; 0 for the `SkidBuffer` alone.

    One value is tracked: a free cycle marks an accepted transfer; the model counts the entries before it.
    """

    def __init__(self, depth: int) -> None:
        self.depth = depth
        super().__init__()

    def build(self, m: Module) -> None:
        m.submodules.dut = dut = Queue(_WIDTH, self.depth) if self.depth else SkidBuffer(_WIDTH)
        capacity = self.depth or 2
        self.free_inputs(dut)
        taken = dut.i.valid & dut.i.ready
        given = dut.o.valid & dut.o.ready

        # The model: how many entries are inside; a marked one, its value and how many entries leave before it.
        inside = Signal(range(capacity + 2))
        marked, ahead, value = Signal(), Signal(range(capacity + 2)), Signal(_WIDTH)
        mark = self.free("mark")
        leaves = Signal()
        m.d.comb += leaves.eq(marked & (ahead == 0) & given)
        m.d.sync += inside.eq(inside + taken - given)
        with m.If(~marked & mark & taken):
            m.d.sync += [marked.eq(1), ahead.eq(inside - given), value.eq(dut.i.payload)]
        with m.Elif(marked & given):
            m.d.sync += [marked.eq(ahead != 0), ahead.eq(Mux(ahead == 0, 0, ahead - 1))]

        self.prove("order", ~leaves | (dut.o.payload == value))
        self.prove("no_invention", ~dut.o.valid | (inside != 0))
        self.prove("bounded", inside <= capacity)
        held = self.past(dut.o.valid & ~dut.o.ready, "held")
        self.prove("stable", ~held | (dut.o.valid & (dut.o.payload == self.past(dut.o.payload, "held_payload"))))
        if not self.depth:
            front, spare = self.inner("dut.front", _WIDTH), self.inner("dut.spare", _WIDTH)
            spare_full = self.inner("dut.spare_full")
            self.lemma("spare_after_front", ~spare_full | dut.o.valid)
            self.lemma("level", inside == dut.o.valid + spare_full)
            self.lemma("place", ~marked | (ahead < inside))
            self.lemma("value", ~marked | (Mux(ahead == 0, front, spare) == value))
        self.cover("full_and_moving", (inside == capacity) & given)
        self.cover("marked_leaves", leaves & (value == 5))


PROOFS = (
    Proof(
        "skid_buffer",
        partial(StreamHarness, 0),
        {
            "order": "any transfer leaves as the same value after exactly those that came before it",
            "no_invention": "what is offered has been taken in and has not left",
            "bounded": "never more than two entries",
            "stable": "an offer and its payload stay until taken",
        },
        (
            Twin("order", _FILE, "front.eq(Mux(spare_full, spare,", "front.eq(Mux(i_fire, spare,"),
            Twin(
                "no_invention",
                _FILE,
                "o_valid.eq(spare_full | i_fire)",
                "o_valid.eq(spare_full | self.i.valid | o_valid)",
            ),
            Twin("bounded", _FILE, "self.i.ready.eq(~spare_full)", "self.i.ready.eq(1)"),
            Twin(
                "stable", _FILE, "advance = self.o.ready | ~o_valid", "advance = self.o.ready | ~o_valid | spare_full"
            ),
        ),
        {"full_and_moving": "it is full and an entry leaves", "marked_leaves": "the tracked entry leaves"},
        depth=12,
        quick=True,
    ),
)
