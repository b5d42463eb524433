"""Synthesis of whole NPUs for ECP5, unit by unit: sizes, and checks of what the hardware conventions promise.

`python -m tidemill_fpga.synth --preset base` prints a table and ends with exit code 1 where a check fails.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tidemill.config import DEFAULT_PRESET, PRESETS, preset
from tidemill_fpga.netlist import Usage
from tidemill_fpga.unit import Memory, SynthesisError, UnitReport, is_synthesized, synthesize, unit_designs
from tidemill_hdl.top import Npu
from tidemill_verif.elaborate import to_rtlil

BIG_MEMORY = 1024
"""Bits above which a memory must be a RAM of the device."""

RAMS = ("DP16KD", "TRELLIS_DPR16X4")

BUDGETS = {"base": {"lut4": 60_000, "bram": 200}}
"""Cells that a preset must stay below; multipliers have no limit here."""

_COLUMNS = {
    "LUT4": "lut4",
    "FF": "ff",
    "MULT18X18D": "dsp",
    "DP16KD": "bram",
    "TRELLIS_DPR16X4": "dram",
}


@dataclass(frozen=True)
class NpuReport:
    """What an NPU became.

    Members
    -------
    preset : str
    units : tuple of UnitReport
    """

    preset: str
    units: tuple[UnitReport, ...]

    @property
    def total(self) -> Usage:
        """Cells of all units. The wires between them and a few gates for counters are not in it."""
        return sum((unit.usage for unit in self.units), Usage())

    @property
    def big_memories(self) -> list[Memory]:
        """Memories above `BIG_MEMORY` bits, the largest first."""
        memories = [memory for unit in self.units for memory in unit.memories if memory.bits > BIG_MEMORY]
        return sorted(memories, key=lambda memory: (-memory.bits, memory.path))

    def problems(self) -> list[str]:
        """One line for each promise that is not kept."""
        problems = [problem for unit in self.units for problem in (*memory_problems(unit), *path_problems(unit))]
        return problems + budget_problems(self.preset, self.total)


def memory_problems(unit: UnitReport) -> list[str]:
    """Memories above `BIG_MEMORY` bits that no RAM of the device holds, or that are read without a clock."""
    problems = []
    for memory in unit.memories:
        if memory.bits <= BIG_MEMORY:
            continue
        size = f"{memory.path} ({memory.depth} words of {memory.width} bits)"
        if memory.asynchronous:
            problems.append(f"{size} has a read port without a clock; memories are read synchronously")
        if memory.cell not in RAMS:
            problems.append(f"{size} became {memory.cell}, must be one of {', '.join(RAMS)}")
    return problems


def path_problems(unit: UnitReport) -> list[str]:
    """Paths through the unit that meet no register."""
    return [
        f"{unit.name}: combinational path from input {source} to output {sink}; outputs must be functions of registers"
        for source, sink in unit.paths
    ]


def budget_problems(name: str, total: Usage) -> list[str]:
    """Cells of preset `name` that reach their `BUDGETS` limit."""
    return [
        f"{name}: {getattr(total, field)} {title}, must be below {BUDGETS[name][field]}"
        for title, field in _COLUMNS.items()
        if field in BUDGETS.get(name, {}) and getattr(total, field) >= BUDGETS[name][field]
    ]


def synthesize_npu(name: str, begin_unit: Callable[[str, int, int], None] = lambda *_: None) -> NpuReport:
    """Map every unit of preset `name`, one after another; cached by content.

    `begin_unit(unit, index, count)` is called before each. Raises `SynthesisError`.
    """
    designs = unit_designs(to_rtlil(partial(Npu, preset(name))))
    units = []
    for index, (unit, rtlil) in enumerate(designs.items()):
        top = f"top.{unit}"
        begin_unit(unit if not is_synthesized(rtlil, top) else f"{unit} (cached)", index, len(designs))
        units.append(synthesize(rtlil, top))
    return NpuReport(name, tuple(units))


def _rows(report: NpuReport) -> Iterable[tuple[str, list[int]]]:
    usages = {unit.name.removeprefix("top."): unit.usage for unit in report.units}
    for name, usage in {**usages, "total": report.total}.items():
        yield name, [getattr(usage, field) for field in _COLUMNS.values()]


def _print(console: Console, report: NpuReport) -> None:
    table = Table("unit", *_COLUMNS, title=report.preset)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, cells in _rows(report):
        if name == "total":
            table.add_section()
        table.add_row(name, *(f"{cell:,}" for cell in cells))
    console.print(table)
    memories = Table("memory", "words", "bits", "became", title=f"{report.preset}: memories above {BIG_MEMORY} bits")
    for memory in report.big_memories:
        memories.add_row(memory.path.removeprefix("top."), str(memory.depth), str(memory.width), memory.cell)
    console.print(memories)


def markdown(reports: Sequence[NpuReport]) -> str:
    """The page `docs/area.md`."""
    options = " ".join(f"--preset {report.preset}" for report in reports)
    lines = [
        "# Area",
        "",
        f"Generated by `python -m tidemill_fpga.synth {options} --markdown docs/area.md`; do not edit.",
        "",
        "ECP5 cells after `synth_ecp5`, before placement; each unit is mapped alone, so that unit borders stay. LUT4",
        "counts two for a CCU2C (carry chain) and leaves out distributed RAM (TRELLIS_DPR16X4, 16 words of 4 bits);",
        "MULT18X18D are the multipliers, DP16KD the block RAMs. The command also checks that no unit has a",
        f"combinational path from an input to an output, every memory above {BIG_MEMORY} bits is a RAM of the device,",
        f"and the budget of `base`: below {BUDGETS['base']['lut4']:,} LUT4 and {BUDGETS['base']['bram']} DP16KD.",
        "Shallow queues and tables belong in distributed RAM: a block RAM would be mostly empty.",
        "",
        "The largest ECP5 (LFE5U-85F) has 83,640 LUT4, as many FF, 156 MULT18X18D and 208 DP16KD.",
    ]
    for report in reports:
        config = PRESETS[report.preset]
        lines += ["", f"## {report.preset}: {config.rows} x {config.cols}", ""]
        lines.append("| unit | " + " | ".join(_COLUMNS) + " |")
        lines.append("|---|" + "---:|" * len(_COLUMNS))
        lines += [f"| {name} | " + " | ".join(f"{cell:,}" for cell in cells) + " |" for name, cells in _rows(report)]
        lines += ["", "| memory | words | bits | became |", "|---|---:|---:|---|"]
        lines += [
            f"| {memory.path.removeprefix('top.')} | {memory.depth} | {memory.width} | {memory.cell} |"
            for memory in report.big_memories
        ]
    return "\n".join(lines) + "\n"


@click.command()
@click.option(
    "--preset",
    "names",
    type=click.Choice(list(PRESETS)),
    multiple=True,
    default=[DEFAULT_PRESET],
    show_default=True,
    help="Configuration; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.option("--markdown", "page", type=click.Path(path_type=Path), help="Also write the tables to this page.")
def main(names: tuple[str, ...], as_json: bool, page: Path | None) -> None:
    """Map NPUs to an ECP5 and check sizes, memories and unit borders.

    The first run on a machine takes minutes longer: Yosys compiles itself. Exit code 1: a check failed.
    """
    console = Console()
    messages = Console(stderr=True)
    reports = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=messages, transient=True, disable=not messages.is_terminal) as progress:
        for name in names:
            task = progress.add_task(f"{name}: elaborating", total=None)
            try:
                report = synthesize_npu(
                    name,
                    lambda unit, index, count, name=name, task=task: progress.update(
                        task, description=f"{name}: {unit}", completed=index, total=count
                    ),
                )
            except SynthesisError as error:
                raise click.ClickException(str(error)) from None
            progress.remove_task(task)
            reports.append(report)
    if page:
        page.write_text(markdown(reports), encoding="utf-8")
    problems = [problem for report in reports for problem in report.problems()]
    if as_json:
        presets = {
            report.preset: {"units": [asdict(unit) for unit in report.units], "total": asdict(report.total)}
            for report in reports
        }
        click.echo(json.dumps({"presets": presets, "problems": problems}, indent=2))
    else:
        for report in reports:
            _print(console, report)
    for problem in problems:
        click.echo(f"error: {problem}", err=True)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
