"""Constants that a kernel needs one after another, loaded in pieces just before their first use."""

from __future__ import annotations

from bisect import bisect_right

from tidemill.compiler.context import Context
from tidemill.compiler.kernels.transfer import load
from tidemill.compiler.memory import Region, Ring
from tidemill.operands import BufferRef, LocalAddress

LOAD_ROWS = 128
"""Rows of one piece: long enough for the bus, short enough that the first use need not wait long."""
PREFETCH = 3
"""Pieces that are loaded before anything else, where they stay."""


class Pieces:
    """`units` of `unit_rows` rows each, contiguous in DRAM at `ref`, in local memory `ring` of `space`.

    With `keep` every piece stays until `close`, all in one region, so that nothing is left over between them; else only
    the piece used last is held, so the next one lands beside it.
    """

    def __init__(
        self, context: Context, ring: Ring, space: str, ref: BufferRef, unit_rows: int, units: int, keep: bool
    ) -> None:
        self._stream, self._ring, self._space, self._ref = context.stream, ring, space, ref
        self._unit_rows, self._keep = unit_rows, keep
        config = context.config
        self._row_bytes = config.acc_row_bytes if space == "acc" else config.spad_row_bytes
        size = max(1, min(LOAD_ROWS, ring.rows // 2) // unit_rows)
        # The first pieces grow, so that work can begin early; a piece has at least `dim` rows.
        grown = -(-context.config.dim // unit_rows)
        self._edges = [0]
        while self._edges[-1] < units:
            self._edges.append(min(self._edges[-1] + min(grown, size), units))
            grown *= 2
        self.rows = units * unit_rows
        self._regions: dict[int, Region] = {}
        self._whole: Region | None = None

    def prefetch(self) -> None:
        """Load the first pieces, so that they are there before the operation's input is."""
        for piece in range(min(PREFETCH if self._keep else 1, len(self._edges) - 1)):
            self.at(self._edges[piece])

    def at(self, unit: int) -> LocalAddress:
        """First row of a unit; loads its piece where it is not there. Valid until the next call, with `keep` until
        `close`. Raises OutOfRows."""
        piece = bisect_right(self._edges, unit) - 1
        first = self._edges[piece]
        if piece not in self._regions:
            if not self._keep:
                self.close()
            rows = (self._edges[piece + 1] - first) * self._unit_rows
            region = self._regions[piece] = self._take(first * self._unit_rows, rows)
            source = self._ref + first * self._unit_rows * self._row_bytes
            load(self._stream, LocalAddress(self._space, region.start), source, rows)
        return LocalAddress(self._space, self._regions[piece].start + (unit - first) * self._unit_rows)

    def _take(self, first: int, rows: int) -> Region:
        if not self._keep:
            return self._ring.take(rows)
        if self._whole is None:
            self._whole = self._ring.take(self.rows)
        return Region(self._whole.start + first, rows)

    def close(self) -> None:
        """Give all rows back."""
        for region in [self._whole] if self._whole is not None else self._regions.values():
            self._ring.release(region)
        self._whole = None
        self._regions.clear()
