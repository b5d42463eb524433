"""The DRAM side of transfers, `dma/walk.py`: the bursts of every line, the window check."""

from __future__ import annotations

from functools import partial

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data

from tidemill.config import PRESETS, Config
from tidemill_hdl.dma.walk import BurstWalk, WalkJob, piece_layout
from tidemill_hdl.interfaces import PC_BITS
from tidemill_verif.formal.harness import Harness
from tidemill_verif.formal.proof import Proof, Twin

_FILE = "dma/walk.py"
_PAGE = 4096
_COMMON = data.StructLayout({"acc": 1, "final": 1, "pc": PC_BITS})


def check_of(config: Config) -> data.StructLayout:
    """A line between its window check and its split."""
    low, block_bits = (config.axi_bytes - 1).bit_length(), (config.max_burst - 1).bit_length()
    blocks_bits = 12 + config.acc_row_bytes.bit_length() - low - block_bits
    return data.StructLayout(
        {"first": 32, "blocks": blocks_bits, "stop": block_bits, "below": 1, "above": 1, "common": _COMMON}
    )


class WindowHarness(Harness):
    """Base of what proves windows: they are constant, as the contract says.

    Parameters
    ----------
    config : Config
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.size = config.axi_bytes
        self.low = (config.axi_bytes - 1).bit_length()
        super().__init__()

    def fix_window(self, window: data.View) -> None:
        """Keeps the block's window, any, the same in all cycles."""
        for name in ("base", "limit"):
            self.assume(getattr(window, name) == self.constant(f"{name}_of_window", 32))

    def in_page(self, addr: Value, beats: Value) -> Value:
        """Whether a burst is one of full beats, not longer than allowed, in one 4 KiB page."""
        aligned = addr % self.size == 0
        return aligned & (beats < self.config.max_burst) & ((addr % _PAGE) + (beats + 1) * self.size <= _PAGE)

    def touches(self, addr: Value, beats: Value, window: data.View) -> Value:
        """Whether each beat of a burst holds a byte of the window."""
        return (addr + self.size > window.base) & (addr + beats * self.size <= window.limit)

    def _covers(self, window: data.View, last_beat: Value, offset: Value) -> Value:
        """Whether the window reaches into a line's last beat, and to its end if the line begins with a beat."""
        limit = window.limit[self.low :]
        whole = window.limit[: self.low].all() | (offset != 0)
        return (last_beat < limit) | ((last_beat == limit) & whole)

    def stage_lemmas(self, path: str, window: data.View) -> None:
        """What holds of any line at each stage of the `BurstWalk` at `path`."""
        low, longest = self.low, 4096 * self.config.acc_row_bytes
        block_bits = (self.config.max_burst - 1).bit_length()
        check_layout = check_of(self.config)
        blocks_bits = check_layout["blocks"].width
        end = data.View(
            data.StructLayout({"first": 32, "last": 33, "common": _COMMON}),
            self.inner(f"{path}.end", 65 + _COMMON.size),
        )
        check = data.View(check_layout, self.inner(f"{path}.check", check_layout.size))
        valid = [self.inner(f"{path}.{stage}_valid") for stage in ("end", "check", "split")]
        full_beats = (end.last[:low] + 1)[:low] == end.first[:low]
        self.lemma("end", ~valid[0] | ((end.last >= end.first) & (end.last < end.first + longest) & full_beats))
        last_block = check.first[low + block_bits :] + check.blocks
        fits = (check.blocks != 0) | (check.stop >= check.first[low : low + block_bits])
        covered = fits & self._covers(window, Cat(check.stop, last_block), check.first[:low])
        self.lemma("check", ~valid[1] | ((check.below == (check.first < window.base)) & (check.above | covered)))
        beat, blocks = self.inner(f"{path}.beat", 32 - low), self.inner(f"{path}.blocks", blocks_bits)
        stop, ends = self.inner(f"{path}.stop", block_bits), self.inner(f"{path}.ends_line")
        offset, first = self.inner(f"{path}.offset", low), self.inner(f"{path}.first")
        begins = Cat(Mux(first, offset, 0), beat) >= window.base
        last_block = beat[block_bits:] + blocks
        fits = (blocks != 0) | (stop >= beat[:block_bits])
        inside = begins & fits & (ends == (blocks == 0)) & self._covers(window, Cat(stop, last_block), offset)
        self.lemma("split", ~valid[2] | (self.inner(f"{path}.outside") & ends) | inside)

    def piece_lemmas(self, path: str, window: data.View) -> None:
        """What holds of the bursts in the buffer at `path` behind a `BurstWalk`."""
        layout = piece_layout(self.config)
        full = [self.inner(f"{path}.{name}") for name in ("o_valid", "spare_full")]
        self.lemma("pieces", full[0] | ~full[1])
        for name, present in zip(("front", "spare"), full, strict=True):
            piece = data.View(layout, self.inner(f"{path}.{name}", layout.size))
            addr = Cat(piece.addr[: self.low] & 0, piece.addr[self.low :])
            burst = self.in_page(addr, piece.beats) & self.touches(addr, piece.beats, window)
            whole = (addr >= window.base) & (addr + (piece.beats + 1) * self.size - 1 <= window.limit)
            self.lemma(f"piece_{name}", ~present | piece.window | (burst & (whole | (piece.offset != 0))))


class WalkHarness(WindowHarness):
    """Any transfers, any window, any consumer.

    The lines' addresses are those of the address generator, which has its own proof (`nest`). One line is tracked from
    the moment the generator gives it: what its bursts must be follows from its address and its transfer.
    """

    def build(self, m: Module) -> None:
        config, size, low = self.config, self.size, self.low
        m.submodules.dut = dut = BurstWalk(config)
        self.free_inputs(dut)
        self.fix_window(dut.window)
        piece, valid = dut.piece.payload, dut.piece.valid
        moves = valid & dut.piece.ready
        kept = self.past(valid & ~dut.piece.ready, "kept")
        unchanged = valid & (piece.as_value() == self.past(piece.as_value(), "before"))
        self.prove("stable", ~kept | unchanged)
        addr = Cat(piece.addr[:low] & 0, piece.addr[low:])
        burst = valid & ~piece.window
        self.prove("page", ~burst | self.in_page(addr, piece.beats))
        self.prove("window", ~burst | self.touches(addr, piece.beats, dut.window) & (piece.addr >= dut.window.base))
        self.stage_lemmas("dut", dut.window)

        gives, split = self.inner("dut.nest.step"), self.inner("dut.ends_line")
        line = self.inner("dut.nest.address", 32)
        job = data.View(WalkJob, self.inner("dut.job", WalkJob.size))
        ends = Signal()
        inside, marked, ahead = Signal(3), Signal(), Signal(3)
        first, last, is_last = Signal(32), Signal(33), Signal()
        length = (job.rows + 1) * Mux(job.acc, config.acc_row_bytes, config.spad_row_bytes)
        m.d.comb += ends.eq(moves & split)
        m.d.sync += inside.eq(inside + gives - ends)
        with m.If(~marked & gives & self.free("mark")):
            m.d.sync += [marked.eq(1), ahead.eq(inside - ends), first.eq(line), last.eq(line + length - 1)]
            m.d.sync += is_last.eq(self.inner("dut.nest.last"))
        with m.Elif(marked & ends):
            m.d.sync += [marked.eq(ahead != 0), ahead.eq(ahead - 1)]
        now = marked & (ahead == 0)
        shown = now & valid
        outside = (first < dut.window.base) | (last > dut.window.limit)
        # `done`: the first byte of the line that its bursts so far have not covered.
        begun, done, after = Signal(), Signal(33), Signal(33)
        m.d.comb += after.eq(addr + (piece.beats + 1) * size)
        with m.If(moves & shown):
            m.d.sync += [begun.eq(~split), done.eq(after)]
        self.prove("check", ~shown | (piece.window == outside))
        begins = (piece.addr == Mux(begun, done[:32], first)) & (piece.first == ~begun)
        tight = after <= Cat(last[:low] & 0, last[low:]) + size
        self.prove("line", ~shown | (begins & (piece.offset == first[:low]) & (outside | tight)))
        self.prove("line_end", ~shown | ((split == (outside | (after > last))) & (piece.final == (split & is_last))))
        self._lemmas(dut, inside, marked, ahead, first, last, is_last, begun, done, outside)
        self.cover("three_bursts", shown & begun & split & self.past(begun, "had_begun") & ~outside)
        self.cover("outside", shown & piece.window & (first >= dut.window.base))

    def _lemmas(
        self, dut: BurstWalk, inside: Value, marked: Value, ahead: Value, first: Value, last: Value, is_last: Value,
        begun: Value, done: Value, outside: Value,
    ) -> None:  # fmt: skip
        """The tracked line at each stage it may be in."""
        low = self.low
        block_bits = (self.config.max_burst - 1).bit_length()
        layout = check_of(self.config)
        blocks_bits = layout["blocks"].width
        valid = [self.inner(f"dut.{stage}_valid") for stage in ("split", "check", "end")]
        self.lemma("inside", inside == valid[0] + valid[1] + valid[2])
        end, check = self.inner("dut.end", 65 + _COMMON.size), data.View(layout, self.inner("dut.check", layout.size))
        tail = data.View(_COMMON, self.inner("dut.tail", _COMMON.size))
        beat, blocks = self.inner("dut.beat", 32 - low), self.inner("dut.blocks", blocks_bits)
        stop, ends_line = self.inner("dut.stop", block_bits), self.inner("dut.ends_line")
        at_first, offset = self.inner("dut.first"), self.inner("dut.offset", low)
        at = Mux(begun, done[low + block_bits : 32], first[low + block_bits :])
        after = (last[low + block_bits : 32] - at)[:blocks_bits]
        place = beat == Mux(begun, done[low:32], first[low:])
        rest = outside | ~begun | ((done[:low] == 0) & (done <= last) & (done > first))
        splits = Cat(
            place, blocks == after, stop == last[low : low + block_bits], ends_line == (outside | (after == 0)),
            offset == first[:low], at_first == ~begun, tail.final == is_last, rest,
            self.inner("dut.outside") == outside, ~(begun & outside),
        ).all()  # fmt: skip
        checks = Cat(
            check.below == (first < dut.window.base), check.above == (last > dut.window.limit), check.first == first,
            check.blocks == after, check.stop == last[low : low + block_bits], check.common.final == is_last,
        ).all()  # fmt: skip
        stages = (end[:32] == first) & (end[32:65] == last) & (end[66] == is_last)
        self.lemma("marked", ~marked | ((ahead < inside) & (~begun | ((ahead == 0) & valid[0]))))
        self.lemma("span", ~marked | ((last >= first) & (last < first + 4096 * self.config.acc_row_bytes)))
        self.lemma("at_split", ~(marked & valid[0] & (ahead == 0)) | splits)
        self.lemma("at_check", ~(marked & valid[1] & (ahead == valid[0])) | checks)
        self.lemma("at_end", ~(marked & valid[2] & (ahead == valid[0] + valid[1])) | stages)
        self.lemma("begun", ~begun | marked)


_SAYS = {
    "stable": "a burst stays until taken",
    "page": "every burst has full beats, at most `max_burst`, and stays in one 4 KiB page",
    "window": "no burst begins before the window, none has a beat that lies wholly outside it",
    "check": "a line is refused exactly when one of its bytes lies outside the window, also beyond 2^32",
    "line": "the bursts of a line follow each other without gap from its first byte and do not pass its last beat",
    "line_end": "a line's last burst covers its last byte; `final` marks that of the transfer's last line",
}
_TWINS = (
    Twin("stable", _FILE, "with m.Elif(self.piece.ready):", "with m.Else():"),
    Twin("page", _FILE, "(stop | ~ends_line.replicate(block_bits)) - beat[:block_bits]",
         "stop | ~ends_line.replicate(8)"),
    Twin("window", _FILE, "end.last > self.window.limit", "end.first > self.window.limit"),
    Twin("check", _FILE, "end.last > self.window.limit", "end.last[:32] > self.window.limit"),
    Twin("line", _FILE, "blocks.eq(blocks - 1),", "blocks.eq(blocks),"),
    Twin("line_end", _FILE, "ends_line.eq((check.blocks == 0) |", "ends_line.eq((check.blocks < 2) |"),
)  # fmt: skip
_COVERS = {"three_bursts": "a line of three bursts", "outside": "a line ends outside the window"}

PROOFS = tuple(
    Proof(name, partial(WalkHarness, config), _SAYS, _TWINS, _COVERS, depth=12)
    for name, config in {
        "short_bursts": PRESETS["tiny"].replace(max_burst=4),
        "page_bursts": PRESETS["base"].replace(axi_data_width=128, max_burst=256),
    }.items()
)
