"""How a convolution is cut into tiles, chosen by a small search over an estimate of the cycles.

An output tile is a piece of the output's pixels (images, rows, columns) of one block of channels: its sums fit half of
the accumulators, so that the vector engine drains one half while the array fills the other. The input pixels that it
reads, with padding inserted, fit half of the input zone. Where they do not, the reduction is cut into chunks of input
blocks and taps, and the sums of a group of output blocks stay while the chunks pass.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum

from tidemill.compiler.context import Context
from tidemill.compiler.ir import Conv2D, ModelError
from tidemill.compiler.kernels.pieces import LOAD_ROWS, PREFETCH
from tidemill.compiler.kernels.transfer import MAX_ROWS
from tidemill.compiler.kernels.weights import WeightTiles
from tidemill.compiler.memory import blocks_of
from tidemill.config import Config
from tidemill.isa import BY_MNEMONIC, INSTRUCTION_BYTES
from tidemill.iss.timing import Timing

TIMING = Timing()
VECTOR_OVERHEAD = TIMING.vector_setup + TIMING.vector_pipeline
REQUANT_OVERHEAD = VECTOR_OVERHEAD + TIMING.vector_requant + TIMING.vector_param
"""Cycles of a requantization beside its rows, parameters included."""
RUN_OVERHEAD = 4
"""Cycles of a run beside its rows, and of a weight load beside its own, as measured."""
LOAD_OVERHEAD = 8
LATENCY = 50
"""From a load's start to its rows, and from a store's start to its end."""
READ_WEIGHT = 1 / 32
"""What a cycle of reading costs even where it is hidden: the operations around want the bus, too."""
KEEP_TILES = 8
"""Tiles with fewer rows than the largest one divided by this are not tried."""
MAX_WINDOW = BY_MNEMONIC["vx.dims"].field("k0").legal_max


class Order(Enum):
    """What the outer loop is, and which weights stay in the scratchpad."""

    RESIDENT = "all weights stay"
    GROUPS = "groups of output blocks outside, a group's weights stay"
    STREAM = "pixels outside, weights stream"


class Path(Enum):
    """The engine that multiplies."""

    MATRIX = "matrix"
    VECTOR = "vector"
    BOTH = "matrix and vector"


@dataclass(frozen=True)
class Geometry:
    """A convolution as its loops see it; a product with a constant matrix is one row of pixels."""

    images: int
    height: int
    width: int
    out_height: int
    out_width: int
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilation: tuple[int, int]
    top: int
    left: int

    @classmethod
    def of(cls, op: Conv2D) -> Geometry:
        """The geometry of an operation."""
        kernel = op.weights.shape[1], op.weights.shape[2]
        if kernel == (1, 1) and op.strides == (1, 1) and not any(map(any, op.padding)):
            return cls(1, 1, op.x.pixels, 1, op.x.pixels, kernel, (1, 1), (1, 1), 0, 0)
        images, height, width, _ = op.x.shape
        _, out_height, out_width, _ = op.y.shape
        (top, _), (left, _) = op.padding
        return cls(
            images, height, width, out_height, out_width, kernel, op.strides, op.dilation, top, left
        )  # fmt: skip


@dataclass(frozen=True)
class Extent:
    """Input pixels of a tile along one axis: `size` pixels from coordinate `start` in steps of `step`; of these
    `low` before the image and `high` behind it. In local rows (or columns) output steps are `stride` apart, taps `tap`.
    """

    start: int
    step: int
    size: int
    low: int
    high: int
    stride: int
    tap: int

    @property
    def inside(self) -> int:
        """Pixels that are in the image."""
        return self.size - self.low - self.high


def extent(
    outputs: range, taps: range, stride: int, dilation: int, padding: int, length: int, sample: bool
) -> Extent:  # fmt: skip
    """The input pixels for `outputs` and `taps`, of an axis of `length`; `sample`: only those that are used where
    they are equally far apart."""
    start = outputs.start * stride - padding + taps.start * dilation
    step = 1
    if sample:
        step = stride if len(taps) == 1 else math.gcd(stride, dilation)
    size = ((len(outputs) - 1) * stride + (len(taps) - 1) * dilation) // step + 1
    low = min(size, max(0, -(start // step)))
    high = min(size - low, max(0, size - -(-(length - start) // step)))
    return Extent(start, step, size, low, high, stride // step, dilation // step)


@dataclass(frozen=True)
class Span:
    """Pixels of an output tile."""

    images: range
    rows: range
    columns: range

    @property
    def pixels(self) -> int:
        """Output pixels."""
        return len(self.images) * len(self.rows) * len(self.columns)


@dataclass(frozen=True)
class Chunk:
    """A part of the reduction: input blocks and taps."""

    blocks: range
    taps_y: range
    taps_x: range


@dataclass(frozen=True)
class ConvPlan:
    """Tile sizes (output pixels, output blocks of a group, input blocks and taps of a chunk), the loops' order, and the
    estimate in cycles: the bus reading and writing, the array, the vector engine, and all together."""

    path: Path
    order: Order
    images: int
    rows: int
    columns: int
    out_blocks: int
    in_blocks: int
    taps_y: int
    taps_x: int
    weight_tiles: int
    read: int = 0
    write: int = 0
    matrix: int = 0
    vector: int = 0
    total: int = 0
    array_share: float = 0.0
    """Path BOTH: the part of the tiles (span, output block) that the array takes."""

    def __str__(self) -> str:
        return (
            f"{self.path.value}: {self.images}x{self.rows}x{self.columns} pixels, {self.out_blocks} output blocks, "
            f"{self.in_blocks} input blocks, {self.taps_y}x{self.taps_x} taps, {self.weight_tiles} weight tiles "
            f"({self.order.value}); about {self.total} cycles "
            f"(read {self.read}, write {self.write}, matrix {self.matrix}, vector {self.vector})"
        )

    def spans(self, geometry: Geometry) -> list[Span]:
        """The output tiles, in order."""
        return [
            Span(images, rows, columns)
            for images in cut(geometry.images, self.images)
            for rows in cut(geometry.out_height, self.rows)
            for columns in cut(geometry.out_width, self.columns)
        ]

    def on_array(self, number: int) -> bool:
        """Path BOTH: the array takes tile `number`, counted over spans and output blocks; spread evenly."""
        return int((number + 1) * self.array_share) > int(number * self.array_share)

    def groups(self, out_blocks: int) -> list[range]:
        """The groups of output blocks, in order."""
        return cut(out_blocks, self.out_blocks)

    def chunks(self, blocks: range, kernel: tuple[int, int]) -> list[Chunk]:
        """The parts of the reduction of a group that reads the input blocks `blocks`."""
        return [
            Chunk(range(blocks.start + part.start, blocks.start + part.stop), taps_y, taps_x)
            for part in cut(len(blocks), self.in_blocks)
            for taps_y in cut(kernel[0], self.taps_y)
            for taps_x in cut(kernel[1], self.taps_x)
        ]


def cut(total: int, largest: int) -> list[range]:
    """`total` in the fewest pieces of at most `largest`, as even as can be."""
    count = -(-total // largest)
    edges = [total * i // count for i in range(count + 1)]
    return [range(a, b) for a, b in itertools.pairwise(edges)]


def sizes(total: int, largest: int) -> list[int]:
    """Every piece size of `cut` that is at most `largest`, largest first."""
    found = {-(-total // count) for count in range(1, min(total, 4 * math.isqrt(total) + 4) + 1)} | {1}
    return sorted((size for size in found if size <= largest), reverse=True)


def _large(spans: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Those that are not much smaller than the largest."""
    largest = max(map(math.prod, spans), default=0)
    return [span for span in spans if math.prod(span) * KEEP_TILES >= largest]


@dataclass(frozen=True)
class Room:
    """Rows that a kernel may use at once: half of a zone, so that the next tile has room beside it."""

    weights: int
    inputs: int
    outputs: int
    sums: int
    second: int
    """First row of the other half of the sums."""

    @classmethod
    def of(cls, context: Context) -> Room:
        """The room of a configuration. Raises ModelError where there is none."""
        config, rows = context.config, context.sums.rows
        second = config.acc_rows // config.acc_banks * (config.acc_banks // 2)
        if min(second, rows - second) < rows * 2 // 5:
            second = rows // 2
        sums = min(second, rows - second, MAX_ROWS)
        if sums < 1:
            raise ModelError(f"configuration {config.name!r} has {config.acc_rows} accumulator rows; too few")
        return cls(context.weights.rows, context.inputs.rows // 2, context.outputs.rows // 2, sums, second)


class Planner:
    """Searches the tile sizes of one convolution."""

    def __init__(self, context: Context, op: Conv2D, weights: WeightTiles | None) -> None:
        """`weights` None: the vector path of a depthwise convolution."""
        self.config: Config = context.config
        self.room = Room.of(context)
        self.geometry = Geometry.of(op)
        self.weights = weights
        self.bias_only = op.requantize is None
        self.table = op.table is not None
        self.out_bytes = 4 * self.config.dim if op.requantize is None else self.config.dim
        self.out_blocks = blocks_of(op.y.channels, self.config)
        self.all_in = blocks_of(op.x.channels, self.config)
        self.taps = math.prod(self.geometry.kernel)

    def plans(self) -> list[ConvPlan]:
        """Every plan worth trying, with its estimate."""
        return [plan for span in self._spans() for plan in self._candidates(span)]

    def _spans(self) -> list[tuple[int, int, int]]:
        """Sizes of output tiles worth trying."""
        g, limit = self.geometry, self.room.sums
        if not self.bias_only:
            limit = min(limit, self.room.outputs)
        found = [(1, rows, columns) for columns in sizes(g.out_width, limit)
                 for rows in sizes(g.out_height, limit // columns)]  # fmt: skip
        whole = g.out_height * g.out_width
        if whole <= limit:
            found += [(images, g.out_height, g.out_width) for images in sizes(g.images, limit // whole)]
        taps = {span: self._taps(span) for span in found}
        # A window that fits as a whole is worth a smaller tile.
        uncut = [span for span in taps if taps[span] == g.kernel]
        cut_up = [span for span in taps if taps[span] not in (None, g.kernel)]
        return _large(uncut) + _large(cut_up)

    def _window(self, span: tuple[int, int, int], taps_y: int, taps_x: int) -> tuple[int, int]:
        """Rows and columns of the input that a tile reads."""
        g = self.geometry
        height = extent(range(span[1]), range(taps_y), g.strides[0], g.dilation[0], 0, g.height, True).size
        width = extent(range(span[2]), range(taps_x), g.strides[1], g.dilation[1], 0, g.width, False).size
        return height, width

    def _pixels(self, span: tuple[int, int, int], taps_y: int, taps_x: int) -> int:
        height, width = self._window(span, taps_y, taps_x)
        return span[0] * height * width

    def _taps(self, span: tuple[int, int, int]) -> tuple[int, int] | None:
        """The most taps whose window fits; None where not even one does, or (on the vector engine) not all."""
        kh, kw = self.geometry.kernel
        choices = [(y, kw) for y in sizes(kh, kh)] + [(1, x) for x in sizes(kw, kw)]
        for taps in choices[:1] if self.weights is None else choices:
            if self._pixels(span, *taps) <= self.room.inputs and self._window(span, *taps)[1] <= MAX_ROWS:
                return taps
        return None

    def _candidates(self, span: tuple[int, int, int]) -> Iterator[ConvPlan]:
        if self.weights is None:
            limit = min(self.room.inputs // self._pixels(span, *self.geometry.kernel),
                        self.room.outputs // math.prod(span))  # fmt: skip
            fits = self.out_blocks * self.taps <= self.room.weights
            order = Order.RESIDENT if fits else Order.STREAM
            for blocks in sizes(self.out_blocks, limit):
                plan = self._estimate(
                    ConvPlan(Path.VECTOR, order, *span, blocks, blocks, *self.geometry.kernel, 0), self.weights
                )
                yield plan
                yield from self._shared(plan)
            return
        taps = self._taps(span)
        if taps is None:
            return
        most = self.room.inputs // self._pixels(span, *taps)
        total = self.weights.count()
        fits = total * self.config.dim <= self.room.weights
        many = len(ConvPlan(Path.MATRIX, Order.STREAM, *span, 1, 1, *taps, total).spans(self.geometry)) > 1
        for out_blocks in sizes(self.out_blocks, self.out_blocks):
            groups = cut(self.out_blocks, out_blocks)
            widest = max(len(self.weights.in_blocks(group.start, group.stop)) for group in groups)
            whole = taps == self.geometry.kernel and widest <= most
            if not whole and math.prod(span) * out_blocks > self.room.sums:
                continue
            plan = ConvPlan(Path.MATRIX, Order.STREAM, *span, out_blocks, min(most, widest), *taps, total)
            yield self._estimate(replace(plan, order=Order.RESIDENT) if fits else plan, self.weights)
            if (
                not fits
                and many
                and all(
                    self.weights.count(group.start, group.stop) * self.config.dim <= self.room.weights
                    for group in groups
                )
            ):
                yield self._estimate(replace(plan, order=Order.GROUPS), self.weights)

    def _shared(self, plan: ConvPlan) -> Iterator[ConvPlan]:
        """A vector plan whose tiles are divided between array and vector engine, so that both take as long."""
        config, pixels = self.config, plan.images * plan.rows * plan.columns
        jobs = len(plan.spans(self.geometry)) * self.out_blocks
        if jobs < 2 or plan.out_blocks > 1 or pixels > self.room.sums or self.table:
            return
        # Each engine has half of the inputs' zone; the vector engine's weights lie beside the outputs.
        if 2 * self._pixels((plan.images, plan.rows, plan.columns), *self.geometry.kernel) > self.room.inputs:
            return
        if self.out_blocks * self.taps + 2 * pixels > 2 * self.room.outputs:
            return
        lanes = config.cols // config.requant_lanes
        matrix = self.taps * (max(pixels, config.rows + TIMING.wload_setup + TIMING.wload_pipeline) + RUN_OVERHEAD)
        requantize = pixels * lanes + REQUANT_OVERHEAD
        multiply = pixels * max(self.taps, lanes) + REQUANT_OVERHEAD + VECTOR_OVERHEAD * (plan.images - 1)
        share = multiply / (matrix + multiply - requantize)
        plan = replace(plan, path=Path.BOTH, array_share=min(share, (jobs - 1) / jobs))
        taken = [number for number in range(jobs) if plan.on_array(number)]
        blocks = {number % self.out_blocks for number in taken}
        rows = len(blocks) * self.taps * config.dim
        if not taken or rows > self.room.weights:
            return
        vector = len(taken) * requantize + (jobs - len(taken)) * multiply
        read = plan.read + rows * max(1, config.dim // config.axi_bytes)
        read += len(taken) * 2 * self.taps * INSTRUCTION_BYTES // config.axi_bytes
        outside = plan.total - max(plan.read, plan.write, plan.matrix, plan.vector)
        busiest = max(read, plan.write, len(taken) * matrix, vector)
        yield replace(plan, read=read, matrix=len(taken) * matrix, vector=vector, total=busiest + outside + requantize)

    def _estimate(self, plan: ConvPlan, weights: WeightTiles | None) -> ConvPlan:
        g, config = self.geometry, self.config
        beats = max(1, config.dim // config.axi_bytes)
        spans = math.prod(-(-a // b) for a, b in (
            (g.images, plan.images), (g.out_height, plan.rows), (g.out_width, plan.columns)
        ))  # fmt: skip
        total_pixels = g.images * g.out_height * g.out_width
        pixels = total_pixels / spans
        window = self._pixels((plan.images, plan.rows, plan.columns), plan.taps_y, plan.taps_x)
        # rows of input per span, over all groups and chunks
        groups = plan.groups(self.out_blocks)
        loads, in_rows, tiles = 0, 0, 0
        if weights is None:
            loads, in_rows = len(groups), self.all_in * window
            constant = self.out_blocks * self.taps * (1 if plan.order is Order.RESIDENT else spans)
        else:
            tiles = plan.weight_tiles
            kinds = {weights.in_blocks(group.start, group.stop) for group in groups}
            taps_cuts = -(-g.kernel[0] // plan.taps_y) * -(-g.kernel[1] // plan.taps_x)
            single = taps_cuts == 1 and all(len(kind) <= plan.in_blocks for kind in kinds)
            shared = single and len(kinds) == 1 and plan.order is not Order.GROUPS
            for group in groups[:1] if shared else groups:
                blocks = len(weights.in_blocks(group.start, group.stop))
                loads += taps_cuts * -(-blocks // plan.in_blocks)
                in_rows += taps_cuts * blocks * window
            constant = tiles * config.dim * (spans if plan.order is Order.STREAM else 1)
        lanes = config.cols // config.requant_lanes
        parameters = self.out_blocks * 3 * 4 * beats
        instructions = spans * (2 * tiles + 5 * self.out_blocks + 4 * loads) + constant // LOAD_ROWS
        fetch = instructions * INSTRUCTION_BYTES // config.axi_bytes
        read = spans * (in_rows * beats + loads * LOAD_OVERHEAD) + constant * beats + parameters + fetch
        write = (
            self.out_blocks * total_pixels * self.out_bytes // config.axi_bytes + spans * len(groups) * LOAD_OVERHEAD
        )
        matrix = tiles * spans * (max(pixels, config.rows + TIMING.wload_setup + TIMING.wload_pipeline) + RUN_OVERHEAD)
        cost, overhead = 0, 0
        if not self.bias_only:
            cost = max(self.taps if weights is None else 1, lanes)
            overhead = REQUANT_OVERHEAD + (0 if weights is not None else VECTOR_OVERHEAD * (plan.images - 1))
        if self.bias_only or self.table:
            cost += lanes if self.table else 1
            overhead += VECTOR_OVERHEAD + TIMING.vector_table
        vector = self.out_blocks * spans * (pixels * cost + overhead)
        # What nothing overlaps: the first input and weights, the last block's way out
        prefetched = config.dim * (1 if plan.order is Order.STREAM else (1 << PREFETCH) - 1)
        first = in_rows * beats / loads + min(constant, prefetched) * beats + LATENCY
        last = pixels * self.out_bytes / config.axi_bytes + LATENCY
        if weights is not None:
            last += pixels * cost + overhead + 3 * config.rows
        total = max(read, write, matrix, vector) + first + last
        return replace(plan, read=int(read), write=int(write), matrix=int(matrix), vector=int(vector), total=int(total))


def depthwise_fits(op: Conv2D) -> bool:
    """The vector engine can do it: one input channel for each output channel, int8 weights, int8 result."""
    weights = op.weights
    return (
        op.requantize is not None
        and op.groups == weights.shape[0] == op.x.channels
        and max(weights.shape[1:3]) <= MAX_WINDOW
        and bool((weights >= -128).all() and (weights <= 127).all())
    )


def plan_conv(context: Context, op: Conv2D, weights: WeightTiles) -> ConvPlan:
    """The best plan on the array or, for a depthwise convolution, on the vector engine.

    Raises ModelError where the configuration has no room for a single tile.
    """
    plans = Planner(context, op, weights).plans()
    if depthwise_fits(op) and math.prod(op.weights.shape[1:3]) <= context.weights.rows:
        plans += Planner(context, op, None).plans()
    return min(plans, key=lambda plan: plan.total + plan.read * READ_WEIGHT)
