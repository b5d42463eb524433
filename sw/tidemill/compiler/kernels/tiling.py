"""What the kernels share: cutting rows into tiles, affine runs, filled rows, tables and parameters."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tidemill.builder import LocalAddress, acc, spad
from tidemill.compiler.context import Context
from tidemill.compiler.ir import Requantize
from tidemill.compiler.memory import OutOfRows, Region, Ring
from tidemill.isa import Post
from tidemill.operands import BufferRef

MAX_N0 = 4095
"""Largest inner count of transfers, matrix and vector instructions."""
MAX_LINES = 1023
"""Largest count of lines and planes of a transfer, and of a window."""
MAX_PAD = 255
"""Largest padding on each side of a line."""
TILES = 8
"""Tiles an operation is cut into where it is large enough: the first load and the last store stay short."""
MIN_TILE = 64
"""Rows below which a tile's fixed cost is more than its overlap is worth."""

Piece = tuple[int, int]
"""(start, count)"""


def pieces(total: int, largest: int, parts: int = TILES) -> list[Piece]:
    """Cut `total` rows into even pieces of at most `largest` (and MAX_N0), `parts` or more where they stay above
    `MIN_TILE` rows."""
    largest = min(largest, MAX_N0)
    count = max(-(-total // largest), min(parts, total // MIN_TILE), 1)
    edges = [total * i // count for i in range(count + 1)]
    return [(low, high - low) for low, high in itertools.pairwise(edges)]


@contextmanager
def taken(*requests: tuple[Ring, int]) -> Iterator[list[Region]]:
    """Regions of the rings, released at the end (also of those taken before one that does not fit)."""
    regions: list[tuple[Ring, Region]] = []
    try:
        for ring, rows in requests:
            regions.append((ring, ring.take(rows)))
        yield [region for _, region in regions]
    finally:
        for ring, region in regions:
            ring.release(region)


@dataclass(frozen=True)
class Nested:
    """`source + i2*s2 + i1*s1 + i0*s0` goes to `target + i2*t2 + i1*t1 + i0*t0`; counts are n0 (innermost), n1, n2."""

    source: int
    target: int
    counts: tuple[int, int, int]
    source_steps: tuple[int, int, int]
    target_steps: tuple[int, int, int]


_Item = tuple[int, int, tuple[tuple[int, int, int], ...]]
"""(source, target, ((count, source step, target step), ...)), innermost first."""


def affine(
    source: NDArray[np.int64], target: NDArray[np.int64], limits: tuple[int, int, int], contiguous: bool
) -> list[Nested]:
    """Pairs (source[i], target[i]) as few nests of affine steps, in order (greedy).

    `limits` bound the counts, innermost first; with `contiguous` the innermost step is 1 on both sides.
    """
    items = _innermost(source, target, limits[0], contiguous)
    for limit in limits[1:]:
        items = _merge(items, limit)
    nests = []
    for first, other, dims in items:
        counts, source_steps, target_steps = zip(*dims, strict=True)
        nests.append(Nested(first, other, counts, source_steps, target_steps))
    return nests


def _innermost(source: NDArray[np.int64], target: NDArray[np.int64], limit: int, contiguous: bool) -> list[_Item]:
    size = len(source)
    a, b = np.diff(source), np.diff(target)
    change = np.flatnonzero((a[1:] != a[:-1]) | (b[1:] != b[:-1])) + 1
    ends = np.append(change, size - 1) if size > 1 else np.zeros(0, np.int64)
    # stop[i]: the last element of the longest run of equal steps that starts at i
    stop = np.repeat(ends, np.diff(np.concatenate(([0], ends)))).tolist()
    steps = list(zip(a.tolist(), b.tolist(), strict=True))
    sources, targets = source.tolist(), target.tolist()
    items: list[_Item] = []
    i = 0
    while i < size:
        last = min(stop[i], i + limit - 1) if i < size - 1 else i
        if last == i + 1 and i + 2 < size and stop[i + 1] > i + 2:
            last = i  # a lone step before a longer run is a gap
        if last > i and contiguous and steps[i] != (1, 1):
            last = i
        step = steps[i] if last > i else ((1, 1) if contiguous else (0, 0))
        items.append((sources[i], targets[i], ((last - i + 1, *step),)))
        i = last + 1
    return items


def _merge(items: list[_Item], limit: int) -> list[_Item]:
    """Join successive items of one form at a constant distance."""
    merged: list[_Item] = []
    i = 0
    while i < len(items):
        source, target, dims = items[i]
        step = (0, 0)
        j = i + 1
        if j < len(items) and items[j][2] == dims:
            step = (items[j][0] - source, items[j][1] - target)
            while (
                j < len(items)
                and j - i < limit
                and items[j][2] == dims
                and (items[j][0] - items[j - 1][0], items[j][1] - items[j - 1][1]) == step
            ):
                j += 1
        merged.append((source, target, (*dims, (j - i, *step))))
        i = j
    return merged


def load(context: Context, dst: LocalAddress, dram: BufferRef, rows: int) -> None:
    """Contiguous rows, any number."""
    row_bytes = context.config.acc_row_bytes if dst.space == "acc" else context.config.spad_row_bytes
    context.stream.ld_stride()
    context.stream.ld_dst()
    for start in range(0, rows, MAX_N0):
        count = min(MAX_N0, rows - start)
        context.stream.ld_run(dst=dst + start, dram=dram + start * row_bytes, n0=count)


def store(context: Context, src: LocalAddress, dram: BufferRef, rows: int) -> None:
    """Contiguous rows, at most MAX_N0."""
    context.stream.st_stride()
    context.stream.st_src()
    context.stream.st_run(src=src, dram=dram, n0=rows)


def gather(context: Context, row: int, dram: BufferRef, nests: list[Nested], row_bytes: int) -> None:
    """Load nests of `affine(..., contiguous=True)`: sources are rows of `row_bytes` from `dram`, targets scratchpad
    rows from `row`."""
    for nest in nests:
        (n0, n1, n2), (_, s1, s2), (_, t1, t2) = nest.counts, nest.source_steps, nest.target_steps
        context.stream.ld_stride(s1=s1 * row_bytes, s2=s2 * row_bytes)
        context.stream.ld_dst(d1=t1, d2=t2)
        context.stream.ld_run(
            dst=spad(row + nest.target), dram=dram + nest.source * row_bytes, n0=n0, n1=n1, n2=n2
        )  # fmt: skip


def fill(context: Context, row: int, dram: BufferRef, rows: int, value: int) -> None:
    """Scratchpad rows from `row` filled with `value`; `dram` is any legal address, nothing is read."""
    while rows:
        line = min(rows, MAX_PAD)
        lines = min(rows // line, MAX_LINES)
        context.stream.ld_stride()
        context.stream.ld_dst(d1=line, pad_lo=line, value=value)
        context.stream.ld_run(dst=spad(row), dram=dram, n0=0, n1=lines)
        row, rows = row + line * lines, rows - line * lines


def set_vector(context: Context, rows: int, a: int = 1, b: int = 1) -> None:
    """Configuration for `rows` result rows, one after another; operand rows `a` and `b` apart."""
    context.stream.vx_dims(n0=rows, d0=1)
    context.stream.vx_astride(n0=a)
    context.stream.vx_bstride(n0=b)


def set_quant(context: Context, requantize: Requantize) -> None:
    """`vx.quant` of a requantization."""
    context.stream.vx_quant(
        zero_point=requantize.zero_point, qmin=requantize.qmin, qmax=requantize.qmax, preshift=requantize.preshift,
        mode=requantize.mode,
    )  # fmt: skip


def set_param(context: Context, ref: BufferRef) -> None:
    """Load three rows of parameters and hand them to the requantizer."""
    context.stream.vx_param(src=acc(context.load_rows(context.parameters, ref, 3)))


def narrow(context: Context, row: int, sums: int, rows: int) -> None:
    """Accumulator rows from `sums`, saturated, to scratchpad rows from `row`."""
    set_vector(context, rows)
    context.stream.vx_add(dst=spad(row), a=acc(sums), b=0, post=Post.NONE)


class RowCache:
    """Accumulator rows of constants, loaded on first use and kept while the ring has room; oldest leave first."""

    def __init__(self, context: Context, ring: Ring) -> None:
        self._context, self._ring = context, ring
        self._regions: dict[tuple[str, int], Region] = {}

    def row(self, ref: BufferRef, rows: int) -> int:
        """The first accumulator row of `rows` rows from `ref`; valid until the next call."""
        key = (ref.buffer, ref.offset)
        if key not in self._regions:
            self._regions[key] = region = self._take(rows)
            load(self._context, acc(region.start), ref, rows)
        return self._regions[key].start

    def _take(self, rows: int) -> Region:
        while True:
            try:
                return self._ring.take(rows)
            except OutOfRows:
                if not self._regions:
                    raise
                self._ring.release(self._regions.pop(next(iter(self._regions))))

    def close(self) -> None:
        """Release everything."""
        for region in self._regions.values():
            self._ring.release(region)
        self._regions.clear()
