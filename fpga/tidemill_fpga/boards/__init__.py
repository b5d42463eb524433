"""The boards, a file each: `BOARDS` by name."""

from __future__ import annotations

from tidemill_fpga.boards import ecpix5, icebreaker, tang, ulx3s
from tidemill_fpga.boards.board import Board
from tidemill_fpga.families.family import FitError

BOARDS: dict[str, Board] = {
    board.name: board for module in (ulx3s, ecpix5, icebreaker, tang) for board in module.BOARDS
}


def find_board(name: str) -> Board:
    """The board called `name`; `FitError` lists the known ones."""
    if name not in BOARDS:
        raise FitError(f"unknown board {name!r}; known boards: {', '.join(BOARDS)}")
    return BOARDS[name]
