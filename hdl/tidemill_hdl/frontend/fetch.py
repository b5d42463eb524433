"""Instruction fetch: bursts from DRAM into the circular loop buffer."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from tidemill.config import Config
from tidemill.isa import INSTRUCTION_BITS, INSTRUCTION_BYTES
from tidemill_hdl.interfaces import PC_BITS, BurstRead
from tidemill_hdl.memory.bank import RowMemory

BURST_INSTRUCTIONS = 16
"""Most instructions in one burst."""

Slot = data.StructLayout({"word": INSTRUCTION_BITS, "resp": 2})
"""An instruction in the loop buffer with the first bad AXI response of its beats."""


class Fetch(wiring.Component):
    """Keeps instructions `floor` to `floor + ibuf_depth - 1` of the program coming into the loop buffer.

    Instruction i lives in buffer slot i modulo `ibuf_depth`. Bursts hold at most 16 instructions (fewer if the
    configuration's `max_burst` is shorter, but always whole instructions), stop at 256-byte boundaries, so never
    cross 4 KiB, and never pass `prog_len`.

    Parameters
    ----------
    config : Config

    Members
    -------
    start : In(1): a pulse, once after reset.
    stop : In(1): level; no further command begins.
    prog_addr : In(32): byte address, a multiple of 16; constant from `start` on.
    prog_len : In(24): instructions; constant from `start` on.
    floor : In(24): oldest instruction still needed. Never falls below an earlier value; at most `ibuf_depth` beyond
        the last instruction fetched.
    pinned : In(1): `floor` stands still (a loop is active): the last free slots are filled with a short burst.
    received : Out(24): instructions below this index are (or were) in the buffer.
    complete : Out(1): `received` equals `prog_len`.
    full : Out(1): `pinned`, and the buffer holds `ibuf_depth` instructions from `floor` on. One cycle late.
    r_en, r_addr, r_data : read port of the buffer with two registers, which move with `r_en`: `r_data` is what
        `r_addr` named two cycles of `r_en` ago.
    fetch : Out(BurstRead): `fetch.beat.ready` is always high.

    One command in at least 3 cycles; commands may queue up at the gateway as long as the buffer has room for them.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.index_bits = (config.ibuf_depth - 1).bit_length()
        super().__init__(
            {
                "start": In(1),
                "stop": In(1),
                "prog_addr": In(32),
                "prog_len": In(PC_BITS),
                "floor": In(PC_BITS),
                "pinned": In(1),
                "received": Out(PC_BITS),
                "complete": Out(1),
                "full": Out(1),
                "r_en": In(1),
                "r_addr": In(self.index_bits),
                "r_data": Out(Slot),
                "fetch": Out(BurstRead(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        depth = self.config.ibuf_depth
        beats = INSTRUCTION_BYTES // self.config.axi_bytes
        burst = max(1, min(BURST_INSTRUCTIONS, self.config.max_burst // beats))
        burst_bits = burst.bit_length()
        align_bits = burst_bits - 1

        m.submodules.buffer = buffer = RowMemory(Slot.size, depth)
        m.d.comb += [
            buffer.r_en.eq(self.r_en),
            buffer.o_en.eq(self.r_en),
            buffer.r_addr.eq(self.r_addr),
            self.r_data.as_value().eq(buffer.r_data),
        ]

        # ---- commands
        requested = Signal(PC_BITS)
        left = Signal(PC_BITS)
        addr = Signal(32, reset_less=True)
        room = Signal(self.index_bits + 2, reset_less=True)
        want = Signal(burst_bits, reset_less=True)
        count = Signal(burst_bits, reset_less=True)
        pinned = Signal(reset_less=True)
        to_boundary = Signal(burst_bits)
        m.d.comb += to_boundary.eq(burst - addr[4 : 4 + align_bits] if align_bits else 1)
        with m.FSM(name="command"):
            with m.State("STOPPED"), m.If(self.start):
                m.d.sync += [requested.eq(0), left.eq(self.prog_len), addr.eq(self.prog_addr)]
                m.next = "MEASURE"
            with m.State("MEASURE"):
                m.d.sync += [
                    room.eq(self.floor[: len(room)] - requested[: len(room)] + depth),
                    want.eq(Mux(left < to_boundary, left[:burst_bits], to_boundary)),
                    pinned.eq(self.pinned),
                ]
                with m.If((left != 0) & ~self.stop):
                    m.next = "DECIDE"
            with m.State("DECIDE"):
                # Straight-line code waits for room for a whole burst; in a loop nothing becomes free, so the
                # rest of the buffer is filled with what fits.
                m.d.sync += count.eq(Mux(want <= room, want, room[:burst_bits]))
                m.next = "MEASURE"
                with m.If((want <= room) | (pinned & (room != 0))):
                    m.next = "COMMAND"
            with m.State("COMMAND"):
                m.d.comb += self.fetch.cmd.valid.eq(1)
                with m.If(self.fetch.cmd.ready):
                    m.d.sync += [
                        requested.eq(requested + count),
                        left.eq(left - count),
                        addr.eq(addr + (count << 4)),
                    ]
                    m.next = "MEASURE"
        m.d.comb += [
            self.fetch.cmd.payload.addr.eq(addr),
            self.fetch.cmd.payload.beats.eq(count * beats - 1),
        ]

        # ---- beats
        beat = self.fetch.beat
        m.d.comb += beat.ready.eq(1)
        resp = Signal(2, reset_less=True)
        first = Signal(init=1)
        resp_now = Signal(2)
        m.d.comb += resp_now.eq(Mux(first | ~resp[1], Mux(beat.payload.resp[1], beat.payload.resp, 0), resp))
        if beats > 1:
            position = Signal(range(beats))
            older = Signal(INSTRUCTION_BITS - self.config.axi_data_width, reset_less=True)
            last = position == beats - 1
            m.d.comb += first.eq(position == 0)
            with m.If(beat.valid):
                m.d.sync += [
                    position.eq(position + 1),
                    resp.eq(resp_now),
                    older.eq(Cat(older, beat.payload.data)[self.config.axi_data_width :]),
                ]
            word = Cat(older, beat.payload.data)
        else:
            last = 1
            word = beat.payload.data
        w_resp = Signal(2, reset_less=True)
        w_word = Signal(INSTRUCTION_BITS, reset_less=True)
        w_valid = Signal()
        m.d.sync += [w_valid.eq(beat.valid & last), w_word.eq(word), w_resp.eq(resp_now)]
        m.d.comb += [
            buffer.w_en.eq(w_valid),
            buffer.w_addr.eq(self.received[: self.index_bits]),
            buffer.w_data.eq(Cat(w_word, w_resp)),
        ]
        with m.If(w_valid):
            m.d.sync += self.received.eq(self.received + 1)
        started = Signal()
        m.d.sync += self.complete.eq(started & ~w_valid & (self.received == self.prog_len))
        with m.If(self.start):
            m.d.sync += started.eq(1)
        window = self.received[: len(room)] - self.floor[: len(room)]
        m.d.sync += self.full.eq(self.pinned & (window[: len(room)] == depth))
        return m
