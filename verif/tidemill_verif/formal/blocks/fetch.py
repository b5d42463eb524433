"""Instruction fetch: `frontend/fetch.py`."""

from __future__ import annotations

from functools import partial

from amaranth.hdl import Array, Cat, Module, Mux, Signal

from tidemill.config import PRESETS
from tidemill.isa import INSTRUCTION_BITS
from tidemill_hdl.frontend.fetch import BURST_INSTRUCTIONS, Fetch
from tidemill_hdl.interfaces import PC_BITS
from tidemill_verif.formal.harness import Harness
from tidemill_verif.formal.proof import Proof, Twin

_FILE = "frontend/fetch.py"
_CONFIG = PRESETS["base"].replace(ibuf_depth=32)
_DEPTH = _CONFIG.ibuf_depth
_BEATS = 2
"""Beats of an instruction on the 64-bit bus of this configuration."""
_STATES = ("stopped", "measure", "decide", "command")


class FetchHarness(Harness):
    """Any program anywhere in DRAM, any bus and any moves of the window that the contract allows.

    Parameters
    ----------
    content : bool
        Follow one instruction from the bus into the buffer; else watch the commands.

    `asked` counts the instructions of the commands taken, `beats` the beats that came.
    """

    def __init__(self, *, content: bool) -> None:
        self.content = content
        super().__init__()

    def build(self, m: Module) -> None:
        m.submodules.dut = dut = Fetch(_CONFIG)
        self.free_inputs(dut, but=("prog_addr", "prog_len", "floor"))
        base, length = self.constant("base", 28), self.constant("length", PC_BITS)
        # The program ends within the address space.
        self.assume((base + length)[:29] <= 1 << 28)
        cmd, beat = dut.fetch.cmd, dut.fetch.beat
        started = Signal()
        m.d.sync += started.eq(started | dut.start)
        self.assume(~(started & dut.start))
        asked, beats, floor = Signal(PC_BITS + 2), Signal(PC_BITS + 2), Signal(PC_BITS + 2)
        n = Signal(9)
        m.d.comb += [dut.prog_addr.eq(base << 4), dut.prog_len.eq(length), dut.floor.eq(floor)]
        m.d.comb += n.eq((cmd.payload.beats + 1) >> 1)
        m.d.sync += [asked.eq(asked + Mux(cmd.valid & cmd.ready, n, 0)), beats.eq(beats + beat.valid)]
        self.assume(~beat.valid | (beats < _BEATS * asked))
        # The window moves up, at most a buffer beyond what was received.
        moved = self.free("moved", PC_BITS + 2)
        self.assume((moved >= floor) & (moved <= dut.received + _DEPTH) & (moved < 1 << PC_BITS))
        m.d.sync += floor.eq(moved)

        self._lemmas(dut, asked, beats, floor, base, length, started)
        if self.content:
            self._content(m, dut, beats, floor)
        else:
            self._commands(dut, asked, beats, floor, base, length)

    def _commands(self, dut: Fetch, asked: Signal, beats: Signal, floor: Signal, base: Signal, length: Signal) -> None:
        cmd = dut.fetch.cmd
        n = ((cmd.payload.beats + 1) >> 1)[:8]
        whole = (cmd.payload.beats[0] == 1) & (n != 0)
        self.prove("in_program", ~cmd.valid | (whole & (asked + n <= length)))
        self.prove("in_order", ~cmd.valid | (cmd.payload.addr == ((base + asked) << 4)[:32]))
        self.prove("boundary", ~cmd.valid | (cmd.payload.addr[4:8] + n <= BURST_INSTRUCTIONS))
        self.prove("room", ~cmd.valid | (asked + n <= floor + _DEPTH))
        kept = self.past(cmd.valid & ~cmd.ready, "kept")
        payload = cmd.payload.as_value()
        self.prove("stable", ~kept | (cmd.valid & (payload == self.past(payload, "payload_before"))))
        stopped = self.past(dut.stop, "stop_before")
        begins = cmd.valid & ~self.past(cmd.valid & ~cmd.ready, "went_on")
        self.prove("stop", ~(begins & self.past(stopped, "stop_two_ago")))
        self.lemma("decides", ~(self.inner("dut.command_state", 2) == _STATES.index("decide")) | ~stopped)
        arrived = self.past(beats >> 1, "arrived")
        self.prove("received", dut.received == arrived)
        self.prove("complete", ~dut.complete | (dut.received == length))

        self.cover("three_bursts", cmd.valid & (asked > 16) & (base[:4] == 15))
        self.cover("later_window", (floor > 3) & cmd.valid)

    def _content(self, m: Module, dut: Fetch, beats: Signal, floor: Signal) -> None:
        beat = dut.fetch.beat
        # ---- one instruction on its way
        chosen = self.constant("chosen", PC_BITS)
        word, resp = Signal(INSTRUCTION_BITS), Signal(2)
        half = _CONFIG.axi_data_width
        bad = Mux(beat.payload.resp[1], beat.payload.resp, 0)
        with m.If(beat.valid & (beats == _BEATS * chosen)):
            m.d.sync += [word[:half].eq(beat.payload.data), resp.eq(bad)]
        with m.If(beat.valid & (beats == _BEATS * chosen + 1)):
            m.d.sync += [word[half:].eq(beat.payload.data), resp.eq(Mux(resp[1], resp, bad))]
        both = Cat(word, resp)
        slot = Array(self.inner(f"dut.buffer.ram[{i}]", INSTRUCTION_BITS + 2) for i in range(_DEPTH))[chosen[:5]]
        here = (chosen < dut.received) & (chosen >= floor)
        # Two registers on the way out, which move together.
        named, reads = Signal(), Signal()
        with m.If(dut.r_en):
            m.d.sync += [named.eq((dut.r_addr == chosen[:5]) & here), reads.eq(named)]
        self.prove("content", ~reads | (dut.r_data.as_value() == both))
        self.lemma("named", ~named | (self.inner("dut.buffer.read__data", INSTRUCTION_BITS + 2) == both))
        self.lemma("came", ~(named | reads) | (chosen < dut.received))
        self.lemma("slot", ~here | (slot == both))
        position, older, first = self.inner("dut.position"), self.inner("dut.older", half), self.inner("dut.resp", 2)
        coming = (beats == _BEATS * chosen + 1) & (position == 1)
        self.lemma("half", ~coming | ((older == word[:half]) & (first == resp)))
        comes = self.inner("dut.w_valid") & (dut.received == chosen)
        written = Cat(self.inner("dut.w_word", INSTRUCTION_BITS), self.inner("dut.w_resp", 2))
        self.lemma("whole", ~comes | (written == both))
        self.cover("third", reads & (chosen == 2) & (beats == 6))

    def _lemmas(
        self, dut: Fetch, asked: Signal, beats: Signal, floor: Signal, base: Signal, length: Signal, started: Signal
    ) -> None:
        """How the unit's registers say what the model counts."""
        state = self.inner("dut.command_state", 2)
        at = {name: state == code for code, name in enumerate(_STATES)}
        addr, left = self.inner("dut.addr", 32), self.inner("dut.left", PC_BITS)
        room, want, count = (self.inner(f"dut.{name}", bits) for name, bits in (("room", 7), ("want", 5), ("count", 5)))
        running = ~at["stopped"]
        facts = [self.inner("dut.requested", PC_BITS) == asked, left == length - asked]
        facts += [addr == ((base + asked) << 4)[:32], asked <= length]
        self.lemma("asked", (started == running) & Mux(running, Cat(facts).all(), asked == 0))
        boundary = (BURST_INSTRUCTIONS - addr[4:8])[:5]
        wants = (want == Mux(left < boundary, left, boundary)) & (left != 0)
        self.lemma("wants", ~(at["decide"] | at["command"]) | (wants & (asked + room <= floor + _DEPTH)))
        self.lemma("count", ~at["command"] | ((count != 0) & (count <= want) & (count <= room)))
        self.lemma("window", (asked <= floor + _DEPTH) & (beats <= _BEATS * asked))
        self.lemma("floor", floor <= dut.received + _DEPTH)
        self.lemma("waits", dut.received + self.inner("dut.w_valid") == beats >> 1)
        self.lemma("position", self.inner("dut.position") == beats[0])


PROOFS = (
    Proof(
        "bursts",
        partial(FetchHarness, content=False),
        {
            "in_program": "every burst is whole instructions, at least one, and none beyond the program's end",
            "in_order": "each burst begins where the one before ended, the first at PROG_ADDR",
            "boundary": "no burst crosses 256 bytes, so none crosses 4 KiB",
            "room": "no burst asks for an instruction beyond `floor` + `ibuf_depth`: nothing needed is overwritten",
            "stable": "a command stays until taken",
            "stop": "no command begins two or more cycles after `stop`",
            "received": "`received` counts the whole instructions that came, one cycle later",
            "complete": "`complete` only when the whole program is in",
        },
        (
            Twin("in_program", _FILE, "Mux(left < to_boundary, left[:burst_bits], to_boundary)", "to_boundary"),
            Twin("in_order", _FILE, "addr.eq(addr + (count << 4))", "addr.eq(addr + (want << 4))", depth=40),
            Twin("boundary", _FILE, "burst - addr[4 : 4 + align_bits] if", "burst - addr[5 : 5 + align_bits] if"),
            Twin("room", _FILE, "(want <= room) | (pinned & (room != 0))", "(want <= room) | pinned", depth=40),
            Twin("stable", _FILE, "with m.If(self.fetch.cmd.ready):", "with m.If(self.fetch.cmd.ready | self.stop):"),
            Twin("stop", _FILE, "with m.If((left != 0) & ~self.stop):", "with m.If(left != 0):"),
            Twin("received", _FILE, "w_valid.eq(beat.valid & last)", "w_valid.eq(beat.valid & last & ~self.stop)"),
            Twin("complete", _FILE, "(self.received == self.prog_len)", "(requested == self.prog_len)"),
        ),
        {
            "three_bursts": "a later burst of a program that begins just before a boundary",
            "later_window": "a command after the window has moved",
        },
        depth=12,
        cover_depth=16,
    ),
    Proof(
        "content",
        partial(FetchHarness, content=True),
        {
            "content": "an instruction read from the window is the one that came, with its first bad response",
        },
        (Twin("content", _FILE, "Mux(first | ~resp[1], Mux(", "Mux(first | resp[1], Mux("),),
        {"third": "the third instruction is read"},
        depth=12,
        cover_depth=16,
        solver="z3",
    ),
)
