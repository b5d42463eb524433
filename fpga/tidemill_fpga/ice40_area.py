"""What each unit takes of an iCE40UP5K, mapped alone: `python -m tidemill_fpga.ice40_area`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import click
from amaranth.back import rtlil
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tidemill.config import Config
from tidemill_fpga.boards import find_board
from tidemill_fpga.families.family import Routed
from tidemill_fpga.families.ice40 import LUT4, Ice40Up
from tidemill_fpga.report import UNITS, unit_clocks
from tidemill_fpga.soc.soc import Soc
from tidemill_fpga.tools import ToolError
from tidemill_fpga.unit import modules, unit_designs
from tidemill_verif.cache import build_once, content_key

SMALLEST = Config(
    "smallest", 4, 4, spad_rows=512, acc_rows=64, requant_lanes=1, spad_banks=2, acc_banks=2, axi_data_width=32,
    max_burst=8, max_outstanding=1, queue_depth=2, ibuf_depth=32, loop_depth=1, semaphore_width=2,
)  # fmt: skip
"""Every field that costs tables or flip-flops at its least; local memories of a size that programs can use."""

MEMORY, CLOCK_HZ, BAUD = 64 << 10, 24_000_000, 1_000_000
"""What the board has beside the NPU."""

COLUMNS: dict[str, tuple[str, ...]] = {
    "LUT4": ("SB_LUT4",),
    "FF": ("SB_DFF",),
    "SB_CARRY": ("SB_CARRY",),
    "SB_RAM40": ("SB_RAM40",),
    "SB_SPRAM": ("SB_SPRAM",),
    "SB_MAC16": ("SB_MAC16",),
}
"""Columns of the table, and how the names of the cells in them begin."""

Cells = Mapping[str, int]


def designs(config: Config, inside: str = "") -> dict[str, tuple[str, str]]:
    """Name, module and RTLIL of every unit of a board with the NPU of `config`, or of every part of the unit `inside`.

    Raises `KeyError` where there is none of that name.
    """
    family = Ice40Up("sg48", bounded=False)
    soc = Soc(config, memory=family.memory(config, MEMORY), clock_hz=CLOCK_HZ, baud=BAUD)
    text = rtlil.convert(soc, name="top", platform=SimpleNamespace(**family.hooks(config)), emit_src=False)
    units = {
        unit: (f"{parent}.{unit}", design)
        for parent in ("top.npu", "top")
        for unit, design in unit_designs(text, parent).items()
        if unit != "npu"
    }
    if not inside:
        return units
    module, design = units[inside]
    return {part: (f"{module}.{part}", text) for part, text in unit_designs(design, module).items()}


def cells(module: str, design: str) -> Cells:
    """The cells that `module` of `design` becomes, by the columns of the table; cached. Raises `ToolError`."""
    family = Ice40Up("sg48", bounded=False)
    others = "\n".join(text for name, text in modules(design).items() if name != module)
    top = modules(design)[module].replace(f"module \\{module}\n", "module \\top\n", 1)

    def build(folder: Path) -> None:
        (folder / "design.il").write_text(f"{others}\n{top}")
        family.synthesize(folder, lambda line: None, "tee -q -o cells.json stat -json")

    folder = build_once("ice40-area", content_key(top, others, family.recipe, family.tools), build)
    counts: dict[str, int] = json.loads((folder / "cells.json").read_text())["design"]["num_cells_by_type"]
    return {
        column: sum(count for kind, count in counts.items() if kind.startswith(starts))
        for column, starts in COLUMNS.items()
    }


def measure(units: Mapping[str, tuple[str, str]], begin: Callable[[str], None]) -> list[tuple[str, Cells]]:
    """Cells of every unit of `designs`, the largest first, and their sum. Raises `ToolError`."""
    found = []
    for name, (module, design) in units.items():
        begin(name)
        found.append((name, cells(module, design)))
    found.sort(key=lambda item: -item[1]["LUT4"])
    return [*found, ("together", {column: sum(count[column] for _, count in found) for column in COLUMNS})]


def markdown(rows: Iterable[tuple[str, Cells]]) -> list[str]:
    """The table as lines of a page."""
    heading = ["| unit | " + " | ".join(COLUMNS) + " |", "|---|" + "---:|" * len(COLUMNS)]
    return heading + [
        f"| {name} | " + " | ".join(f"{count[column]:,}" for column in COLUMNS) + " |" for name, count in rows
    ]


def clocks(config: Config, units: Sequence[str], begin: Callable[[str], None]) -> list[tuple[str, Routed]]:
    """What routing of `units` alone, names of `report.UNITS`, reaches on the device. Raises `ToolError`."""
    found = unit_clocks(find_board("icebreaker"), config, lambda step, line: begin(step), units)
    return [(unit.name, unit.routed) for unit in found]


def _print_clocks(found: Iterable[tuple[str, Routed]]) -> None:
    kinds = Ice40Up.cells
    table = Table("unit", "MHz", *kinds, title="each unit alone, after routing")
    for name, routed in found:
        table.add_row(name, f"{routed.mhz:.1f}", *(f"{routed.used.get(kind, 0):,}" for kind in kinds))
    Console().print(table)


@click.command()
@click.option("--inside", default="", help="Take a unit apart instead of the board.")
@click.option("--set", "changes", multiple=True, metavar="FIELD=NUMBER", help="Change the smallest configuration.")
@click.option("--route", type=click.Choice(list(UNITS)), multiple=True, help="Route this unit alone instead.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print the table for a page.")
def main(inside: str, changes: Sequence[str], route: Sequence[str], as_markdown: bool) -> None:
    """Map each unit of the smallest legal NPU, and of the board around it, for an iCE40UP5K."""
    messages = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        fields = {name: int(value) for name, _, value in (change.partition("=") for change in changes)}
        config = SMALLEST.replace(**fields)
        with Progress(*columns, console=messages, transient=True, disable=not messages.is_terminal) as progress:
            task = progress.add_task("elaborate", total=None)
            if route:
                _print_clocks(clocks(config, route, lambda step: progress.update(task, description=step)))
                return
            units = designs(config, inside)
            progress.update(task, total=len(units))
            rows = measure(units, lambda name: progress.update(task, description=name, advance=1))
    except KeyError:
        raise click.BadParameter(f"unknown unit {inside!r}; known units: {', '.join(designs(SMALLEST))}") from None
    except (ToolError, TypeError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    if as_markdown:
        click.echo("\n".join(markdown(rows)))
        return
    table = Table("unit", *COLUMNS, title=f"{inside or 'smallest NPU'}; the device has {LUT4:,} LUT4")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, count in rows:
        table.add_row(name, *(f"{count[column]:,}" for column in COLUMNS))
    Console().print(table)


if __name__ == "__main__":
    main()
