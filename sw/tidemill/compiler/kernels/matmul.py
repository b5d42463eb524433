"""`MatMul`: the product of two activations.

The second operand's rows in DRAM, [block of n][k][dim], are weight tiles already; the last ones are filled up with
zeros, so whatever lies in the first operand's lanes beyond K is multiplied by zero. Zero points are taken out exactly:

    sum (x - xz) * (w - wz) = sum x * w + sum x * (-wz) + sum (-xz) * (w + (-wz))

The second sum is a product with constant tiles of -wz. The third is the same for every row of x: one row of -xz goes
through every tile, and its result is added to all rows by the instruction that requantizes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tidemill.compiler.context import Context
from tidemill.compiler.ir import MatMul, ModelError
from tidemill.compiler.kernels.conv import take_sums
from tidemill.compiler.kernels.conv_plan import Chunk, Geometry, Room, Span, cut
from tidemill.compiler.kernels.finish import Finish
from tidemill.compiler.kernels.pieces import Pieces
from tidemill.compiler.kernels.transfer import MAX_ROWS, fill, load
from tidemill.compiler.kernels.window import Window, Windows
from tidemill.compiler.memory import Region, blocks_of
from tidemill.isa import Post
from tidemill.operands import LocalAddress, acc, spad

PREFERRED_ROWS = 256
"""Rows of an output tile at most: long enough to hide weight loads, short enough to overlap with the neighbours."""
ONE_TAP = range(1)


def int8_terms(value: int) -> list[int]:
    """int8 numbers other than zero whose sum is `value`; none for zero."""
    terms = []
    while value:
        terms.append(max(-128, min(127, value)))
        value -= terms[-1]
    return terms


@dataclass(frozen=True)
class _Sums:
    """Accumulator rows of one output block: `rows` sums, then the row that is added to all of them."""

    start: int
    rows: int

    @property
    def extra(self) -> LocalAddress:
        """The row that is added to all."""
        return acc(self.start + self.rows)


def emit_matmul(context: Context, op: MatMul) -> None:
    """Append a product of two activations to the stream. Raises ModelError, OutOfRows."""
    _MatMul(context, op).emit()


class _MatMul:
    """One product."""

    def __init__(self, context: Context, op: MatMul) -> None:
        self.context, self.stream, self.op = context, context.stream, op
        x, w = op.inputs
        dim = context.config.dim
        self.depth, self.outputs = x.shape[-1], w.shape[-1]
        rows, batches = x.shape[-2], math.prod(x.shape[:-2])
        self.geometry = Geometry(batches, 1, rows, 1, rows, (1, 1), (1, 1), (1, 1), 0, 0)
        self.w = context.place(w)
        self.x_terms, self.w_terms = int8_terms(-op.x_zero_point), int8_terms(-op.w_zero_point)
        self.blocks = blocks_of(self.depth, context.config)
        self.out_blocks = blocks_of(self.outputs, context.config)
        room = Room.of(context)
        limit = min(room.sums - 1, room.outputs, PREFERRED_ROWS)
        in_blocks = min((room.weights - 4 * dim) // 2, MAX_ROWS) // dim
        if limit < 1 or in_blocks < 1:
            raise ModelError(
                f"node {op.name!r} ({op.source}): configuration {context.config.name!r} has {room.weights} rows of "
                f"weights and {context.sums.rows} of sums; it takes at least {6 * dim} and 4"
            )
        self.columns = cut(rows, limit)
        tile = max(map(len, self.columns))
        self.chunks = cut(self.blocks, min(in_blocks, max(1, (room.inputs - len(self.x_terms)) // tile)))
        together = 1 if len(self.chunks) == 1 else max(1, room.sums // (tile + 1))
        self.groups = cut(self.out_blocks, together)
        self.windows = Windows(context, context.place(op.x), self.geometry, 0)
        bias = np.zeros(self.outputs, np.int64)
        self.finish = Finish(context, context.place(op.y), self.outputs, op.requantize, bias, None)
        self.constants = self._constant_tiles()
        self.weights: tuple[tuple[int, int, int], Region] | None = None
        self.x_row = 0

    def _constant_tiles(self) -> Pieces | None:
        """Tiles of -wz, one for each term, with zeros below the last row of weights; then one each without zeros."""
        if not self.w_terms:
            return None
        dim = self.context.config.dim
        inside = np.arange(dim)[:, None] < self.depth - (self.blocks - 1) * dim
        terms = np.array(self.w_terms, np.int8)[:, None, None]
        tiles = np.concatenate([np.where(inside, terms, 0), np.broadcast_to(terms, (len(terms), dim, 1))])
        rows = np.ascontiguousarray(np.broadcast_to(tiles, (len(tiles), dim, dim)).astype(np.int8))
        ref = self.stream.constant(rows, f"{self.op.name}.zero_point")
        return Pieces(self.context, self.context.weights, "spad", ref, dim, len(rows), True)

    def emit(self) -> None:
        """All tiles."""
        terms = self.context.inputs.take(max(1, len(self.x_terms)))
        self.x_row = terms.start
        for number, term in enumerate(self.x_terms):
            fill(self.stream, spad(terms.start + number), 1, term, self.w.ref)
        self.finish.start()
        for batch in range(self.geometry.images):
            for columns in self.columns:
                for group in self.groups:
                    self._step(Span(range(batch, batch + 1), ONE_TAP, columns), group)
        if self.weights is not None:
            self.context.weights.release(self.weights[1])
        if self.constants is not None:
            self.constants.close()
        self.context.inputs.release(terms)
        self.windows.close()
        self.finish.close()

    def _step(self, span: Span, group: range) -> None:
        """An output tile: pixels `span`, output blocks `group`."""
        rows = span.pixels
        region = take_sums(self.context, len(group) * (rows + 1))
        sums = [_Sums(region.start + index * (rows + 1), rows) for index in range(len(group))]
        for number, blocks in enumerate(self.chunks):
            window = self.windows.get(span, Chunk(blocks, ONE_TAP, ONE_TAP))
            for block, target in zip(group, sums, strict=True):
                tiles = self._load_weights(span.images.start, block, number)
                for index, k in enumerate(blocks):
                    first = number == index == 0
                    self._tile(spad(tiles + index * self.context.config.dim), window, k, target, first)
                    for constant in self._constants(k):
                        self._tile(constant, window, k, target, False)
        for block, target in zip(group, sums, strict=True):
            self._drain(target, block, group, span)
        self.context.sums.release(region)

    def _load_weights(self, batch: int, block: int, chunk: int) -> int:
        """First scratchpad row of the weight tiles of a chunk."""
        key = (batch, block, chunk)
        if self.weights is not None:
            if self.weights[0] == key:
                return self.weights[1].start
            self.context.weights.release(self.weights[1])
        dim, blocks = self.context.config.dim, self.chunks[chunk]
        region = self.context.weights.take(len(blocks) * dim)
        rows = min(self.depth, blocks.stop * dim) - blocks.start * dim
        source = self.w.at(block, batch * self.depth + blocks.start * dim)
        load(self.stream, spad(region.start), source, rows, padding=(0, region.rows - rows))
        self.weights = key, region
        return region.start

    def _constants(self, block: int) -> list[LocalAddress]:
        """The tiles of -wz for an input block."""
        if self.constants is None:
            return []
        count = len(self.w_terms)
        first = 0 if block == self.blocks - 1 else count
        return [self.constants.at(first + number) for number in range(count)]

    def _tile(self, source: LocalAddress, window: Window, block: int, sums: _Sums, first: bool) -> None:
        """The activations of an input block, and the rows of -xz, through one weight tile."""
        stream = self.stream
        stream.mx_wload(src=source)
        stream.mx_act(n0=sums.rows, s0=1)
        stream.mx_acc(t0=1)
        stream.mx_run(act=window.at(block), acc=acc(sums.start), accumulate=int(not first))
        for number in range(len(self.x_terms)):
            stream.mx_act(n0=1)
            accumulate = int(not first or number > 0)
            stream.mx_run(act=spad(self.x_row + number), acc=sums.extra, accumulate=accumulate, swap=0)

    def _drain(self, sums: _Sums, block: int, group: range, span: Span) -> None:
        stream, extra = self.stream, sums.extra if self.x_terms else 0

        def combine(dst: LocalAddress, post: Post) -> None:
            stream.vx_dims(n0=sums.rows, d0=1)
            stream.vx_astride(n0=1)
            stream.vx_bstride()
            stream.vx_add(dst=dst, a=acc(sums.start), b=extra, post=post)

        if self.op.requantize is not None:
            self.finish.quantized(lambda dst: combine(dst, Post.RQ), block, group, span, self.geometry)
            return
        if self.x_terms:
            combine(acc(sums.start), Post.NONE)
        self.finish.raw(acc(sums.start), block, span, self.geometry)
