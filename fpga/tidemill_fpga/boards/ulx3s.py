"""Radiona ULX3S: ECP5, 25 MHz, 32 MiB of SDRAM, a serial line through its FT231X."""

from __future__ import annotations

from amaranth.build import Platform
from amaranth.hdl import Module
from amaranth.lib.wiring import connect
from amaranth_boards.ulx3s import ULX3S_45F_Platform, ULX3S_85F_Platform

from tidemill.config import Config
from tidemill_fpga.boards.board import Board
from tidemill_fpga.families.ecp5 import Ecp5
from tidemill_fpga.families.family import FitError
from tidemill_fpga.soc.sdram import SdramMemory
from tidemill_fpga.soc.sdram_pads import Capture, SdramPads
from tidemill_fpga.soc.sdram_part import AS4C16M16SA_6

SDRAM_PADS_NS = 6.0
"""What output, wires and input of the SDRAM take in all, in ns: an estimate; docs/fpga/sdram.md says how to measure."""


def sdram(m: Module, platform: Platform, config: Config, mhz: float) -> SdramMemory:
    """The board's SDRAM; an `ExternalMemory`."""
    part, hz = AS4C16M16SA_6, mhz * 1e6
    try:
        capture = Capture.earliest(part, hz, SDRAM_PADS_NS)
    except ValueError as error:
        raise FitError(str(error)) from None
    memory = SdramMemory(config, part, hz, capture_delay=capture.delay)
    m.submodules.sdram_pads = pads = SdramPads(part, platform.request("sdram", 0, dir="-"), capture)
    connect(m, memory.pins, pads.pins)
    return memory


BOARDS = (
    Board(
        name="ulx3s-85f",
        title="Radiona ULX3S, LFE5U-85F",
        platform=ULX3S_85F_Platform,
        family=Ecp5("LFE5U-85F", "BG381", "6"),
        preset="tiny",
        mhz=60.0,
        memory=64 << 10,
        loader=("-b", "ulx3s"),
        external={"sdram": sdram},
    ),
    Board(
        name="ulx3s-45f",
        title="Radiona ULX3S, LFE5U-45F",
        platform=ULX3S_45F_Platform,
        family=Ecp5("LFE5U-45F", "BG381", "6"),
        preset="tiny",
        mhz=60.0,
        memory=32 << 10,
        loader=("-b", "ulx3s"),
        external={"sdram": sdram},
    ),
)
