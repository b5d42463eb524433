"""Local memory while a program is written: ring allocators, and how tensors lie in rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tidemill.config import Config


class OutOfRows(Exception):
    """A region does not fit; the kernel that planned it planned too large. `zone`, `asked`, `free` are in rows."""

    def __init__(self, zone: str, asked: int, free: int) -> None:
        super().__init__(f"{zone}: {asked} rows asked, {free} free")


@dataclass(frozen=True)
class Region:
    """Rows `start .. start + rows - 1` of a ring."""

    start: int
    rows: int


class Ring:
    """Hands out contiguous rows of `first .. first + rows - 1` in turn, so that a region is reused as late as can be.

    Reuse is safe for the machine whenever it is safe in program order: the scheduler orders whatever touches the same
    rows. So a kernel releases a region once it has *emitted* the last instruction that uses it.
    """

    def __init__(self, name: str, first: int, rows: int) -> None:
        self.name, self.first, self.rows = name, first, rows
        self._next = first
        self._live: list[Region] = []

    def take(self, rows: int) -> Region:
        """The next free region of `rows` rows. Raises OutOfRows where live regions leave no room."""
        end = self.first + self.rows
        for start in (self._next, self.first, *sorted(region.start + region.rows for region in self._live)):
            if start + rows <= end and not any(
                start < live.start + live.rows and live.start < start + rows for live in self._live
            ):
                region = Region(start, rows)
                self._live.append(region)
                self._next = start + rows
                return region
        raise OutOfRows(self.name, rows, self.rows - sum(region.rows for region in self._live))

    def release(self, region: Region) -> None:
        """Give a region back."""
        self._live.remove(region)

    @property
    def position(self) -> int:
        """Where the next region starts, if it fits there."""
        return self._next

    def seek(self, row: int) -> None:
        """Let the next region start at `row`, if it fits there."""
        self._next = row

    def make_room(self, rows: int) -> None:
        """Go back to the first row where `rows` do not fit before the end, so that several regions lie in a row."""
        if self._next + rows > self.first + self.rows:
            self._next = self.first


def blocks_of(channels: int, config: Config) -> int:
    """Rows that one pixel takes: channels in blocks of `config.dim`."""
    return -(-channels // config.dim)


def pack(array: NDArray[np.generic], config: Config) -> NDArray[np.generic]:
    """[..., C] -> rows [blocks, pixels, dim], channels padded with zeros. dtype stays."""
    channels = array.shape[-1] if array.ndim else 1
    flat = array.reshape(-1, channels)
    blocks = blocks_of(channels, config)
    padded = np.zeros((flat.shape[0], blocks * config.dim), array.dtype)
    padded[:, :channels] = flat
    return np.ascontiguousarray(padded.reshape(-1, blocks, config.dim).transpose(1, 0, 2))


def unpack(rows: NDArray[np.generic], shape: tuple[int, ...]) -> NDArray[np.generic]:
    """The inverse of `pack`: rows [blocks, pixels, dim] -> `shape`."""
    channels = shape[-1] if shape else 1
    blocks, pixels, dim = rows.shape
    return rows.transpose(1, 0, 2).reshape(pixels, blocks * dim)[:, :channels].reshape(shape)
