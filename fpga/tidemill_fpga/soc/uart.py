"""A serial line: bytes of eight bits, no parity, one stop bit, least significant bit first."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

MIN_DIVISOR = 4
"""Fewest clock cycles a bit may take."""


class UartReceiver(wiring.Component):
    """Samples each bit in its middle.

    Parameters
    ----------
    divisor : int
        Clock cycles of a bit, at least `MIN_DIVISOR`.

    Members
    -------
    rx : In(1): the pin, asynchronous; high at rest.
    line : Out(1): the pin, two cycles later.
    valid : Out(1): a pulse: `data` was received.
    data : Out(8): meaningful while `valid`.
    error : Out(1): a pulse: the stop bit was low. The next byte starts after the line was high.
    """

    def __init__(self, divisor: int) -> None:
        if divisor < MIN_DIVISOR:
            raise ValueError(f"a bit must take at least {MIN_DIVISOR} clock cycles, not {divisor!r}")
        self.divisor = divisor
        super().__init__(
            {"rx": In(1, init=1), "line": Out(1, init=1), "valid": Out(1), "data": Out(8), "error": Out(1)}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.pin = FFSynchronizer(self.rx, self.line, init=1)
        timer = Signal(range(self.divisor))
        bits = Signal(range(9))
        shift = Signal(8, reset_less=True)
        sample = Signal()
        m.d.comb += [sample.eq(timer == 0), self.data.eq(shift)]
        m.d.sync += [timer.eq(timer - 1), self.valid.eq(0), self.error.eq(0)]
        with m.If(sample):
            m.d.sync += timer.eq(self.divisor - 1)
        with m.FSM(name="receive"):
            with m.State("IDLE"):
                m.d.sync += [timer.eq(self.divisor // 2 - 1), bits.eq(0)]
                with m.If(~self.line):
                    m.next = "START"
            with m.State("START"), m.If(sample):
                m.next = "DATA"
                with m.If(self.line):
                    m.next = "IDLE"
            with m.State("DATA"), m.If(sample):
                m.d.sync += [shift.eq(Cat(shift[1:], self.line)), bits.eq(bits + 1)]
                with m.If(bits == 7):
                    m.next = "STOP"
            with m.State("STOP"), m.If(sample):
                m.d.sync += [self.valid.eq(self.line), self.error.eq(~self.line)]
                m.next = "IDLE"
                with m.If(~self.line):
                    m.next = "RELEASE"
            with m.State("RELEASE"), m.If(self.line):
                m.next = "IDLE"
        return m


class UartTransmitter(wiring.Component):
    """Sends bytes, without gaps while there are any.

    Members
    -------
    tick : In(1): one cycle in each bit's time; the bits of the line change with it.
    i : In(stream of 8 bits)
    tx : Out(1): the pin, a register; high at rest.
    """

    def __init__(self) -> None:
        super().__init__({"tick": In(1), "i": In(stream.Signature(unsigned(8))), "tx": Out(1, init=1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        shift = Signal(9)
        left = Signal(range(11))
        with m.If(self.tick & (left != 0)):
            m.d.sync += [Cat(self.tx, shift).eq(Cat(shift, Const(1, 1))), left.eq(left - 1)]
        m.d.comb += self.i.ready.eq(left == 0)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [shift.eq(Cat(Const(0, 1), self.i.payload)), left.eq(10)]
        return m
