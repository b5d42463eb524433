"""Softmax over the channels: the vector operations of `golden.softmax.machine_softmax`.

Pixels are worked on `dim` at a time: what is one number a pixel (the sum of exponentials, its logarithm, its
reciprocal) is packed into the lanes of one row and computed once for all of them, then spread again.
"""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np

from tidemill.builder import LocalAddress, acc, spad
from tidemill.compiler.context import Context
from tidemill.compiler.ir import ModelError, Softmax
from tidemill.compiler.kernels.tiling import MAX_LINES, Piece, load, taken
from tidemill.compiler.memory import OutOfRows
from tidemill.golden import fixedpoint
from tidemill.golden.softmax import (
    LENGTH_MAX,
    OUTPUT_SHIFT,
    SUM_BITS,
    SUM_SHIFT,
    SoftmaxTables,
)
from tidemill.isa import Post, RequantMode
from tidemill.operands import BufferRef

LARGEST = (1 << 31) - 1
NEWTON_STEPS = 3

# Constant rows, in this order.
WHOLE, PARTIAL, SLOPE = 0, 3, 6
"""Parameters: exponentials to the sum's format in a block of channels; in the last one; -32/17 of Newton's start."""
OFFSET, ONE, HEADROOM, SHIFT, HALF = range(9, 14)
"""48/17; one; the sum's shift to [1/2, 1); the result's shift; the largest reciprocal before it is doubled."""
CONSTANT_ROWS = 14

# Scratch rows of a tile: one row each.
TOTAL, LOG, TEMP, DENOMINATOR, ZERO, GUESS, ZERO_SHIFT = range(7)
"""`ZERO`, `GUESS`, `ZERO_SHIFT` follow each other: parameters of a product with the guess."""
SCRATCH_ROWS = 7


def emit_softmax(context: Context, op: Softmax) -> None:
    """y = softmax(x) over the last axis."""
    try:
        tables = SoftmaxTables.build(op.input_scale, op.beta)
    except ValueError as error:
        raise ModelError(f"node {op.name!r} ({op.source}): {error}") from error
    _SoftmaxKernel(context, op, tables).emit()


class _SoftmaxKernel:
    def __init__(self, context: Context, op: Softmax, tables: SoftmaxTables) -> None:
        self.context, self.stream = context, context.stream
        config = context.config
        self.dim = config.dim
        self.x, self.y = context.place(op.x), context.place(op.y)
        self.tables = tables
        self.blocks, channels = self.x.blocks, op.x.channels
        self.beyond = channels % self.dim
        """Channels of the last block where it is not full."""
        self.largest = self._most_pixels()
        if channels > LENGTH_MAX or self.blocks > MAX_LINES or self.largest < 1:
            longest = min(LENGTH_MAX, self.dim * min(MAX_LINES, context.sums.rows - self._fixed() - 8))
            raise ModelError(f"node {op.name!r} ({op.source}): a softmax on {config.name!r} may have at most {longest} "
                             f"elements, not {channels}")  # fmt: skip

    def _fixed(self) -> int:
        return 2 * self.dim + SCRATCH_ROWS

    def _most_pixels(self) -> int:
        """Pixels of a tile: what local memory holds, at most one a lane. A pixel takes its exponentials, as many
        rounded ones (fewer where there is no room), maximum, sum and three rows of parameters."""
        free = self.context.sums.rows - self._fixed()
        zone = min(self.context.inputs.rows, self.context.outputs.rows)
        return min(self.dim, self.x.pixels, max(free // (2 * self.blocks + 6), int(free >= self.blocks + 8)),
                   zone // self.blocks)  # fmt: skip

    def emit(self) -> None:
        """The whole operation."""
        context, rows = self.context, self.context.table_rows
        with taken(
            (context.parameters, 2 * rows + CONSTANT_ROWS), (context.sums, 2 * self.dim), (context.weights, 1)
        ) as [constants, masks, mask]:
            self.exponential, self.logarithm = constants.start, constants.start + rows
            self.constants = constants.start + 2 * rows
            load(context, acc(self.exponential), context.table_rows_of(self.tables.exponential), rows)
            load(context, acc(self.logarithm), context.table_rows_of(self.tables.logarithm), rows)
            load(context, acc(self.constants), self._constant_rows(), CONSTANT_ROWS)
            self.mask, self.spread_mask, self.pack_mask = mask.start, masks.start, masks.start + self.dim
            if self.beyond:
                lanes = np.where(np.arange(self.dim) < self.beyond, 127, -128).astype(np.int8)
                load(context, spad(self.mask), self.stream.constant(lanes.reshape(1, -1), "mask"), 1)
            load(context, acc(self.spread_mask), self._masks(self.dim), self.dim)
            packed = 0
            for start in range(0, self.x.pixels, self.largest):
                pixels = min(self.largest, self.x.pixels - start)
                if pixels != packed:
                    load(context, acc(self.pack_mask), self._masks(pixels), pixels)
                    packed = pixels
                self._tile((start, pixels))

    def _masks(self, pixels: int) -> BufferRef:
        """Row p lets lane p through; the last also all lanes beyond, so that none is without a value."""
        lanes = np.minimum(np.arange(self.dim), pixels - 1)
        rows = np.where(lanes == np.arange(pixels)[:, None], LARGEST, 0)
        return self.stream.constant(rows.astype(np.int32), "masks")

    def _constant_rows(self) -> BufferRef:
        rows = np.zeros((CONSTANT_ROWS, self.dim), np.int32)
        in_use = np.arange(self.dim) < (self.beyond or self.dim)
        for first, multiplier in ((WHOLE, 1), (PARTIAL, in_use.astype(np.int32))):
            rows[first], rows[first + 1], rows[first + 2] = 1 << (SUM_BITS - 1), multiplier, SUM_SHIFT
        rows[SLOPE + 1] = -fixedpoint.NEWTON_MINUS_32_17
        rows[OFFSET] = fixedpoint.NEWTON_48_17
        rows[ONE] = fixedpoint.ONE_Q2
        rows[HEADROOM] = SUM_BITS - 1
        rows[SHIFT] = -OUTPUT_SHIFT
        rows[HALF] = (1 << 30) - 1
        return self.stream.constant(rows, "softmax")

    def _tile(self, tile: Piece) -> None:
        context, (first, pixels) = self.context, tile
        rows = self.blocks * pixels
        with ExitStack() as stack:

            def take_sums(count: int) -> int:
                return stack.enter_context(taken((context.sums, count)))[0].start

            [inputs] = stack.enter_context(taken((context.inputs, rows)))
            self._load(inputs.start, first, pixels)
            scratch = take_sums(SCRATCH_ROWS)
            parameters = take_sums(3 * pixels)
            maximum, sums = take_sums(pixels), take_sums(pixels)
            exponentials = take_sums(rows)
            self._exponentials(inputs.start, maximum, exponentials, pixels)
            self._sum(exponentials, sums, pixels)
            self._pack(sums, scratch + TOTAL, pixels)
            self._logarithm(scratch)
            self._reciprocal(scratch)
            self._spread(scratch, parameters, sums, pixels)
            [outputs] = stack.enter_context(taken((context.outputs, rows)))
            self.stream.vx_quant(zero_point=-128)
            for pixel in range(pixels):
                self.stream.vx_param(src=acc(parameters + 3 * pixel))
                self.stream.vx_dims(n0=self.blocks, d0=pixels)
                self.stream.vx_astride(n0=pixels)
                self._add(spad(outputs.start + pixel), acc(exponentials + pixel), 0, Post.RQ)
            self.stream.st_stride(s1=self.y.block_bytes)
            self.stream.st_src(d1=pixels)
            self.stream.st_run(
                src=spad(outputs.start), dram=self.y.at(0, first), n0=pixels, n1=self.blocks
            )  # fmt: skip

    def _load(self, row: int, first: int, pixels: int) -> None:
        """Pixels of a tile, block by block; lanes beyond the last channel get the smallest number."""
        self.stream.ld_stride(s1=self.x.block_bytes)
        self.stream.ld_dst(d1=pixels)
        self.stream.ld_run(dst=spad(row), dram=self.x.at(0, first), n0=pixels, n1=self.blocks)
        if self.beyond:
            last = spad(row + (self.blocks - 1) * pixels)
            self._dims(pixels, b=0)
            self.stream.vx_min(dst=last, a=last, b=spad(self.mask))

    def _dims(self, rows: int, a: int = 1, b: int = 1, d: int = 1) -> None:
        self.stream.vx_dims(n0=rows, d0=d)
        self.stream.vx_astride(n0=a)
        self.stream.vx_bstride(n0=b)

    def _add(self, dst: LocalAddress, a: LocalAddress, b: LocalAddress | int, post: Post = Post.NONE) -> None:
        self.stream.vx_add(dst=dst, a=a, b=b, post=post)

    def _exponentials(self, x: int, maximum: int, dst: int, pixels: int) -> None:
        stream = self.stream
        stream.vx_dims(n0=pixels, k0=self.blocks, d0=1)
        stream.vx_astride(n0=1, k0=pixels)
        stream.vx_maxpool(dst=acc(maximum), a=spad(x), b=0, post=Post.LMAX)
        stream.vx_lut(src=acc(self.exponential))
        stream.vx_dims(n0=pixels, n1=self.blocks, d0=1, d1=pixels)
        stream.vx_astride(n0=1, n1=pixels)
        stream.vx_bstride(n0=1)
        stream.vx_sub(dst=acc(dst), a=spad(x), b=acc(maximum), post=Post.LUT)

    def _sum(self, exponentials: int, sums: int, pixels: int) -> None:
        """Sums of the rounded exponentials, in every lane: as many blocks at a time as there is room for."""
        context, stream = self.context, self.stream
        each = self.blocks
        while True:
            chunks = -(-self.blocks // each)
            try:
                with taken((context.sums, each * pixels), (context.sums, chunks * pixels)) as [rounded, partial]:
                    for chunk in range(chunks):
                        low, high = chunk * each, min(self.blocks, (chunk + 1) * each)
                        self._rounded(exponentials, rounded.start, low, high, pixels)
                        stream.vx_dims(n0=pixels, k0=high - low, d0=1)
                        stream.vx_astride(n0=1, k0=pixels)
                        self._add(acc(partial.start + chunk * pixels), acc(rounded.start), 0)
                    stream.vx_dims(n0=pixels, k0=chunks, d0=1)
                    stream.vx_astride(n0=1, k0=pixels)
                    self._add(acc(sums), acc(partial.start), 0, Post.LSUM)
                return
            except OutOfRows:
                if each == 1:
                    raise
                each = each // 2

    def _rounded(self, exponentials: int, dst: int, low: int, high: int, pixels: int) -> None:
        whole = self.blocks - (1 if self.beyond else 0)
        self.stream.vx_quant(mode=RequantMode.DIV)
        for parameters, start, end in ((WHOLE, low, min(high, whole)), (PARTIAL, max(low, whole), high)):
            if start < end:
                self.stream.vx_param(src=acc(self.constants + parameters))
                self._dims((end - start) * pixels)
                rows = acc(dst + (start - low) * pixels)
                self._add(rows, acc(exponentials + start * pixels), 0, Post.RQ)

    def _pack(self, sums: int, total: int, pixels: int) -> None:
        """The sums of all pixels into the lanes of one row."""
        self._dims(pixels)
        self.stream.vx_min(dst=acc(sums), a=acc(sums), b=acc(self.pack_mask))
        self.stream.vx_dims(n0=1, k0=pixels, d0=1)
        self.stream.vx_astride(k0=1)
        self.stream.vx_maxpool(dst=acc(total), a=acc(sums), b=0)

    def _logarithm(self, scratch: int) -> None:
        """floor(log2(sum)) - SUM_SHIFT and the sum shifted to [1/2, 1)."""
        stream = self.stream
        total, log, temp = (acc(scratch + row) for row in (TOTAL, LOG, TEMP))
        stream.vx_lut(src=acc(self.logarithm))
        self._dims(1)
        stream.vx_shr(dst=temp, a=total, b=SUM_SHIFT)
        stream.vx_min(dst=log, a=temp, b=255, post=Post.LUT)
        stream.vx_shr(dst=temp, a=total, b=SUM_SHIFT + 8, post=Post.LUT)
        self._add(log, log, temp)
        self._add(log, log, 1)
        stream.vx_sub(dst=temp, a=acc(self.constants + HEADROOM), b=log)
        stream.vx_shl(dst=acc(scratch + DENOMINATOR), a=total, b=temp)

    def _reciprocal(self, scratch: int) -> None:
        """Newton's method for the reciprocal of the denominator; the result in TOTAL."""
        stream = self.stream
        h, guess, temp = (acc(scratch + row) for row in (DENOMINATOR, GUESS, TEMP))
        zero, zero_shift = (acc(scratch + row) for row in (ZERO, ZERO_SHIFT))
        stream.vx_quant()
        for row in (zero, zero_shift):
            stream.vx_mul(dst=row, a=h, b=0)
        stream.vx_sub(dst=temp, a=zero, b=h)
        stream.vx_param(src=acc(self.constants + SLOPE))
        self._add(temp, temp, 0, Post.RQ)
        self._add(guess, temp, acc(self.constants + OFFSET))
        for _ in range(NEWTON_STEPS):
            stream.vx_param(src=zero)
            self._add(temp, h, 0, Post.RQ)
            stream.vx_sub(dst=temp, a=acc(self.constants + ONE), b=temp)
            self._add(temp, temp, 0, Post.RQ)
            stream.vx_shl(dst=temp, a=temp, b=2)
            self._add(guess, guess, temp)
        stream.vx_min(dst=temp, a=guess, b=acc(self.constants + HALF))
        stream.vx_shl(dst=temp, a=temp, b=1)
        stream.vx_shr(dst=guess, a=guess, b=30)
        self._add(acc(scratch + TOTAL), temp, guess)

    def _spread(self, scratch: int, parameters: int, sums: int, pixels: int) -> None:
        """Bias, multiplier and shift of each pixel, in all lanes of three rows."""
        stream = self.stream
        self._dims(pixels, a=0, d=3)
        stream.vx_mul(dst=acc(parameters), a=acc(scratch + TOTAL), b=0)
        stream.vx_min(dst=acc(parameters + 1), a=acc(scratch + TOTAL), b=acc(self.spread_mask), post=Post.LSUM)
        self._dims(pixels, a=0)
        stream.vx_min(dst=acc(sums), a=acc(scratch + LOG), b=acc(self.spread_mask), post=Post.LSUM)
        stream.vx_dims(n0=pixels, d0=3)
        stream.vx_bstride(n0=1)
        stream.vx_sub(dst=acc(parameters + 2), a=acc(self.constants + SHIFT), b=acc(sums))
