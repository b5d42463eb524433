"""LambdaConcept ECPIX-5: ECP5-5G, 100 MHz, a serial line through its FT2232H."""

from __future__ import annotations

from amaranth_boards.ecpix5 import ECPIX545Platform, ECPIX585Platform

from tidemill_fpga.boards.board import Board
from tidemill_fpga.families.ecp5 import Ecp5

BOARDS = (
    Board(
        name="ecpix5-45f",
        title="LambdaConcept ECPIX-5, LFE5UM5G-45F",
        platform=ECPIX545Platform,
        family=Ecp5("LFE5UM5G-45F", "BG554", "8"),
        preset="tiny",
        mhz=60.0,
        memory=32 << 10,
        loader=("-b", "ecpix5"),
    ),
    Board(
        name="ecpix5-85f",
        title="LambdaConcept ECPIX-5, LFE5UM5G-85F",
        platform=ECPIX585Platform,
        family=Ecp5("LFE5UM5G-85F", "BG554", "8"),
        preset="tiny",
        mhz=60.0,
        memory=64 << 10,
        loader=("-b", "ecpix5"),
    ),
)
