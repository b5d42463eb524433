"""Input tiles: the pixels that an output tile reads, with padding inserted, in the `inputs` zone."""

from __future__ import annotations

from dataclasses import dataclass

from tidemill.compiler.context import Context, Place
from tidemill.compiler.kernels.conv_plan import Chunk, Extent, Geometry, Span, extent
from tidemill.compiler.kernels.transfer import MAX_PADDING, Dim, fill, load
from tidemill.compiler.memory import Region, Ring
from tidemill.operands import LocalAddress, spad


@dataclass(frozen=True)
class Window:
    """An input tile in the scratchpad, [block][image][row][column] from `row`."""

    row: int
    first_block: int
    images: int
    rows: Extent
    columns: Extent

    @property
    def image_rows(self) -> int:
        """Scratchpad rows of one image of one block."""
        return self.rows.size * self.columns.size

    def at(self, block: int, image: int = 0) -> LocalAddress:
        """First scratchpad row of a block (its number in the tensor) of an image (counted in the tile)."""
        return spad(self.row + ((block - self.first_block) * self.images + image) * self.image_rows)

    def tap(self, block: int, tap_y: int, tap_x: int) -> LocalAddress:
        """Where the first output pixel meets a tap, counted from the chunk's first."""
        return self.at(block) + tap_y * self.rows.tap * self.columns.size + tap_x * self.columns.tap


class Windows:
    """Loads input tiles into `zone`; the one used last is kept."""

    def __init__(
        self, context: Context, place: Place, geometry: Geometry, zero_point: int, zone: Ring | None = None
    ) -> None:
        """`zone` None: all of the inputs' zone."""
        self._context, self._place, self._geometry, self._value = context, place, geometry, zero_point
        self._zone = context.inputs if zone is None else zone
        self._key: tuple[Span, Chunk] | None = None
        self._region: Region | None = None
        self._window: Window | None = None

    def get(self, span: Span, chunk: Chunk) -> Window:
        """The input tile for output pixels `span` and the part `chunk` of the reduction. Valid until the next call."""
        if self._window is not None and self._key == (span, chunk):
            return self._window
        self.close()
        g = self._geometry
        rows = extent(span.rows, chunk.taps_y, g.strides[0], g.dilation[0], g.top, g.height, True)
        columns = extent(span.columns, chunk.taps_x, g.strides[1], g.dilation[1], g.left, g.width, False)
        images = len(span.images)
        self._region = self._zone.take(len(chunk.blocks) * images * rows.size * columns.size)
        self._window = Window(self._region.start, chunk.blocks.start, images, rows, columns)
        self._key = (span, chunk)
        self._load(self._window, span, chunk)
        return self._window

    def close(self) -> None:
        """Give the rows back."""
        if self._region is not None:
            self._zone.release(self._region)
        self._region = self._window = self._key = None

    def _load(self, window: Window, span: Span, chunk: Chunk) -> None:
        stream, place, g = self._context.stream, self._place, self._geometry
        rows, columns = window.rows, window.columns
        width, inside = columns.size, columns.inside
        outer = [
            Dim(len(chunk.blocks), place.block_bytes, window.images * window.image_rows),
            Dim(window.images, g.height * g.width * place.row_bytes, window.image_rows),
        ]
        start = spad(window.row)
        none = [Dim(dim.count, 0, dim.local) for dim in outer]
        lines = rows.inside if inside else 0
        low = rows.low if lines else rows.size
        if low:
            fill(stream, start, width, self._value, place.ref, [*none, Dim(low, 0, width)])
        if not lines:
            return
        after = start + (rows.size - rows.high) * width
        if rows.high:
            fill(stream, after, width, self._value, place.ref, [*none, Dim(rows.high, 0, width)])
        y = rows.start + rows.low * rows.step
        pixel = (span.images.start * g.height + y) * g.width + columns.start + columns.low
        dims = [*outer, Dim(lines, rows.step * g.width * place.row_bytes, width)]
        # Padding beyond what a line can have is filled by itself.
        left, right = min(columns.low, MAX_PADDING), min(columns.high, MAX_PADDING)
        line = start + rows.low * width
        flat = [*none, Dim(lines, 0, width)]
        fill(stream, line, columns.low - left, self._value, place.ref, flat)
        fill(stream, line + (width - columns.high + right), columns.high - right, self._value, place.ref, flat)
        source = place.at(chunk.blocks.start, pixel)
        load(stream, line + (columns.low - left), source, inside, dims, (left, right), self._value)
