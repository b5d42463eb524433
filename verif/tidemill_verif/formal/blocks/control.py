"""The control unit `csr/control.py`: registers, run sequence, first error."""

from __future__ import annotations

from functools import partial

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value

from tidemill import csr
from tidemill.config import PRESETS
from tidemill_hdl.csr.axilite import WORD_BITS
from tidemill_hdl.csr.control import QUIET_CYCLES, RESET_CYCLES, Control
from tidemill_verif.formal.harness import Harness
from tidemill_verif.formal.proof import Proof, Twin

_FILE = "csr/control.py"
_STATES = ("IDLE", "RESET", "DRAIN_RESET", "START", "RUN", "DRAIN_DONE")
"""States of the run sequence in the order of their numbers."""


class ControlHarness(Harness):
    """Any host, any machine: all inputs are free."""

    def build(self, m: Module) -> None:
        m.submodules.dut = dut = Control(PRESETS["tiny"])
        self.free_inputs(dut)
        self._registers(m, dut)
        self._sequence(dut)

    def _registers(self, m: Module, dut: Control) -> None:
        """What the host wrote is what the machine gets, byte by byte."""
        bus = dut.s_axil
        has_address, has_data = Signal(), Signal()
        address, content, strobe = Signal(WORD_BITS), Signal(32), Signal(4)
        with m.If(bus.bvalid & bus.bready):
            m.d.sync += [has_address.eq(0), has_data.eq(0)]
        with m.If(bus.awvalid & bus.awready):
            m.d.sync += [has_address.eq(1), address.eq(bus.awaddr[2:])]
        with m.If(bus.wvalid & bus.wready):
            m.d.sync += [has_data.eq(1), content.eq(bus.wdata), strobe.eq(bus.wstrb)]
        fresh = Signal()
        m.d.comb += fresh.eq(bus.bvalid & ~self.past(bus.bvalid, "was_answering"))
        outputs = {
            "PROG_ADDR": dut.prog_addr,
            "PROG_LEN": dut.prog_len,
            "READ_BASE": dut.read_window.base,
            "READ_LIMIT": dut.read_window.limit,
            "WRITE_BASE": dut.write_window.base,
            "WRITE_LIMIT": dut.write_window.limit,
        }
        same = []
        for name, output in outputs.items():
            model = Signal(32, name=f"model_{name.lower()}", init=csr.BY_NAME[name].reset)
            with m.If(fresh & (address == csr.offset(name) // 4)):
                for i in range(4):
                    with m.If(strobe[i]):
                        m.d.sync += model[8 * i : 8 * i + 8].eq(content[8 * i : 8 * i + 8])
            kept = Cat(C(0, 4), model[4:]) if name == "PROG_ADDR" else model[: len(output)]
            same.append(output == kept)
            if name == "READ_BASE":
                self.cover("written", (strobe == 6) & (model == 0x00123400))
        self.prove("registers", Cat(same).all())
        state = self.inner("dut.bridge.write_state", 2)
        collects = Cat(has_address == ~bus.awready, has_data == ~bus.wready, ~bus.bvalid).all()
        answers = Cat(bus.bvalid, has_address, has_data, ~bus.awready, ~bus.wready).all()
        nothing = Cat(bus.awready, bus.wready, has_address, has_data, bus.bvalid) == 0
        self.lemma("bridge", ((state == 0) & nothing) | ((state == 1) & collects) | ((state == 2) & answers))
        self.lemma("write", self.inner("dut.bridge.w_valid") == fresh)
        self.lemma("address", ~has_address | (self.inner("dut.bridge.w_addr", WORD_BITS) == address))
        data = Cat(self.inner("dut.bridge.w_data", 32), self.inner("dut.bridge.w_strb", 4))
        self.lemma("data", ~has_data | (data == Cat(content, strobe)))

    def _sequence(self, dut: Control) -> None:
        status = self.inner("dut.status", 4)
        busy, done, error, resetting = (status[i] for i in range(4))
        command = self.inner("dut.command", 2)
        soft_reset = command[list(csr.BY_NAME["CONTROL"].bits).index("soft_reset")]
        may_fault, countdown = self.inner("dut.may_fault"), self.inner("dut.countdown", 2)
        state = self.inner("dut.machine_state", 3)
        # The gateway is quiet until it may listen again.
        rests = dut.quiet | ~dut.quiesce
        self.assume(~self.past(dut.quiet & dut.quiesce, "had_quiet") | rests)
        before = self.past(dut.quiesce & ~dut.quiet, "must_stay")
        self.prove("quiesce_stays", ~before | dut.quiesce)
        quiet_before: Value = dut.quiesce
        held: Value = C(1, 1)
        for i in range(QUIET_CYCLES):
            quiet_before = self.past(quiet_before, f"quiesce{i}")
            held = held & quiet_before
        fell = self.past(dut.quiesce, "had_quiesce") & ~dut.quiesce
        self.prove("quiesce_long", ~fell | held)
        resets = [self.past(dut.core_reset, "core_reset0")]
        for i in range(RESET_CYCLES):
            resets.append(self.past(resets[-1], f"core_reset{i + 1}"))
        calm = ~dut.core_reset & ~resets[0] & ~dut.quiesce & Cat(resets[1:]).all()
        self.prove("start", ~dut.start | calm)
        self.prove("status", ~(done & (busy | error | resetting)) & ~(busy & resetting))

        record = Cat(self.inner("dut.cause", 4), self.inner("dut.unit", 4), self.inner("dut.info", 32))
        kept = self.past(error & ~soft_reset, "keeps")
        self.prove("error_stays", ~kept | (error & (record == self.past(record, "record_before"))))
        expected = Cat(dut.faults[0].cause, C(0, 4), dut.faults[0].info)
        for number in reversed(range(len(dut.faults))):
            fault = dut.faults[number]
            expected = Mux(fault.valid, Cat(fault.cause, C(number, 4), fault.info), expected)
            # A unit's fault stays until the unit is reset.
            content = Cat(fault.cause, fault.pc, fault.info)
            keeps = self.past(fault.valid & ~dut.core_reset, f"fault{number}_stays")
            same = fault.valid & (content == self.past(content, f"fault{number}_before"))
            self.assume(~keeps | same)
        came = self.past(Cat(fault.valid for fault in dut.faults).any(), "came")
        happens = may_fault & came & ~soft_reset
        expected = self.past(self.past(expected, "expected"), "expected_before")
        reported = error & dut.core_reset & dut.quiesce & (record == expected)
        self.prove("first_error", ~self.past(happens, "happened") | reported)

        facts = {
            "IDLE": Cat(rests, ~dut.quiesce | dut.core_reset, ~busy, ~resetting, ~may_fault, ~dut.start),
            "RESET": Cat(~dut.quiesce, busy, ~error, ~done, ~resetting, ~may_fault, dut.core_reset, ~dut.start),
            "START": Cat(~dut.quiesce, busy, ~error, ~done, ~resetting, ~may_fault, ~dut.core_reset, ~dut.start),
            "RUN": Cat(~dut.quiesce, busy, ~error, ~done, ~resetting, may_fault, ~dut.core_reset),
            "DRAIN_DONE": Cat(dut.quiesce, busy, ~error, ~done, ~resetting, may_fault, ~dut.core_reset, ~dut.start),
            "DRAIN_RESET": Cat(dut.quiesce, dut.core_reset, ~done, busy != resetting, ~may_fault, ~dut.start),
        }
        self.lemma("states", state < len(_STATES))
        for number, name in enumerate(_STATES):
            self.lemma(f"state_{name.lower()}", (state != number) | facts[name].all())
        self.lemma("countdown", countdown < max(RESET_CYCLES, QUIET_CYCLES))
        self.cover("starts", dut.start)
        self.cover("faults", error & (state == _STATES.index("IDLE")))


PROOFS = (
    Proof(
        "sequence",
        partial(ControlHarness),
        {
            "registers": "the program's address and length and both windows are what the host's writes made them, byte "
            "by byte: no write is lost, none comes by itself",
            "quiesce_stays": "`quiesce`, once up, stays until `quiet`: what the gateway asks for",
            "quiesce_long": f"`quiesce` lasts at least {QUIET_CYCLES} cycles",
            "start": f"`start` comes only after {RESET_CYCLES} cycles of `core_reset` and one without, never while the "
            "gateway drains",
            "status": "done never stands beside busy, error or resetting, nor busy beside resetting",
            "error_stays": "an error with its cause, unit and info stays until a soft reset",
            "first_error": "a unit's fault is reported two cycles later with its cause and info, the lowest unit's if "
            "several come at once, and stops the machine",
        },
        (
            Twin("registers", _FILE, "with m.If(bridge.w_strb[i // 8]):", "with m.If(bridge.w_strb[0]):"),
            Twin("quiesce_stays", _FILE, "with m.If((countdown == 0) & self.quiet):\n                    m.d.sync",
                 "with m.If(countdown == 0):\n                    m.d.sync", depth=16),
            Twin("quiesce_long", _FILE, "countdown.eq(QUIET_CYCLES - 1),\n            ]", "]", depth=16),
            Twin("start", _FILE, "countdown.eq(RESET_CYCLES - 1)", "countdown.eq(0)", depth=16),
            Twin("status", _FILE, "status.error.eq(1), status.done.eq(0)", "status.error.eq(1), status.done.eq(1)",
                 depth=20),
            Twin("error_stays", _FILE, "may_fault.eq(0),\n                watching", "watching", depth=20),
            Twin("first_error", _FILE, "Cat(came[i] & ~came[:i].any() for", "Cat(came[i] for", depth=20),
        ),
        {"written": "a register of which only the middle bytes were written", "starts": "a program starts",
         "faults": "a fault has been reported and the machine has come to rest"},
        depth=12,
        cover_depth=24,
    ),
)  # fmt: skip
