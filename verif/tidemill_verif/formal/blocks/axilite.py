"""The AXI4-Lite slave `csr/axilite.py`: every request is answered once, no write is lost."""

from __future__ import annotations

from functools import partial

from amaranth.hdl import C, Cat, Module, Signal, Value

from tidemill_hdl.csr.axilite import WORD_BITS, AxiLiteBridge
from tidemill_verif.formal.harness import Harness
from tidemill_verif.formal.proof import Proof, Twin

_FILE = "csr/axilite.py"
_SOON = 4
"""Cycles in which an answer or a ready must come at the latest, if the host takes what it is offered."""


class BridgeHarness(Harness):
    """Any requests in any order; the host may even take requests back. `r_data` is any."""

    def build(self, m: Module) -> None:
        m.submodules.dut = dut = AxiLiteBridge()
        self.free_inputs(dut)
        bus = dut.s_axil
        self._writes(m, dut)
        self._reads(m, dut)
        for channel, payload in (("b", bus.bresp), ("r", Cat(bus.rdata, bus.rresp))):
            valid, ready = getattr(bus, f"{channel}valid"), getattr(bus, f"{channel}ready")
            kept = self.past(valid & ~ready, f"{channel}_kept")
            same = payload == self.past(payload, f"{channel}_payload")
            self.prove(f"{channel}_stable", ~kept | (valid & same))
        self.prove("okay", (bus.bresp == 0) & (bus.rresp == 0))

    def _for_long(self, waits: Value, name: str, cycles: int = _SOON) -> Value:
        """Whether `waits` has held in this cycle and in `cycles` before it."""
        held = waits
        for i in range(cycles):
            waits = self.past(waits, f"{name}{i}")
            held = held & waits
        return held

    def _writes(self, m: Module, dut: AxiLiteBridge) -> None:
        bus = dut.s_axil
        takes_address, takes_data = bus.awvalid & bus.awready, bus.wvalid & bus.wready
        answered = bus.bvalid & bus.bready
        has_address, has_data, done = Signal(), Signal(), Signal()
        address, content = Signal(WORD_BITS), Signal(36)
        with m.If(takes_address):
            m.d.sync += [has_address.eq(1), address.eq(bus.awaddr[2:])]
        with m.If(takes_data):
            m.d.sync += [has_data.eq(1), content.eq(Cat(bus.wdata, bus.wstrb))]
        with m.If(dut.w_valid):
            m.d.sync += done.eq(1)
        with m.If(answered):
            m.d.sync += [has_address.eq(0), has_data.eq(0), done.eq(0)]
        self.prove("one_address", ~(takes_address & has_address) & ~(takes_data & has_data))
        right = has_address & has_data & (dut.w_addr == address) & (Cat(dut.w_data, dut.w_strb) == content)
        self.prove("write", ~dut.w_valid | (right & ~done))
        self.prove("answer_after_write", ~bus.bvalid | dut.w_valid | done)
        pending = has_address & has_data & ~(done | dut.w_valid)
        self.prove("no_lost_write", ~self._for_long(pending, "pending"))
        # With a host that takes the answer both ready signals come back.
        self.prove("write_again", ~self._for_long(~answered & ~bus.bvalid & ~(bus.awready | has_address), "deaf"))

        state = self.inner("dut.write_state", 2)
        collects = Cat(has_address == ~bus.awready, has_data == ~bus.wready, ~bus.bvalid, ~done, ~dut.w_valid).all()
        answers = Cat(bus.bvalid, has_address, has_data, ~bus.awready, ~bus.wready, done == ~dut.w_valid).all()
        nothing = Cat(bus.awready, bus.wready, has_address, has_data, bus.bvalid, dut.w_valid, done) == 0
        self.lemma("write_states", ((state == 0) & nothing) | ((state == 1) & collects) | ((state == 2) & answers))
        self.lemma("kept_address", ~has_address | (dut.w_addr == address))
        self.lemma("kept_data", ~has_data | (Cat(dut.w_data, dut.w_strb) == content))
        second = Signal()
        with m.If(answered):
            m.d.sync += second.eq(1)
        self.cover("second_write", second & dut.w_valid & (dut.w_addr == 3) & (dut.w_strb == 6))

    def _reads(self, m: Module, dut: AxiLiteBridge) -> None:
        bus = dut.s_axil
        taken, answered = bus.arvalid & bus.arready, bus.rvalid & bus.rready
        asked, address = Signal(), Signal(WORD_BITS)
        with m.If(taken):
            m.d.sync += [asked.eq(1), address.eq(bus.araddr[2:])]
        with m.If(answered):
            m.d.sync += asked.eq(0)
        self.prove("one_read", ~(taken & asked))
        self.prove("read_address", ~asked | (dut.r_addr == address))
        self.prove("no_answer_unasked", ~bus.rvalid | asked)
        # `r_data` of the cycle before the answer's first, which is three after the address changed.
        fresh = bus.rvalid & ~self.past(bus.rvalid, "was_answering")
        changed = taken
        for i in range(4):
            changed = self.past(changed, f"taken_before{i}")
        right = changed & (bus.rdata == self.past(dut.r_data, "data_before"))
        self.prove("read_data", ~fresh | right)
        self.prove("read_answered", ~self._for_long(asked & ~bus.rvalid, "unanswered"))
        self.prove("read_again", ~self._for_long(~asked & ~bus.arready, "closed"))

        state, age = self.inner("dut.read_state", 2), self.inner("dut.age", 2)
        shape = Cat(bus.arready, asked, bus.rvalid)
        waits = [self.past(taken, "took1")]
        for i in range(2):
            waits.append(self.past(waits[-1], f"took{i + 2}"))
        looks = (shape == 0b010) & Cat((age == i) & waits[i] for i in range(3)).any()
        self.lemma(
            "read_states",
            ((state == 0) & (shape == 0))
            | ((state == 1) & (shape == 0b001))
            | ((state == 2) & looks)
            | ((state == 3) & (shape == 0b110)),
        )
        self.cover("slow_host", asked & bus.rvalid & self.past(self.past(bus.rvalid, "r1"), "r2") & C(1, 1))


_SAYS = {
    "one_address": "no second write address or data is taken before the first is answered",
    "write": "a register is written at most once a request, with the request's own address, data and strobes",
    "answer_after_write": "no write is answered that has not been done",
    "no_lost_write": f"a write whose address and data are here is done within {_SOON} cycles, whatever the host does",
    "write_again": f"address ready comes back within {_SOON} cycles after an answer",
    "one_read": "no second read is taken before the first is answered",
    "read_address": "`r_addr` is the word asked for until the answer is taken",
    "no_answer_unasked": "no read answer without a request, one for each",
    "read_data": "the answer is `r_data` as it was three cycles after `r_addr` changed",
    "read_answered": f"a read is answered within {_SOON} cycles",
    "read_again": f"ready comes back within {_SOON} cycles after an answer",
    "b_stable": "a write answer stays until taken",
    "r_stable": "a read answer and its data stay until taken",
    "okay": "every answer is OKAY",
}
_ANSWER = '"ANSWER"), m.If(bus.bready):'
_TWINS = (
    Twin("one_address", _FILE, "self.w_addr.eq(bus.awaddr[2:]), bus.awready.eq(0)", "self.w_addr.eq(bus.awaddr[2:])"),
    Twin("write", _FILE, "with m.If(bus.wvalid & bus.wready):", "with m.If(bus.wvalid):"),
    Twin(
        "answer_after_write", _FILE,
        "[bus.awready.eq(1), bus.wready.eq(1)]\n                m.next = \"COLLECT\"",
        "[bus.awready.eq(1), bus.wready.eq(1), bus.bvalid.eq(1)]\n                m.next = \"COLLECT\"",
    ),
    Twin("no_lost_write", _FILE, "~bus.awready & ~bus.wready", "~bus.awready & ~bus.wready & bus.bready"),
    Twin("write_again", _FILE, "bus.bvalid.eq(0), bus.awready.eq(1)", "bus.bvalid.eq(0), bus.awready.eq(bus.awvalid)"),
    Twin("one_read", _FILE, "bus.arready.eq(0), self.r_addr", "bus.arready.eq(bus.rready), self.r_addr"),
    Twin("read_address", _FILE, "bus.araddr[2:]), age", "bus.araddr[:10]), age"),
    Twin("no_answer_unasked", _FILE, "[bus.rvalid.eq(0), bus.arready", "[bus.rvalid.eq(bus.arvalid), bus.arready"),
    Twin("read_data", _FILE, "age == 2", "age == 1"),
    Twin("read_answered", _FILE, "bus.rvalid.eq(1)", "bus.rvalid.eq(bus.rready)"),
    Twin("read_again", _FILE, "bus.rvalid.eq(0), bus.arready.eq(1)", "bus.rvalid.eq(0), bus.arready.eq(bus.bready)"),
    Twin("b_stable", _FILE, _ANSWER, '"ANSWER"):'),
    Twin("r_stable", _FILE, '"ANSWER"), m.If(bus.rready):', '"ANSWER"):'),
    Twin("okay", _FILE, "age = Signal(2)", "age = Signal(2)\n        m.d.comb += bus.rresp.eq(bus.araddr[1])"),
)  # fmt: skip

PROOFS = (
    Proof(
        "slave",
        partial(BridgeHarness),
        _SAYS,
        _TWINS,
        {"second_write": "a second write is done", "slow_host": "a read answer waits for the host"},
        depth=12,
    ),
)
