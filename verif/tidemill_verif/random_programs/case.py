"""One random program with everything needed to run it again: memories, windows, options of the bus."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tidemill.config import Config
from tidemill.driver.device import ErrorRange
from tidemill.isa import INSTRUCTION_BYTES
from tidemill.iss.device import PROG_LEN_BITS
from tidemill.program import Program

MEM_SIZE = 1 << 18
"""Bytes of DRAM, from address 0."""
PARAMETERS_EVERY, PARAMETERS_AT = 16, 12
"""In memories that hold rows of int32, rows 12 to 14 of every 16 are bias, multiplier and shift of a requantization."""
_POOL = 1 << 20


@dataclass(frozen=True)
class Bus:
    """Options of the memory behind the bus; see `RtlDevice.set_timing`."""

    read_latency: int = 20
    write_latency: int = 6
    bandwidth: float = 1.0
    stall_probability: float = 0.0
    seed: int = 0
    interleave: bool = False
    early_data: bool = False


@dataclass(frozen=True)
class Case:
    """A program in DRAM at `address`, run with these windows (first and last byte) and this bus.

    `image` seeds the content of all memories before the program is written into DRAM. `prog_addr` and `prog_len` are
    what the registers are written with where that is not `address` and the number of `words`. With `guarded` the
    hardware's bus answers SLVERR to every read outside the read window and the program, and to every write outside the
    write window: an access that slips through ends the program.
    """

    config: Config
    seed: int
    words: tuple[int, ...]
    address: int
    read_window: tuple[int, int]
    write_window: tuple[int, int]
    image: int
    bus: Bus = Bus()
    watchdog: int = 50_000
    prog_addr: int | None = None
    prog_len: int | None = None
    guarded: bool = False

    @property
    def program(self) -> Program:
        """The instructions alone, for checker and disassembler."""
        return Program(self.config, self.words)

    @property
    def code(self) -> bytes:
        """The instructions as they lie in DRAM."""
        return b"".join(word.to_bytes(INSTRUCTION_BYTES, "little") for word in self.words)

    @property
    def start(self) -> tuple[int, int]:
        """What PROG_ADDR and PROG_LEN are written with."""
        address = self.address if self.prog_addr is None else self.prog_addr
        return address, len(self.words) if self.prog_len is None else self.prog_len

    @property
    def kept_start(self) -> tuple[int, int]:
        """What the registers then hold."""
        address, length = self.start
        return address & -INSTRUCTION_BYTES, length & (1 << PROG_LEN_BITS) - 1

    @property
    def guards(self) -> tuple[ErrorRange, ...]:
        """The ranges of DRAM that answer with an error; whole beats."""
        if not self.guarded:
            return ()
        address, length = self.kept_start
        code = address, address + length * INSTRUCTION_BYTES - 1
        beat = self.config.axi_bytes
        return (
            *((first, last, "slverr", "read") for first, last in _outside(beat, self.read_window, code)),
            *((first, last, "slverr", "write") for first, last in _outside(beat, self.write_window)),
        )

    def with_words(self, words: tuple[int, ...]) -> Case:
        """The same with other instructions, which need no more room."""
        return replace(self, words=words)


def _outside(beat: int, *windows: tuple[int, int]) -> list[tuple[int, int]]:
    """What none of `windows`, widened to whole beats, holds of DRAM: first and last bytes."""
    found, first = [], 0
    for low, high in sorted(window for window in windows if window[0] <= window[1]):
        if low // beat * beat > first:
            found.append((first, min(low // beat * beat, MEM_SIZE) - 1))
        first = max(first, high // beat * beat + beat)
        if first >= MEM_SIZE:
            return found
    return [*found, (first, MEM_SIZE - 1)]


@dataclass(frozen=True)
class Image:
    """Content of the memories before the program starts. `dram` uint8 [MEM_SIZE] without the program, `spad` int8
    [spad_rows, R], `acc` int32 [acc_rows, C], `table` int32 [256]."""

    dram: NDArray[np.uint8]
    spad: NDArray[np.int8]
    acc: NDArray[np.int32]
    table: NDArray[np.int32]


def image(config: Config, seed: int) -> Image:
    """Random memories: bytes and words of all sizes and corners, and parameters of requantizations."""
    pool = _pool(config.cols)
    rng = np.random.Generator(np.random.PCG64(seed))
    block = PARAMETERS_EVERY * config.acc_row_bytes

    def cut(nbytes: int) -> NDArray[np.uint8]:
        start = int(rng.integers((_POOL - nbytes) // block)) * block
        return pool[start : start + nbytes].copy()

    dram = cut(MEM_SIZE)
    spad = cut(config.spad_rows * config.spad_row_bytes).view(np.int8).reshape(config.spad_rows, -1)
    acc = cut(config.acc_rows * config.acc_row_bytes).view(np.int32).reshape(config.acc_rows, -1)
    return Image(dram, spad, acc, cut(1024).view(np.int32))


@lru_cache(maxsize=4)
def _pool(cols: int) -> NDArray[np.uint8]:
    """Bytes that images are cut from: rows of `cols` int32."""
    rng = np.random.Generator(np.random.PCG64(2026))
    rows = _POOL // (4 * cols)
    words = rng.integers(-(1 << 31), 1 << 31, (rows, cols))
    kinds = rng.integers(0, 8, rows)
    words[kinds == 0] >>= 24
    words[kinds == 1] >>= 8
    small = words >> rng.integers(0, 32, (rows, cols))
    words = np.where((kinds == 2)[:, None], small, words)
    ends = rng.choice([-(1 << 31), (1 << 31) - 1, 0, 1, -1, 127, -128, 1 << 30, -(1 << 30)], (rows, cols))
    words = np.where((kinds == 3)[:, None], ends, words)
    ends8 = rng.choice([-128, 127, 0, 1, -1], (rows, cols * 4)).astype(np.int8).view(np.int32)
    words = np.where((kinds == 4)[:, None], ends8, words)
    blocks = rows // PARAMETERS_EVERY
    shape = (blocks, cols)
    at = np.arange(blocks) * PARAMETERS_EVERY + PARAMETERS_AT
    words[at] = rng.integers(-(1 << 31), 1 << 31, shape) >> rng.integers(0, 32, shape)
    likely = rng.integers(1 << 30, 1 << 31, shape)
    corner = rng.choice([0, 1, (1 << 31) - 1, 1 << 30, -1, -(1 << 31), 127 << 24], shape)
    plain = rng.integers(4, 8, shape) << 28
    anything = rng.integers(-(1 << 31), 1 << 31, shape) >> rng.integers(0, 32, shape)
    pick = rng.integers(0, 6, shape)
    words[at + 1] = np.select([pick == 0, pick == 1, pick <= 3], [corner, anything, plain], likely)
    usual = rng.integers(-14, 4, shape)
    limits = rng.choice([-31, -30, 31, 30, -32, 32, -128, 127, 0, -1, 1], shape)
    pick = rng.integers(0, 8, shape)
    words[at + 2] = np.select([pick == 0, pick == 1], [limits, rng.integers(-31, 32, shape)], usual)
    return np.ascontiguousarray(words.astype(np.int32)).view(np.uint8).reshape(-1)
