"""1BitSquared iCEBreaker: iCE40 UltraPlus, 12 MHz, a serial line through its FT2232H."""

from __future__ import annotations

from amaranth_boards.icebreaker import ICEBreakerPlatform

from tidemill_fpga.boards.board import Board
from tidemill_fpga.families.ice40 import Ice40Up

BOARDS = (
    Board(
        name="icebreaker",
        title="1BitSquared iCEBreaker, iCE40UP5K",
        platform=ICEBreakerPlatform,
        family=Ice40Up("sg48"),
        preset="micro",
        mhz=24.0,
        memory=64 << 10,
        loader=("-b", "ice40_generic"),
    ),
)
