"""What builds of several seeds say: clock, cells, throughput; and each unit alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import xor
from pathlib import Path
from statistics import median
from types import SimpleNamespace

from amaranth.back import rtlil
from amaranth.hdl import Cat, Elaboratable, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from tidemill.config import Config
from tidemill_fpga.boards.board import ONCHIP, Board
from tidemill_fpga.build import Build, Progress
from tidemill_fpga.families.family import Routed
from tidemill_hdl.csr.control import Control
from tidemill_hdl.dma.gateway import Gateway
from tidemill_hdl.dma.load import LoadEngine
from tidemill_hdl.dma.store import StoreEngine
from tidemill_hdl.frontend.frontend import Frontend
from tidemill_hdl.matrix.array import SystolicArray
from tidemill_hdl.matrix.engine import MatrixEngine
from tidemill_hdl.memory.accumulators import Accumulators
from tidemill_hdl.memory.scratchpad import Scratchpad
from tidemill_hdl.sequential.sequencer import SequentialNpu
from tidemill_hdl.sync import Sync
from tidemill_hdl.vector.engine import VectorEngine
from tidemill_verif.cache import build_once, content_key

UNITS: dict[str, Callable[[Config], wiring.Component]] = {
    "array": lambda config: SystolicArray(config.rows, config.cols, config.psum_bits),
    "matrix": MatrixEngine,
    "vector": VectorEngine,
    "load": LoadEngine,
    "store": StoreEngine,
    "gateway": Gateway,
    "frontend": Frontend,
    "sync": Sync,
    "control": Control,
    "scratchpad": Scratchpad,
    "accumulators": Accumulators,
}
"""The NPU's units, and the array alone."""
SEQUENTIAL_UNITS: dict[str, Callable[[Config], wiring.Component]] = {"sequential": SequentialNpu}
"""The only unit of a sequential NPU."""

UNIT_MHZ = 200.0
"""Clock that routing a unit alone aims at."""


class Alone(Elaboratable):
    """A unit between registers: its inputs come from a shift register, its outputs are folded into one pin."""

    def __init__(self, unit: wiring.Component) -> None:
        self._unit = unit
        self.i = Signal()
        self.o = Signal()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.unit = self._unit
        inputs: list[Value] = []
        outputs: list[Value] = []
        for _, member, value in self._unit.signature.flatten(self._unit):
            (outputs if member.flow == Out else inputs).append(Value.cast(value))
        chain = Signal(len(Cat(inputs)))
        held = Signal.like(chain)
        folded = Signal(len(Cat(outputs)))
        m.d.sync += [chain.eq(Cat(self.i, chain)), held.eq(chain), folded.eq(Cat(outputs))]
        m.d.comb += Cat(inputs).eq(held)
        bits: list[Value] = list(folded)
        while len(bits) > 1:
            level = Signal(-(-len(bits) // 4))
            m.d.sync += level.eq(Cat(reduce(xor, bits[index : index + 4]) for index in range(0, len(bits), 4)))
            bits = list(level)
        m.d.comb += self.o.eq(bits[0])
        return m


@dataclass(frozen=True)
class UnitClock:
    """One unit alone on a device: `name` and what routing reached."""

    name: str
    routed: Routed


def unit_clocks(board: Board, config: Config, progress: Progress, units: Iterable[str] = ()) -> Iterable[UnitClock]:
    """Clock and cells of each unit alone (of `units` where given) on the board's device, seed 1; cached by content.
    Raises `ToolError`."""
    family = board.family
    known = SEQUENTIAL_UNITS if config.sequential else UNITS
    for name in units or known:
        top = Alone(known[name](config))
        design = rtlil.convert(
            top, name="top", ports=[top.i, top.o], platform=SimpleNamespace(**family.hooks(config)), emit_src=False
        )

        def make(folder: Path, design: str = design, name: str = name) -> None:
            (folder / "design.il").write_text(design)
            (folder / "pins").write_text(family.free_pins(UNIT_MHZ))
            family.synthesize(folder, lambda line: progress(f"synthesize {name}", line))
            family.replicate(folder, UNIT_MHZ, lambda line: progress(f"replicate {name}", line))
            routed = family.route(folder, 1, UNIT_MHZ, lambda line: progress(f"route {name}", line))
            routed.save(folder)

        folder = build_once(
            "fpga-unit", content_key(design, family.tools, family.recipe, family.placing, family.device), make
        )
        yield UnitClock(name, Routed.load(folder))


@dataclass(frozen=True)
class Report:
    """Builds of one board and configuration that differ in their seed, and its units alone."""

    board: Board
    config: Config
    asked_mhz: float
    builds: tuple[Build, ...]
    units: tuple[UnitClock, ...]
    memory: str = ONCHIP

    @property
    def median_mhz(self) -> float:
        """Median clock over the seeds, MHz."""
        return median(build.routed.mhz for build in self.builds)

    @property
    def best(self) -> Build:
        """The fastest build."""
        return max(self.builds, key=lambda build: build.routed.mhz)

    def tables(self) -> list[tuple[str, list[list[str]]]]:
        """Titles and rows, the heading first."""
        macs = self.config.peak_macs_per_cycle
        used, available = self.best.routed.used, self.best.routed.available
        clocks = [
            ["clock", "MHz", "GMAC/s"],
            ["median", f"{self.median_mhz:.1f}", f"{self.median_mhz * macs / 1e3:.1f}"],
            ["best", f"{self.best.routed.mhz:.1f}", f"{self.best.routed.mhz * macs / 1e3:.1f}"],
            *([f"seed {build.seed}", f"{build.routed.mhz:.1f}", ""] for build in self.builds),
        ]
        cells = [
            ["cell", "used", "of", "%", "per MAC"],
            *(
                [
                    kind,
                    f"{count:,}",
                    f"{available[kind]:,}",
                    f"{100 * count / available[kind]:.0f}",
                    f"{count / macs:.1f}",
                ]
                for kind, count in used.items()
            ),
        ]
        what = f"{self.board.title}, {self.config.name}, memory {self.memory}"
        title = f"{what}: {macs} MAC/cycle, {self.asked_mhz:g} MHz asked for"
        result = [(title, clocks), (f"cells of seed {self.best.seed}", cells)]
        if self.units:
            kinds = self.board.family.cells
            result.append(
                (
                    "each unit alone",
                    [["unit", "MHz", *kinds]]
                    + [
                        [unit.name, f"{unit.routed.mhz:.1f}", *(f"{unit.routed.used.get(kind, 0):,}" for kind in kinds)]
                        for unit in self.units
                    ],
                )
            )
        return result


def markdown(report: Report) -> str:
    """The page of `report`."""
    command = f"tidemill report --board {report.board.name} --preset {report.config.name} --freq {report.asked_mhz:g}"
    if report.memory != ONCHIP:
        command += f" --memory {report.memory}"
    options = f" --seeds {len(report.builds)}{' --units' if report.units else ''}"
    lines = [f"# {report.board.title}", "", f"Generated by `{command}{options} --markdown ...`; do not edit."]
    for title, rows in report.tables():
        lines += ["", f"## {title}", "", *_markdown_table(rows)]
    return "\n".join(lines) + "\n"


def _markdown_table(rows: Sequence[Sequence[str]]) -> list[str]:
    heading, *body = rows
    return [
        "| " + " | ".join(heading) + " |",
        "|---|" + "---:|" * (len(heading) - 1),
        *("| " + " | ".join(row) + " |" for row in body),
    ]
