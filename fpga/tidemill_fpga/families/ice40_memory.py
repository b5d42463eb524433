"""The single-port RAMs of the Lattice iCE40 UltraPlus as a board's memory."""

from __future__ import annotations

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from tidemill.config import Config
from tidemill_fpga.families.family import FitError
from tidemill_fpga.soc.memory import DECERR, OKAY, memory_port
from tidemill_hdl.sequential.memory import LocalWords

WORDS = 1 << 14
"""Words of an SB_SPRAM256KA."""
WORD_BITS = 16
SPRAMS = 4
"""SB_SPRAM256KA of an iCE40UP5K."""
LOCAL_SPRAMS = 2
"""Those that the sequential NPU's local memory takes."""


def sprams(config: Config, size: int) -> int:
    """Cells that `size` bytes take beside a bus of `config`. Raises `FitError` where a device has not as many, or
    whole cells do not make `size`."""
    columns = config.axi_data_width // WORD_BITS
    step = columns * WORDS * WORD_BITS // 8
    if not 0 < size <= SPRAMS * WORDS * WORD_BITS // 8 or size % step:
        most = SPRAMS // columns * step
        legal = f"a multiple of {step} bytes, at most {most}" if most else "on a bus of 64 bits or less"
        raise FitError(f"no memory of {size} bytes on a bus of {config.axi_data_width} bits; must be {legal}")
    return columns * (size // step)


def local_words(memory: LocalWords) -> Module:
    """The platform's `get_local_words`: the sequential NPU's memory in as many cells as its words have columns."""
    if memory.depth > WORDS:
        raise FitError(f"a local memory of {memory.depth} words; SB_SPRAM256KA has {WORDS}")
    m = Module()
    for column in range(len(memory.w_data) // WORD_BITS):
        part = slice(WORD_BITS * column, WORD_BITS * (column + 1))
        m.submodules[f"ram{column}"] = Instance(
            "SB_SPRAM256KA",
            i_CLOCK=ClockSignal(),
            i_ADDRESS=Cat(memory.addr, Const(0, (WORDS - 1).bit_length() - len(memory.addr))),
            i_DATAIN=memory.w_data[part],
            i_MASKWREN=Const(0xF, 4),
            i_WREN=memory.write,
            i_CHIPSELECT=memory.en,
            i_STANDBY=Const(0, 1),
            i_SLEEP=Const(0, 1),
            i_POWEROFF=Const(1, 1),
            o_DATAOUT=memory.r_data[part],
        )
    return m


class SpramMemory(wiring.Component):
    """SB_SPRAM256KA behind an AXI4 slave (`memory_port`).

    Parameters
    ----------
    config : Config
    size : int, bytes from address 0; see `sprams`.

    Members
    -------
    s_axi : In(memory_port)

    One burst at a time, one beat a cycle; reads and writes take turns where both wait. Bursts beyond `size` are
    answered DECERR, read as anything and change nothing. First read beat 4 cycles after its address, write response 1
    cycle after the last beat. The device leaves the content undefined at power-up; it survives reset.

    Lattice FPGA-TN-02022, "iCE40 SPRAM Usage Guide".
    """

    def __init__(self, config: Config, size: int) -> None:
        self.cells = sprams(config, size)
        self.config = config
        self.size = size
        super().__init__({"s_axi": In(memory_port(config))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        axi, shift = self.s_axi, (self.config.axi_bytes - 1).bit_length()
        columns = self.config.axi_data_width // WORD_BITS
        address = Signal((self.size // self.config.axi_bytes - 1).bit_length(), reset_less=True)
        left = Signal(8, reset_less=True)
        outside = Signal()
        writes_turn = Signal()
        select, write = Signal(), Signal()
        beat = Signal()
        words = []
        depth = self.cells // columns
        bank_bits = (depth - 1).bit_length()
        low = (WORDS - 1).bit_length()
        for row in range(depth):
            chosen = address[low : low + bank_bits] == row if bank_bits else Const(1, 1)
            outs = [Signal(WORD_BITS, name=f"out{row}_{column}") for column in range(columns)]
            for column, out in enumerate(outs):
                strobes = axi.wstrb[2 * column : 2 * column + 2]
                m.submodules[f"ram{row}_{column}"] = Instance(
                    "SB_SPRAM256KA",
                    i_CLOCK=ClockSignal(),
                    i_ADDRESS=address[:low],
                    i_DATAIN=axi.wdata[WORD_BITS * column : WORD_BITS * (column + 1)],
                    i_MASKWREN=Cat(strobes[0], strobes[0], strobes[1], strobes[1]),
                    i_WREN=write,
                    i_CHIPSELECT=select & chosen,
                    i_STANDBY=Const(0, 1),
                    i_SLEEP=Const(0, 1),
                    i_POWEROFF=Const(1, 1),
                    o_DATAOUT=out,
                )
            words.append(Cat(outs))
        shown = Signal(max(1, bank_bits), reset_less=True)
        m.d.comb += axi.rdata.eq(words[0])
        for row in range(1, depth):
            with m.If(shown == row):
                m.d.comb += axi.rdata.eq(words[row])

        m.d.sync += [axi.arready.eq(0), axi.awready.eq(0)]
        with m.If(beat):
            m.d.sync += [address.eq(address + 1), left.eq(left - 1)]
        with m.FSM(name="burst"):
            with m.State("IDLE"):
                with m.If(axi.awvalid & (writes_turn | ~axi.arvalid)):
                    m.d.sync += [axi.awready.eq(1), writes_turn.eq(0)]
                    m.next = "WRITE_ADDRESS"
                with m.Elif(axi.arvalid):
                    m.d.sync += [axi.arready.eq(1), writes_turn.eq(1)]
                    m.next = "READ_ADDRESS"
            with m.State("WRITE_ADDRESS"):
                m.d.sync += [
                    address.eq(axi.awaddr[shift:]),
                    axi.bid.eq(axi.awid),
                    outside.eq(axi.awaddr >= self.size),
                    axi.wready.eq(1),
                ]
                m.next = "WRITE"
            with m.State("WRITE"):
                m.d.comb += [beat.eq(axi.wvalid), write.eq(1), select.eq(axi.wvalid & ~outside)]
                with m.If(axi.wvalid & axi.wlast):
                    m.d.sync += [axi.wready.eq(0), axi.bvalid.eq(1), axi.bresp.eq(Mux(outside, DECERR, OKAY))]
                    m.next = "RESPONSE"
            with m.State("RESPONSE"), m.If(axi.bready):
                m.d.sync += axi.bvalid.eq(0)
                m.next = "IDLE"
            with m.State("READ_ADDRESS"):
                m.d.sync += [
                    address.eq(axi.araddr[shift:]),
                    left.eq(axi.arlen),
                    axi.rid.eq(axi.arid),
                    axi.rresp.eq(Mux(axi.araddr >= self.size, DECERR, OKAY)),
                    axi.rlast.eq(0),
                ]
                m.next = "READ"
            with m.State("READ"):
                # The RAM's own output holds a beat until it is taken.
                m.d.comb += [beat.eq((~axi.rvalid | axi.rready) & ~axi.rlast), select.eq(beat)]
                with m.If(beat):
                    m.d.sync += [axi.rvalid.eq(1), axi.rlast.eq(left == 0), shown.eq(address[low:])]
                with m.Elif(axi.rready):
                    m.d.sync += [axi.rvalid.eq(0), axi.rlast.eq(0)]
                    m.next = "IDLE"
        return m
