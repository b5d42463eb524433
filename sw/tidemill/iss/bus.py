"""The simulated bus: which accesses to DRAM are answered with an error."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tidemill.csr import Cause
from tidemill.driver.device import ErrorRange

_CAUSES = {"slverr": Cause.BUS_SLVERR, "decerr": Cause.BUS_DECERR}


@dataclass(frozen=True)
class Bus:
    """DRAM of `size` bytes on a bus of `width` bytes whose bursts end at multiples of `burst` bytes.

    Beats that touch a range of `errors` answer with its error (the first such range counts), beats beyond the memory
    with DECERR.
    """

    size: int
    width: int
    burst: int
    errors: tuple[ErrorRange, ...] = ()

    def beats(self, first: int, nbytes: int) -> Iterator[int]:
        """Addresses of the beats that hold `nbytes` from `first`."""
        return iter(range(first // self.width * self.width, first + nbytes, self.width))

    def response(self, beat: int, *, write: bool) -> Cause | None:
        """The error that the beat at `beat` is answered with, if any."""
        for first, last, kind, direction in self.errors:
            if (direction == "write") == write and beat <= last and beat + self.width > first:
                return _CAUSES[kind]
        return None if beat + self.width <= self.size else Cause.BUS_DECERR

    def first_error(self, first: int, nbytes: int, *, write: bool) -> tuple[int, Cause] | None:
        """(beat, error) of the first bad beat among those that hold `nbytes` from `first`."""
        for beat in self.beats(first, nbytes):
            if (cause := self.response(beat, write=write)) is not None:
                return beat, cause
        return None

    def suspects(self, lines: np.ndarray, nbytes: int, *, write: bool) -> np.ndarray:
        """Which of the lines of `nbytes` from the addresses `lines` meet an error: bool [lines]."""
        begin = lines // self.width * self.width
        end = -(-(lines + nbytes) // self.width) * self.width
        bad = end > self.size
        for first, last, _, direction in self.errors:
            if (direction == "write") == write:
                bad = bad | ((begin <= last) & (end > first))
        return bad

    def burst_of(self, line: int, beat: int) -> int:
        """First byte, of those that belong to the line from `line`, of the burst that `beat` is in."""
        return max(line, beat // self.burst * self.burst)
