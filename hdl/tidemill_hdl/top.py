"""The whole NPU: units and the wires between them, nothing else."""

from __future__ import annotations

from amaranth.hdl import Cat, ClockDomain, ClockSignal, DomainRenamer, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect, flipped

from tidemill.config import Config
from tidemill.isa import ENGINES, Engine
from tidemill_hdl.csr.control import Control
from tidemill_hdl.dma.gateway import Gateway
from tidemill_hdl.dma.load import LoadEngine
from tidemill_hdl.dma.store import StoreEngine
from tidemill_hdl.frontend.frontend import Frontend
from tidemill_hdl.interfaces import Axi4LiteSlave, Axi4Master
from tidemill_hdl.matrix.engine import MatrixEngine
from tidemill_hdl.memory.accumulators import Accumulators
from tidemill_hdl.memory.scratchpad import Scratchpad
from tidemill_hdl.sequential.sequencer import SequentialNpu
from tidemill_hdl.sync import Sync
from tidemill_hdl.vector.engine import VectorEngine


class Npu(wiring.Component):
    """A Tidemill NPU.

    Parameters
    ----------
    config : Config

    Members
    -------
    s_axil : Out(Axi4LiteSlave): control and status registers (`tidemill.csr`).
    m_axi : Out(Axi4Master): instructions and data in DRAM.
    irq : Out(1): level; an enabled event in IRQ_STATUS.

    Every direct submodule is a unit: a Moore machine at its boundary. After reset, of at least two cycles, idle. The
    units but control and gateway are reset a cycle after control says so. With `Config.sequential` the only unit is
    `SequentialNpu`.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        super().__init__({"s_axil": Out(Axi4LiteSlave()), "m_axi": Out(Axi4Master(config)), "irq": Out(1)})

    def elaborate(self, platform: object) -> Module:
        if self.config.sequential:
            return self._sequential()
        m = Module()
        config = self.config
        # The units' reset is a register of its own, also for the reset of the whole: nothing stands between it and
        # the thousands of registers it reaches. The clock is that of `sync`.
        m.domains.core = core = ClockDomain("core", local=True)
        core.rst = Signal(name="core_rst", init=1)
        in_core = DomainRenamer("core")

        m.submodules.control = control = Control(config)
        m.submodules.gateway = gateway = Gateway(config)
        frontend, sync = Frontend(config), Sync(config)
        load, store = LoadEngine(config), StoreEngine(config)
        matrix, vector = MatrixEngine(config), VectorEngine(config)
        scratchpad, accumulators = Scratchpad(config), Accumulators(config)
        m.submodules.frontend = in_core(frontend)
        m.submodules.sync = in_core(sync)
        m.submodules.load = in_core(load)
        m.submodules.store = in_core(store)
        m.submodules.matrix = in_core(matrix)
        m.submodules.vector = in_core(vector)
        m.submodules.scratchpad = in_core(scratchpad)
        m.submodules.accumulators = in_core(accumulators)

        connect(m, flipped(self.s_axil), control.s_axil)
        connect(m, gateway.m_axi, flipped(self.m_axi))
        m.d.comb += [
            self.irq.eq(control.irq),
            core.clk.eq(ClockSignal()),
            gateway.quiesce.eq(control.quiesce),
            control.quiet.eq(gateway.quiet),
        ]

        m.d.sync += core.rst.eq(control.core_reset)

        # Frontend and dispatch.
        m.d.comb += [
            frontend.start.eq(control.start),
            frontend.prog_addr.eq(control.prog_addr),
            frontend.prog_len.eq(control.prog_len),
            frontend.idle.eq(sync.idle),
            control.halted.eq(frontend.halted),
            control.user_irq.eq(frontend.user_irq),
            control.user_code.eq(frontend.user_code),
            control.pc.eq(frontend.pc),
            control.blocked.eq(sync.blocked),
            control.blocked_pc.eq(sync.blocked_pc),
            control.blocked_mask.eq(sync.blocked_mask),
        ]
        engines = {Engine.LOAD: load, Engine.STORE: store, Engine.MATRIX: matrix, Engine.VECTOR: vector}
        for index, engine in enumerate(ENGINES):
            connect(m, frontend.instr[index], sync.i_instr[index])
            connect(m, sync.o_instr[index], engines[engine].instr)
            connect(m, engines[engine].done, sync.done[index])
        connect(m, matrix.done_weights, sync.done[len(ENGINES)])
        for index, unit in enumerate((frontend, load, store, matrix, vector, sync)):
            connect(m, unit.fault, control.faults[index])

        # DRAM.
        connect(m, frontend.fetch, gateway.fetch)
        connect(m, load.bus, gateway.load)
        connect(m, store.bus, gateway.store)
        connect(m, control.read_window, load.window)
        connect(m, control.write_window, store.window)

        # Local memories, in their order of priority.
        for index, port in enumerate((matrix.act, matrix.wgt, vector.a_spad, vector.b_spad, store.spad_r)):
            connect(m, port, scratchpad.r[index])
        for index, port in enumerate((load.spad, vector.spad_w)):
            connect(m, port, scratchpad.w[index])
        connect(m, matrix.acc, accumulators.array)
        for index, port in enumerate((vector.a_acc, vector.b_acc, store.acc_r)):
            connect(m, port, accumulators.r[index])
        for index, port in enumerate((vector.acc_w, load.acc)):
            connect(m, port, accumulators.w[index])

        # Counters.
        events = control.events
        m.d.comb += [
            events.instructions.eq(frontend.instruction),
            events.queue_full.eq(frontend.queue_full),
            events.fetch_wait.eq(frontend.fetch_wait),
            events.bus_read_wait.eq(load.bus_read_wait),
            events.bus_write_wait.eq(store.bus_write_wait),
            events.matrix_rows.eq(matrix.row),
            events.vector_rows.eq(vector.row),
            events.read_beats.eq(load.read_beat),
            events.write_beats.eq(store.write_beat),
        ]
        conflicts = {
            Engine.LOAD: (load.spad, load.acc),
            Engine.STORE: (store.spad_r, store.acc_r),
            Engine.MATRIX: (matrix.act, matrix.wgt),
            Engine.VECTOR: (
                vector.a_spad, vector.b_spad, vector.a_acc, vector.b_acc, vector.spad_w, vector.acc_w,
            ),
        }  # fmt: skip
        for index, engine in enumerate(ENGINES):
            name = engine.name.lower()
            m.d.comb += [
                events[f"busy_{name}"].eq(sync.busy[index]),
                events[f"sem_{name}"].eq(sync.sem_wait[index]),
                events[f"conflict_{name}"].eq(Cat(port.stall for port in conflicts[engine]).any()),
            ]
        m.d.comb += control.progress.eq(
            Cat(
                frontend.instruction,
                sync.dispatched,
                sync.completed,
                load.progress,
                store.progress,
                matrix.progress,
                vector.progress,
            ).any()
        )
        return m

    def _sequential(self) -> Module:
        m = Module()
        m.submodules.sequential = core = SequentialNpu(self.config)
        connect(m, flipped(self.s_axil), core.s_axil)
        connect(m, core.m_axi, flipped(self.m_axi))
        m.d.comb += self.irq.eq(core.irq)
        return m
