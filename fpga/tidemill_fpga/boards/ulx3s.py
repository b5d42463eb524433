"""Radiona ULX3S: ECP5, 25 MHz, a serial line through its FT231X."""

from __future__ import annotations

from amaranth_boards.ulx3s import ULX3S_45F_Platform, ULX3S_85F_Platform

from tidemill_fpga.boards.board import Board
from tidemill_fpga.families.ecp5 import Ecp5

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
    ),
)
