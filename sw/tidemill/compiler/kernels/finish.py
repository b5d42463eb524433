"""What follows the sums of an output tile: bias, requantization, table, and the way to DRAM."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tidemill.compiler.context import Context, Place
from tidemill.compiler.ir import Requantize
from tidemill.compiler.kernels.conv_plan import Geometry, Span
from tidemill.compiler.kernels.pieces import Pieces
from tidemill.compiler.kernels.transfer import Dim, store
from tidemill.compiler.memory import Region
from tidemill.isa import Post
from tidemill.operands import LocalAddress, acc, spad

STORE_ROWS = 64
"""Output blocks are stored together until a store has this many rows."""

Produce = Callable[[LocalAddress], None]
"""Emits the vector instructions that requantize a tile of one output block to consecutive rows from the address."""


class Finish:
    """Completes output blocks of one operation. `start` comes first, `close` last."""

    def __init__(
        self,
        context: Context,
        place: Place,
        channels: int,
        requantize: Requantize | None,
        bias: NDArray[np.int64],
        table: NDArray[np.int8] | None,
    ) -> None:
        """`bias` int64 [channels] is added to the sums, modulo 2**32; `place` is the output's."""
        self._context, self._stream, self._place = context, context.stream, place
        self._requantize, self._table = requantize, table
        wrapped = np.zeros(place.blocks * context.config.cols, np.int32)
        wrapped[:channels] = np.asarray(bias & 0xFFFFFFFF).astype(np.uint32).view(np.int32)
        if requantize is not None:
            rows, ref = 3, context.parameter_rows(requantize, channels, wrapped[:channels])
        else:
            rows, ref = 1, context.stream.constant(wrapped.reshape(place.blocks, context.config.cols), "bias")
        self._has_bias = bool(wrapped.any())
        ring = context.parameters
        keep = place.blocks * rows <= ring.rows - context.table_rows
        self._parameters = Pieces(context, ring, "acc", ref, rows, place.blocks, keep)
        self._current: int | None = None
        self._region: Region | None = None
        self._batch: list[int] = []

    def start(self) -> None:
        """Before the first block: the first parameters, the table and the requantizer's settings."""
        if self._requantize is not None or self._has_bias:
            self._parameters.prefetch()
        if self._table is not None:
            ref = self._context.table_rows_of(self._table)
            row = self._context.load_rows(self._context.parameters, ref, self._context.table_rows)
            self._stream.vx_lut(src=acc(row))
        if self._requantize is not None:
            q = self._requantize
            self._stream.vx_quant(
                zero_point=q.zero_point, qmin=q.qmin, qmax=q.qmax, preshift=q.preshift, mode=int(q.mode)
            )

    def quantized(self, produce: Produce, block: int, blocks: range, span: Span, geometry: Geometry) -> None:
        """Requantize and store the tile `span` of output block `block`; the blocks of `blocks` come in order with the
        same span, so that several are stored together."""
        pixels = span.pixels
        if self._region is None:
            together = min(blocks.stop - block, max(1, STORE_ROWS // pixels))
            self._region = self._context.outputs.take(together * pixels)
            self._batch = [block, block + together]
        if self._current != block:
            self._stream.vx_param(src=self._parameters.at(block))
            self._current = block
        first, end = self._batch
        row = spad(self._region.start + (block - first) * pixels)
        produce(row)
        if self._table is not None:
            self._stream.vx_dims(n0=pixels, d0=1)
            self._stream.vx_astride(n0=1)
            self._stream.vx_add(dst=row, a=row, b=0, post=Post.LUT)
        if block + 1 == end:
            self._store(spad(self._region.start), first, end - first, span, geometry)
            self._context.outputs.release(self._region)
            self._region = None

    def raw(self, sums: LocalAddress, block: int, span: Span, geometry: Geometry) -> None:
        """Add the bias to the sums of one output block and store them as int32."""
        if self._has_bias:
            self._stream.vx_dims(n0=span.pixels, d0=1)
            self._stream.vx_astride(n0=1)
            self._stream.vx_bstride()
            self._stream.vx_add(dst=sums, a=sums, b=self._parameters.at(block))
        self._store(sums, block, 1, span, geometry)

    def _store(self, row: LocalAddress, block: int, blocks: int, span: Span, geometry: Geometry) -> None:
        line, width = len(span.columns), geometry.out_width
        place, image = self._place, geometry.out_height * width
        pixel = span.images.start * image + span.rows.start * width + span.columns.start
        dims = [
            Dim(blocks, place.block_bytes, span.pixels),
            Dim(len(span.images), image * place.row_bytes, len(span.rows) * line),
            Dim(len(span.rows), width * place.row_bytes, line),
        ]
        store(self._stream, row, place.at(block, pixel), line, dims)

    def close(self) -> None:
        """Give the parameters' rows back."""
        self._parameters.close()
