"""The simulator's memories and the walks over their rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tidemill.config import Config
from tidemill.csr import Cause
from tidemill.golden.dma import nest
from tidemill.isa import ACC_SPACE


class MachineFault(Exception):
    """The machine met an error. `progress` counts the rows or points done before it (an estimate of when)."""

    def __init__(self, cause: Cause, info: int, progress: int = 0) -> None:
        super().__init__(f"{cause.name}: {info:#x}")
        self.cause = cause
        self.info = info & 0xFFFF_FFFF
        self.progress = progress


@dataclass(frozen=True)
class Walk:
    """Row distances of a nested walk in order, with their extremes. `repeats`: some row occurs twice."""

    offsets: np.ndarray
    low: int
    high: int
    repeats: bool


@lru_cache(maxsize=4096)
def walk(*levels: tuple[int, int]) -> Walk:
    """The walk with `levels` of (count, stride), outermost first."""
    counts, strides = zip(*reversed(levels), strict=True)
    offsets = nest(0, counts, strides).reshape(-1)
    repeats = len(np.unique(offsets)) != len(offsets)
    offsets.flags.writeable = False
    return Walk(offsets, int(offsets.min()), int(offsets.max()), repeats)


class LocalMemory:
    """Scratchpad and accumulators. `spad` is int8 [spad_rows, R], `acc` int32 [acc_rows, C]; zero at power-up."""

    def __init__(self, config: Config) -> None:
        self.spad = np.zeros((config.spad_rows, config.rows), np.int8)
        self.acc = np.zeros((config.acc_rows, config.cols), np.int32)
        self.spad_bytes = self.spad.view(np.uint8)
        self.acc_bytes = self.acc.view(np.uint8)

    def bytes_of(self, address: int) -> np.ndarray:
        """The memory that local address `address` selects, as uint8 [rows, bytes of a row]."""
        return self.acc_bytes if address & ACC_SPACE else self.spad_bytes

    def rows_of(self, address: int) -> np.ndarray:
        """The memory that local address `address` selects."""
        return self.acc if address & ACC_SPACE else self.spad


def legal_rows(address: int, steps: Walk, depth: int, *, space: bool | None = None) -> tuple[np.ndarray, int | None]:
    """Rows that `steps` touch from local address `address` in a memory of `depth` rows, and the position of the
    first one outside the memory (None: all inside). With `space` the address must lie in the accumulators (True)
    or the scratchpad (False); otherwise the very first row is illegal."""
    row = address & (ACC_SPACE - 1)
    rows = steps.offsets + row
    if space is not None and bool(address & ACC_SPACE) != space:
        return rows, 0
    if row + steps.low >= 0 and row + steps.high < depth:
        return rows, None
    return rows, int(np.argmax((rows < 0) | (rows >= depth)))
