"""NPU, serial link and memory in one clock domain: what every board build puts between its pins."""

from __future__ import annotations

from typing import Protocol

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect

from tidemill.config import Config
from tidemill_fpga.soc.bridge import UartBridge
from tidemill_fpga.soc.memory import MEMORY_ID_BITS, OnChipMemory, memory_port
from tidemill_hdl.interfaces import Axi4Master
from tidemill_hdl.top import Npu

NPU, LINK = 0, 1
"""Upper bit of the transaction IDs of the two masters."""

_ADDRESS = ("addr", "len", "size", "burst", "lock", "cache", "prot", "qos")


class BoardMemory(Protocol):
    """A component with `s_axi` of signature `In(memory_port(config))` and its size in bytes; see `memory_port`."""

    s_axi: object
    size: int


class Arbiter(wiring.Component):
    """Gives two AXI4 masters one memory.

    Multiplexers steered by registers; between units whose borders are registers, no path crosses more than it. Reads
    of both masters may be in flight together. Writes of one master end before those of the other begin; data of a
    burst passes after its address. Neither master starves.

    Members
    -------
    npu, link : In(Axi4Master)
    memory : Out(memory_port): IDs with the master (`NPU`, `LINK`) in the upper bit.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(
            {"npu": In(Axi4Master(config)), "link": In(Axi4Master(config)), "memory": Out(memory_port(config))}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self._reads(m)
        self._writes(m)
        return m

    def _address(self, m: Module, channel: str, link_turn: Signal) -> None:
        for name in _ADDRESS:
            mine, theirs = (getattr(master, channel + name) for master in (self.npu, self.link))
            m.d.comb += getattr(self.memory, channel + name).eq(Mux(link_turn, theirs, mine))
        ids = [getattr(master, f"{channel}id") for master in (self.npu, self.link)]
        m.d.comb += getattr(self.memory, f"{channel}id").eq(Cat(Mux(link_turn, ids[1], ids[0]), link_turn))

    def _reads(self, m: Module) -> None:
        npu, link, memory = self.npu, self.link, self.memory
        turn = Signal(name="read_turn")
        self._address(m, "ar", turn)
        m.d.comb += [
            memory.arvalid.eq(Mux(turn, link.arvalid, npu.arvalid)),
            npu.arready.eq(memory.arready & ~turn),
            link.arready.eq(memory.arready & turn),
        ]
        with m.If(turn):
            m.d.sync += turn.eq(~memory.arready)
        with m.Elif(link.arvalid & (~npu.arvalid | memory.arready)):
            m.d.sync += turn.eq(1)
        owner = memory.rid[MEMORY_ID_BITS - 1]
        m.d.comb += memory.rready.eq(Mux(owner, link.rready, npu.rready))
        for index, master in enumerate((npu, link)):
            m.d.comb += [
                master.rvalid.eq(memory.rvalid & (owner == index)),
                *(getattr(master, name).eq(getattr(memory, name)) for name in ("rid", "rdata", "rresp", "rlast")),
            ]

    def _writes(self, m: Module) -> None:
        npu, link, memory = self.npu, self.link, self.memory
        turn = Signal(name="write_turn")
        hold = Signal()
        open_bursts = Signal(6)
        begun, ended = Signal(), Signal()
        self._address(m, "aw", turn)
        m.d.comb += [
            memory.awvalid.eq(Mux(turn, link.awvalid, npu.awvalid) & ~hold),
            npu.awready.eq(memory.awready & ~turn & ~hold),
            link.awready.eq(memory.awready & turn & ~hold),
            memory.wdata.eq(Mux(turn, link.wdata, npu.wdata)),
            memory.wstrb.eq(Mux(turn, link.wstrb, npu.wstrb)),
            memory.wlast.eq(Mux(turn, link.wlast, npu.wlast)),
            memory.wvalid.eq(Mux(turn, link.wvalid, npu.wvalid) & (open_bursts != 0)),
            npu.wready.eq(memory.wready & ~turn & (open_bursts != 0)),
            link.wready.eq(memory.wready & turn & (open_bursts != 0)),
            begun.eq(memory.awvalid & memory.awready),
            ended.eq(memory.wvalid & memory.wready & memory.wlast),
        ]
        m.d.sync += open_bursts.eq(open_bursts + begun - ended)
        # `hold` keeps the current master's next address back, so that its open bursts end and the turn can change.
        with m.If(hold), m.If(open_bursts == 0):
            m.d.sync += [hold.eq(0), turn.eq(~turn)]
        with m.Elif(turn):
            m.d.sync += hold.eq(begun)
        with m.Elif(link.awvalid & (~npu.awvalid | begun)):
            m.d.sync += hold.eq(1)
        owner = memory.bid[MEMORY_ID_BITS - 1]
        m.d.comb += memory.bready.eq(Mux(owner, link.bready, npu.bready))
        for index, master in enumerate((npu, link)):
            m.d.comb += [
                master.bvalid.eq(memory.bvalid & (owner == index)),
                master.bid.eq(memory.bid),
                master.bresp.eq(memory.bresp),
            ]


class Soc(wiring.Component):
    """A whole board's logic in the domain `sync`.

    Parameters
    ----------
    config : Config
    memory : int or BoardMemory: bytes of on-chip memory (a multiple of 4096), or a memory of its own.
    clock_hz : int, frequency of `sync`.
    baud : int, bits a second of the serial line; at most a quarter of `clock_hz`.

    Members
    -------
    rx, tx : In(1), Out(1): serial pins, seen from the board.
    irq : Out(1): the NPU's interrupt line.
    locked : Out(1): a driver has the link (`docs/fpga/link.md`).

    Raises ValueError for an impossible memory size, or a baud rate that the clock misses by more than 2%.
    """

    def __init__(self, config: Config, *, memory: int | BoardMemory, clock_hz: int, baud: int) -> None:
        self.config = config
        self.memory = OnChipMemory(config, memory) if isinstance(memory, int) else memory
        self.bridge = UartBridge(config, memory_size=self.memory.size, clock_hz=clock_hz, baud=baud)
        super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1), "irq": Out(1), "locked": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.npu = npu = Npu(self.config)
        m.submodules.bridge = bridge = self.bridge
        m.submodules.arbiter = arbiter = Arbiter(self.config)
        m.submodules.memory = self.memory
        connect(m, bridge.m_axil, npu.s_axil)
        connect(m, npu.m_axi, arbiter.npu)
        connect(m, bridge.m_axi, arbiter.link)
        connect(m, arbiter.memory, self.memory.s_axi)
        m.d.comb += [
            bridge.rx.eq(self.rx),
            self.tx.eq(bridge.tx),
            bridge.irq.eq(npu.irq),
            self.irq.eq(npu.irq),
            self.locked.eq(bridge.locked),
        ]
        return m
