"""A board: its platform, and what is built for it unless somebody says otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from amaranth.build import Platform
from amaranth.hdl import Elaboratable, Module
from amaranth.lib import io

from tidemill.config import Config
from tidemill_fpga.families.family import Family, FitError
from tidemill_fpga.soc.soc import BoardMemory, Soc

ONCHIP = "onchip"
"""The memory that every board has."""

ExternalMemory = Callable[[Module, Platform, Config, float], BoardMemory]
"""Makes the controller of a memory beside the chip for a clock in MHz and connects it to its pins, in a module; the
controller itself is left to the caller to add. Raises `FitError` for a clock that the memory cannot take."""


@dataclass(frozen=True)
class Board:
    """A board that `tidemill build` knows.

    Members
    -------
    name : str: as in `--board`.
    title : str: maker's name of the board and its device.
    platform : callable: a new platform of `amaranth-boards`.
    family : Family
    preset : str: configuration that is built for it.
    mhz : float: clock that is asked for.
    memory : int: bytes of on-chip memory that stand in for DRAM.
    external : mapping of str to ExternalMemory: other memories, by their names in `--memory`.
    loader : tuple of str: options of openFPGALoader that find the board.
    baud : int: bits a second of the serial line.
    """

    name: str
    title: str
    platform: Callable[[], Platform]
    family: Family
    preset: str
    mhz: float
    memory: int
    loader: tuple[str, ...]
    baud: int = 1_000_000
    external: Mapping[str, ExternalMemory] = field(default_factory=dict, hash=False)

    @property
    def memories(self) -> tuple[str, ...]:
        """Names of the board's memories, the usual one first."""
        return (ONCHIP, *self.external)

    def check_memory(self, memory: str) -> None:
        """Raises `FitError` where the board has no memory of this name."""
        if memory not in self.memories:
            raise FitError(f"{self.name} has no memory {memory!r}; it has: {', '.join(self.memories)}")


class BoardTop(Elaboratable):
    """The pins of a board and the `Soc` between them: clock and serial line.

    Parameters
    ----------
    board : Board
    config : Config
    mhz : float
        Clock asked for; the device's clock makes one at or just below it.
    memory : str
        One of `board.memories`.
    """

    def __init__(self, board: Board, config: Config, mhz: float, memory: str = ONCHIP) -> None:
        self._board = board
        self._config = config
        self._mhz = mhz
        self._memory = memory

    def elaborate(self, platform: Platform) -> Module:
        m = Module()
        pin = platform.request(platform.default_clk, dir="-")
        hz = platform.default_clk_constraint.frequency
        mhz = self._board.family.clock(m, pin, hz, self._mhz)
        memory: int | BoardMemory
        if self._memory == ONCHIP:
            memory = self._board.family.memory(self._config, self._board.memory)
        else:
            memory = self._board.external[self._memory](m, platform, self._config, mhz)
        m.submodules.soc = soc = Soc(self._config, memory=memory, clock_hz=round(mhz * 1e6), baud=self._board.baud)
        serial = platform.request("uart", 0, dir="-")
        m.submodules.rx_pin = rx = io.Buffer("i", serial.rx)
        m.submodules.tx_pin = tx = io.Buffer("o", serial.tx)
        m.d.comb += [soc.rx.eq(rx.i), tx.o.eq(soc.tx)]
        return m
