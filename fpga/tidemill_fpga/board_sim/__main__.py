"""`python -m tidemill_fpga.board_sim`: a simulated board on a pseudo-terminal, until it is killed."""

from __future__ import annotations

import click
from rich.console import Console

from tidemill.config import PRESETS, preset
from tidemill_fpga.board_sim.board import BAUD, CLOCK_HZ, MEMORY, Board, RuleBroken
from tidemill_fpga.board_sim.sdram import SimulatedSdram
from tidemill_fpga.board_sim.server import BoardServer
from tidemill_verif.rtl_device.build import BuildError
from tidemill_verif.toolchain import ToolchainError


@click.command()
@click.option("--preset", "name", type=click.Choice(list(PRESETS)), default="tiny", show_default=True, help="The NPU.")
@click.option("--memory", default=str(MEMORY), show_default=True, help="Bytes on chip, a multiple of 4096; or `sdram`.")
@click.option("--clock-hz", type=int, default=CLOCK_HZ, show_default=True, help="Clock that the board reports.")
@click.option("--baud", type=int, default=BAUD, show_default=True, help="Bits a second, at most a quarter of it.")
def main(name: str, memory: str, clock_hz: int, baud: int) -> None:
    """Serve a board with an NPU in Verilator; prints the port for `--device uart:PORT`. Ctrl-C ends it.

    \b
    Example:
      python -m tidemill_fpga.board_sim --preset tiny
      tidemill selftest --device uart:/dev/pts/5 --preset tiny
    """
    console = Console(stderr=True)
    try:
        with console.status(f"building a board with {name!r}, once ..."):
            board = Board(preset(name), memory=_memory(memory), clock_hz=clock_hz, baud=baud)
    except (BuildError, ToolchainError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    server = BoardServer(board)
    click.echo(f"uart:{server.port}")
    try:
        server.serve()
    except KeyboardInterrupt:
        pass
    except RuleBroken as error:
        raise click.ClickException(str(error)) from None
    finally:
        board.close()


def _memory(text: str) -> int | SimulatedSdram:
    """Raises ValueError for what is no memory."""
    if text == "sdram":
        return SimulatedSdram()
    if not text.isdecimal():
        raise ValueError(f"a memory is a number of bytes or 'sdram', not {text!r}")
    return int(text)


if __name__ == "__main__":
    main()
