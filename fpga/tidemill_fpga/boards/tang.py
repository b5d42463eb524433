"""Sipeed's boards with Gowin devices: Tang Mega 138K Pro and Tang Primer 20K, a serial line through their debugger."""

from __future__ import annotations

from amaranth_boards.tang_mega_138k_pro_dock import TangMega138kProDockPlatform
from amaranth_boards.tang_primer_20k import TangPrimer20kPlatform

from tidemill_fpga.boards.board import Board
from tidemill_fpga.families.gowin import Gowin


class TangMega138kPlatform(TangMega138kProDockPlatform):
    """The platform of `amaranth-boards`, with a part number that Amaranth 0.5 does not read."""

    def parse_part(self) -> None:
        """Take the names apart where Amaranth's own method knows the series GW1 and GW2 only."""
        self.series, self.size = "GW5AST", "138"


BOARDS = (
    Board(
        name="tang-mega-138k",
        title="Sipeed Tang Mega 138K Pro, GW5AST-138C",
        platform=TangMega138kPlatform,
        family=Gowin("GW5AST-138C", "GW5AST-LV138FPG676AC1/I0"),
        preset="tiny",
        mhz=50.0,
        memory=32 << 10,
        loader=("-b", "tangmega138k"),
    ),
    Board(
        name="tang-primer-20k",
        title="Sipeed Tang Primer 20K, GW2A-18C",
        platform=TangPrimer20kPlatform,
        family=Gowin("GW2A-18C", "GW2A-LV18PG256C8/I7"),
        preset="micro",
        mhz=27.0,
        memory=16 << 10,
        loader=("-b", "tangprimer20k"),
    ),
)
