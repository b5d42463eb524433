"""Data movement: any output byte from any input byte.

Everything is seen as scratchpad rows of `dim` bytes (an int32 row is four). Where an output row is one input row as it
is, or filled, the DMA alone moves it. Elsewhere each output row is a sum of input rows whose lanes a 0/1 weight tile
selects and moves: rows that need the same tile go through the array together, and the vector engine brings the sums
back to int8 (exactly, as every lane has one addend that is not zero).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tidemill.builder import acc, spad
from tidemill.compiler.context import Context
from tidemill.compiler.ir import ModelError, Move
from tidemill.compiler.kernels.tiling import (
    MAX_LINES,
    MAX_N0,
    MIN_TILE,
    TILES,
    affine,
    fill,
    gather,
    narrow,
    pieces,
    store,
    taken,
)
from tidemill.operands import BufferRef

Rows = NDArray[np.int64]

ANY = -1
"""Source of a lane whose value does not matter."""
FEW_TILES = 16
"""With more weight tiles than this, local memory is filled by few large pieces: each piece loads them again."""
SHORT_LINE = 4
"""Rows a line has on average where the DMA copies alone: shorter ones are better loaded in order and sorted by the
array, since every line costs the DMA some cycles."""
DMA_LIMITS = (MAX_N0, MAX_LINES, MAX_LINES)
MATRIX_LIMITS = (MAX_N0, MAX_N0, MAX_N0)


def emit_move(context: Context, op: Move) -> None:
    """y.flat[i] = inputs.flat[index.flat[i]] or fill."""
    if op.y.size:
        _Mover(context, op).emit()


@dataclass(frozen=True)
class _Source:
    """Rows `first .. end - 1` of all source rows lie from `ref` on."""

    ref: BufferRef
    first: int
    end: int


@dataclass(frozen=True)
class _Selection:
    """Output rows `target` take lanes of input rows `source` through weight tile `tile`; `later` ones add to what an
    earlier one wrote. Sorted by target."""

    target: Rows
    source: Rows
    tile: Rows
    later: NDArray[np.bool_]

    def within(self, start: int, end: int) -> _Selection:
        """Those of output rows `start .. end - 1`."""
        part = slice(*np.searchsorted(self.target, (start, end)))
        return _Selection(self.target[part], self.source[part], self.tile[part], self.later[part])


def _runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Runs of equal flags: (first, past the last)."""
    return list(itertools.pairwise([0, *(np.flatnonzero(np.diff(flags)) + 1).tolist(), len(flags)]))


class _Mover:
    def __init__(self, context: Context, op: Move) -> None:
        self.context, self.dim = context, context.config.dim
        self.width = 4 if op.y.dtype == "int32" else 1
        self.y = context.place(op.y)
        self.value = self._fill_byte(op)
        self.sources: list[_Source] = []
        self.filled = 0
        """The row after those of the inputs: one that holds `value`."""
        self.rows, self.lanes = self._origins(op)
        plain = self.rows.max(axis=1)
        care = self.rows != ANY
        own = (self.lanes == np.arange(self.dim)) | (self.rows == self.filled)
        self.plain = np.where((((self.rows == plain[:, None]) & own) | ~care).all(axis=1), plain, ANY)
        """The input row an output row is, or ANY where it is made of several or its lanes move."""

    def _fill_byte(self, op: Move) -> int:
        parts = np.array(op.fill, op.y.dtype).reshape(1).view(np.int8)
        if (op.index < 0).any() and (parts != parts[0]).any():
            raise ModelError(f"node {op.name!r} ({op.source}): int32 can be filled with a number of four equal bytes "
                             f"(such as 0), not with {op.fill}")  # fmt: skip
        return int(parts[0])

    def _origins(self, op: Move) -> tuple[Rows, Rows]:
        """Source row and lane of every lane of every output row: [output rows, dim] each."""
        starts = np.cumsum([0, *(tensor.size for tensor in op.inputs)])
        first = 0
        offsets = []
        for tensor in op.inputs:
            place = self.context.place(tensor)
            count = place.blocks * place.pixels * self.width
            self.sources.append(_Source(place.ref, first, first + count))
            offsets.append(first)
            first += count
        self.filled = first
        index = op.index.reshape(-1)
        which = np.searchsorted(starts, index, side="right") - 1
        which[index < 0] = 0
        local = index - starts[which]
        channels = np.array([tensor.channels for tensor in op.inputs], np.int64)[which]
        pixels = np.array([tensor.pixels for tensor in op.inputs], np.int64)[which]
        pixel, channel = np.divmod(local, channels)
        row = (channel // self.dim * pixels + pixel) * self.width + np.array(offsets, np.int64)[which]
        lane = channel % self.dim
        # Bytes of each element, then lanes beyond the last channel.
        byte = lane[:, None] * self.width + np.arange(self.width)
        row = np.where(index[:, None] < 0, self.filled, row[:, None] + byte // self.dim)
        shape = (self.y.pixels, op.y.channels, self.width)
        found = []
        for values, rest in ((row, ANY), (byte % self.dim, 0)):
            padded = np.full((self.y.pixels, self.y.blocks * self.dim, self.width), rest, np.int64)
            padded[:, : op.y.channels] = values.reshape(shape)
            blocks = padded.reshape(self.y.pixels, self.y.blocks, self.dim * self.width).transpose(1, 0, 2)
            found.append(blocks.reshape(-1, self.dim))
        return found[0], found[1]

    def emit(self) -> None:
        """The whole operation: runs of blocks that the DMA can copy, and the others."""
        block_rows = self.y.pixels * self.width
        plain = (self.plain.reshape(self.y.blocks, block_rows) != ANY).all(axis=1)
        if not plain.all():
            for low, high in _runs(plain):
                plain[low:high] &= (high - low) * block_rows >= MIN_TILE
        for low, high in _runs(plain):
            first, end = low * block_rows, high * block_rows
            lines = 1 + int(np.count_nonzero(np.diff(self.plain[first:end]) != 1))
            filled = int(np.count_nonzero(self.plain[first:end] == self.filled))
            if plain[low] and (lines - filled) * SHORT_LINE <= end - first:
                self._copies(first, end)
            else:
                self._selections(first, end)

    def _copies(self, first: int, end: int) -> None:
        for offset, count in pieces(end - first, self.context.inputs.rows // 4):
            start = first + offset
            with taken((self.context.inputs, count)) as [inputs]:
                self._gather(inputs.start, self.plain[start : start + count])
                store(self.context, spad(inputs.start), self.y.ref + start * self.dim, count)

    def _gather(self, row: int, wanted: Rows) -> None:
        """Source rows `wanted` into scratchpad rows from `row`."""
        local = np.arange(len(wanted))
        for source in self.sources:
            chosen = (wanted >= source.first) & (wanted < source.end)
            if chosen.any():
                nests = affine(wanted[chosen] - source.first, local[chosen], DMA_LIMITS, contiguous=True)
                gather(self.context, row, source.ref, nests, self.dim)
        filled = np.flatnonzero(wanted == self.filled)
        for run in np.split(filled, np.flatnonzero(np.diff(filled) != 1) + 1):
            if len(run):
                fill(self.context, row + int(run[0]), self.y.ref, len(run), self.value)

    def _selections(self, first: int, end: int) -> None:
        context = self.context
        selection, tiles = self._select(first, end)
        ref = context.stream.constant(tiles, "selection")
        limit = context.inputs.rows // 4
        few = len(tiles) <= FEW_TILES
        largest = min(context.sums.rows // 2, context.outputs.rows // (4 if few else 2))
        parts = TILES if few and len(tiles) > 1 else 1
        queue = [(first + start, first + start + count) for start, count in
                 pieces(end - first, largest, parts)][::-1]  # fmt: skip
        with ExitStack() as stack:
            resident = None
            if len(tiles) * self.dim <= context.weights.rows // 2:
                [weights] = stack.enter_context(taken((context.weights, len(tiles) * self.dim)))
                self._load_tiles(weights.start, ref, np.arange(len(tiles)))
                resident = weights.start
            while queue:
                start, stop = queue.pop()
                part = selection.within(start, stop)
                wanted, local = np.unique(part.source, return_inverse=True)
                if len(wanted) > limit:
                    middle = (start + stop) // 2
                    queue += [(middle, stop), (start, middle)]
                    continue
                self._piece(start, stop, part, wanted, local, ref, resident)

    def _select(self, first: int, end: int) -> tuple[_Selection, NDArray[np.int8]]:
        """Selections of output rows `first .. end - 1`, and the weight tiles int8 [n, dim, dim]."""
        rows, lanes = self.rows[first:end], self.lanes[first:end]
        left = rows != ANY
        targets = np.arange(first, end)
        # A tile's name: a random sum over its lanes, distinct for all that occur but for a chance of 2**-40.
        names = np.random.default_rng(1).integers(1, 1 << 62, (self.dim, self.dim), dtype=np.int64)
        columns = np.arange(self.dim)
        parts: list[tuple[Rows, Rows, Rows, Rows]] = []
        shapes: dict[int, tuple[Rows, NDArray[np.bool_]]] = {}
        while len(rows):
            lowest = np.where(left, rows, self.filled).min(axis=1)
            taken_now = left & (rows == lowest[:, None])
            name = np.where(taken_now, names[lanes, columns], 0).sum(axis=1)
            # A fill with zeros is what a lane without addends holds.
            kept = slice(None) if not parts or self.value else lowest != self.filled
            for key, at in zip(*np.unique(name, return_index=True), strict=True):
                shapes.setdefault(int(key), (lanes[at], taken_now[at]))
            later = np.full(len(targets), len(parts) > 0)
            parts.append((targets[kept], lowest[kept], name[kept], later[kept]))
            left &= ~taken_now
            more = left.any(axis=1)
            rows, lanes, left, targets = rows[more], lanes[more], left[more], targets[more]
        target, source, name, later = (np.concatenate(column) for column in zip(*parts, strict=True))
        used, tile = np.unique(name, return_inverse=True)
        tiles = np.zeros((len(used), self.dim, self.dim), np.int8)
        for number, key in enumerate(used):
            lane, member = shapes[int(key)]
            tiles[number, lane[member], columns[member]] = 1
        order = np.argsort(target, kind="stable")
        return _Selection(target[order], source[order], tile[order], later[order].astype(bool)), tiles

    def _load_tiles(self, row: int, ref: BufferRef, numbers: Rows) -> None:
        rows = (numbers[:, None] * self.dim + np.arange(self.dim)).reshape(-1)
        gather(self.context, row, ref, affine(rows, np.arange(len(rows)), DMA_LIMITS, contiguous=True), self.dim)

    def _piece(
        self, start: int, stop: int, part: _Selection, wanted: Rows, local: Rows, ref: BufferRef, resident: int | None
    ) -> None:
        """Output rows `start .. stop - 1` from the input rows `wanted`."""
        context = self.context
        count = stop - start
        with taken((context.sums, count), (context.outputs, count)) as [sums, outputs]:
            with taken((context.inputs, len(wanted))) as [inputs]:
                self._gather(inputs.start, wanted)
                for weights, later, chosen in self._groups(part, ref, resident):
                    nests = affine(local[chosen], part.target[chosen] - start, MATRIX_LIMITS, contiguous=False)
                    context.stream.mx_wload(src=spad(weights))
                    for number, nest in enumerate(nests):
                        self._run(nest.counts, nest.source_steps, nest.target_steps)
                        context.stream.mx_run(
                            act=spad(inputs.start + nest.source), acc=acc(sums.start + nest.target),
                            accumulate=int(later), swap=int(number == 0),
                        )  # fmt: skip
            narrow(context, outputs.start, sums.start, count)
            store(context, spad(outputs.start), self.y.ref + start * self.dim, count)

    def _run(self, counts: tuple[int, int, int], source: tuple[int, int, int], target: tuple[int, int, int]) -> None:
        self.context.stream.mx_act(
            n0=counts[0], n1=counts[1], n2=counts[2], s0=source[0], s1=source[1], s2=source[2]
        )  # fmt: skip
        self.context.stream.mx_acc(t0=target[0], t1=target[1], t2=target[2])

    def _groups(self, part: _Selection, ref: BufferRef, resident: int | None) -> Iterator[tuple[int, bool, Rows]]:
        """Selections with the same weight tile, those that write first: (the tile's row, later, positions in `part`).

        Tiles that are not resident are loaded a few at a time.
        """
        key = part.later * (1 + int(part.tile.max())) + part.tile
        order = np.argsort(key, kind="stable")
        edges = np.flatnonzero(np.diff(key[order])) + 1
        groups = np.split(order, edges)
        chunk = max(1, self.context.weights.rows // 4 // self.dim)
        for begin in range(0, len(groups), chunk):
            some = groups[begin : begin + chunk]
            numbers = np.array([part.tile[group[0]] for group in some])
            with ExitStack() as stack:
                if resident is None:
                    [weights] = stack.enter_context(taken((self.context.weights, len(some) * self.dim)))
                    self._load_tiles(weights.start, ref, numbers)
                    first, places = weights.start, np.arange(len(some))
                else:
                    first, places = resident, numbers
                for place, group in zip(places, some, strict=True):
                    yield first + int(place) * self.dim, bool(part.later[group[0]]), group
