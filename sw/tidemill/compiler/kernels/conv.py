"""`Conv2D`: convolutions, products with constant matrices; on the array, or depthwise on the vector engine.

On the array each tap of the kernel and block of input channels is one weight tile; its activations are the same input
tile from another row on, with the convolution's strides as activation strides, and its results add up in the
accumulators.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from tidemill.compiler.context import Context
from tidemill.compiler.ir import Conv2D, ModelError
from tidemill.compiler.kernels.conv_plan import Chunk, ConvPlan, Geometry, Order, Path, Room, Span, plan_conv
from tidemill.compiler.kernels.finish import Finish
from tidemill.compiler.kernels.pieces import Pieces
from tidemill.compiler.kernels.weights import Tile, WeightTiles
from tidemill.compiler.kernels.window import Window, Windows
from tidemill.compiler.memory import Region, Ring, blocks_of
from tidemill.compiler.stream import Stream
from tidemill.config import Config
from tidemill.isa import Post
from tidemill.operands import BufferRef, LocalAddress, acc


def emit_conv(context: Context, op: Conv2D) -> None:
    """Append a convolution to the stream. Raises ModelError, OutOfRows."""
    weights = WeightTiles(op.weights, op.groups, context.config)
    try:
        plan = plan_conv(context, op, weights)
    except ModelError as error:
        raise ModelError(f"node {op.name!r} ({op.source}): {error}") from None
    if plan.path is Path.BOTH:
        _SharedConv(context, op, plan, weights).emit()
    elif plan.path is Path.VECTOR:
        _VectorConv(context, op, plan).emit()
    else:
        _ArrayConv(context, op, plan, weights).emit()


def describe_conv(op: Conv2D, config: Config) -> ConvPlan:
    """The tiles that `emit_conv` would choose. Raises ModelError."""
    context = Context(config, Stream(config), lambda tensor: BufferRef(tensor.name, 0))
    return plan_conv(context, op, WeightTiles(op.weights, op.groups, config))


def take_sums(context: Context, rows: int) -> Region:
    """A region of sums in the half that was not used last, so that array and vector engine work in different banks."""
    second = Room.of(context).second
    context.sums.seek(second if 0 < context.sums.position <= second else 0)
    return context.sums.take(rows)


class _Conv:
    """What both paths share."""

    def __init__(self, context: Context, op: Conv2D, plan: ConvPlan) -> None:
        self.context, self.stream, self.plan, self.op = context, context.stream, plan, op
        self.geometry = Geometry.of(op)
        self.spans = plan.spans(self.geometry)
        self.out_blocks = blocks_of(op.y.channels, context.config)
        self.windows = Windows(context, context.place(op.x), self.geometry, op.input_zero_point)
        self.finish = Finish(
            context, context.place(op.y), op.y.channels, op.requantize, folded_bias(op), op.table
        )  # fmt: skip

    def close(self) -> None:
        """Give everything back."""
        self.windows.close()
        self.finish.close()


def folded_bias(op: Conv2D) -> NDArray[np.int64]:
    """Bias with the input's zero point: sum (x - z) * w + b = sum x * w + (b - z * sum w). int64 [Co]."""
    sums = op.weights.astype(np.int64).sum(axis=(1, 2, 3))
    return np.asarray(op.bias.astype(np.int64) - op.input_zero_point * sums)


class _Group:
    """A group of output blocks on the array: its chunks, and its tiles in the order of use."""

    def __init__(self, conv: _ArrayConv, blocks: range) -> None:
        plan, weights, context = conv.plan, conv.weights, conv.context
        self.blocks = blocks
        needed = weights.in_blocks(blocks.start, blocks.stop)
        self.chunks = plan.chunks(needed, conv.geometry.kernel)
        tiles: list[Tile] = []
        self.parts: list[list[tuple[int, list[Tile]]]] = []
        """[chunk][output block of the group]: number of the first tile, and the tiles."""
        for chunk in self.chunks:
            parts = []
            for block in blocks:
                part = weights.tiles(block, chunk.blocks, chunk.taps_y, chunk.taps_x)
                parts.append((len(tiles), part))
                tiles += part
            self.parts.append(parts)
        ref = context.stream.constant(weights.content(tiles), f"{conv.op.name}.weights")
        keep = plan.order is not Order.STREAM
        self.tiles = Pieces(context, context.weights, "spad", ref, context.config.rows, len(tiles), keep)


class _ArrayConv(_Conv):
    """The array's path."""

    def __init__(self, context: Context, op: Conv2D, plan: ConvPlan, weights: WeightTiles) -> None:
        super().__init__(context, op, plan)
        self.weights = weights
        self.groups = [_Group(self, blocks) for blocks in plan.groups(self.out_blocks)]

    def emit(self) -> None:
        """All tiles."""
        if self.plan.order is Order.RESIDENT:
            self.context.weights.make_room(sum(group.tiles.rows for group in self.groups))
        self.groups[0].tiles.prefetch()
        self.finish.start()
        if self.plan.order is Order.GROUPS:
            for group in self.groups:
                for span in self.spans:
                    self._step(span, group)
                group.tiles.close()
        else:
            for span in self.spans:
                for group in self.groups:
                    self._step(span, group)
                    if self.plan.order is Order.STREAM:
                        group.tiles.close()
            for group in self.groups:
                group.tiles.close()
        self.close()

    def _step(self, span: Span, group: _Group) -> None:
        """One output tile of a group. With a single chunk every block has sums of its own, so that the vector engine
        may start after each; with several the sums of all blocks wait for the last chunk."""
        if len(group.chunks) == 1:
            window = self.windows.get(span, group.chunks[0])
            for block, (number, tiles) in zip(group.blocks, group.parts[0], strict=True):
                region = take_sums(self.context, span.pixels)
                self._multiply(window, group, group.chunks[0], number, tiles, span, acc(region.start), False)
                self._drain(region.start, block, group, span)
                self.context.sums.release(region)
            return
        region = take_sums(self.context, span.pixels * len(group.blocks))
        started: set[int] = set()
        for chunk, parts in zip(group.chunks, group.parts, strict=True):
            if not any(tiles for _, tiles in parts):
                continue
            window = self.windows.get(span, chunk)
            for index, (number, tiles) in enumerate(parts):
                row = acc(region.start + index * span.pixels)
                self._multiply(window, group, chunk, number, tiles, span, row, index in started)
                if tiles:
                    started.add(index)
        for index, block in enumerate(group.blocks):
            self._drain(region.start + index * span.pixels, block, group, span)
        self.context.sums.release(region)

    def _multiply(
        self,
        window: Window,
        group: _Group,
        chunk: Chunk,
        first: int,
        tiles: list[Tile],
        span: Span,
        sums: LocalAddress,
        accumulate: bool,
    ) -> None:
        if not tiles:
            return
        rows, columns = window.rows, window.columns
        height, width = len(span.rows), len(span.columns)
        self.stream.mx_act(
            n0=width, n1=height, n2=len(span.images),
            s0=columns.stride, s1=rows.stride * columns.size, s2=window.image_rows,
        )  # fmt: skip
        self.stream.mx_acc(t0=1, t1=width, t2=width * height)
        for index, tile in enumerate(tiles):
            act = window.tap(tile.in_block, tile.tap_y - chunk.taps_y.start, tile.tap_x - chunk.taps_x.start)
            self.stream.mx_wload(src=group.tiles.at(first + index))
            self.stream.mx_run(act=act, acc=sums, accumulate=int(accumulate or index > 0))

    def _drain(self, row: int, block: int, group: _Group, span: Span) -> None:
        if self.op.requantize is None:
            self.finish.raw(acc(row), block, span, self.geometry)
            return

        def requantize(dst: LocalAddress) -> None:
            self.stream.vx_dims(n0=span.pixels, d0=1)
            self.stream.vx_astride(n0=1)
            self.stream.vx_add(dst=dst, a=acc(row), b=0, post=Post.RQ)

        self.finish.quantized(requantize, block, group.blocks, span, self.geometry)


class _VectorConv(_Conv):
    """Depthwise on the vector engine: the window of `vx.mul` walks the input tile and the weights' rows at once."""

    def emit(self) -> None:
        """All tiles."""
        weights = self._rows(self.context.weights)
        weights.prefetch()
        self.finish.start()
        for span in self.spans:
            for blocks in self.plan.groups(self.out_blocks):
                window = self._window(self.windows, span, blocks)
                for block in blocks:
                    self._block(window, weights.at(block), block, blocks, span)
        weights.close()
        self.close()

    def _rows(self, ring: Ring) -> Pieces:
        """The weights as rows, one a tap, of each output block."""
        context, op = self.context, self.op
        taps, dim = math.prod(self.geometry.kernel), context.config.dim
        columns = np.zeros((taps, self.out_blocks * dim), np.int8)
        columns[:, : op.weights.shape[0]] = op.weights[..., 0].reshape(-1, taps).T
        rows = columns.reshape(taps, self.out_blocks, dim).transpose(1, 0, 2)
        ref = self.stream.constant(np.ascontiguousarray(rows), f"{op.name}.weights")
        keep = self.plan.order is Order.RESIDENT
        return Pieces(context, ring, "spad", ref, taps, self.out_blocks, keep)

    def _window(self, windows: Windows, span: Span, blocks: range) -> Window:
        taps_y, taps_x = self.geometry.kernel
        return windows.get(span, Chunk(blocks, range(taps_y), range(taps_x)))

    def _block(self, window: Window, weights: LocalAddress, block: int, blocks: range, span: Span) -> None:
        rows, columns = window.rows, window.columns
        (taps_y, taps_x), pixels = self.geometry.kernel, len(span.rows) * len(span.columns)

        def multiply(dst: LocalAddress) -> None:
            self.stream.vx_dims(
                n0=len(span.columns), n1=len(span.rows), k0=taps_x, k1=taps_y, d0=1, d1=len(span.columns)
            )
            self.stream.vx_astride(
                n0=columns.stride, n1=rows.stride * columns.size, k0=columns.tap, k1=rows.tap * columns.size
            )
            self.stream.vx_bstride(k0=1, k1=taps_x)
            for image in range(window.images):
                self.stream.vx_mul(dst=dst + image * pixels, a=window.at(block, image), b=weights, post=Post.RQ)

        self.finish.quantized(multiply, block, blocks, span, self.geometry)


class _SharedConv(_VectorConv):
    """Depthwise on both engines: the array takes a share of the tiles with diagonal weights. Its sums are requantized
    one tile later, so that the vector engine multiplies meanwhile. Each engine reads inputs and weights in scratchpad
    banks of its own: the array's weights in `weights`, the vector engine's in `outputs`."""

    def __init__(self, context: Context, op: Conv2D, plan: ConvPlan, weights: WeightTiles) -> None:
        super().__init__(context, op, plan)
        jobs = range(len(self.spans) * self.out_blocks)
        self.taken = {number for number in jobs if plan.on_array(number)}
        self.blocks = sorted({number % self.out_blocks for number in self.taken})
        taps_y, taps_x = (range(size) for size in self.geometry.kernel)
        self.first: dict[int, int] = {}
        self.tiles: dict[int, list[Tile]] = {}
        every: list[Tile] = []
        for block in self.blocks:
            self.first[block] = len(every)
            self.tiles[block] = weights.tiles(block, range(block, block + 1), taps_y, taps_x)
            every += self.tiles[block]
        ref = self.stream.constant(weights.content(every), f"{op.name}.tiles")
        self.array_weights = Pieces(context, context.weights, "spad", ref, context.config.rows, len(every), True)
        array, vector = context.input_halves()
        place, zero_point = context.place(op.x), op.input_zero_point
        self.array_windows = Windows(context, place, self.geometry, zero_point, array)
        self.windows = Windows(context, place, self.geometry, zero_point, vector)
        self.waiting: tuple[Region, int, Span] | None = None

    def emit(self) -> None:
        """All tiles."""
        self.context.outputs.seek(self.context.outputs.first)
        rows = self._rows(self.context.outputs)
        self.context.weights.make_room(self.array_weights.rows)
        rows.prefetch()
        self.array_weights.prefetch()
        self.finish.start()
        for number, (span, block) in enumerate(itertools.product(self.spans, range(self.out_blocks))):
            alone = range(block, block + 1)
            if number in self.taken:
                self._multiply(self._window(self.array_windows, span, alone), block, span)
            else:
                self._block(self._window(self.windows, span, alone), rows.at(block), block, alone, span)
        self._drain()
        self.array_windows.close()
        rows.close()
        self.array_weights.close()
        self.close()

    def _multiply(self, window: Window, block: int, span: Span) -> None:
        rows, columns = window.rows, window.columns
        height, width = len(span.rows), len(span.columns)
        region = take_sums(self.context, span.pixels)
        self.stream.mx_act(
            n0=width, n1=height, n2=len(span.images),
            s0=columns.stride, s1=rows.stride * columns.size, s2=window.image_rows,
        )  # fmt: skip
        self.stream.mx_acc(t0=1, t1=width, t2=width * height)
        for index, tile in enumerate(self.tiles[block]):
            self.stream.mx_wload(src=self.array_weights.at(self.first[block] + index))
            act = window.tap(block, tile.tap_y, tile.tap_x)
            self.stream.mx_run(act=act, acc=acc(region.start), accumulate=int(index > 0))
        self._drain()
        self.waiting = region, block, span

    def _drain(self) -> None:
        """Requantize the array's previous tile."""
        if self.waiting is None:
            return
        region, block, span = self.waiting

        def requantize(dst: LocalAddress) -> None:
            self.stream.vx_dims(n0=span.pixels, d0=1)
            self.stream.vx_astride(n0=1)
            self.stream.vx_add(dst=dst, a=acc(region.start), b=0, post=Post.RQ)

        self.finish.quantized(requantize, block, range(block, block + 1), span, self.geometry)
        self.context.sums.release(region)
        self.waiting = None
