"""On-chip memory as an AXI4 slave, and the port that any other memory of a board has."""

from __future__ import annotations

from itertools import pairwise

from amaranth.hdl import Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from tidemill.config import Config
from tidemill_hdl.interfaces import Axi4Master
from tidemill_hdl.memory.bank import RowMemory
from tidemill_hdl.prim.queue import Queue

MEMORY_ID_BITS = 2
"""Bits of a transaction's ID at the memory: the upper one is the master (0 NPU, 1 link)."""
PAGE = 4096
"""Bytes that no burst crosses; a memory's size is a multiple."""
OKAY, DECERR = 0, 3


def memory_port(config: Config) -> Axi4Master:
    """The signature of `s_axi` of every memory that a `Soc` takes, seen from the master: AXI4 with incrementing bursts
    of full-width beats that stay within 4 KiB, IDs of `MEMORY_ID_BITS`. A memory also has an attribute `size` in bytes,
    answers DECERR beyond it, and is a Moore machine at its border."""
    return Axi4Master(config, MEMORY_ID_BITS)


class ByteRam(wiring.Component):
    """Words of whole bytes in block RAM, with one write and one read port: a `RowMemory` for each byte of a word, so
    that a family's block RAMs with their output registers serve here too.

    Parameters
    ----------
    width : int, bits of a word, a multiple of 8.
    depth : int, words, a power of two, at least 2.

    Members
    -------
    r_addr : In(word index)
    r_data : Out(width): the word, `latency` cycles later.
    w_en : In(width // 8): write these bytes of `w_data` to `w_addr`; reads of later cycles see them.
    w_addr : In(word index)
    w_data : In(width)

    A word read in the very cycle of its write has no defined value. Zero at power-up; survives reset.
    """

    latency = RowMemory.latency

    def __init__(self, width: int, depth: int) -> None:
        self.width = width
        self.depth = depth
        address = unsigned((depth - 1).bit_length())
        super().__init__(
            {
                "r_addr": In(address),
                "r_data": Out(width),
                "w_en": In(width // 8),
                "w_addr": In(address),
                "w_data": In(width),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for index in range(self.width // 8):
            byte = slice(8 * index, 8 * index + 8)
            m.submodules[f"byte{index}"] = ram = RowMemory(8, self.depth)
            m.d.comb += [
                ram.r_en.eq(1),
                ram.r_addr.eq(self.r_addr),
                self.r_data[byte].eq(ram.r_data),
                ram.w_en.eq(self.w_en[index]),
                ram.w_addr.eq(self.w_addr),
                ram.w_data.eq(self.w_data[byte]),
            ]
        return m


class OnChipMemory(wiring.Component):
    """Block RAM behind an AXI4 slave.

    Parameters
    ----------
    config : Config
    size : int
        Bytes from address 0: a multiple of `PAGE`, at least one.

    Members
    -------
    s_axi : In(memory_port)

    One read burst and one write burst at a time, side by side, one beat a cycle each. Bursts beyond `size` are answered
    DECERR, read as anything and change nothing. First read beat 7 cycles after its address, the next burst's address 2
    cycles after the last beat was looked up; write response 2 cycles after the last beat. A read sees every write whose
    response was given before its address was taken. Content is zero at power-up and survives reset.

    Raises ValueError for an impossible size.
    """

    OUTPUT_DEPTH = 8

    def __init__(self, config: Config, size: int) -> None:
        if size < PAGE or size % PAGE or size > 1 << 31:
            raise ValueError(f"memory must be a multiple of {PAGE} bytes, at most 2 GiB, not {size!r}")
        self.config = config
        self.size = size
        super().__init__({"s_axi": In(memory_port(config))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        words = self.size // self.config.axi_bytes
        m.submodules.ram = ram = ByteRam(self.config.axi_data_width, 1 << (words - 1).bit_length())
        self._writes(m, ram)
        self._reads(m, ram)
        return m

    def _outside(self, address: Signal) -> Value:
        return address[PAGE.bit_length() - 1 :] >= self.size // PAGE

    def _writes(self, m: Module, ram: ByteRam) -> None:
        axi, shift = self.s_axi, (self.config.axi_bytes - 1).bit_length()
        address = Signal(32, reset_less=True, name="w_address")
        outside = Signal(name="w_outside")
        en = Signal(self.config.axi_bytes)
        row = Signal.like(ram.w_addr, reset_less=True, name="w_row")
        word = Signal.like(axi.wdata, reset_less=True, name="w_word")
        m.d.comb += [ram.w_en.eq(en), ram.w_addr.eq(row), ram.w_data.eq(word)]
        m.d.sync += [en.eq(0), row.eq(address[shift:]), word.eq(axi.wdata)]
        with m.FSM(name="write"):
            with m.State("ADDRESS"):
                m.d.sync += axi.awready.eq(1)
                with m.If(axi.awvalid & axi.awready):
                    m.d.sync += [axi.awready.eq(0), address.eq(axi.awaddr), axi.bid.eq(axi.awid)]
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.d.sync += [outside.eq(self._outside(address)), axi.wready.eq(1)]
                m.next = "DATA"
            with m.State("DATA"), m.If(axi.wvalid):
                m.d.sync += [en.eq(Mux(outside, 0, axi.wstrb)), address.eq(address + self.config.axi_bytes)]
                with m.If(axi.wlast):
                    m.d.sync += axi.wready.eq(0)
                    m.next = "WRITTEN"
            with m.State("WRITTEN"):
                m.d.sync += [axi.bvalid.eq(1), axi.bresp.eq(Mux(outside, DECERR, OKAY))]
                m.next = "RESPONSE"
            with m.State("RESPONSE"), m.If(axi.bready):
                m.d.sync += axi.bvalid.eq(0)
                m.next = "ADDRESS"

    def _reads(self, m: Module, ram: ByteRam) -> None:
        axi, shift = self.s_axi, (self.config.axi_bytes - 1).bit_length()
        tag = data.StructLayout({"id": MEMORY_ID_BITS, "last": 1, "outside": 1})
        beat = data.StructLayout({"data": self.config.axi_data_width, "tag": tag})
        m.submodules.beats = beats = Queue(beat, self.OUTPUT_DEPTH)
        address = Signal(32, reset_less=True, name="r_address")
        left = Signal(8, reset_less=True)
        room = Signal(range(self.OUTPUT_DEPTH + 1), init=self.OUTPUT_DEPTH)
        issue = Signal()
        # What belongs to a beat goes beside its word: one stage for the word's address, then the RAM's.
        tags = [Signal(tag, reset_less=True, name=f"tag{stage}") for stage in range(2 + ram.latency)]
        valid = Signal(1 + ram.latency)
        row = Signal.like(ram.r_addr, reset_less=True, name="r_row")
        m.d.sync += [
            row.eq(address[shift:]),
            valid.eq(Cat(issue, valid)),
            *(after.eq(before) for before, after in pairwise(tags)),
            tags[1].last.eq(left == 0),
            room.eq(room - issue + (axi.rvalid & axi.rready)),
        ]
        m.d.comb += [
            ram.r_addr.eq(row),
            beats.i.valid.eq(valid[-1]),
            beats.i.payload.data.eq(ram.r_data),
            beats.i.payload.tag.eq(tags[-1]),
            axi.rvalid.eq(beats.o.valid),
            axi.rdata.eq(beats.o.payload.data),
            axi.rid.eq(beats.o.payload.tag.id),
            axi.rlast.eq(beats.o.payload.tag.last),
            axi.rresp.eq(Mux(beats.o.payload.tag.outside, DECERR, OKAY)),
            beats.o.ready.eq(axi.rready),
        ]
        with m.FSM(name="read"):
            with m.State("ADDRESS"):
                m.d.sync += axi.arready.eq(1)
                with m.If(axi.arvalid & axi.arready):
                    m.d.sync += [
                        axi.arready.eq(0), address.eq(axi.araddr), left.eq(axi.arlen), tags[0].id.eq(axi.arid),
                    ]  # fmt: skip
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.d.sync += tags[0].outside.eq(self._outside(address))
                m.next = "DATA"
            with m.State("DATA"):
                m.d.comb += issue.eq(room != 0)
                with m.If(issue):
                    m.d.sync += [address.eq(address + self.config.axi_bytes), left.eq(left - 1)]
                    with m.If(left == 0):
                        m.d.sync += axi.arready.eq(1)
                        m.next = "ADDRESS"
