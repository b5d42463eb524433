"""Walks the DRAM side of a transfer: lines, their window check, and their split into bursts."""

from __future__ import annotations

from amaranth.hdl import C, Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tidemill.config import Config
from tidemill_hdl.interfaces import PC_BITS, Window
from tidemill_hdl.prim.nest import AddressNest

WalkJob = data.StructLayout(
    {
        "dram": unsigned(32),
        "rows": unsigned(12),
        "acc": unsigned(1),
        "n1": unsigned(10),
        "n2": unsigned(10),
        "s1": signed(32),
        "s2": signed(32),
        "pc": unsigned(PC_BITS),
    }
)
"""A transfer: `rows` + 1 rows a line, n1 lines a plane, n2 planes; `acc`: accumulator rows."""


def piece_layout(config: Config) -> data.StructLayout:
    """A burst of a line. `addr`: its first byte that belongs to the line; `beats`: beats minus one; `offset`: the
    line's first byte in its beat; `first`: of its line; `final`: of the transfer; `window`: not a burst, but a line
    (at `addr`) that lies outside the window.
    """
    return data.StructLayout(
        {
            "addr": unsigned(32),
            "beats": unsigned(8),
            "offset": unsigned((config.axi_bytes - 1).bit_length()),
            "first": unsigned(1),
            "final": unsigned(1),
            "acc": unsigned(1),
            "window": unsigned(1),
            "pc": unsigned(PC_BITS),
        }
    )


class BurstWalk(wiring.Component):
    """Turns transfers into bursts.

    Bursts end at multiples of `max_burst` beats, so none crosses 4 KiB.

    Parameters
    ----------
    config : Config

    Members
    -------
    job : In(stream of WalkJob)
    window : In(Window)
    piece : Out(stream of `piece_layout`): a function of registers.

    Throughput one burst a cycle; first burst 4 cycles after its job; 2 lost cycles between jobs. After reset empty.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        super().__init__(
            {
                "job": In(stream.Signature(WalkJob)),
                "window": In(Window()),
                "piece": Out(stream.Signature(piece_layout(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        low = (config.axi_bytes - 1).bit_length()
        block_bits = (config.max_burst - 1).bit_length()
        blocks_bits = 12 + config.acc_row_bytes.bit_length() - low - block_bits

        # One transfer at a time. While there is none the generator starts anew in every cycle, so that nothing wide
        # waits to hear of the next.
        walking = Signal()
        job = Signal(WalkJob, reset_less=True)
        m.d.comb += self.job.ready.eq(~walking)
        with m.If(~walking):
            m.d.sync += [walking.eq(self.job.valid), job.eq(self.job.payload)]

        # Lines, their last bytes, the window check, the split into bursts: all move at once.
        m.submodules.nest = nest = AddressNest([10, 10], [32], stride_bits=32)
        moves = Signal()
        m.d.comb += [
            nest.start.eq(~walking),
            nest.count.c0.eq(self.job.payload.n1),
            nest.count.c1.eq(self.job.payload.n2),
            nest.base.s0.eq(self.job.payload.dram),
            nest.stride[0][0].eq(job.s1),
            nest.stride[0][1].eq(job.s2),
            nest.step.eq(walking & moves),
        ]
        with m.If(nest.step & nest.last):
            m.d.sync += walking.eq(0)

        end_valid = Signal()
        check_valid = Signal()
        split_valid = Signal()
        common = data.StructLayout({"acc": 1, "final": 1, "pc": PC_BITS})
        end = Signal(data.StructLayout({"first": 32, "last": 33, "common": common}), reset_less=True)
        line = Signal(32)
        m.d.comb += line.eq(nest.address.s0)
        acc_size = Cat(C(-1, (config.acc_row_bytes - 1).bit_length()), job.rows)
        spad_size = Cat(C(-1, (config.spad_row_bytes - 1).bit_length()), job.rows)
        check = Signal(
            data.StructLayout(
                {"first": 32, "blocks": blocks_bits, "stop": block_bits, "below": 1, "above": 1, "common": common}
            ),
            reset_less=True,
        )
        with m.If(moves):
            m.d.sync += [
                end_valid.eq(walking),
                end.first.eq(line),
                end.last.eq(line + Mux(job.acc, acc_size, spad_size)),
                end.common.acc.eq(job.acc),
                end.common.final.eq(nest.last),
                end.common.pc.eq(job.pc),
                check_valid.eq(end_valid),
                check.first.eq(end.first),
                check.blocks.eq(end.last[low + block_bits : 32] - end.first[low + block_bits : 32]),
                check.stop.eq(end.last[low:]),
                check.below.eq(end.first < self.window.base),
                check.above.eq(end.last > self.window.limit),
                check.common.eq(end.common),
            ]

        # `blocks`: bursts after this one; `stop`: the line's last beat in its block of `max_burst`.
        piece = self.piece.payload
        beat = Signal(32 - low, reset_less=True)
        offset = Signal(low, reset_less=True)
        blocks = Signal(blocks_bits, reset_less=True)
        stop = Signal(block_bits, reset_less=True)
        first = Signal(reset_less=True)
        outside = Signal(reset_less=True)
        ends_line = Signal(reset_less=True)
        tail = Signal(common, reset_less=True)
        m.d.comb += [
            self.piece.valid.eq(split_valid),
            piece.addr.eq(Cat(Mux(first, offset, 0), beat)),
            piece.beats.eq((stop | ~ends_line.replicate(block_bits)) - beat[:block_bits]),
            piece.offset.eq(offset),
            piece.first.eq(first),
            piece.final.eq(tail.final & ends_line),
            piece.acc.eq(tail.acc),
            piece.window.eq(outside),
            piece.pc.eq(tail.pc),
            moves.eq(~split_valid | (self.piece.ready & ends_line)),
        ]
        with m.If(moves):
            m.d.sync += [
                split_valid.eq(check_valid),
                beat.eq(check.first[low:]),
                offset.eq(check.first[:low]),
                blocks.eq(check.blocks),
                stop.eq(check.stop),
                first.eq(1),
                outside.eq(check.below | check.above),
                ends_line.eq((check.blocks == 0) | check.below | check.above),
                tail.eq(check.common),
            ]
        with m.Elif(self.piece.ready):
            m.d.sync += [
                beat.eq(Cat(C(0, block_bits), (beat[block_bits:] + 1)[: 32 - low - block_bits])),
                blocks.eq(blocks - 1),
                ends_line.eq(blocks == 1),
                first.eq(0),
            ]
        return m
