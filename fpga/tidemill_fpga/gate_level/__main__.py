"""`python -m tidemill_fpga.gate_level`: a mapped NPU against the simulator."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tidemill.config import PRESETS, Config, preset
from tidemill.driver.errors import DeviceError
from tidemill_fpga.families.family import FitError
from tidemill_fpga.gate_level import campaign
from tidemill_fpga.gate_level.device import open_netlist
from tidemill_fpga.gate_level.netlist import FAMILIES, cell_counts, npu_netlist
from tidemill_fpga.gate_level.programs import Comparison
from tidemill_fpga.gate_level.wrong import KINDS, SELECTOR, SELECTOR_BITS, spoil
from tidemill_fpga.tools import ToolError


@click.command()
@click.option("--family", type=click.Choice(list(FAMILIES)), default="ecp5", show_default=True, help="Device.")
@click.option("--preset", "name", type=click.Choice(list(PRESETS)), default="tiny", show_default=True, help="NPU.")
@click.option("--programs", type=click.IntRange(0), default=50, show_default=True, help="Random programs.")
@click.option("--images", type=click.IntRange(0, 360), default=3, show_default=True, help="Images of digits.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="First random program; wrong cells.")
@click.option(
    "--wrong", type=click.IntRange(0, (1 << SELECTOR_BITS) - 1), default=0, show_default=True,
    help="Also make as many cells wrong, one at a time, and see which are caught.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def main(family: str, name: str, programs: int, images: int, seed: int, wrong: int, as_json: bool) -> None:
    """Synthesize the NPU for a device, simulate the netlist cell by cell, and compare with the simulator.

    Exit code 1: a byte, a register or a counter of work differs.
    """
    messages = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        with Progress(*columns, console=messages, transient=True, disable=not messages.is_terminal) as progress:
            result = _run(preset(name), family, programs, images, seed, wrong, progress)
    except (DeviceError, FitError, ToolError) as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(json.dumps(result, indent=2))
    else:
        table = Table(title=f"{name} for {family}: netlist against iss", show_header=False)
        for key, value in result.items():
            table.add_row(key, str(value))
        Console().print(table)
    sys.exit(1 if result["differences"] else 0)


def _run(
    config: Config, family: str, programs: int, images: int, seed: int, wrong: int, progress: Progress
) -> dict[str, object]:
    times: dict[str, float] = {}
    task = progress.add_task("synthesis", total=None)

    def begin(what: str, total: int | None) -> float:
        progress.update(task, description=what, total=total, completed=0)
        return time.monotonic()

    start = begin("synthesis", None)
    folder = npu_netlist(config, family, lambda line: progress.update(task, description=f"synthesis {line[:40]}"))
    times["synthesis"] = time.monotonic() - start
    start = begin("building the simulation", None)
    memory = campaign.needed_memory(config)
    gates = open_netlist(config, folder, family=family, mem_size=memory)
    times["building the simulation"] = time.monotonic() - start
    start = begin("programs", programs + bool(images))
    cycles = done = 0
    differences: list[str] = []
    comparison = Comparison(gates)
    parts = ([campaign.digits(gates, images)] if images else []), campaign.programs(comparison, programs, seed)
    for group in parts:
        for part in group:
            progress.advance(task)
            cycles += part.cycles
            done += 1
            if part.failure:
                differences.append(f"{part.name}: {part.failure}")
    comparison.close()
    speed = gates.cycle / (time.monotonic() - start) if done else 0.0
    times["programs"] = time.monotonic() - start
    gates.close()
    cells = {kind: count for kind, count in sorted(cell_counts(folder).items()) if not kind.startswith("$")}
    result: dict[str, object] = {
        "cells": ", ".join(f"{count:,} {kind}" for kind, count in cells.items()),
        "digits": f"{images} images",
        "random programs": f"{programs} from seed {seed}",
        "cycles": f"{cycles:,}",
        "differences": differences,
    }
    if wrong:
        start = begin("wrong cells", wrong)
        result["wrong cells"] = _score(config, family, folder, wrong, max(1, programs), seed, progress)
        times["wrong cells"] = time.monotonic() - start
    result["seconds"] = ", ".join(f"{what} {seconds:.0f}" for what, seconds in times.items())
    result["speed"] = f"{speed / 1000:.1f} thousand cycles a second"
    return result


def _score(config: Config, family: str, folder: Path, wrong: int, programs: int, seed: int, progress: Progress) -> str:
    """How many of `wrong` wrong cells random programs catch, by type, and which they do not."""
    spoiled, cells = spoil(folder, wrong, seed)
    memory = campaign.needed_memory(config)
    task = progress.tasks[0].id
    caught, missed = Counter[str](), []
    for cell in cells:
        gates = open_netlist(config, spoiled, {SELECTOR: SELECTOR_BITS}, family=family, mem_size=memory)
        if campaign.caught(gates, cell, programs, seed):
            caught[cell.kind] += 1
        else:
            missed.append(str(cell))
        gates.close()
        progress.advance(task)
    total = Counter(cell.kind for cell in cells)
    score = ", ".join(f"{caught[kind]} of {total[kind]} {kind}" for kind in KINDS if total[kind])
    return f"{caught.total()} of {wrong} caught ({score})" + "".join(f"\nnot caught: {cell}" for cell in missed)


if __name__ == "__main__":
    main()
