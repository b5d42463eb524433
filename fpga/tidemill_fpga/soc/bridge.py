"""The host's way in: frames on a serial line become accesses of memory, the NPU's registers and the link's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.crc.catalog import CRC32_ISO_HDLC
from amaranth.lib.wiring import In, Out

from tidemill.config import Config
from tidemill.driver.uart.protocol import (
    ANSWER,
    BREAK_BITS,
    CSR_BASE,
    FRAME_TIMEOUT,
    IDLE_BITS,
    LINK_BASE,
    MAGIC,
    MAX_WORDS,
    VERSION,
    WINDOW_BYTES,
    Command,
    Register,
)
from tidemill_fpga.soc.uart import MIN_DIVISOR, UartReceiver, UartTransmitter
from tidemill_hdl.interfaces import Axi4LiteSlave, Axi4Master

MAX_ERROR = 0.02
"""Largest relative error of the baud rate."""
_INCR, _NORMAL_BUFFERABLE = 0b01, 0b0011


def divisor(clock_hz: int, baud: int) -> int:
    """Clock cycles of a bit. Raises ValueError where the rate cannot be met."""
    cycles = round(clock_hz / baud) if baud > 0 else 0
    if cycles < MIN_DIVISOR or abs(clock_hz / cycles / baud - 1) > MAX_ERROR:
        raise ValueError(
            f"a clock of {clock_hz} Hz cannot make {baud!r} baud: must be at most {clock_hz // MIN_DIVISOR} and within "
            f"{MAX_ERROR:.0%} of the clock divided by a whole number"
        )
    return cycles


class UartBridge(wiring.Component):
    """Executes the frames of `docs/fpga/link.md`, one word at a time.

    Parameters
    ----------
    config : Config: bus widths, and the hash that the link's registers show.
    memory_size : int, bytes: shown in the link's registers.
    clock_hz, baud : int.

    Members
    -------
    rx, tx : In(1), Out(1): serial pins.
    m_axil : Out(AXI4-Lite master): the NPU's registers.
    m_axi : Out(Axi4Master): memory, single beats.
    irq : In(1): the NPU's interrupt line, shown in STATUS.
    locked : Out(1): plain commands are refused.

    After reset: not locked, deaf until the line is quiet, sequence number 0 counts as used. Raises ValueError for
    an impossible baud rate.
    """

    def __init__(self, config: Config, *, memory_size: int, clock_hz: int, baud: int) -> None:
        self.config = config
        self.divisor = divisor(clock_hz, baud)
        self.timeout_bits = max(2 * IDLE_BITS, round(FRAME_TIMEOUT * baud))
        self._constants = {
            Register.MAGIC: MAGIC,
            Register.VERSION: VERSION,
            Register.CONFIG_HASH: config.hash,
            Register.MEMORY_SIZE: memory_size,
            Register.CLOCK_HZ: clock_hz,
            Register.DIVISOR: self.divisor,
        }
        super().__init__(
            {
                "rx": In(1, init=1),
                "tx": Out(1, init=1),
                "m_axil": Out(Axi4LiteSlave().flip()),
                "m_axi": Out(Axi4Master(config)),
                "irq": In(1),
                "locked": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.receiver = receiver = UartReceiver(self.divisor)
        m.submodules.transmitter = transmitter = UartTransmitter()
        m.d.comb += [receiver.rx.eq(self.rx), self.tx.eq(transmitter.tx)]

        # Bit times, and how many of them the line has not moved.
        timer = Signal(range(self.divisor))
        tick = Signal()
        still = Signal(range(self.timeout_bits + 1))
        before = Signal(init=1)
        quiet, timeout, broken = Signal(), Signal(), Signal()
        m.d.sync += [
            tick.eq(timer == 0),
            timer.eq(Mux(timer == 0, self.divisor - 1, timer - 1)),
            before.eq(receiver.line),
        ]
        with m.If(receiver.line != before):
            m.d.sync += still.eq(0)
        with m.Elif(tick & (still != self.timeout_bits)):
            m.d.sync += still.eq(still + 1)
        with m.If(still == 0):
            m.d.sync += quiet.eq(0)
        with m.Elif(before & (still == IDLE_BITS)):
            m.d.sync += quiet.eq(1)
        m.d.sync += [
            timeout.eq(before & (still == self.timeout_bits)),
            broken.eq(~before & (still == BREAK_BITS)),
        ]
        m.d.comb += transmitter.tick.eq(tick)

        # One received byte waits here; `lost` says that the place in the stream is gone.
        held, held_valid, take = Signal(8, reset_less=True), Signal(), Signal()
        lost, found = Signal(), Signal()
        with m.If(receiver.valid):
            m.d.sync += [held.eq(receiver.data), held_valid.eq(1)]
        with m.Elif(take | found):
            m.d.sync += held_valid.eq(0)
        with m.If(receiver.error | broken | (receiver.valid & held_valid & ~take)):
            m.d.sync += lost.eq(1)
        with m.Elif(found):
            m.d.sync += lost.eq(0)

        m.submodules.crc = crc = CRC32_ISO_HDLC(8).create()

        # The frame.
        checked, writing, fixed = Signal(), Signal(), Signal()
        sequence, last_sequence = Signal(8, reset_less=True), Signal(8)
        last_index, index = Signal(8, reset_less=True), Signal(8)
        count = Signal(2)
        address = Signal(30, reset_less=True)
        word = Signal(32, reset_less=True)
        shift, shift_in = Signal(), Signal(8)
        failed, write_failed = Signal(), Signal()
        repeated = Signal()

        m.submodules.buffer = buffer = memory.Memory(
            shape=unsigned(8), depth=4 * (MAX_WORDS + 1), init=[], attrs={"no_rw_check": 1}
        )
        buffer_read, buffer_write = buffer.read_port(), buffer.write_port()
        buffered = Signal(8, reset_less=True)
        age = Signal(2)
        m.d.sync += buffered.eq(buffer_read.data)
        m.d.comb += [
            buffer_read.addr.eq(Cat(count, index)),
            buffer_read.en.eq(1),
            buffer_write.addr.eq(Cat(count, index)),
            buffer_write.data.eq(held),
        ]

        m.d.comb += shift_in.eq(Mux(checked, buffered, held))
        with m.If(shift):
            m.d.sync += word.eq(Cat(shift_in, word))
        access, accessed, error = self._accesses(m, address, word, writing, last_sequence)
        last_word = Signal()
        m.d.comb += last_word.eq(index == last_index)

        def advance() -> None:
            """The next word of the frame."""
            m.d.sync += [index.eq(index + 1), address.eq(address + ~fixed)]

        send, sent = transmitter.i.valid, Signal()
        m.d.comb += sent.eq(send & transmitter.i.ready)
        crc_byte = Signal(8)
        m.d.comb += crc_byte.eq(crc.crc.word_select(count, 8))

        @contextmanager
        def receive(state: str) -> Iterator[None]:
            """A state that waits for a byte of the frame; the body is for the cycle in which it is taken."""
            with m.State(state):
                with m.If(lost):
                    m.next = "LOST"
                with m.Elif(timeout):
                    m.next = "COMMAND"
                with m.Elif(held_valid):
                    m.d.comb += [take.eq(1), crc.valid.eq(1), crc.data.eq(held)]
                    yield

        with m.FSM(name="frame", init="LOST") as frame:
            with m.State("COMMAND"):
                m.d.sync += [index.eq(0), count.eq(0), checked.eq(0), fixed.eq(0), failed.eq(0)]
                m.d.comb += crc.start.eq(1)
                with m.If(lost):
                    m.next = "LOST"
                with m.Elif(held_valid):
                    m.d.comb += [take.eq(1), crc.valid.eq(1), crc.data.eq(held)]
                    m.next = "LOST"
                    for command in Command:
                        is_checked = command in (Command.CHECKED_WRITE, Command.CHECKED_READ)
                        with m.If((held == command) & (is_checked | ~self.locked)):
                            m.d.sync += [
                                checked.eq(is_checked),
                                writing.eq(command in (Command.WRITE, Command.WRITE_FIXED, Command.CHECKED_WRITE)),
                                fixed.eq(command in (Command.WRITE_FIXED, Command.READ_FIXED)),
                            ]
                            m.next = "SEQUENCE" if is_checked else "LENGTH"
            with receive("SEQUENCE"):
                m.d.sync += sequence.eq(held)
                m.next = "LENGTH"
            with receive("LENGTH"):
                m.d.sync += last_index.eq(held - 1)
                m.next = "ADDRESS"
                with m.If(held == 0):
                    m.next = "LOST"
            with receive("ADDRESS"):
                m.d.sync += [address.eq(Cat(held, address)), count.eq(count + 1)]
                with m.If(count == 3):
                    m.next = "READ"
                    with m.If(writing):
                        m.next = "DATA"
                    with m.Elif(checked):
                        m.next = "CHECK_CRC"
            with receive("DATA"):
                m.d.comb += [buffer_write.en.eq(1), shift.eq(1)]
                m.d.sync += count.eq(count + 1)
                with m.If(count == 3):
                    with m.If(~checked):
                        m.next = "WRITE"
                    with m.Else():
                        m.d.sync += index.eq(index + 1)
                        with m.If(last_word):
                            m.d.sync += index.eq(0)
                            m.next = "CHECK_CRC"
            with receive("CHECK_CRC"):
                m.d.sync += [count.eq(count + 1), age.eq(0), repeated.eq(sequence == last_sequence)]
                with m.If(count == 3):
                    m.next = "EXECUTE"
            with m.State("EXECUTE"):
                m.next = "ANSWER"
                with m.If(~crc.match_detected):
                    m.next = "LOST"
                with m.Elif(writing & ~repeated):
                    m.d.sync += [last_sequence.eq(sequence), write_failed.eq(0)]
                    m.next = "FETCH"

            # A checked write: four bytes of the buffer, three cycles each, become a word.
            with m.State("FETCH"):
                m.d.sync += age.eq(age + 1)
                with m.If(age == 2):
                    m.d.comb += shift.eq(1)
                    m.d.sync += [age.eq(0), count.eq(count + 1)]
                    with m.If(count == 3):
                        m.next = "WRITE"
            with m.State("WRITE"):
                m.d.comb += access.eq(1)
                m.next = "WRITING"
            with m.State("WRITING"), m.If(accessed):
                advance()
                m.d.sync += write_failed.eq(write_failed | error)
                m.next = "COMMAND"
                with m.If(last_word & checked):
                    m.next = "ANSWER"
                with m.Elif(~last_word):
                    m.next = "DATA"
                    with m.If(checked):
                        m.next = "FETCH"

            # Answers.
            with m.State("ANSWER"):
                m.d.comb += [
                    send.eq(1),
                    transmitter.i.payload.eq(ANSWER | Mux(writing, Command.CHECKED_WRITE, Command.CHECKED_READ)),
                    crc.start.eq(sent),
                ]
                with m.If(sent):
                    m.next = "ANSWER_SEQUENCE"
            with m.State("ANSWER_SEQUENCE"):
                m.d.comb += [send.eq(1), transmitter.i.payload.eq(sequence)]
                with m.If(sent):
                    m.next = "READ"
                    with m.If(writing):
                        m.next = "ANSWER_STATUS"
            with m.State("READ"):
                m.d.comb += access.eq(1)
                m.next = "READING"
            with m.State("READING"), m.If(accessed):
                m.d.sync += failed.eq(failed | error)
                m.next = "ANSWER_WORD"
            with m.State("ANSWER_WORD"):
                m.d.comb += [send.eq(1), transmitter.i.payload.eq(word[24:])]
                with m.If(sent):
                    m.d.comb += shift.eq(1)
                    m.d.sync += count.eq(count + 1)
                    with m.If(count == 3):
                        advance()
                        m.next = "READ"
                        with m.If(last_word):
                            m.next = "COMMAND"
                            with m.If(checked):
                                m.next = "ANSWER_STATUS"
            with m.State("ANSWER_STATUS"):
                m.d.comb += [
                    send.eq(1),
                    transmitter.i.payload.eq(Cat(Mux(writing, write_failed, failed), self.locked)),
                ]
                with m.If(sent):
                    m.next = "ANSWER_CRC"
            with m.State("ANSWER_CRC"):
                m.d.comb += [send.eq(1), transmitter.i.payload.eq(crc_byte)]
                with m.If(sent):
                    m.d.sync += count.eq(count + 1)
                    with m.If(count == 3):
                        m.next = "COMMAND"

            with m.State("LOST"), m.If(quiet):
                m.d.comb += found.eq(1)
                m.next = "COMMAND"
        with m.If(sent & ~frame.ongoing("ANSWER_CRC")):
            m.d.comb += [crc.valid.eq(1), crc.data.eq(transmitter.i.payload)]
        with m.If(broken):
            m.d.sync += self.locked.eq(0)
        return m

    def _accesses(
        self, m: Module, address: Signal, word: Signal, writing: Signal, last_sequence: Signal
    ) -> tuple[Signal, Signal, Signal]:
        """Access of the word at word address `address`: `access` starts it; `accessed` is a pulse at its end, with
        `error` and what was read in `word`. All three operands hold meanwhile."""
        axi, csr = self.m_axi, self.m_axil
        access, accessed, error = Signal(), Signal(), Signal()
        window = address[26:]
        in_link, in_csr = Signal(), Signal()
        link_bits, csr_bits = (len(Register) - 1).bit_length(), (WINDOW_BYTES // 4 - 1).bit_length()
        m.d.comb += [
            in_link.eq(window == LINK_BASE >> 28),
            in_csr.eq(window == CSR_BASE >> 28),
        ]
        to_csr = Signal()
        aw, w, ar = Signal(), Signal(), Signal()
        lanes = self.config.axi_bytes // 4
        lane = address[: (lanes - 1).bit_length()]
        beat_address = Cat(Const(0, 2 + len(lane)), address[len(lane) :])
        for prefix, valid in (("aw", aw), ("ar", ar)):
            for name, value in (
                ("valid", valid & ~to_csr),
                ("addr", beat_address),
                ("size", (self.config.axi_bytes - 1).bit_length()),
                ("burst", _INCR),
                ("cache", _NORMAL_BUFFERABLE),
            ):
                m.d.comb += getattr(axi, prefix + name).eq(value)
            m.d.comb += [
                getattr(csr, f"{prefix}valid").eq(valid & to_csr),
                getattr(csr, f"{prefix}addr").eq(Cat(Const(0, 2), address[:csr_bits])),
            ]
        m.d.comb += [
            axi.wvalid.eq(w & ~to_csr),
            axi.wdata.eq(word.replicate(lanes)),
            axi.wstrb.eq(Const(0xF, 4) << (lane << 2) if lanes > 1 else 0xF),
            axi.wlast.eq(1),
            axi.bready.eq(1),
            axi.rready.eq(1),
            csr.wvalid.eq(w & to_csr),
            csr.wdata.eq(word),
            csr.wstrb.eq(0xF),
            csr.bready.eq(1),
            csr.rready.eq(1),
        ]
        fetched = axi.rdata.word_select(lane, 32) if lanes > 1 else axi.rdata
        with m.FSM(name="access"):
            with m.State("IDLE"), m.If(access):
                m.d.sync += [error.eq(0), to_csr.eq(in_csr)]
                m.next = "BUS"
                with m.If(in_link | (in_csr & address[csr_bits:26].any())):
                    m.d.sync += error.eq(in_csr | address[link_bits:26].any())
                    m.next = "LINK"
                with m.Elif(writing):
                    m.d.sync += [aw.eq(1), w.eq(1)]
                with m.Else():
                    m.d.sync += ar.eq(1)
            with m.State("LINK"):
                with m.If(writing & ~error & (address[:link_bits] == Register.LOCK)):
                    m.d.sync += self.locked.eq(word[0])
                with m.Elif(~writing):
                    m.d.sync += word.eq(self._register(address[:link_bits], last_sequence))
                m.next = "DONE"
            with m.State("BUS"):
                for valid, channel in ((aw, "aw"), (w, "w"), (ar, "ar")):
                    with m.If(Mux(to_csr, getattr(csr, f"{channel}ready"), getattr(axi, f"{channel}ready"))):
                        m.d.sync += valid.eq(0)
                with m.If(Mux(to_csr, csr.rvalid, axi.rvalid)):
                    m.d.sync += [
                        word.eq(Mux(to_csr, csr.rdata, fetched)),
                        error.eq(Mux(to_csr, csr.rresp, axi.rresp) != 0),
                    ]
                    m.next = "DONE"
                with m.If(Mux(to_csr, csr.bvalid, axi.bvalid)):
                    m.d.sync += error.eq(Mux(to_csr, csr.bresp, axi.bresp) != 0)
                    m.next = "DONE"
            with m.State("DONE"):
                m.d.comb += accessed.eq(1)
                m.next = "IDLE"
        return access, accessed, error

    def _register(self, index: Value, last_sequence: Signal) -> Value:
        """The link's register `index`."""
        status = Cat(self.irq, self.locked, Const(0, 6), last_sequence)
        values = [Const(self._constants.get(register, 0), 32) for register in Register]
        values[Register.STATUS] = status
        values[Register.LOCK] = self.locked
        return Array(values)[index]
