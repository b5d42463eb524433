"""`tidemill report`."""

from __future__ import annotations

from pathlib import Path

import click

from tidemill.cli.build import BUILT_IN, ENTRY_POINTS
from tidemill.config import PRESETS, preset
from tidemill.extensions import load_extension
from tidemill.files import check_writable


@click.command()
@click.option("--board", required=True, help="Board; `--board list` names them.")
@click.option("--preset", "name", type=click.Choice(list(PRESETS)), help="Configuration.  [default: the board's]")
@click.option("--freq", "mhz", type=float, help="Clock in MHz that routing aims at.  [default: the board's]")
@click.option("--memory", help="Memory of the board; `--board list` names them.  [default: onchip]")
@click.option("--seeds", type=click.IntRange(1, 64), default=8, show_default=True, help="Routing runs.")
@click.option("--units", is_flag=True, help="Each unit of the NPU alone on the board's device, too.")
@click.option("--markdown", "page", type=click.Path(path_type=Path, dir_okay=False), help="Also write this page.")
def report(
    board: str, name: str | None, mhz: float | None, memory: str | None, seeds: int, units: bool, page: Path | None
) -> None:
    """Build with several seeds and report clock, cells and throughput: median and best.

    Exit code 1 where the median misses the clock.

    \b
    Example:
      tidemill report --board ulx3s-85f --seeds 8 --units
    """
    if page:
        check_writable(page)
    run = load_extension(ENTRY_POINTS, BUILT_IN, "report", "the bitstream builder", "fpga")
    run(board, preset(name) if name else None, mhz, memory, seeds, units, page)
