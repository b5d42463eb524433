"""`tidemill build`."""

from __future__ import annotations

from pathlib import Path

import click

from tidemill.config import PRESETS, preset
from tidemill.extensions import load_extension
from tidemill.files import check_writable

ENTRY_POINTS = "tidemill.fpga"
"""Group of entry points: `build` and `report` of `tidemill_fpga.commands`."""

BUILT_IN = {"build": "tidemill_fpga.commands:build", "report": "tidemill_fpga.commands:report"}
"""Known without installation, as `module:attribute`; imported when used."""


@click.command()
@click.option("--board", required=True, help="Board; `--board list` names them.")
@click.option("--preset", "name", type=click.Choice(list(PRESETS)), help="Configuration.  [default: the board's]")
@click.option("--freq", "mhz", type=float, help="Clock in MHz.  [default: the board's]")
@click.option("--memory", help="Memory of the board; `--board list` names them.  [default: onchip]")
@click.option(
    "--seeds", type=click.IntRange(1, 64), default=1, show_default=True,
    help="Routing runs; the fastest makes the bitstream.",
)  # fmt: skip
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Bitstream to write.")
@click.option("--load", is_flag=True, help="Load it into the board over USB (openFPGALoader).")
def build(
    board: str, name: str | None, mhz: float | None, memory: str | None, seeds: int, output: Path | None, load: bool
) -> None:
    """Build the bitstream of a board, with tools from PyPI alone.

    Ends with an error where the clock is missed. Every step is kept in the build cache. The first call of each tool
    compiles it, which takes a minute or two.

    The board `axi` is Verilog with AXI ports for any system on chip, and a description of them in JSON beside it.

    \b
    Examples:
      tidemill build --board ulx3s-85f
      tidemill build --board ulx3s-85f --freq 125 --seeds 8 --load
      tidemill build --board ulx3s-85f --memory sdram
      tidemill build --board axi --preset small -o npu.v
    """
    if output:
        check_writable(output)
    run = load_extension(ENTRY_POINTS, BUILT_IN, "build", "the bitstream builder", "fpga")
    run(board, preset(name) if name else None, mhz, memory, seeds, output, load)
