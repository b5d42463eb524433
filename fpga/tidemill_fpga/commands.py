"""What `tidemill build` and `tidemill report` do."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from tidemill.config import DEFAULT_PRESET, Config, preset
from tidemill.files import write_whole
from tidemill_fpga.axi.module import description_text, verilog
from tidemill_fpga.boards import BOARDS, find_board
from tidemill_fpga.boards.board import ONCHIP, Board
from tidemill_fpga.build import Build, Builder, Progress
from tidemill_fpga.families.family import FitError
from tidemill_fpga.programming import load_bitstream
from tidemill_fpga.report import Report, markdown, unit_clocks
from tidemill_fpga.tools import ToolError

AXI = "axi"
"""The target of `build` that is no board."""


def build(
    board: str,
    config: Config | None,
    mhz: float | None,
    memory: str | None,
    seeds: int,
    output: Path | None,
    load: bool,
) -> None:
    """Build a bitstream, and load it where asked to; see `tidemill build --help`."""
    if board == AXI:
        if mhz is not None or memory is not None or load:
            raise click.ClickException(f"{AXI!r} is Verilog for any device: it takes no --freq, --memory and --load")
        _write_module(config or preset(DEFAULT_PRESET), output)
        return
    chosen = _board(board)
    config = config or preset(chosen.preset)
    memory = memory or ONCHIP
    variant = "" if memory == ONCHIP else f"-{memory}"
    target = output or Path(f"{chosen.name}-{config.name}{variant}.{chosen.family.suffix}")
    with _errors(), _progress() as progress:
        builder = Builder(chosen, config, chosen.mhz if mhz is None else mhz, progress, memory)
        best: Build | None = None
        for seed in range(1, seeds + 1):
            result = builder.route(seed)
            click.echo(f"seed {result.seed}: {result.routed.mhz:.1f} MHz")
            if best is None or result.routed.mhz > best.routed.mhz:
                best = result
            if result.met:
                break
        assert best is not None
        if not best.met:
            raise click.ClickException(
                f"{chosen.name}: {best.routed.mhz:.1f} MHz reached, {builder.mhz:g} MHz asked for; "
                f"more --seeds or a lower --freq may help. Slowest path: {' -> '.join(best.routed.critical[:4])} ..."
            )
        builder.pack(best, target)
    click.echo(f"{target}: {chosen.title}, {config.name}, {builder.mhz:g} MHz, seed {best.seed}")
    if load:
        with _errors():
            load_bitstream(chosen, target)


def report(
    board: str, config: Config | None, mhz: float | None, memory: str | None, seeds: int, units: bool, page: Path | None
) -> None:
    """Build with several seeds and print what came out; see `tidemill report --help`."""
    chosen = _board(board)
    config = config or preset(chosen.preset)
    memory = memory or ONCHIP
    start = time.monotonic()
    with _errors(), _progress() as progress:
        builder = Builder(chosen, config, chosen.mhz if mhz is None else mhz, progress, memory)
        builds = [builder.route(seed) for seed in range(1, seeds + 1)]
        clocks = unit_clocks(chosen, config, progress) if units else []
    result = Report(chosen, config, builder.mhz, tuple(builds), tuple(clocks), memory)
    console = Console()
    for title, rows in result.tables():
        table = Table(*rows[0], title=title)
        for row in rows[1:]:
            table.add_row(*row)
        console.print(table)
    click.echo(f"{seeds} seeds in {time.monotonic() - start:.0f} s")
    if page:
        page.write_text(markdown(result), encoding="utf-8")
    if result.median_mhz < builder.mhz:
        click.echo(f"error: median {result.median_mhz:.1f} MHz, {builder.mhz:g} MHz asked for", err=True)
        sys.exit(1)


def _write_module(config: Config, output: Path | None) -> None:
    """The NPU as Verilog, and what it is in JSON beside it."""
    target = output or Path(f"{AXI}-{config.name}.v")
    about = target.with_suffix(".json")
    if about == target:
        raise click.ClickException(f"{target} is where the description goes; the Verilog needs another name")
    with _progress() as progress:
        progress("elaborate", "")
        write_whole(target, verilog(config).read_bytes())
    write_whole(about, description_text(config).encode())
    click.echo(f"{target}, {about}: {config.name}")


def _board(name: str) -> Board:
    if name == "list":
        for known in BOARDS.values():
            click.echo(f"{known.name:15} {known.title}: {known.preset}, {known.mhz:g} MHz, {', '.join(known.memories)}")
        click.echo(f"{AXI:15} Verilog with AXI ports for any device, `tidemill build` only: {DEFAULT_PRESET}")
        sys.exit(0)
    with _errors():
        return find_board(name)


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except (FitError, ToolError) as error:
        raise click.ClickException(str(error)) from None


@contextmanager
def _progress() -> Iterator[Progress]:
    """Shows the step under way, its time and its tool's latest line on a terminal's stderr."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda step, line: None
        return
    start, current = time.monotonic(), ""
    with console.status("starting") as status:

        def show(step: str, line: str) -> None:
            nonlocal start, current
            if step != current:
                start, current = time.monotonic(), step
            seconds = time.monotonic() - start
            status.update(f"{step} {seconds:.0f} s  {line[: max(20, console.width - 40)]}")

        yield show
