"""Cells and clock of one array: every array takes these same steps."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from types import SimpleNamespace

from amaranth.back import rtlil
from amaranth.hdl import Module
from amaranth.lib import wiring

from tidemill_fpga.boards import BOARDS
from tidemill_fpga.build import Progress
from tidemill_fpga.families.family import Family, Routed
from tidemill_fpga.netlist import Usage, usage
from tidemill_fpga.report import UNIT_MHZ, Alone
from tidemill_verif.cache import build_once, cache_root, content_key, is_built

FAMILY: Family = BOARDS["ulx3s-85f"].family
"""LFE5U-85F, speed grade 6."""

_KIND = "fpga-array"

_PLACE = re.compile(r"^ *attribute \\BEL .*\n", re.MULTILINE)

Hooks = Callable[[], Mapping[str, Callable[..., Module]]]


@dataclass(frozen=True)
class Array:
    """An array to measure.

    Members
    -------
    name : str
    rows, cols : int
    macs : int: multiply-accumulates a cycle.
    sum_bits : int: of a partial sum.
    unit : function: a new instance of it.
    hooks : function: new hooks of a platform for one elaboration.
    library : str: RTLIL of modules that it names but does not hold.
    """

    name: str
    rows: int
    cols: int
    macs: int
    sum_bits: int
    unit: Callable[[], wiring.Component]
    hooks: Hooks
    library: str = ""

    @property
    def title(self) -> str:
        """Name and size."""
        return f"{self.name}, {self.rows} x {self.cols}, sums of {self.sum_bits} bits"

    def alone(self) -> str:
        """RTLIL of the array with its ports as pins: what its cells are counted in. Places, which change nothing there,
        are left out."""
        return _PLACE.sub("", self._rtlil(self.unit()))

    def between_registers(self) -> str:
        """RTLIL of the array in an `Alone`: what is placed and routed."""
        top = Alone(self.unit())
        return self._rtlil(top, ports=[top.i, top.o])

    def _rtlil(self, top: object, **options: object) -> str:
        text = rtlil.convert(top, name="top", platform=SimpleNamespace(**self.hooks()), emit_src=False, **options)
        return f"{text}\n{self.library}"


@dataclass(frozen=True)
class Measured:
    """What became of an array: cells after synthesis, and the clock of each seed after routing."""

    array: Array
    cells: Usage
    mhz: tuple[float, ...]

    @property
    def median_mhz(self) -> float:
        """Over the seeds."""
        return median(self.mhz)

    @property
    def gmacs(self) -> float:
        """Billions of multiply-accumulates a second at the median clock."""
        return self.array.macs * self.median_mhz / 1e3


def measure(array: Array, seeds: Sequence[int], progress: Progress = lambda step, line: None) -> Measured:
    """Synthesize, place and route `array` with each of `seeds`; every step cached by content. Raises `ToolError`."""
    keys = _Keys.of(array, seeds)
    cells = build_once(_KIND, keys.cells, partial(_count, array, progress))
    netlist = build_once(_KIND, keys.netlist, partial(_synthesize, array, progress))
    for seed, key in zip(seeds, keys.routed, strict=True):
        build_once(_KIND, key, partial(_route, array, netlist, seed, progress))
    return _load(array, cells.name, keys.routed)


def known(array: Array, seeds: Sequence[int]) -> Measured | None:
    """What earlier calls of `measure` left in the cache: the cells, and the clocks of those of `seeds` that they took,
    maybe none; None without cells."""
    keys = _Keys.of(array, seeds)
    routed = [key for key in keys.routed if is_built(_KIND, key)]
    return _load(array, keys.cells, routed) if is_built(_KIND, keys.cells) else None


@dataclass(frozen=True)
class _Keys:
    """Of each step in the cache."""

    cells: str
    netlist: str
    routed: tuple[str, ...]

    @classmethod
    def of(cls, array: Array, seeds: Sequence[int]) -> _Keys:
        netlist = _key("netlist", array.between_registers())
        routed = tuple(_key("routed", netlist, FAMILY.placing, str(seed)) for seed in seeds)
        return cls(_key("cells", array.alone()), netlist, routed)


def _load(array: Array, cells: str, routed: Sequence[str]) -> Measured:
    folder = cache_root() / _KIND
    mhz = tuple(Routed.load(folder / key).mhz for key in routed)
    return Measured(array, Usage(**json.loads((folder / cells / "cells.json").read_text())), mhz)


def _key(*parts: str) -> str:
    return content_key(*parts, FAMILY.tools, FAMILY.recipe, FAMILY.device, f"{UNIT_MHZ:g}")


def _count(array: Array, progress: Progress, folder: Path) -> None:
    (folder / "design.il").write_text(array.alone())
    FAMILY.synthesize(folder, lambda line: progress(f"{array.name}: cells", line))
    netlist = folder / "netlist.json"
    cells = usage(json.loads(netlist.read_text())["modules"]["top"])
    (folder / "cells.json").write_text(json.dumps(asdict(cells)))
    netlist.unlink()


def _synthesize(array: Array, progress: Progress, folder: Path) -> None:
    (folder / "design.il").write_text(array.between_registers())
    FAMILY.synthesize(folder, lambda line: progress(f"{array.name}: synthesis", line))


def _route(array: Array, netlist: Path, seed: int, progress: Progress, folder: Path) -> None:
    os.link(netlist / "netlist.json", folder / "netlist.json")
    (folder / "pins").write_text(FAMILY.free_pins(UNIT_MHZ))
    routed = FAMILY.route(folder, seed, UNIT_MHZ, lambda line: progress(f"{array.name}: seed {seed}", line))
    routed.save(folder)
    for file in ("netlist.json", "routed", "report.json"):
        (folder / file).unlink()
