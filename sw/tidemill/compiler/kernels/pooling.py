"""Pooling: windows of rows folded by the vector engine.

Images are loaded with their padding (-128 where the maximum counts, 0 where the sum does), so a window is always whole.
Where the mean divides by the pixels inside the image, borders are instructions of their own with another divisor. A
window larger than local memory is folded in parts whose results are folded again.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tidemill.builder import LocalAddress, acc, spad
from tidemill.compiler.context import Context
from tidemill.compiler.ir import MaxPool2D, ModelError, Pair, SumPool2D
from tidemill.compiler.kernels.elementwise import has_channels
from tidemill.compiler.kernels.tiling import (
    MAX_LINES,
    MAX_N0,
    MAX_PAD,
    MIN_TILE,
    TILES,
    RowCache,
    fill,
    set_quant,
    store,
    taken,
)
from tidemill.isa import Post

Range = tuple[int, int]
"""(first, past the last)"""


def emit_max_pool(context: Context, op: MaxPool2D) -> None:
    """y = clamp(max over the window)."""
    _MaxPool(context, op, op.dilation, -128).emit()


def emit_sum_pool(context: Context, op: SumPool2D) -> None:
    """y = requantize[n](sum over the window)."""
    _SumPool(context, op, (1, 1), 0).emit()


@dataclass(frozen=True)
class _Tile:
    """Results `oy` x `ox` of the images `first .. first + images - 1` (an image has one block of channels)."""

    first: int
    images: int
    oy: Range
    ox: Range

    @property
    def shape(self) -> tuple[int, int, int]:
        """(images, rows, columns)."""
        return self.images, self.oy[1] - self.oy[0], self.ox[1] - self.ox[0]

    @property
    def rows(self) -> int:
        """Result rows."""
        return self.images * self.shape[1] * self.shape[2]


@dataclass(frozen=True)
class _Window:
    """A tile's input in the scratchpad: rows from `start`, `width` rows a line, `image` rows an image; it begins with
    the first result's tap (0, 0)."""

    start: int
    width: int
    image: int


def _cut(total: int, largest: int) -> list[Range]:
    count = -(-total // largest)
    edges = [total * i // count for i in range(count + 1)]
    return list(itertools.pairwise(edges))


class _Pool:
    """What maximum and sum share: tiles, loads, loops over results."""

    mnemonic = ""

    def __init__(self, context: Context, op: MaxPool2D | SumPool2D, dilation: Pair, value: int) -> None:
        self.context, self.dilation, self.value = context, dilation, value
        self.kernel, self.strides, self.padding = op.kernel, op.strides, op.padding
        self.source, self.result = context.place(op.x), context.place(op.y)
        images, self.height, self.width, _ = op.x.shape
        _, self.out_height, self.out_width, _ = op.y.shape
        self.images = images * self.result.blocks
        self.per_block = images if self.by_block(op) else self.images
        self.limit = context.inputs.rows // 2
        if (self.width + sum(self.padding[1])) * self.strides[0] > 32767:
            raise ModelError(f"node {op.name!r} ({op.source}): an image may be at most 32767 pixels wide, with padding "
                             f"and stride, not {self.width}")  # fmt: skip

    def by_block(self, op: MaxPool2D | SumPool2D) -> bool:
        """Tiles must not span blocks of channels."""
        return False

    def emit(self) -> None:
        """The whole operation."""
        self.prepare()
        whole = self._extent(0, 1) * self._extent(1, 1) <= self.limit and max(self.kernel) <= MAX_LINES
        for tile in self._tiles(whole):
            with taken((self.context.outputs, tile.rows)) as [outputs]:
                if whole:
                    self._whole(tile, outputs.start)
                else:
                    self._parts(tile, outputs.start)
                self.finish(outputs.start, tile.rows)
                self._store(tile, outputs.start)
        self.close()

    def _extent(self, axis: int, results: int, taps: int | None = None) -> int:
        """Padded input pixels that `results` results in succession need."""
        taps = self.kernel[axis] if taps is None else taps
        return (results - 1) * self.strides[axis] + (taps - 1) * self.dilation[axis] + 1

    def _tiles(self, whole: bool) -> Iterator[_Tile]:
        out_limit = self.context.outputs.rows // 4
        rows = self._extent(0, self.out_height) * self._extent(1, self.out_width)
        # Enough tiles to overlap, but none whose input is mostly the borders between tiles.
        line = self._extent(1, self.out_width)
        goal = max(-(-self.images * rows // TILES), 2 * MIN_TILE, 3 * self._extent(0, 1) * line)
        limit = max(min(self.limit // 2, goal), 1)
        if not whole:
            rows_each, columns_each, images = 1, 1, 1
        elif rows <= limit and self.out_height * self.out_width <= out_limit:
            rows_each, columns_each = self.out_height, self.out_width
            images = max(1, min(limit // rows, out_limit // (rows_each * columns_each), MAX_LINES))
            images = min(images, max(1, -(-self.images // TILES), MIN_TILE // rows))
        else:
            images = 1
            columns_each = self._most(
                1, self.out_width, self.limit // self._extent(0, 1), self.context.outputs.rows // 4
            )
            width = self._extent(1, columns_each)
            allowed = limit if self._extent(0, 1) * width <= limit else self.limit
            rows_each = self._most(0, self.out_height, allowed // width, max(1, out_limit // columns_each))
        for block in range(0, self.images, self.per_block):
            for low, high in _cut(self.per_block, images):
                for oy in _cut(self.out_height, rows_each):
                    for ox in _cut(self.out_width, columns_each):
                        yield _Tile(block + low, high - low, oy, ox)

    def _most(self, axis: int, results: int, inputs: int, outputs: int) -> int:
        """Most results whose input fits `inputs` pixels along an axis."""
        fitting = (inputs - self._extent(axis, 1)) // self.strides[axis] + 1
        return max(1, min(results, fitting, outputs, MAX_N0))

    def _whole(self, tile: _Tile, dst: int) -> None:
        _, rows, columns = tile.shape
        origin = (tile.oy[0] * self.strides[0], tile.ox[0] * self.strides[1])
        size = (self._extent(0, rows), self._extent(1, columns))
        with taken((self.context.inputs, tile.images * size[0] * size[1])) as [inputs]:
            self._load(tile, inputs.start, origin, size)
            window = _Window(inputs.start, size[1], size[0] * size[1])
            for oy in self.regions(0, tile.oy):
                for ox in self.regions(1, tile.ox):
                    self.fold(tile, window, oy, ox, dst)

    def _parts(self, tile: _Tile, dst: int) -> None:
        """One result: its window in parts of at most `limit` rows; the parts' results in accumulators."""
        taps_x = min(self.kernel[1], MAX_LINES, (self.limit - 1) // self.dilation[1] + 1)
        taps_y = (self.limit // self._extent(1, 1, taps_x) - 1) // self.dilation[0] + 1
        parts = [
            (y, x) for y in _cut(self.kernel[0], min(taps_y, MAX_LINES)) for x in _cut(self.kernel[1], taps_x)
        ]  # fmt: skip
        with taken((self.context.sums, len(parts))) as [sums]:
            for number, ((y0, y1), (x0, x1)) in enumerate(parts):
                size = (self._extent(0, 1, y1 - y0), self._extent(1, 1, x1 - x0))
                origin = (
                    tile.oy[0] * self.strides[0] + y0 * self.dilation[0],
                    tile.ox[0] * self.strides[1] + x0 * self.dilation[1],
                )
                with taken((self.context.inputs, size[0] * size[1])) as [inputs]:
                    self._load(tile, inputs.start, origin, size)
                    self.context.stream.vx_dims(n0=1, k0=x1 - x0, k1=y1 - y0, d0=1)
                    self.context.stream.vx_astride(k0=self.dilation[1], k1=self.dilation[0] * size[1])
                    self._run(acc(sums.start + number), spad(inputs.start), Post.NONE)
            self.parameters(tile.oy, tile.ox, tile.first)
            self.context.stream.vx_dims(n0=1, k0=len(parts), d0=1)
            self.context.stream.vx_astride(k0=1)
            self._run(spad(dst), acc(sums.start), self.post)

    def _load(self, tile: _Tile, row: int, origin: Pair, size: Pair) -> None:
        """Pixels `origin .. origin + size - 1` of the padded images, one line after another."""
        stream = self.context.stream
        height, width = size
        tops = [
            min(max(limit - origin[0] - self.padding[0][0] * side, 0), height)
            for limit, side in ((self.padding[0][0], 0), (self.height, -1))
        ]
        top, bottom = tops[0], max(tops[1], tops[0])
        left = min(max(self.padding[1][0] - origin[1], 0), width)
        right = max(min(max(self.width + self.padding[1][0] - origin[1], 0), width), left)
        lines, pixels = bottom - top, right - left
        start_y, start_x = origin[0] + top - self.padding[0][0], origin[1] + left - self.padding[1][0]
        image_rows, first = height * width, self.source.at(0, tile.first * self.height * self.width)
        wide = max(left, width - right) > MAX_PAD
        if lines == 0 or pixels == 0 or wide:
            fill(self.context, row, first, tile.images * image_rows, self.value)
        else:
            for image in range(tile.images):
                fill(self.context, row + image * image_rows, first, top * width, self.value)
                fill(
                    self.context,
                    row + image * image_rows + bottom * width,
                    first,
                    (height - bottom) * width,
                    self.value,
                )
        if lines == 0 or pixels == 0:
            return
        row_bytes = self.source.row_bytes
        dram = first + (start_y * self.width + start_x) * row_bytes
        pads = (0, 0) if wide else (left, width - right)
        row += top * width + (left if wide else 0)
        # Whole lines that follow each other are one line; so are whole images.
        counts, dram_steps, local_steps = (
            [lines, tile.images],
            [self.width, self.height * self.width],
            [width, image_rows],
        )
        if pads == (0, 0) and pixels == width == self.width:
            pixels, counts[0] = pixels * lines, 1
            if pixels == image_rows == dram_steps[1] and pixels * counts[1] <= MAX_N0:
                pixels, counts[1] = pixels * counts[1], 1
        for start in range(0, pixels, MAX_N0):
            part = min(MAX_N0, pixels - start)
            for line in range(0, counts[0], MAX_LINES):
                stream.ld_stride(s1=dram_steps[0] * row_bytes, s2=dram_steps[1] * row_bytes)
                stream.ld_dst(d1=local_steps[0], d2=local_steps[1], pad_lo=pads[0], pad_hi=pads[1], value=self.value)
                stream.ld_run(
                    dst=spad(row + start + line * local_steps[0]),
                    dram=dram + (start + line * dram_steps[0]) * row_bytes,
                    n0=part, n1=min(MAX_LINES, counts[0] - line), n2=counts[1],
                )  # fmt: skip

    def fold(self, tile: _Tile, window: _Window, oy: Range, ox: Range, dst: int) -> None:
        """Results `oy` x `ox` of a tile, in as few instructions as their loops allow."""
        self.parameters(oy, ox, tile.first)
        images, rows, columns = tile.shape
        y, x = oy[0] - tile.oy[0], ox[0] - tile.ox[0]
        src = window.start + y * self.strides[0] * window.width + x * self.strides[1]
        dst += y * columns + x
        # (count, source step, target step), outermost first; what goes on at the same steps is one loop
        loops: list[tuple[int, int, int]] = []
        for loop in (
            (images, window.image, rows * columns),
            (oy[1] - oy[0], self.strides[0] * window.width, columns),
            (ox[1] - ox[0], self.strides[1], 1),
        ):
            if loop[0] == 1:
                continue
            if loops and loops[-1][1:] == (loop[0] * loop[1], loop[0] * loop[2]) and loops[-1][0] * loop[0] <= MAX_N0:
                loops[-1] = (loops[-1][0] * loop[0], loop[1], loop[2])
            else:
                loops.append(loop)
        loops = [(1, 0, 0)] * (3 - len(loops)) + loops
        (outer, outer_src, outer_dst), (n1, a1, d1), (n0, a0, d0) = loops
        stream = self.context.stream
        stream.vx_dims(n0=n0, n1=n1, k0=self.kernel[1], k1=self.kernel[0], d0=d0, d1=d1)
        stream.vx_astride(n0=a0, n1=a1, k0=self.dilation[1], k1=self.dilation[0] * window.width)
        for i in range(outer):
            self._run(spad(dst + i * outer_dst), spad(src + i * outer_src), self.post)

    def _run(self, dst: LocalAddress, a: LocalAddress, post: Post) -> None:
        self.context.stream.emit(self.mnemonic, dst=dst, a=a, b=0, post=post)

    def _store(self, tile: _Tile, src: int) -> None:
        _, rows, columns = tile.shape
        image = self.out_height * self.out_width
        dram = self.result.at(0, tile.first * image + tile.oy[0] * self.out_width + tile.ox[0])
        if columns == self.out_width and (tile.images == 1 or rows == self.out_height):
            store(self.context, spad(src), dram, tile.rows)
            return
        self.context.stream.st_stride(s1=self.out_width * self.result.row_bytes)
        self.context.stream.st_src(d1=columns)
        self.context.stream.st_run(src=spad(src), dram=dram, n0=columns, n1=rows)

    post = Post.NONE

    def prepare(self) -> None:
        """Before the first tile."""

    def close(self) -> None:
        """After the last tile."""

    def finish(self, row: int, rows: int) -> None:
        """A tile's results before they are stored."""

    def regions(self, axis: int, results: Range) -> list[Range]:
        """Results along an axis, cut where their parameters change."""
        return [results]

    def parameters(self, oy: Range, ox: Range, image: int) -> None:
        """Set what the results of a region need."""


class _MaxPool(_Pool):
    mnemonic = "vx.maxpool"

    def __init__(self, context: Context, op: MaxPool2D, dilation: Pair, value: int) -> None:
        super().__init__(context, op, dilation, value)
        self.range = (op.qmin, op.qmax)

    def prepare(self) -> None:
        if self.range != (-128, 127):
            self.context.stream.vx_quant(qmin=self.range[0], qmax=self.range[1])

    def finish(self, row: int, rows: int) -> None:
        if self.range != (-128, 127):
            self.context.stream.vx_dims(n0=rows, d0=1)
            self.context.stream.vx_astride(n0=1)
            self.context.stream.vx_clamp(dst=spad(row), a=spad(row), b=0)


class _SumPool(_Pool):
    mnemonic = "vx.add"
    post = Post.RQ

    def __init__(self, context: Context, op: SumPool2D, dilation: Pair, value: int) -> None:
        super().__init__(context, op, dilation, value)
        self.requantize, self.channels = op.requantize, op.y.channels
        self.cache = RowCache(context, context.parameters)
        self.counts = [self._inside(axis) for axis in (0, 1)]
        self.current: tuple[int, int] | None = None

    def by_block(self, op: MaxPool2D | SumPool2D) -> bool:
        assert isinstance(op, SumPool2D)
        return any(has_channels(requantize) for requantize in op.requantize.values())

    def _inside(self, axis: int) -> list[int]:
        """Pixels of each result's window inside the image, along one axis."""
        size, results = ((self.height, self.out_height), (self.width, self.out_width))[axis]
        first = np.arange(results) * self.strides[axis] - self.padding[axis][0]
        inside = np.minimum(first + self.kernel[axis], size) - np.maximum(first, 0)
        return [int(count) for count in inside]

    def regions(self, axis: int, results: Range) -> list[Range]:
        counts = self.counts[axis][slice(*results)]
        edges = [0, *(i for i in range(1, len(counts)) if counts[i] != counts[i - 1]), len(counts)]
        return [(results[0] + low, results[0] + high) for low, high in itertools.pairwise(edges)]

    def parameters(self, oy: Range, ox: Range, image: int) -> None:
        n = self.counts[0][oy[0]] * self.counts[1][ox[0]]
        requantize = self.requantize[n]
        block = image // self.per_block
        if self.current == (n, block):
            return
        self.current = (n, block)
        set_quant(self.context, requantize)
        config = self.context.config
        ref = self.context.parameter_rows(requantize, self.channels)
        ref += block * 3 * config.acc_row_bytes
        self.context.stream.vx_param(src=acc(self.cache.row(ref, 3)))

    def close(self) -> None:
        self.cache.close()
