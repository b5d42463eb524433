"""The load engine `dma/load.py`: every burst it asks for is legal and inside the window."""

from __future__ import annotations

from functools import partial

from amaranth.hdl import Module, Signal

from tidemill.config import PRESETS
from tidemill_hdl.dma.load import LoadEngine
from tidemill_verif.formal.blocks.walk import WindowHarness
from tidemill_verif.formal.proof import Proof, Twin

_CONFIG = PRESETS["tiny"].replace(max_burst=4, max_outstanding=2, spad_rows=64, acc_rows=64)
_FILE = "dma/load.py"


class LoadHarness(WindowHarness):
    """Any instructions, any beats, any memories."""

    def build(self, m: Module) -> None:
        m.submodules.dut = dut = LoadEngine(self.config)
        self.free_inputs(dut)
        self.fix_window(dut.window)
        command = dut.bus.cmd
        entry, valid = command.payload, command.valid
        kept = self.past(valid & ~command.ready, "kept")
        self.prove("stable", ~kept | (valid & (entry.as_value() == self.past(entry.as_value(), "before"))))
        self.prove("page", ~valid | self.in_page(entry.addr, entry.beats))
        self.prove("window", ~valid | self.touches(entry.addr, entry.beats, dut.window))
        self.prove("fault_stays", ~self.past(dut.fault.valid, "had_fault") | dut.fault.valid)
        # One command may have left the walk when the fault came.
        late = Signal(2)
        with m.If(~dut.fault.valid):
            m.d.sync += late.eq(0)
        with m.Elif(valid & command.ready):
            m.d.sync += late.eq(late + 1)
        self.prove("fault_ends", late <= 1)
        self.lemma("late", (late == 0) | ((late == 1) & ~valid))
        self.stage_lemmas("dut.walk", dut.window)
        self.piece_lemmas("dut.pieces", dut.window)
        self.cover("unaligned", valid & (entry.beats == 3) & (dut.window.base == entry.addr + 3))


PROOFS = (
    Proof(
        "bursts",
        partial(LoadHarness, _CONFIG),
        {
            "stable": "a read command stays until taken",
            "page": "every burst has full beats, at most `max_burst`, and stays in one 4 KiB page",
            "window": "every beat of every burst holds a byte of the read window: no access outside",
            "fault_stays": "a fault stays until reset",
            "fault_ends": "after a fault at most the one burst that already waits is asked for",
        },
        (
            Twin("stable", _FILE, "with m.Elif(bus.cmd.ready):", "with m.Else():"),
            Twin("page", "dma/walk.py", "(stop | ~ends_line.replicate(block_bits)) - beat[:block_bits]",
                 "stop | ~ends_line.replicate(8)"),
            Twin("window", _FILE, "command_valid.eq(~piece.window)", "command_valid.eq(1)"),
            Twin("fault_stays", _FILE, "m.d.sync += landed.eq(taken & row.last)",
                 "m.d.sync += [landed.eq(taken & row.last), self.fault.valid.eq(0)]", depth=20),
            Twin("fault_ends", _FILE, "~all_fly & ~self.fault.valid)", "1)", depth=20),
        ),
        {"unaligned": "a burst whose first beat lies only partly in the window"},
        depth=14,
    ),
)  # fmt: skip
