"""From a board's name to a bitstream: each step cached by the content of its inputs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import tidemill
import tidemill_fpga
import tidemill_hdl
from tidemill.config import Config
from tidemill_fpga.boards.board import ONCHIP, Board, BoardTop
from tidemill_fpga.families.family import FitError, Routed
from tidemill_verif.cache import build_once, content_key, tree_key

Progress = Callable[[str, str], None]
"""Called with the step under way and the latest line of its tool."""

FASTEST_MHZ = 400.0
"""No design on these devices goes faster; a larger number is a mistake."""

_DESIGN, _PINS, _NETLIST = "design.il", "pins", "netlist.json"
"""Files of the first steps, as a family's tools expect them."""


@dataclass(frozen=True)
class Build:
    """What was built for one seed.

    Members
    -------
    seed : int
    asked_mhz : float: the clock the board makes, which routing aimed at.
    routed : Routed
    folder : Path: the routing step's, with its log.
    """

    seed: int
    asked_mhz: float
    routed: Routed
    folder: Path

    @property
    def met(self) -> bool:
        """Whether the design runs at the clock that was asked for."""
        return self.routed.mhz >= self.asked_mhz


class Builder:
    """The steps for one board, configuration, clock and memory.

    Raises `FitError` at once for what cannot be built: an impossible frequency, a configuration beyond the device, a
    memory that the board has not.
    """

    def __init__(
        self,
        board: Board,
        config: Config,
        mhz: float,
        progress: Progress = lambda step, line: None,
        memory: str = ONCHIP,
    ) -> None:
        if not 1 <= mhz <= FASTEST_MHZ:
            raise FitError(f"a clock of {mhz:g} MHz is not possible; must be 1 to {FASTEST_MHZ:g} MHz")
        board.check_memory(memory)
        board.family.check(config, board.memory if memory == ONCHIP else 0)
        self.board = board
        self.config = config
        self.mhz = mhz
        self.memory = memory
        self._progress = progress
        self._netlist: Path | None = None

    def elaborate(self) -> tuple[str, str]:
        """RTLIL of the board's top, and its pin constraints. Raises `FitError`."""
        self._progress("elaborate", "")
        board = self.board

        def make(folder: Path) -> None:
            platform = board.platform()
            for name, hook in board.family.hooks(self.config).items():
                setattr(platform, name, hook)
            plan = platform.prepare(BoardTop(board, self.config, self.mhz, self.memory), "top", emit_src=False)
            design = plan.files["top.il"]
            (folder / _DESIGN).write_text(design.decode() if isinstance(design, bytes) else design)
            (folder / _PINS).write_text(board.family.constraints(plan))

        sources = tree_key(*(Path(package.__path__[0]) for package in (tidemill, tidemill_hdl, tidemill_fpga)))
        versions = (version(package) for package in ("amaranth", "amaranth-boards"))
        memory = (self.memory, str(board.memory))
        key = content_key(sources, *versions, board.name, *memory, repr(self.config), repr(self.mhz))
        folder = build_once("fpga-design", key, make)
        return (folder / _DESIGN).read_text(), (folder / _PINS).read_text()

    def synthesize(self) -> Path:
        """Folder with `netlist.json` and `pins`. Raises `ToolError`."""
        if self._netlist is None:
            design, pins = self.elaborate()
            family = self.board.family
            key = content_key(design, pins, family.tools, family.recipe, family.device)

            def make(folder: Path) -> None:
                (folder / _DESIGN).write_text(design)
                (folder / _PINS).write_text(pins)
                family.synthesize(folder, lambda line: self._progress("synthesize", line))

            self._netlist = build_once("fpga-netlist", key, make)
        return self._netlist

    def replicate(self) -> Path:
        """Folder with `netlist.json`, drivers of many cells replicated, and `pins`. Raises `ToolError`, also where the
        design does not fit."""
        mapped = self.synthesize()
        family = self.board.family

        def make(folder: Path) -> None:
            shutil.copyfile(mapped / _NETLIST, folder / _NETLIST)
            os.link(mapped / _PINS, folder / _PINS)
            family.replicate(folder, self.mhz, lambda line: self._progress("replicate", line))

        return build_once("fpga-replicated", content_key(mapped.name, f"{self.mhz:g}", family.placing), make)

    def route(self, seed: int) -> Build:
        """Place and route with one seed. Raises `ToolError`, also where the design does not fit."""
        netlist = self.replicate()
        family = self.board.family

        def make(folder: Path) -> None:
            # The tools see no further than their folder, so no symbolic links.
            for name in (_NETLIST, _PINS):
                os.link(netlist / name, folder / name)
            routed = family.route(folder, seed, self.mhz, lambda line: self._progress(f"route, seed {seed}", line))
            routed.save(folder)

        key = content_key(netlist.name, str(seed), f"{self.mhz:g}", family.tools)
        folder = build_once("fpga-routed", key, make)
        return Build(seed, self.mhz, Routed.load(folder), folder)

    def pack(self, build: Build, target: Path) -> None:
        """Write the bitstream of `build` to `target`. Raises `ToolError`."""

        def make(folder: Path) -> None:
            os.link(build.folder / "routed", folder / "routed")
            self.board.family.pack(folder, lambda line: self._progress("pack", line))

        folder = build_once("fpga-bitstream", content_key(build.folder.name, self.board.family.tools), make)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(target.name + ".partial")
        shutil.copyfile(folder / "bitstream", partial)
        partial.replace(target)
