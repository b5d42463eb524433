"""Stream buffers: `prim/queue.py`."""

from __future__ import annotations

from functools import partial

from amaranth.hdl import Array, Module, Mux, Signal, Value

from tidemill_hdl.prim.queue import Queue, SkidBuffer
from tidemill_verif.formal.harness import Harness
from tidemill_verif.formal.proof import Proof, Twin

_WIDTH = 4
_FILE = "prim/queue.py"


class StreamHarness(Harness):
    """A buffer with a free producer and a free consumer (the producer may even change its offer).

    Parameters
    ----------
    depth : int
        Entries of a `Queue`; 0 for the `SkidBuffer` alone.

    One entry is tracked: `mark` picks any transfer into the buffer; the model knows its value and how many entries
    leave before it. What holds for it holds for every entry.
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

        inside = Signal(range(capacity + 2))
        marked = Signal()
        ahead = Signal(range(capacity + 2))
        value = Signal(_WIDTH)
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
        # After two cycles without a transfer whatever is inside is offered.
        still = ~taken & ~given
        quiet = still & self.past(still, "was_still")
        self.prove("no_loss", ~quiet | (dut.o.valid == (inside != 0)))
        if self.depth:
            self.prove("level", dut.level == inside)
        self.lemma("place", ~marked | (ahead < inside))
        if self.depth > 2:
            self._queue_lemmas(inside, marked, ahead, value, dut)
        else:
            self._skid_lemmas("dut.buffer" if self.depth else "dut", inside, marked, ahead, value)
        self.cover("full_and_moving", (inside == capacity) & given)
        self.cover("marked_leaves", leaves & (value == 5))

    def _skid_lemmas(self, path: str, inside: Value, marked: Value, ahead: Value, value: Value) -> None:
        front, spare = self.inner(f"{path}.front", _WIDTH), self.inner(f"{path}.spare", _WIDTH)
        spare_full, front_full = self.inner(f"{path}.spare_full"), self.inner(f"{path}.o_valid")
        self.lemma("spare_after_front", ~spare_full | front_full)
        self.lemma("entries", inside == front_full + spare_full)
        self.lemma("value", ~marked | (Mux(ahead == 0, front, spare) == value))

    def _queue_lemmas(self, inside: Value, marked: Value, ahead: Value, value: Value, dut: Queue) -> None:
        rows = self.depth - 1
        bits = range(rows)
        consume, produce = self.inner("dut.fifo.consume", bits), self.inner("dut.fifo.produce", bits)
        level = self.inner("dut.fifo.inner_level", range(rows + 1))
        storage = Array(self.inner(f"dut.fifo.storage[{i}]", _WIDTH) for i in range(rows))

        def wrapped(position: Value) -> Value:
            return Mux(position >= rows, position - rows, position)

        self.lemma("pointers", (consume < rows) & (produce < rows) & (wrapped(consume + level) == produce))
        self.lemma("entries", (level <= rows) & (inside == level + dut.o.valid))
        place = Signal(range(2 * rows))
        self._m.d.comb += place.eq(wrapped(consume + ahead - dut.o.valid))
        self.lemma("value", ~marked | (Mux(dut.o.valid & (ahead == 0), dut.o.payload, storage[place]) == value))


_SAYS = {
    "order": "any entry leaves with its value, after exactly those that came before it: no loss, duplicate or exchange",
    "no_invention": "what is offered has been taken in and has not left",
    "no_loss": "what is inside is offered, two cycles after the last transfer at the latest",
    "bounded": "never more entries than the depth: no overflow",
    "stable": "an offer and its payload stay until taken",
    "level": "`level` is the number of entries inside",
}
_TWINS = {
    "order": ("front.eq(Mux(spare_full, spare,", "front.eq(Mux(i_fire, spare,"),
    "no_invention": ("o_valid.eq(spare_full | i_fire)", "o_valid.eq(spare_full | self.i.valid | o_valid)"),
    "no_loss": ("o_valid.eq(spare_full | i_fire)", "o_valid.eq(i_fire)"),
    "bounded": ("self.i.ready.eq(~spare_full)", "self.i.ready.eq(1)"),
    "stable": ("advance = self.o.ready | ~o_valid", "advance = self.o.ready | ~o_valid | spare_full"),
    "level": ("self.level.eq(buffer.o.valid + ~buffer.i.ready)", "self.level.eq(buffer.o.valid)"),
}
_FIFO_TWINS = {
    "order": ("_bits(self.o.payload).eq(queue.r_data)", "_bits(self.o.payload).eq(queue.r_data ^ self.o.ready)"),
    "no_invention": ("self.o.valid.eq(queue.r_rdy)", "self.o.valid.eq(queue.r_rdy | self.o.ready)"),
    "no_loss": ("self.o.valid.eq(queue.r_rdy)", "self.o.valid.eq(queue.r_rdy & (queue.level != 1))"),
    "bounded": ("self.i.ready.eq(queue.w_rdy)", "self.i.ready.eq(1)"),
    "stable": ("queue.r_en.eq(self.o.ready)", "queue.r_en.eq(self.o.ready | self.i.valid)"),
    "level": ("self.level.eq(queue.level)", "self.level.eq(queue.level - queue.r_rdy)"),
}
_COVERS = {"full_and_moving": "it is full and an entry leaves", "marked_leaves": "the tracked entry leaves"}


def _proof(name: str, depth: int, twins: dict[str, tuple[str, str]], *, quick: bool = False) -> Proof:
    says = {key: text for key, text in _SAYS.items() if depth or key != "level"}
    broken = tuple(Twin(key, _FILE, *twins[key]) for key in says)
    return Proof(name, partial(StreamHarness, depth), says, broken, _COVERS, depth=8 + 2 * depth, quick=quick)


PROOFS = (
    _proof("skid_buffer", 0, _TWINS, quick=True),
    _proof("queue_of_2", 2, _TWINS),
    _proof("queue_of_3", 3, _FIFO_TWINS),
    _proof("queue_of_8", 8, _FIFO_TWINS),
)
