# amaranth: UnusedElaboratable=no
"""A small system of LiteX around the NPU: RAM, registers, and a port through which a test bench is its processor."""

from __future__ import annotations

from pathlib import Path

from amaranth.hdl import ClockSignal as AmaranthClock
from amaranth.hdl import Instance as AmaranthInstance
from amaranth.hdl import Module
from amaranth.hdl import ResetSignal as AmaranthReset
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from litex.build.generic_platform import GenericPlatform, Pins
from litex.gen import ClockDomain, LiteXModule, Signal
from litex.soc.integration.soc import SoCRegion
from litex.soc.integration.soc_core import SoCCore
from litex.soc.interconnect.axi import AXILiteInterface

from tidemill.config import Config
from tidemill_fpga.axi.module import verilog
from tidemill_fpga.litex import REGION_SIZE, Tidemill

MODULE = "litex_system"
"""Name of the system's Verilog module."""

RAM_ORIGIN, RAM_SIZE = 0x4000_0000, 32 << 10
NPU_ORIGIN = 0x8000_0000
"""Where RAM and the NPU's registers are on the bus."""

CLOCK_HZ = 50_000_000

_HOST = {
    "aw": {"addr": (32, True), "prot": (3, True), "valid": (1, True), "ready": (1, False)},
    "w": {"data": (32, True), "strb": (4, True), "valid": (1, True), "ready": (1, False)},
    "b": {"resp": (2, False), "valid": (1, False), "ready": (1, True)},
    "ar": {"addr": (32, True), "prot": (3, True), "valid": (1, True), "ready": (1, False)},
    "r": {"data": (32, False), "resp": (2, False), "valid": (1, False), "ready": (1, True)},
}
"""Bits of the signals of the host's AXI4-Lite port, and whether they are inputs of the system."""


class _Clock(LiteXModule):
    def __init__(self, platform: GenericPlatform) -> None:
        self.cd_sys = ClockDomain()
        self.comb += [self.cd_sys.clk.eq(platform.request("clk")), self.cd_sys.rst.eq(platform.request("rst"))]


class _System(SoCCore):
    def __init__(self, platform: GenericPlatform, config: Config, standard: str) -> None:
        self.crg = _Clock(platform)
        super().__init__(
            platform, CLOCK_HZ, cpu_type=None, with_uart=False, with_timer=False, ident="", ident_version=False,
            integrated_sram_size=0, bus_standard=standard,
        )  # fmt: skip
        self.add_ram("main_ram", origin=RAM_ORIGIN, size=RAM_SIZE)
        self.main_ram.mem.init = None  # Else the simulator looks for a file of zero words in its current folder.
        self.tidemill = Tidemill(platform, config)
        self.bus.add_master("tidemill", self.tidemill.bus)
        self.bus.add_slave("tidemill", self.tidemill.control, SoCRegion(NPU_ORIGIN, REGION_SIZE, cached=False))
        host = AXILiteInterface(data_width=32, address_width=32)
        self.comb += host.connect_to_pads(platform.request("host"), mode="slave")
        self.bus.add_master("host", host)
        interrupt = Signal()
        self.comb += [interrupt.eq(self.tidemill.irq), platform.request("irq").eq(interrupt)]


def sources(config: Config, standard: str, folder: Path) -> list[Path]:
    """Verilog files of the system, module `MODULE`, written to `folder`, and of the NPU in it.

    `standard` is what LiteX calls its bus: `wishbone`, `axi-lite` or `axi`.
    """
    platform = GenericPlatform(
        "none", [("clk", 0, Pins(1)), ("rst", 0, Pins(1)), ("irq", 0, Pins(1)), *AXILiteInterface().get_ios("host")]
    )
    system = _System(platform, config, standard)
    fragment = system.get_fragment()
    platform.finalize(fragment)
    file = folder / f"{MODULE}.v"
    platform.get_verilog(fragment, name=MODULE).write(str(file))
    return [file, verilog(config)]


class LitexSystem(wiring.Component):
    """The ports of the module of `sources`: `host_*`, an AXI4-Lite slave with 32-bit addresses, and `irq`."""

    def __init__(self) -> None:
        ports = {
            f"host_{channel}{name}": (In if is_input else Out)(bits)
            for channel, signals in _HOST.items()
            for name, (bits, is_input) in signals.items()
        }
        super().__init__({**ports, "irq": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        ports = {
            f"{'i' if member.flow is In else 'o'}_{name}": getattr(self, name)
            for name, member in self.signature.members.items()
        }
        m.submodules.system = AmaranthInstance(MODULE, i_clk=AmaranthClock(), i_rst=AmaranthReset(), **ports)
        return m
