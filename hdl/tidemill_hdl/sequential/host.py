"""The host's side of the sequential NPU: AXI4-Lite, status, interrupts. Most registers are in the register file."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tidemill import csr
from tidemill.csr import BY_NAME, CSRS, Access
from tidemill_hdl.interfaces import PC_BITS, Axi4LiteSlave
from tidemill_hdl.sequential.assembler import WORD_BITS, Report
from tidemill_hdl.sequential.registers import CSR_WORDS, UNMAPPED

_HARDWARE = ("CONTROL", "STATUS", "IRQ_ENABLE", "IRQ_STATUS")
"""Registers that are flip-flops, as CYCLES is; their words in the register file stay zero."""
_FILE = tuple(
    register.offset // 4 for register in CSRS if register.access is Access.RW and register.name not in _HARDWARE
)
"""Words of the register file that the host writes."""
_BOOT_FIRST, _BOOT_WORDS = 12, 8
"""Words that get their reset values after reset: eight with all of `_FILE` among them, a multiple of four the first."""
ALIGNMENT_BITS = 4
"""Low bits of PROG_ADDR that stay zero."""


class Host(wiring.Component):
    """Registers of `tidemill.csr` for the host; byte strobes are honoured, every access is answered OKAY.

    An access of the register file takes a slot of two cycles: in the first the file is read at `address`, in the second
    the host may write. Slots are given by the sequencer.

    Members
    -------
    s_axil : Out(Axi4LiteSlave), irq : Out(1): as of `Npu`.
    want : Out(1): a slot is needed.
    slot : In(1): its first cycle; only while `want` and not `active`.
    active : Out(1): its second cycle, and the cycles after reset in which registers get their first values.
    address : Out(6): word of the control and status registers: to be read in the first cycle, written in the second.
    r_data : In(32): what was read, in the second cycle.
    write : Out(1): in the second cycle: write `w_data`.
    w_data : Out(32)
    changes : In(6): a `Report`, for one cycle; never in a second cycle.
    start : Out(1): the host has started a program; until `Report.STARTED`.
    trap : Out(1): a soft reset; until `trapped`.
    trapped : In(1)
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "s_axil": Out(Axi4LiteSlave()),
                "irq": Out(1),
                "want": Out(1),
                "slot": In(1),
                "active": Out(1, init=1),
                "address": Out((CSR_WORDS - 1).bit_length()),
                "r_data": In(WORD_BITS),
                "write": Out(1),
                "w_data": Out(WORD_BITS),
                "changes": In(len(Report)),
                "start": Out(1),
                "trap": Out(1),
                "trapped": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bus = self.s_axil
        word_bits = len(self.address)
        r_word, w_word = Signal(word_bits, reset_less=True), Signal(word_bits, init=_BOOT_FIRST)
        r_beyond, w_beyond = Signal(reset_less=True), Signal(reset_less=True)
        w_data, w_strobe = Signal(WORD_BITS, reset_less=True), Signal(4, reset_less=True)
        r_waits, writing = Signal(), Signal(init=1)
        booting = Signal(init=1)

        # ---- channels
        with m.If(bus.arvalid & bus.arready):
            m.d.sync += [
                bus.arready.eq(0),
                r_waits.eq(1),
                r_word.eq(bus.araddr[2:]),
                r_beyond.eq(bus.araddr[2 + word_bits :].any()),
            ]
        with m.If(bus.rvalid & bus.rready):
            m.d.sync += [bus.rvalid.eq(0), bus.arready.eq(1)]
        with m.If(bus.awvalid & bus.awready):
            m.d.sync += [
                bus.awready.eq(0),
                w_word.eq(bus.awaddr[2:]),
                w_beyond.eq(bus.awaddr[2 + word_bits :].any()),
            ]
        with m.If(bus.wvalid & bus.wready):
            m.d.sync += [bus.wready.eq(0), w_data.eq(bus.wdata), w_strobe.eq(bus.wstrb)]
        with m.If(bus.bvalid & bus.bready):
            m.d.sync += [bus.bvalid.eq(0), bus.awready.eq(1), bus.wready.eq(1)]

        # ---- slots; those of the first cycles are for reset values
        w_waits = ~bus.awready & ~bus.wready & ~bus.bvalid
        m.d.comb += self.address.eq(Mux(writing, w_word, r_word))
        m.d.comb += self.want.eq(~booting & (r_waits | w_waits))
        with m.If(~self.active):
            # Stays from the first cycle of a slot to its second.
            m.d.comb += self.address.eq(Mux(w_waits, w_word, r_word))
            m.d.sync += writing.eq(w_waits)
        with m.If(~booting):
            m.d.sync += self.active.eq(self.slot)
        with m.Else():
            m.d.sync += w_word.eq(w_word + 1)
            with m.If(w_word == _BOOT_FIRST + _BOOT_WORDS - 1):
                m.d.sync += [booting.eq(0), self.active.eq(0), bus.arready.eq(1), bus.awready.eq(1), bus.wready.eq(1)]

        written, read = Signal(), Signal()
        m.d.comb += [written.eq(self.active & writing & ~booting & ~w_beyond), read.eq(self.active & ~writing)]
        with m.If(self.active & ~booting):
            with m.If(writing):
                m.d.sync += bus.bvalid.eq(1)
            with m.Else():
                m.d.sync += [r_waits.eq(0), bus.rvalid.eq(1)]

        def selected(name: str) -> Value:
            return self.address == csr.offset(name) // 4

        self._write(m, w_data, w_strobe, written, booting)
        self._status(m, w_data, w_strobe, written)

        # ---- reads
        shown = Signal(4)
        for name, value in (("STATUS", self._states), ("IRQ_ENABLE", self._enabled), ("IRQ_STATUS", self._events)):
            with m.If(selected(name)):
                m.d.comb += shown.eq(value)
        hidden = r_beyond
        for first in range(0, CSR_WORDS, 4):
            if all(word in UNMAPPED for word in range(first, first + 4)):
                hidden |= self.address[2:] == first // 4
        with m.If(read):
            m.d.sync += bus.rdata.eq(Mux(hidden, 0, self.r_data | shown))
            with m.If(~r_beyond & (self.address == csr.counter_offsets()["CYCLES"] // 4)):
                m.d.sync += bus.rdata.eq(self._cycles)
        return m

    def _write(self, m: Module, data: Signal, strobe: Signal, written: Signal, booting: Signal) -> None:
        """What goes into the register file."""
        in_file = Cat(self.address == word for word in _FILE).any()
        m.d.comb += self.write.eq(booting | (written & in_file))
        kept = {"PROG_ADDR": -1 << ALIGNMENT_BITS, "PROG_LEN": (1 << PC_BITS) - 1}
        for byte in range(4):
            part = slice(8 * byte, 8 * byte + 8)
            m.d.comb += self.w_data[part].eq(Mux(strobe[byte], data[part], self.r_data[part]))
        for name, mask in kept.items():
            with m.If(self.address == csr.offset(name) // 4):
                for bit in range(WORD_BITS):
                    if not mask >> bit & 1:
                        m.d.comb += self.w_data[bit].eq(0)
        with m.If(booting):
            m.d.comb += self.w_data.eq(0)
            for register in CSRS:
                if register.offset // 4 in _FILE and register.reset:
                    with m.If(self.address == register.offset // 4):
                        m.d.comb += self.w_data.eq(register.reset)

    def _status(self, m: Module, data: Signal, strobe: Signal, written: Signal) -> None:
        """STATUS, CONTROL and the interrupts."""
        states = {name: Signal(name=name) for name in BY_NAME["STATUS"].bits}
        events = Signal(len(BY_NAME["IRQ_STATUS"].bits))
        enabled = Signal(len(BY_NAME["IRQ_ENABLE"].bits))
        self._states, self._events, self._enabled = Cat(states.values()), events, enabled
        m.d.sync += self.irq.eq((events & enabled).any())

        changes = {report: self.changes[report.bit_length() - 1] for report in Report}
        happened = Cat(changes[Report[name.upper()]] for name in BY_NAME["IRQ_STATUS"].bits)
        low = data[: len(events)] & strobe[0].replicate(len(events))
        cleared = Signal.like(events)
        m.d.sync += events.eq((events & ~cleared) | happened)
        with m.If(written & (self.address == csr.offset("IRQ_STATUS") // 4)):
            m.d.comb += cleared.eq(low)
        with m.If(written & (self.address == csr.offset("IRQ_ENABLE") // 4) & strobe[0]):
            m.d.sync += enabled.eq(data)

        self._cycles = cycles = Signal(WORD_BITS)
        # Not from the doorbell on: the sequencer may still be busy with its own start.
        with m.If(self.start):
            m.d.sync += cycles.eq(0)
        with m.Elif(states["busy"] & ~states["error"]):
            m.d.sync += cycles.eq(cycles + 1)
        with m.If(self.trapped):
            m.d.sync += self.trap.eq(0)
        with m.If(changes[Report.IDLE]):
            m.d.sync += states["busy"].eq(0)
        with m.If(changes[Report.DONE]):
            m.d.sync += states["done"].eq(1)
        with m.If(changes[Report.ERROR]):
            m.d.sync += states["error"].eq(1)
        with m.If(changes[Report.RESET_DONE]):
            m.d.sync += states["resetting"].eq(0)
        with m.If(changes[Report.STARTED]):
            m.d.sync += self.start.eq(0)
        with m.If(written & (self.address == csr.offset("CONTROL") // 4)):
            with m.If(low[BY_NAME["CONTROL"].bits.index("soft_reset")]):
                m.d.sync += [
                    states["busy"].eq(0),
                    states["done"].eq(0),
                    states["error"].eq(0),
                    states["resetting"].eq(1),
                    self.start.eq(0),
                    self.trap.eq(1),
                ]
            with m.Elif(low[0] & ~states["busy"] & ~states["error"] & ~states["resetting"]):
                m.d.sync += [states["busy"].eq(1), states["done"].eq(0), self.start.eq(1)]
