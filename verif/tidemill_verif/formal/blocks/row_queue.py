"""The queue that hands rows out a cycle late: `prim/row_queue.py`."""

from __future__ import annotations

from functools import partial

from amaranth.hdl import Array, Module, Mux, Signal

from tidemill_hdl.prim.row_queue import RowQueue
from tidemill_verif.formal.harness import Harness
from tidemill_verif.formal.proof import Proof, Twin

_FILE = "prim/row_queue.py"
_WIDTH, _DEPTH = 3, 4


class RowQueueHarness(Harness):
    """Any traffic that keeps the contract: rows are taken while there are some, and added while there is room.

    One row is tracked as in the proofs of the stream buffers; the last row filled in is known until rows are added.
    """

    def build(self, m: Module) -> None:
        m.submodules.dut = dut = RowQueue(_WIDTH, _DEPTH)
        self.free_inputs(dut)
        inside = Signal(range(_DEPTH + 1))
        marked, ahead, value = Signal(), Signal(range(_DEPTH + 1)), Signal(_WIDTH)
        filled, filling = Signal(), Signal(_WIDTH)
        self.assume(~dut.take | dut.present)
        self.assume(~dut.add | (inside != _DEPTH))
        self.assume(~dut.fill | ((inside == 0) & ~dut.add))
        leaves = Signal()
        m.d.comb += leaves.eq(marked & (ahead == 0) & dut.take)
        m.d.sync += inside.eq(inside + dut.add - dut.take)
        with m.If(~marked & self.free("mark") & dut.add):
            m.d.sync += [marked.eq(1), ahead.eq(inside - dut.take), value.eq(dut.i)]
        with m.Elif(marked & dut.take):
            m.d.sync += [marked.eq(ahead != 0), ahead.eq(Mux(ahead == 0, 0, ahead - 1))]
        with m.If(dut.fill):
            m.d.sync += [filled.eq(1), filling.eq(dut.i)]
        with m.Elif(dut.add):
            m.d.sync += filled.eq(0)

        self.prove("present", dut.present == (inside != 0))
        self.prove("order", ~self.past(leaves, "left") | (dut.o == self.past(value, "value_left")))
        stood = self.past(filled & ~dut.fill, "stood")
        self.prove("fill", ~(filled & stood) | (dut.o == filling))

        bits = range(_DEPTH)
        consume, produce = self.inner("dut.consume", bits), self.inner("dut.produce", bits)
        rows = Array(self.inner(f"dut.storage[{i}]", _WIDTH) for i in range(_DEPTH))
        self.lemma("level", self.inner("dut.level", range(_DEPTH + 1)) == inside)
        self.lemma("pointers", (inside <= _DEPTH) & ((consume + inside)[:2] == produce))
        self.lemma("value", ~marked | ((ahead < inside) & (rows[(consume + ahead)[:2]] == value)))
        self.lemma("filling", ~filled | ((inside == 0) & (rows[produce] == filling)))
        self.cover("full_and_moving", (inside == _DEPTH) & dut.take)
        self.cover("marked_leaves", leaves & (value == 5))
        self.cover("filled", filled & stood & (dut.o == 6))


PROOFS = (
    Proof(
        "row_queue",
        partial(RowQueueHarness),
        {
            "present": "`present` says exactly whether a row is inside",
            "order": "any row is there in the cycle after its `take`, after exactly those that came before it",
            "fill": "a row filled in is there two cycles later, until rows are added",
        },
        (
            Twin("present", _FILE, "(level[0] & ~self.take)", "level[0]"),
            Twin("order", _FILE, "consume.eq(consume + self.take)", "consume.eq(consume + (self.take & ~self.add))"),
            Twin("fill", _FILE, "write.en.eq(self.add | self.fill)", "write.en.eq(self.add)"),
        ),
        {
            "full_and_moving": "it is full and a row is taken",
            "marked_leaves": "the tracked row leaves",
            "filled": "a row filled in is there",
        },
        depth=12,
        quick=True,
    ),
)
