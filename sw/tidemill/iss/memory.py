"""The simulator's memories and the walks over their rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np

from tidemill.config import Config
from tidemill.csr import Cause
from tidemill.golden.dma import nest
from tidemill.isa import ACC_SPACE

Levels = tuple[tuple[int, int], ...]
"""(count, stride) of nested loops, outermost first."""


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


LONG_WALK = 1 << 18
"""Points from which on a walk is cut behind its first fault before its rows are written out."""


def first_outside(address: int, levels: Levels, depth: int, *, space: bool | None = None) -> int | None:
    """Position of the first row outside a memory of `depth` rows on the walk of `levels` from local address `address`;
    None where there is none. `space` as for `legal_rows`. Takes no time or memory, however long the walk is."""
    row = address & (ACC_SPACE - 1)
    if not 0 <= row < depth or (space is not None and bool(address & ACC_SPACE) != space):
        return 0
    position = 0
    for at, (count, stride) in enumerate(levels):
        inner = levels[at + 1 :]
        low = row + sum(min(0, (n - 1) * s) for n, s in inner)
        high = row + sum(max(0, (n - 1) * s) for n, s in inner)
        if low < 0 or high >= depth:
            continue
        if stride == 0:
            return None
        steps = (depth - 1 - high) // stride + 1 if stride > 0 else low // -stride + 1
        if steps >= count:
            return None
        position += steps * prod(n for n, _ in inner)
        row += steps * stride
    return position


def cut(levels: Levels, points: int) -> Levels:
    """The outer levels of a walk with fewer turns, so that it still has its first `points` points, and at most as many
    again."""
    done = []
    for at, (count, stride) in enumerate(levels):
        turns = min(count, -(-points // prod(n for n, _ in levels[at + 1 :])))
        done.append((turns, stride))
        if turns > 1:
            return (*done, *levels[at + 1 :])
    return tuple(done)


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
