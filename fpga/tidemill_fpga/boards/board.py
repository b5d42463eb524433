"""A board: its platform, and what is built for it unless somebody says otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from amaranth.build import Platform
from amaranth.hdl import Elaboratable, Module
from amaranth.lib import io

from tidemill.config import Config
from tidemill_fpga.families.family import Family
from tidemill_fpga.soc.soc import Soc


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


class BoardTop(Elaboratable):
    """The pins of a board and the `Soc` between them: clock and serial line.

    Parameters
    ----------
    board : Board
    config : Config
    mhz : float
        Clock asked for; the device's clock makes one at or just below it.
    """

    def __init__(self, board: Board, config: Config, mhz: float) -> None:
        self._board = board
        self._config = config
        self._mhz = mhz

    def elaborate(self, platform: Platform) -> Module:
        m = Module()
        pin = platform.request(platform.default_clk, dir="-")
        hz = platform.default_clk_constraint.frequency
        mhz = self._board.family.clock(m, pin, hz, self._mhz)
        memory = self._board.family.memory(self._config, self._board.memory)
        m.submodules.soc = soc = Soc(self._config, memory=memory, clock_hz=round(mhz * 1e6), baud=self._board.baud)
        serial = platform.request("uart", 0, dir="-")
        m.submodules.rx_pin = rx = io.Buffer("i", serial.rx)
        m.submodules.tx_pin = tx = io.Buffer("o", serial.tx)
        m.d.comb += [soc.rx.eq(rx.i), tx.o.eq(soc.tx)]
        return m
