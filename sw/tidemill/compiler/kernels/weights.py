"""A convolution's weights as array tiles, grouped convolutions included."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tidemill.compiler.memory import blocks_of
from tidemill.config import Config


@dataclass(frozen=True)
class Tile:
    """One weight tile: output block, input block, tap, and its index in `WeightTiles.planes`."""

    out_block: int
    in_block: int
    tap_y: int
    tap_x: int
    plane: int


class WeightTiles:
    """Dense tiles of `weights` int16 [Co, kh, kw, Ci / groups]: the block-diagonal matrix of a grouped convolution is
    cut into tiles [R, C] of (output block, input block, tap), of which those without a weight are left out.

    A weight beyond int8 is the sum of several planes of tiles. `nonzero` [planes, out blocks, in blocks from the first
    one, kh, kw] says which tiles exist.
    """

    def __init__(self, weights: NDArray[np.int16], groups: int, config: Config) -> None:
        outputs, kh, kw, depth = weights.shape
        dim = config.dim
        group = np.arange(outputs) // (outputs // groups)
        self.out_blocks = blocks_of(outputs, config)
        edges = [min((block + 1) * dim, outputs) - 1 for block in range(self.out_blocks)]
        self._first = np.array([group[block * dim] * depth // dim for block in range(self.out_blocks)])
        self._last = np.array([((group[edge] + 1) * depth - 1) // dim for edge in edges])
        width = int((self._last - self._first).max()) + 1
        dense = np.zeros((self.out_blocks, width, kh, kw, dim, dim), np.int16)
        out = np.arange(outputs)[:, None]
        channel = group[:, None] * depth + np.arange(depth)
        block = channel // dim - self._first[out // dim]
        # Advanced indices around slices: their axes come first, [Co, depth, kh, kw].
        dense[out // dim, block, :, :, channel % dim, out % dim] = weights.transpose(0, 3, 1, 2)
        planes: list[NDArray[np.int8]] = []
        while not planes or dense.any():
            planes.append(np.clip(dense, -128, 127).astype(np.int8))
            dense = dense - planes[-1]
        self.planes = np.stack(planes)
        self.nonzero: NDArray[np.bool_] = np.any(self.planes, axis=(-2, -1))
        empty = ~np.any(self.nonzero, axis=(0, 2, 3, 4))
        self.nonzero[0, empty, 0, 0, 0] = True
        """An output block without any weight keeps one tile of zeros: its sums must become zero."""

    def in_blocks(self, first: int, last: int) -> range:
        """Input blocks that the output blocks `first .. last - 1` read."""
        return range(int(self._first[first:last].min()), int(self._last[first:last].max()) + 1)

    def count(self, first: int = 0, last: int | None = None) -> int:
        """Tiles of the output blocks `first .. last - 1`."""
        return int(np.count_nonzero(self.nonzero[:, first:last]))

    def tiles(self, out_block: int, blocks: range, taps_y: range, taps_x: range) -> list[Tile]:
        """Tiles of one output block within input blocks and taps."""
        first = int(self._first[out_block])
        low, high = max(blocks.start - first, 0), max(blocks.stop - first, 0)
        part = self.nonzero[:, out_block, low:high, taps_y.start : taps_y.stop, taps_x.start : taps_x.stop]
        return [
            Tile(out_block, first + low + block, taps_y.start + y, taps_x.start + x, plane)
            for plane, block, y, x in np.argwhere(part).tolist()
        ]

    def content(self, tiles: list[Tile]) -> NDArray[np.int8]:
        """Weights [tiles, R, C]."""
        columns = np.array([(t.plane, t.out_block, t.in_block - self._first[t.out_block], t.tap_y, t.tap_x)
                            for t in tiles]).T  # fmt: skip
        return np.asarray(self.planes[tuple(columns)])
