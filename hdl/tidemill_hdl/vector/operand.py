"""Operand fetch of the vector engine: row addresses in, int32 rows out, from either memory."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from tidemill.config import Config
from tidemill_hdl.interfaces import acc_read_port, acc_row, spad_read_port
from tidemill_hdl.prim.queue import SkidBuffer
from tidemill_hdl.prim.row_queue import RowQueue
from tidemill_hdl.vector.alu import sign_extend

ROW_BITS = 15
"""Bits of a row index in a local address."""


class OperandReader(wiring.Component):
    """Reads rows of one operand, all of them in one memory.

    Parameters
    ----------
    config : Config
    depth : int
        Responses that are kept, a power of two; whoever sends addresses has at most that many without a row taken.

    Members
    -------
    accumulators : In(1): memory of the rows; constant while any row is on its way.
    address : In(stream of row index): inside the memory.
    present : Out(1): a row is there; registered.
    take : In(1): go on to the next row; only while `present`.
    row : Out(acc_row): the row that was the next in the cycle before, rows in order of their addresses; scratchpad
        lanes are sign-extended.
    fill : In(1): a pulse while no row is on its way or there: `row` is `number` in every lane, two cycles later and
        until the next address.
    number : In(signed 16)
    spad : Out(spad_read_port)
    acc : Out(acc_read_port)

    Latency 2 cycles and the memory's to `present`, throughput one row a cycle. After reset empty.
    """

    def __init__(self, config: Config, depth: int) -> None:
        self.config = config
        self.depth = depth
        super().__init__(
            {
                "accumulators": In(1),
                "address": In(stream.Signature(unsigned(ROW_BITS))),
                "present": Out(1),
                "take": In(1),
                "row": Out(acc_row(config)),
                "fill": In(1),
                "number": In(signed(16)),
                "spad": Out(spad_read_port(config)),
                "acc": Out(acc_read_port(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cols = self.config.cols
        m.submodules.requests = requests = SkidBuffer(unsigned(ROW_BITS))
        m.submodules.responses = responses = RowQueue(acc_row(self.config), self.depth)
        wiring.connect(m, wiring.flipped(self.address), requests.i)
        number = Signal(signed(32))
        m.d.comb += [
            self.spad.req.payload.eq(requests.o.payload),
            self.acc.req.payload.eq(requests.o.payload),
            self.spad.req.valid.eq(requests.o.valid & ~self.accumulators),
            self.acc.req.valid.eq(requests.o.valid & self.accumulators),
            requests.o.ready.eq(Mux(self.accumulators, self.acc.req.ready, self.spad.req.ready)),
            number.eq(self.number),
            responses.add.eq(Mux(self.accumulators, self.acc.rsp_valid, self.spad.rsp_valid)),
            responses.fill.eq(self.fill),
            Value.cast(responses.i).eq(
                Mux(
                    self.fill,
                    Cat(number for _ in range(cols)),
                    Mux(
                        self.accumulators,
                        Value.cast(self.acc.rsp_data),
                        sign_extend(Value.cast(self.spad.rsp_data), self.config),
                    ),
                )
            ),
            self.present.eq(responses.present),
            responses.take.eq(self.take),
            self.row.eq(responses.o),
        ]
        return m
