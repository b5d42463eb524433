"""Operand fetch of the vector engine: row addresses in, int32 rows out, from either memory."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Value, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from tidemill.config import Config
from tidemill_hdl.interfaces import acc_read_port, acc_row, spad_read_port
from tidemill_hdl.prim.queue import Queue, SkidBuffer
from tidemill_hdl.vector.alu import sign_extend

ROW_BITS = 15
"""Bits of a row index in a local address."""


class OperandReader(wiring.Component):
    """Reads rows of one operand, all of them in one memory.

    Parameters
    ----------
    config : Config
    depth : int
        Responses that are kept; whoever sends addresses has at most that many without a row taken.

    Members
    -------
    accumulators : In(1): memory of the rows; constant while any row is on its way.
    address : In(stream of row index): inside the memory.
    row : Out(stream of acc_row): rows in order of their addresses; scratchpad lanes are sign-extended.
    spad : Out(spad_read_port)
    acc : Out(acc_read_port)

    Latency 3 cycles and the memory's, throughput one row a cycle. After reset empty.
    """

    def __init__(self, config: Config, depth: int) -> None:
        self.config = config
        self.depth = depth
        super().__init__(
            {
                "accumulators": In(1),
                "address": In(stream.Signature(unsigned(ROW_BITS))),
                "row": Out(stream.Signature(acc_row(config))),
                "spad": Out(spad_read_port(config)),
                "acc": Out(acc_read_port(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.requests = requests = SkidBuffer(unsigned(ROW_BITS))
        m.submodules.responses = responses = Queue(acc_row(self.config), self.depth)
        wiring.connect(m, wiring.flipped(self.address), requests.i)
        wiring.connect(m, responses.o, wiring.flipped(self.row))
        m.d.comb += [
            self.spad.req.payload.eq(requests.o.payload),
            self.acc.req.payload.eq(requests.o.payload),
            self.spad.req.valid.eq(requests.o.valid & ~self.accumulators),
            self.acc.req.valid.eq(requests.o.valid & self.accumulators),
            requests.o.ready.eq(Mux(self.accumulators, self.acc.req.ready, self.spad.req.ready)),
            responses.i.valid.eq(Mux(self.accumulators, self.acc.rsp_valid, self.spad.rsp_valid)),
            Value.cast(responses.i.payload).eq(
                Mux(
                    self.accumulators,
                    Value.cast(self.acc.rsp_data),
                    sign_extend(Value.cast(self.spad.rsp_data), self.config),
                )
            ),
        ]
        return m
