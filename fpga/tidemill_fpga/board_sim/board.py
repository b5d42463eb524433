"""A simulated board as a Python object: bytes and worse on its serial line."""

from __future__ import annotations

import ctypes
import enum
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from tidemill.config import Config
from tidemill_fpga.board_sim.build import library
from tidemill_fpga.board_sim.sdram import SimulatedSdram
from tidemill_fpga.soc.bridge import divisor

CLOCK_HZ = 50_000
"""What the simulation of a small NPU reaches on a very busy machine: board and host then agree on time-outs."""
BAUD = CLOCK_HZ // 4
MEMORY = 256 << 10
_POWER_ON_CYCLES = 16


class Kind(enum.IntEnum):
    """What a symbol on the line is."""

    BYTE = 0
    BAD_STOP = 1
    LOW = 2
    PAUSE = 3


def symbol(kind: Kind, value: int) -> int:
    """A symbol for `Board.send`: a byte's value, or bit times of LOW and PAUSE."""
    return kind << 24 | value


class RuleBroken(RuntimeError):
    """The board broke a rule of its SDRAM; the message names it."""


class Board:
    """A board with the NPU of `config` and `memory`, bytes on chip or an SDRAM; its time passes in `run` alone.

    Raises `BuildError` and `ToolchainError` where it cannot be built, ValueError for impossible parameters.
    """

    def __init__(
        self,
        config: Config,
        *,
        memory: int | SimulatedSdram = MEMORY,
        clock_hz: int = CLOCK_HZ,
        baud: int = BAUD,
    ) -> None:
        self.config = config
        self.clock_hz = clock_hz
        self.baud = baud
        self._lib = _load(library(config, memory, clock_hz, baud))
        times = memory.times if isinstance(memory, SimulatedSdram) else ()
        self._handle = self._lib.bs_open(divisor(clock_hz, baud), (ctypes.c_double * len(times))(*times))
        self._received = ctypes.create_string_buffer(4096)
        self.reset()

    def reset(self) -> None:
        """Reset the logic, as power does; memories keep their content."""
        self._lib.bs_reset(self._handle, _POWER_ON_CYCLES)

    def send(self, symbols: Iterable[int]) -> None:
        """Queue symbols (plain bytes among them) for the board's input."""
        values = list(symbols)
        self._lib.bs_send(self._handle, (ctypes.c_uint32 * len(values))(*values), len(values))

    @property
    def pending(self) -> int:
        """Symbols that have not passed yet."""
        return int(self._lib.bs_pending(self._handle))

    def run(self, cycles: int) -> None:
        """Let `cycles` pass. Raises `RuleBroken`."""
        self._lib.bs_run(self._handle, cycles)
        if broken := self._lib.bs_broken(self._handle):
            raise RuleBroken(f"SDRAM, {broken.decode()}")

    def receive(self) -> bytes:
        """The bytes that the board has sent since the last call, 4096 at most."""
        count = self._lib.bs_receive(self._handle, self._received, len(self._received))
        return self._received.raw[:count]

    @property
    def cycle(self) -> int:
        """Cycles since power-up."""
        return int(self._lib.bs_cycle(self._handle))

    @property
    def quiet(self) -> int:
        """Cycles since anything moved on the line."""
        return int(self._lib.bs_quiet(self._handle))

    @property
    def locked(self) -> bool:
        """The link's lock."""
        return bool(self._lib.bs_locked(self._handle))

    def close(self) -> None:
        """Free the simulation; nothing may be called afterwards."""
        if self._handle is not None:
            self._lib.bs_close(self._handle)
            self._handle = None


@cache
def _load(path: Path) -> ctypes.CDLL:
    lib = ctypes.CDLL(str(path))
    handle, u32, u64 = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64
    for name, result, arguments in (
        ("bs_open", handle, [u32, ctypes.POINTER(ctypes.c_double)]),
        ("bs_close", None, [handle]),
        ("bs_reset", None, [handle, u32]),
        ("bs_send", None, [handle, ctypes.POINTER(u32), u32]),
        ("bs_pending", u32, [handle]),
        ("bs_run", None, [handle, u64]),
        ("bs_receive", u32, [handle, ctypes.c_char_p, u32]),
        ("bs_cycle", u64, [handle]),
        ("bs_quiet", u64, [handle]),
        ("bs_broken", ctypes.c_char_p, [handle]),
        ("bs_locked", ctypes.c_int, [handle]),
    ):
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib
