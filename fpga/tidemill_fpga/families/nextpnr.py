"""Families that Yosys synthesizes for and nextpnr routes."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

from amaranth.build.run import BuildPlan

from tidemill_fpga.families.family import Family, Routed
from tidemill_fpga.families.replication import Replication
from tidemill_fpga.families.rtlil_names import plain_names
from tidemill_fpga.tools import YOSYS, Tool


class NextpnrFamily(Family):
    """A family whose steps differ in options only.

    Members
    -------
    router : Tool: its nextpnr.
    placer : sequence of str: options of nextpnr that choose how it places.
    replication : Replication or None: what a first placement is used for.
    packer : Tool: from what that writes to a bitstream.
    pin_file : str: Amaranth's file of pin constraints.
    """

    router: Tool
    packer: Tool
    placer: Sequence[str] = ()
    replication: Replication | None = None
    pin_file: str

    @abstractmethod
    def routing(self) -> Sequence[str]:
        """Options of nextpnr: the device and the constraints `pins`."""

    @abstractmethod
    def writing(self) -> Sequence[str]:
        """Options of nextpnr that write `routed`."""

    @abstractmethod
    def packing(self) -> Sequence[str]:
        """Arguments of the packer, from `routed` to `bitstream`."""

    def constraints(self, plan: BuildPlan) -> str:
        """See `Family.constraints`."""
        text = plan.files[self.pin_file]
        return text.decode() if isinstance(text, bytes) else text

    def synthesize(self, folder: Path, on_line: Callable[[str], None], output: str = "write_json netlist.json") -> None:
        """See `Family.synthesize`."""
        (folder / "plain.il").write_text(plain_names((folder / "design.il").read_text()))
        (folder / "synthesis.ys").write_text(f"{self.recipe}{output}\n")
        YOSYS.run(["-s", "synthesis.ys"], folder, "synthesis.log", on_line)

    def replicate(self, folder: Path, mhz: float, on_line: Callable[[str], None]) -> None:
        """See `Family.replicate`."""
        if self.replication is not None:
            placed = self.place(folder, mhz, on_line)
            self.replication.apply(folder / "netlist.json", placed)
            placed.unlink()

    def place(self, folder: Path, mhz: float, on_line: Callable[[str], None]) -> Path:
        """JSON with the places of the cells of `netlist.json`, seed 1. Raises `ToolError`."""
        placed = folder / "placed.json"
        self.router.run([*self._options(1, mhz), "--no-route", "--write", placed.name], folder, "place.log", on_line)
        return placed

    def route(self, folder: Path, seed: int, mhz: float, on_line: Callable[[str], None]) -> Routed:
        """See `Family.route`."""
        options = [*self._options(seed, mhz), *self.writing(), "--report", "report.json"]
        self.router.run(options, folder, "route.log", on_line)
        return read_report(folder / "report.json")

    def _options(self, seed: int, mhz: float) -> list[str]:
        return [
            *self.routing(), *self.placer, "--json", "netlist.json", "--seed", str(seed), "--freq", f"{mhz:g}",
            "--timing-allow-fail",
        ]  # fmt: skip

    @property
    def placing(self) -> str:
        """See `Family.placing`."""
        options = (*self.routing(), *self.writing(), *self.placer)
        return " ".join((*options, self.replication.key if self.replication else ""))

    def pack(self, folder: Path, on_line: Callable[[str], None]) -> None:
        """See `Family.pack`."""
        self.packer.run(self.packing(), folder, "pack.log", on_line)

    @property
    def tools(self) -> str:
        """See `Family.tools`."""
        packages: dict[str, str] = {}
        for tool in (YOSYS, self.router, self.packer):
            packages.setdefault(tool.package, tool.version)
        return ", ".join(packages.values())


def read_report(file: Path) -> Routed:
    """What the JSON report in `file` says of the fastest-constrained clock and the cells."""
    report: dict[str, object] = json.loads(file.read_text())
    clocks: dict[str, dict[str, float]] = report["fmax"]  # type: ignore[assignment]
    name = max(clocks, key=lambda clock: clocks[clock]["constraint"])
    cells: dict[str, dict[str, int]] = report["utilization"]  # type: ignore[assignment]
    paths: list[dict[str, object]] = report["critical_paths"]  # type: ignore[assignment]
    critical: list[str] = []
    for path in paths:
        if name in str(path["from"]) and name in str(path["to"]):
            steps: list[dict[str, dict[str, str]]] = path["path"]  # type: ignore[assignment]
            critical = [step["from"]["cell"] for step in steps[:1]] + [step["to"]["cell"] for step in steps]
    return Routed(
        clocks[name]["achieved"],
        {kind: cell["used"] for kind, cell in cells.items() if cell["used"]},
        {kind: cell["available"] for kind, cell in cells.items() if cell["used"]},
        tuple(critical),
    )
