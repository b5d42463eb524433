"""The store engine `dma/store.py`: every burst it asks for is legal and inside the window, and its beats fit."""

from __future__ import annotations

from functools import partial

from amaranth.hdl import Module, Mux, Signal, Value

from tidemill.config import PRESETS
from tidemill_hdl.dma.store import StoreEngine
from tidemill_verif.formal.blocks.walk import WindowHarness
from tidemill_verif.formal.proof import Proof, Twin

_CONFIG = PRESETS["tiny"].replace(max_burst=4, max_outstanding=2, spad_rows=64, acc_rows=64)
_FILE = "dma/store.py"


class StoreHarness(WindowHarness):
    """Any instructions and memories; each burst is answered once, after its last beat."""

    def build(self, m: Module) -> None:
        m.submodules.dut = dut = StoreEngine(self.config)
        self.free_inputs(dut)
        self.fix_window(dut.window)
        command, beat, answer = dut.bus.cmd, dut.bus.beat, dut.bus.resp
        for name, port in (("command", command), ("beat", beat)):
            kept = self.past(port.valid & ~port.ready, f"{name}_kept")
            payload = Value.cast(port.payload)
            same = port.valid & (payload == self.past(payload, f"{name}_before"))
            self.prove(f"{name}_stable", ~kept | same)
        addr, beats = command.payload.addr, command.payload.beats
        self.prove("page", ~command.valid | self.in_page(addr, beats))
        last_byte = addr + (beats + 1) * self.size - 1
        inside = (addr >= dut.window.base) & (last_byte <= dut.window.limit)
        self.prove("window", ~command.valid | inside)
        self.stage_lemmas("dut.walk", dut.window)
        self.piece_lemmas("dut.pieces", dut.window)

        # Beats that the commands taken allow, and bursts without an answer.
        taken, sent, answered = (port.valid & port.ready for port in (command, beat, answer))
        owed, unanswered, ended = Signal(8), Signal(4), Signal(4)
        items = [self.inner(f"dut.lengths.buffer.{name}", 9) for name in ("front", "spare")]
        entry = [item[:8] for item in items]
        full = [self.inner(f"dut.lengths.buffer.{name}") for name in ("o_valid", "spare_full")]
        begins, left = self.inner("dut.begins"), self.inner("dut.left", 8)
        at_last = self.inner("dut.at_last")
        now = Mux(begins, entry[0], left)  # beats of the burst after the one that comes next
        closing = now == 0
        m.d.sync += [
            owed.eq(owed + Mux(taken, beats + 1, 0) - sent),
            unanswered.eq(unanswered + taken - answered),
            ended.eq(ended + (sent & closing) - answered),
        ]
        self.assume(~answer.valid | (ended != 0))
        self.prove("beats", ~beat.valid | (owed != 0))
        self.prove("outstanding", unanswered <= self.config.max_outstanding)

        in_flight = self.inner("dut.in_flight", range(self.config.max_outstanding + 1))
        waiting = [self.inner(f"dut.responses.{name}") for name in ("o_valid", "spare_full")]
        flying = [self.inner(f"dut.flying.buffer.{name}") for name in ("o_valid", "spare_full")]
        under_way = full[0] + full[1] + ended
        self.lemma("unanswered", unanswered == under_way)
        counted = command.valid + under_way + waiting[0] + waiting[1]
        self.lemma("in_flight", (in_flight == counted) & (in_flight == flying[0] + flying[1]))
        self.lemma("most", in_flight <= self.config.max_outstanding)
        for name, pair in (("lengths", full), ("responses", waiting), ("flying", flying)):
            self.lemma(f"order_{name}", pair[0] | ~pair[1])
        self.lemma("owed", owed == Mux(full[0], now + 1, 0) + Mux(full[1], entry[1] + 1, 0))
        for number, (present, item) in enumerate(zip(full, items, strict=True)):
            self.lemma(f"single_{number}", ~present | (item[8] == (item[:8] == 0)))
        self.lemma("all_fly", self.inner("dut.all_fly") == (in_flight == self.config.max_outstanding))
        for number, (present, length) in enumerate(zip(full, entry, strict=True)):
            self.lemma(f"length_{number}", ~present | (length < self.config.max_burst))
        inside = full[0] & (at_last == (left == 0)) & (left < entry[0])
        self.lemma("position", begins | inside)
        self.cover("burst", command.valid & (beats == 3))
        self.cover("beat", beat.valid & (owed == 3))


PROOFS = (
    Proof(
        "bursts",
        partial(StoreHarness, _CONFIG),
        {
            "command_stable": "a write command stays until taken",
            "beat_stable": "a beat stays until taken",
            "page": "every burst has full beats, at most `max_burst`, and stays in one 4 KiB page",
            "window": "every byte of every burst lies in the write window: no access outside",
            "beats": "no beat is offered before the command that allows it has been taken, and none too many",
            "outstanding": "never more than `max_outstanding` bursts without an answer",
        },
        (
            Twin("command_stable", _FILE, "pieces.valid & ~bad & ~valid &", "pieces.valid & ~bad &"),
            Twin("beat_stable", _FILE, "send.eq(self.bus.beat.valid & self.bus.beat.ready)",
                 "send.eq(self.bus.beat.valid)", depth=24),
            Twin("page", "dma/walk.py", "(stop | ~ends_line.replicate(block_bits)) - beat[:block_bits]",
                 "stop | ~ends_line.replicate(8)"),
            Twin("window", "dma/walk.py", "end.last > self.window.limit", "end.first > self.window.limit"),
            Twin("beats", _FILE, "lengths.i.valid.eq(taken)", "lengths.i.valid.eq(valid)", depth=24),
            Twin("outstanding", _FILE, "burst.ready.eq(fire)", "burst.ready.eq(1)", depth=24),
        ),
        {"burst": "a burst of four beats is asked for", "beat": "the second beat of a burst is offered"},
        depth=14,
        cover_depth=20,
    ),
)  # fmt: skip
