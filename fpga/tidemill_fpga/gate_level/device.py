# amaranth: UnusedElaboratable=no
"""The device `gates`: a mapped netlist in place of the hardware's own Verilog."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from amaranth.hdl import ClockSignal, Instance, Module, ResetSignal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In
from rich.console import Console

from tidemill.config import Config
from tidemill.driver.errors import DeviceError
from tidemill_fpga.families.family import FitError
from tidemill_fpga.gate_level.behaviour import CellError, statements
from tidemill_fpga.gate_level.netlist import CELL_FLAGS, MODULE, cell_models, is_mapped, models_key, npu_netlist
from tidemill_fpga.tools import ToolError
from tidemill_hdl.top import Npu
from tidemill_verif.cache import build_once, content_key, tree_key
from tidemill_verif.rtl_device.build import Variant
from tidemill_verif.rtl_device.model import RtlDevice

_FLAGS = ("-fno-dfg", *CELL_FLAGS, "-MAKEFLAGS", "OPT_FAST=-O1")
"""On tens of thousands of small cells Verilator's data flow passes take many times longer than everything else, and
the compiler far longer than a simulation gains from it."""


class Gates(wiring.Component):
    """The ports of `component`, driven by a module `MODULE`; `more` are inputs it has besides, name and bits."""

    def __init__(self, component: wiring.Component, more: Mapping[str, int] = MappingProxyType({})) -> None:
        super().__init__({**component.signature.members, **{name: In(bits) for name, bits in more.items()}})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        ports: dict[str, Value] = {"i_clk": ClockSignal(), "i_rst": ResetSignal()}
        for path, member, value in self.signature.flatten(self):
            name = "__".join(str(part) for part in path)
            ports[f"{'i' if member.flow is In else 'o'}_{name}"] = Value.cast(value)
        m.submodules.netlist = Instance(MODULE, **ports)
        return m


def open_netlist(
    config: Config,
    folder: Path,
    more: Mapping[str, int] = MappingProxyType({}),
    *,
    family: str = "ecp5",
    **options: Any,
) -> RtlDevice:
    """The NPU of `config` made of the netlist in a cached folder, of cells of `family`; `more` are inputs that it has
    besides those of the NPU, name and bits; options as for the device `rtl`. Raises `DeviceError`."""
    here = Path(__file__)
    key = content_key(folder.name, models_key(), tree_key(here, here.with_name("behaviour.py")))
    try:
        simulated = build_once("gate-simulation", key, lambda made: _simulated(folder, made))
        sources = (simulated / f"{MODULE}.v", *cell_models(family))
        made = Variant(key, lambda _: Gates(Npu(config), more), sources, memories=False, flags=_FLAGS, optimize="")
        return RtlDevice(config, variant=made, **options)
    except (CellError, ToolError) as error:
        raise DeviceError(str(error)) from error


def _simulated(netlist: Path, folder: Path) -> None:
    (folder / f"{MODULE}.v").write_text(statements((netlist / f"{MODULE}.v").read_text()))


def open_device(config: Config, family: str = "ecp5", **options: Any) -> RtlDevice:
    """The NPU of `config` mapped for `family` (a name of `FAMILIES`), simulated cell by cell; options as for `rtl`.

    Local memories cannot be seen. The first call for a configuration takes minutes. Raises `DeviceError`.
    """
    try:
        return open_netlist(config, _mapped(config, family), family=family, **options)
    except (FitError, ToolError) as error:
        raise DeviceError(str(error)) from error


def _mapped(config: Config, family: str) -> Path:
    console = Console(stderr=True)
    if is_mapped(config, family) or not console.is_terminal:
        return npu_netlist(config, family)
    with console.status(f"mapping {config.name!r} for {family}, once ...") as status:

        def show(line: str) -> None:
            status.update(f"mapping {config.name!r} for {family}, once  {line[: max(20, console.width - 50)]}")

        return npu_netlist(config, family, show)
