"""Fetches weight tiles for the array's shadow weights."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from tidemill.config import Config
from tidemill.csr import Cause
from tidemill.isa import ACC_SPACE
from tidemill_hdl.interfaces import LOCAL_BITS, PC_BITS, Done, Fault, spad_read_port, spad_row
from tidemill_hdl.prim.queue import Queue, SkidBuffer
from tidemill_hdl.prim.row_queue import RowQueue

ADDRESS_BITS = 17
"""Bits of a signed row address: one stride away from any legal row."""

WeightCommand = data.StructLayout(
    {"src": unsigned(LOCAL_BITS), "stride": signed(16), "signal": unsigned(16), "pc": unsigned(PC_BITS)}
)
"""An `mx.wload`."""


class WeightLoader(wiring.Component):
    """Reads the `rows` rows of each tile into a queue, ahead of the array's need.

    Members
    -------
    enable : In(1): while clear no new tile is begun.
    cmd : In(stream of WeightCommand)
    wgt : Out(ReadPort): the scratchpad; at most `AHEAD` rows are requested and not taken.
    present : Out(1): there is a row; registered.
    take : In(1): go on to the next row; only while `present`.
    row : Out(scratchpad row): weights, tile after tile, each in the cycle after its `take`.
    done : Out(Done): a tile's last row has been read.
    fault : Out(Fault): LOCAL_RANGE; info is the row as a signed number.
    idle : Out(1): no command and no tile whose rows are still to be requested.

    One row a cycle, one cycle between tiles. After reset idle.
    """

    AHEAD = 14

    def __init__(self, config: Config) -> None:
        self.config = config
        super().__init__(
            {
                "enable": In(1),
                "cmd": In(stream.Signature(WeightCommand)),
                "wgt": Out(spad_read_port(config)),
                "present": Out(1),
                "take": In(1),
                "row": Out(spad_row(config)),
                "done": Out(Done()),
                "fault": Out(Fault()),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        m.submodules.commands = commands = SkidBuffer(WeightCommand)
        m.submodules.signals = signals = Queue(unsigned(16), 8)
        m.submodules.rows = rows = RowQueue(spad_row(config), self.AHEAD + 2)
        connect(m, flipped(self.cmd), commands.i)

        active = Signal()
        address = Signal(signed(ADDRESS_BITS), reset_less=True)
        stride = Signal(signed(16), reset_less=True)
        wrong_space = Signal(reset_less=True)
        pc = Signal(PC_BITS, reset_less=True)
        remaining = Signal(range(config.rows), reset_less=True)
        credits = Signal(range(self.AHEAD + 1), init=self.AHEAD)
        may_ask = Signal()  # a cycle behind: credits for the request of this cycle and of the next
        fault = Signal()
        bits = (config.spad_rows - 1).bit_length()

        bad = Signal()
        request = Signal()
        m.d.comb += [
            bad.eq(wrong_space | address[bits:].any()),
            self.wgt.req.valid.eq(active & ~bad & may_ask),
            self.wgt.req.payload.eq(address[:bits]),
            request.eq(self.wgt.req.valid & self.wgt.req.ready),
            self.idle.eq(~active & ~commands.o.valid),
        ]
        command = commands.o.payload
        begin = Signal()
        m.d.comb += [
            begin.eq(~active & self.enable & ~fault & commands.o.valid & signals.i.ready),
            commands.o.ready.eq(begin),
            signals.i.valid.eq(begin),
            signals.i.payload.eq(command.signal),
        ]
        with m.If(begin):
            m.d.sync += [
                active.eq(1),
                address.eq(command.src & (ACC_SPACE - 1)),
                wrong_space.eq((command.src & ACC_SPACE) != 0),
                stride.eq(command.stride),
                pc.eq(command.pc),
                remaining.eq(config.rows - 1),
            ]
        with m.If(request):
            m.d.sync += [
                address.eq(address + stride),
                remaining.eq(remaining - 1),
                active.eq(remaining != 0),
            ]
        with m.If(active & bad):
            m.d.sync += [fault.eq(1), active.eq(0)]
        m.d.sync += [
            credits.eq(credits + self.take - request),
            may_ask.eq(credits > 1),
        ]
        m.d.comb += [
            self.fault.valid.eq(fault),
            self.fault.cause.eq(Cause.LOCAL_RANGE),
            self.fault.pc.eq(pc),
            self.fault.info.eq(address),
        ]

        received = Signal(range(config.rows))
        done = Signal()
        done_signal = Signal(16, reset_less=True)
        last = self.wgt.rsp_valid & (received == config.rows - 1)
        with m.If(self.wgt.rsp_valid):
            m.d.sync += received.eq(received + 1)
        m.d.sync += [done.eq(last), done_signal.eq(signals.o.payload)]
        m.d.comb += [
            signals.o.ready.eq(last),
            rows.add.eq(self.wgt.rsp_valid),
            rows.i.eq(self.wgt.rsp_data),
            self.present.eq(rows.present),
            rows.take.eq(self.take),
            self.row.eq(rows.o),
            self.done.valid.eq(done),
            self.done.signal.eq(done_signal),
        ]
        return m
