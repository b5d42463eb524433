"""The contract of a family of FPGAs."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from amaranth.build.run import BuildPlan
from amaranth.hdl import Module
from amaranth.lib import io

from tidemill.config import Config
from tidemill_fpga.soc.soc import BoardMemory

_ROUTED = "routed.json"


class FitError(ValueError):
    """What was asked for cannot be built for the device; the message names it, the value and the limit."""


@dataclass(frozen=True)
class Routed:
    """What a routing run reached.

    Members
    -------
    mhz : float: the highest frequency of the main clock, after routing.
    used, available : mapping: cells of the device by resource.
    critical : tuple of str: cells on the slowest path, from register to register.
    """

    mhz: float
    used: Mapping[str, int]
    available: Mapping[str, int]
    critical: tuple[str, ...]

    def save(self, folder: Path) -> None:
        """Keep it in `folder`, for `load`."""
        (folder / _ROUTED).write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, folder: Path) -> Routed:
        """What `save` kept in `folder`."""
        fields = json.loads((folder / _ROUTED).read_text())
        return cls(**{**fields, "critical": tuple(fields["critical"])})


class Family(ABC):
    """A device and its tools.

    Members
    -------
    device : str: the name its maker uses, speed grade included.
    suffix : str: of the bitstream's file name.
    recipe : str: how it synthesizes; part of the cache key, like `tools` and `placing`.
    cells : tuple of str: the resources that tables show.
    models : tuple of str: Verilog models of the cells, as far as they come with Yosys, below its folder `share`.
    model_defines : tuple of str: macros with which they are read.
    """

    device: str
    suffix: str
    recipe: str
    cells: tuple[str, ...]
    models: tuple[str, ...]
    model_defines: tuple[str, ...]

    @abstractmethod
    def check(self, config: Config, memory: int) -> None:
        """Raises `FitError` where `config` with `memory` bytes of on-chip memory cannot fit, before anything is built.

        Passing does not promise a fit: look-up tables are only known after synthesis.
        """

    @abstractmethod
    def hooks(self, config: Config) -> Mapping[str, Callable[..., Module]]:
        """Methods of the platform that the hardware asks for in one elaboration: `get_multiplier` of `Multiplier`,
        `get_row_memory` of `RowMemory`."""

    def memory(self, config: Config, size: int) -> int | BoardMemory:
        """What a board's `Soc` takes as its memory of `size` bytes: block RAM unless a family has other cells for it.
        Raises `FitError` for a size that they cannot make."""
        return size

    @abstractmethod
    def clock(self, m: Module, port: io.PortLike, pin_hz: float, mhz: float) -> float:
        """Add the domain `sync` at about `mhz`, made from the clock pin `port`, with a reset that ends after lock;
        returns the exact frequency in MHz. Raises `FitError` for a frequency that the device's clock cannot make."""

    @abstractmethod
    def constraints(self, plan: BuildPlan) -> str:
        """The pin constraints of a plan."""

    @abstractmethod
    def free_pins(self, mhz: float) -> str:
        """Constraints of a design whose only clock is its port `clk` and whose pins may be anywhere."""

    @abstractmethod
    def synthesize(self, folder: Path, on_line: Callable[[str], None], output: str = "write_json netlist.json") -> None:
        """From `design.il` to `netlist.json`, in `folder`, or to what the Yosys commands `output` write instead.
        Raises `ToolError`."""

    @abstractmethod
    def replicate(self, folder: Path, mhz: float, on_line: Callable[[str], None]) -> None:
        """Give drivers of many cells copies near them, in `netlist.json`, by a placement for a clock of `mhz`; a family
        that does not do so leaves it as it is. Raises `ToolError`."""

    @abstractmethod
    def route(self, folder: Path, seed: int, mhz: float, on_line: Callable[[str], None]) -> Routed:
        """From `netlist.json` and `pins` to `routed`, in `folder`. Raises `ToolError`."""

    @abstractmethod
    def pack(self, folder: Path, on_line: Callable[[str], None]) -> None:
        """From `routed` to `bitstream`, in `folder`. Raises `ToolError`."""

    @property
    @abstractmethod
    def placing(self) -> str:
        """How it replicates and routes, as far as it is neither in `tools` nor in `device`."""

    @property
    @abstractmethod
    def tools(self) -> str:
        """Names and versions of all tools: part of every cache key."""
