"""Between `SdramMemory` and an SDRAM's pins: double data rate cells, and when what is read is taken."""

from __future__ import annotations

import math
from dataclasses import dataclass

from amaranth.build.res import PortGroup
from amaranth.hdl import Module
from amaranth.lib import io, wiring
from amaranth.lib.wiring import In

from tidemill_fpga.soc.sdram import SdramPins
from tidemill_fpga.soc.sdram_part import SdramPart

_OUTPUT_CYCLES, _INPUT_CYCLES = 2, 1
"""Cycles that ODDRX1F and IDDRX1F take beyond those of a plain register (Lattice FPGA-TN-02035)."""


@dataclass(frozen=True)
class Capture:
    """When a word that is read is taken at the pads.

    Members
    -------
    half_cycles : int: from the rising edge at which the device would drive it if pads and wires took no time and its
        clock were not shifted. Odd is a falling edge.
    """

    half_cycles: int

    @property
    def falling(self) -> bool:
        """Whether the word is taken at a falling edge."""
        return self.half_cycles % 2 == 1

    @property
    def delay(self) -> int:
        """`capture_delay` of the `SdramMemory` behind these pads."""
        return _OUTPUT_CYCLES + self.half_cycles // 2 + _INPUT_CYCLES

    @classmethod
    def earliest(cls, part: SdramPart, clock_hz: float, pads: float) -> Capture:
        """The first edge at which a word is there.

        The device's clock rises half a cycle after its inputs change, its word comes the access time later, and `pads`
        is what output, input and wires take in all, in ns. Raises ValueError for a clock above the part's.
        """
        half_period = 0.5e9 / clock_hz
        return cls(1 + math.ceil((part.access_time(clock_hz) + pads) / half_period - 1e-9))


class SdramPads(wiring.Component):
    """The pads of an SDRAM.

    Every pin is a double data rate cell, so that all leave the device equally late: the device's clock rises in the
    middle of the time for which its inputs hold.

    Parameters
    ----------
    part : SdramPart
    ports : PortGroup
        Ports `clk`, `clk_en`, `cs`, `ras`, `cas`, `we` (active high, whatever the pins are), `ba`, `a`, `dqm`, `dq`:
        a `SDRAMResource` of `amaranth-boards` that was requested with `dir="-"`.
    capture : Capture

    Members
    -------
    pins : In(SdramPins): of a `SdramMemory` with `capture_delay=capture.delay`.
    """

    def __init__(self, part: SdramPart, ports: PortGroup, capture: Capture) -> None:
        self._ports = ports
        self._capture = capture
        super().__init__({"pins": In(SdramPins(part))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        pins, ports = self.pins, self._ports
        we_n, cas_n, ras_n = pins.command
        for name, value in (
            ("clk_en", pins.cke), ("cs", ~pins.cs_n), ("ras", ~ras_n), ("cas", ~cas_n), ("we", ~we_n),
            ("ba", pins.ba), ("a", pins.a), ("dqm", pins.dqm),
        ):  # fmt: skip
            m.submodules[name] = pad = io.DDRBuffer("o", getattr(ports, name))
            m.d.comb += [pad.o[0].eq(value), pad.o[1].eq(value)]
        m.submodules.clk = clk = io.DDRBuffer("o", ports.clk)
        m.d.comb += [clk.o[0].eq(0), clk.o[1].eq(1)]
        m.submodules.dq = dq = io.DDRBuffer("io", ports.dq)
        m.d.comb += [
            dq.o[0].eq(pins.dq_o),
            dq.o[1].eq(pins.dq_o),
            dq.oe.eq(pins.dq_oe),
            pins.dq_i.eq(dq.i[self._capture.falling]),
        ]
        return m
