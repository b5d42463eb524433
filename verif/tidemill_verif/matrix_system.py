"""The matrix engine with its memories, as one component for benches."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from tidemill.config import Config
from tidemill_hdl.interfaces import (
    Done,
    EngineInstruction,
    Fault,
    acc_read_port,
    acc_write_port,
    spad_read_port,
    spad_write_port,
)
from tidemill_hdl.matrix.engine import MatrixEngine
from tidemill_hdl.memory.accumulators import AccRead, Accumulators, AccWrite
from tidemill_hdl.memory.scratchpad import Scratchpad, SpadRead, SpadWrite


class MatrixSystem(wiring.Component):
    """Matrix engine, scratchpad and accumulators; the ports of the other engines are members.

    Members
    -------
    instr, done, done_weights, fault, row : as of `MatrixEngine`.
    spad_load, spad_vector, acc_load, acc_vector, acc_store : In: ports of the memories.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        super().__init__(
            {
                "instr": In(stream.Signature(EngineInstruction)),
                "done": Out(Done()),
                "done_weights": Out(Done()),
                "fault": Out(Fault()),
                "row": Out(1),
                "spad_load": In(spad_write_port(config)),
                "spad_vector": In(spad_read_port(config)),
                "acc_load": In(acc_write_port(config)),
                "acc_vector": In(acc_read_port(config)),
                "acc_store": In(acc_read_port(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.engine = engine = MatrixEngine(self.config)
        m.submodules.scratchpad = scratchpad = Scratchpad(self.config)
        m.submodules.accumulators = accumulators = Accumulators(self.config)
        connect(m, flipped(self.instr), engine.instr)
        for name in ("done", "done_weights", "fault"):
            connect(m, flipped(getattr(self, name)), getattr(engine, name))
        connect(m, engine.act, scratchpad.r[SpadRead.MATRIX_ACT])
        connect(m, engine.wgt, scratchpad.r[SpadRead.MATRIX_WGT])
        connect(m, engine.acc, accumulators.array)
        connect(m, flipped(self.spad_load), scratchpad.w[SpadWrite.LOAD])
        connect(m, flipped(self.spad_vector), scratchpad.r[SpadRead.VECTOR_A])
        connect(m, flipped(self.acc_load), accumulators.w[AccWrite.LOAD])
        connect(m, flipped(self.acc_vector), accumulators.r[AccRead.VECTOR_A])
        connect(m, flipped(self.acc_store), accumulators.r[AccRead.STORE])
        m.d.comb += self.row.eq(engine.row)
        return m
