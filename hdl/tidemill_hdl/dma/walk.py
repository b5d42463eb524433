"""Walks the DRAM side of a transfer: lines, their window check, and their split into bursts."""

from __future__ import annotations

from amaranth.hdl import C, Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tidemill.config import Config
from tidemill_hdl.interfaces import PC_BITS, Window
from tidemill_hdl.prim.nest import AddressNest
from tidemill_hdl.prim.queue import SkidBuffer

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

    Throughput one burst a cycle; first burst 5 cycles after its job; 2 lost cycles between jobs. After reset empty.
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
        left_bits = 12 + config.acc_row_bytes.bit_length() - low
        block_bits = (config.max_burst - 1).bit_length()

        m.submodules.jobs = jobs = SkidBuffer(WalkJob)
        wiring.connect(m, wiring.flipped(self.job), jobs.i)
        job = jobs.o.payload

        # Lines.
        m.submodules.nest = nest = AddressNest([10, 10], [32], stride_bits=32)
        walking = Signal()
        m.d.comb += [
            nest.start.eq(jobs.o.valid & ~walking),
            nest.count.c0.eq(job.n1),
            nest.count.c1.eq(job.n2),
            nest.base.s0.eq(job.dram),
            nest.stride[0][0].eq(job.s1),
            nest.stride[0][1].eq(job.s2),
            jobs.o.ready.eq(nest.step & nest.last),
        ]
        with m.If(nest.start):
            m.d.sync += walking.eq(1)
        with m.Elif(nest.step & nest.last):
            m.d.sync += walking.eq(0)

        # Last byte of the line, then the window check and the number of beats, then the split.
        end_valid = Signal()
        check_valid = Signal()
        split_valid = Signal()
        end_ready, check_ready, split_ready = Signal(), Signal(), Signal()
        m.d.comb += [nest.step.eq(nest.valid & end_ready), end_ready.eq(~end_valid | check_ready)]
        m.d.comb += check_ready.eq(~check_valid | split_ready)

        common = data.StructLayout({"acc": 1, "final": 1, "pc": PC_BITS})
        end = Signal(data.StructLayout({"first": 32, "last": 33, "common": common}), reset_less=True)
        line = Signal(32)
        m.d.comb += line.eq(nest.address.s0)
        acc_size = Cat(C(-1, (config.acc_row_bytes - 1).bit_length()), job.rows)
        spad_size = Cat(C(-1, (config.spad_row_bytes - 1).bit_length()), job.rows)
        with m.If(end_ready):
            m.d.sync += [
                end_valid.eq(nest.valid),
                end.first.eq(line),
                end.last.eq(line + Mux(job.acc, acc_size, spad_size)),
                end.common.acc.eq(job.acc),
                end.common.final.eq(nest.last),
                end.common.pc.eq(job.pc),
            ]

        check = Signal(
            data.StructLayout({"first": 32, "left": left_bits, "below": 1, "above": 1, "common": common}),
            reset_less=True,
        )
        with m.If(check_ready):
            m.d.sync += [
                check_valid.eq(end_valid),
                check.first.eq(end.first),
                check.left.eq(end.last[low:32] - end.first[low:32]),
                check.below.eq(end.first < self.window.base),
                check.above.eq(end.last > self.window.limit),
                check.common.eq(end.common),
            ]

        piece = self.piece.payload
        beat = Signal(32 - low, reset_less=True)
        offset = Signal(low, reset_less=True)
        left = Signal(left_bits, reset_less=True)
        first = Signal(reset_less=True)
        outside = Signal(reset_less=True)
        tail = Signal(common, reset_less=True)
        to_block_end = Signal(block_bits)
        rest = Signal(signed(left_bits + 2))
        ends_line = Signal()
        m.d.comb += [
            to_block_end.eq(~beat[:block_bits]),
            rest.eq(left - to_block_end - 1),
            ends_line.eq(rest[-1] | outside),
            self.piece.valid.eq(split_valid),
            piece.addr.eq(Cat(Mux(first, offset, 0), beat)),
            piece.beats.eq(Mux(rest[-1], left, to_block_end)),
            piece.offset.eq(offset),
            piece.first.eq(first),
            piece.final.eq(tail.final & ends_line),
            piece.acc.eq(tail.acc),
            piece.window.eq(outside),
            piece.pc.eq(tail.pc),
            split_ready.eq(~split_valid | (self.piece.ready & ends_line)),
        ]
        with m.If(split_ready):
            m.d.sync += [
                split_valid.eq(check_valid),
                beat.eq(check.first[low:]),
                offset.eq(check.first[:low]),
                left.eq(check.left),
                first.eq(1),
                outside.eq(check.below | check.above),
                tail.eq(check.common),
            ]
        with m.Elif(self.piece.ready):
            m.d.sync += [
                beat.eq(Cat(C(0, block_bits), (beat[block_bits:] + 1)[: 32 - low - block_bits])),
                left.eq(rest),
                first.eq(0),
            ]
        return m
