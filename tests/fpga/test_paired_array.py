"""Two 4-bit weights in a multiplier give the sums that numpy gives."""

from __future__ import annotations

import numpy as np
import pytest
from amaranth.sim import Simulator, TickTrigger
from numpy.typing import NDArray

from tidemill_fpga.gate_level.multipliers import products
from tidemill_fpga.peers.paired import PAIR_BITS, PRODUCT_BITS, PairedArray

Matrix = NDArray[np.int64]


def packed(low: Matrix, high: Matrix) -> Matrix:
    """The pairs that the array takes."""
    return low + (high << PRODUCT_BITS)


def run(rows: int, cols: int, tiles: list[Matrix], blocks: list[Matrix], seed: int) -> tuple[Matrix, Matrix]:
    """Sums (two matrices of rows x cols) of activation `blocks` times packed `tiles`, with random gaps."""
    rng = np.random.default_rng(seed)
    array = PairedArray(rows, cols, PRODUCT_BITS + (rows - 1).bit_length())
    results: list[list[int]] = []
    count = sum(len(block) for block in blocks)

    async def feed(ctx) -> None:
        for tile, block in zip(tiles, blocks, strict=True):
            for index in range(rows):
                ctx.set(array.weight.valid, 1)
                ctx.set(array.weight.index, index)
                for c in range(cols):
                    ctx.set(array.weight.row[c], int(tile[index, c]))
                await ctx.tick()
                ctx.set(array.weight.valid, 0)
                await ctx.tick().repeat(int(rng.integers(0, 2)) + 1)
            for number, row in enumerate(block):
                ctx.set(array.act.valid, 1)
                ctx.set(array.act.swap, number == 0)
                for r in range(rows):
                    ctx.set(array.act.row[r], int(row[r]))
                await ctx.tick()
                ctx.set(array.act.valid, 0)
                ctx.set(array.act.swap, 0)
                if rng.integers(0, 3) == 0:
                    await ctx.tick()

    async def collect(ctx) -> None:
        trigger: TickTrigger = ctx.tick().sample(array.out.valid, array.out.row)
        async for _, _, valid, row in trigger:
            if valid:
                results.append([row[lane] for lane in range(2 * cols)])
            if len(results) == count:
                return

    simulator = Simulator(array)
    simulator.add_clock(1e-6)
    simulator.add_testbench(feed)
    simulator.add_testbench(collect)
    simulator.run()
    found = np.array(results, np.int64)
    return found[:, 0::2], found[:, 1::2]


@pytest.mark.parametrize(("rows", "cols"), [(3, 2), (4, 5)])
def test_pairs_of_weights_make_two_products(rows: int, cols: int) -> None:
    rng = np.random.default_rng(rows)
    low, high = (rng.integers(-8, 8, (3, rows, cols)) for _ in range(2))
    blocks = [rng.integers(-128, 128, (12, rows)) for _ in range(3)]
    # The ends: all products as large as they get.
    blocks[2][0], low[2], high[2] = -128, -8, -8
    y1, y2 = run(rows, cols, [packed(*tile) for tile in zip(low, high, strict=True)], blocks, seed=rows)
    np.testing.assert_array_equal(y1, np.concatenate([x @ w for x, w in zip(blocks, low, strict=True)]))
    np.testing.assert_array_equal(y2, np.concatenate([x @ w for x, w in zip(blocks, high, strict=True)]))


def test_the_same_array_multiplies_8_bit_weights() -> None:
    rng = np.random.default_rng(8)
    weights = rng.integers(-128, 128, (4, 4))
    weights[0] = (-128, 127, -1, 8)
    low = (weights + 8 & 15) - 8
    block = rng.integers(-128, 128, (16, 4))
    y1, y2 = run(4, 4, [packed(low, weights - low >> 4)], [block], seed=8)
    np.testing.assert_array_equal(y1 + 16 * y2, block @ weights)


def test_the_mapped_multiplier_makes_every_pair_of_products() -> None:
    low, high, activation = (
        grid.ravel() for grid in np.meshgrid(np.arange(-8, 8), np.arange(-8, 9), np.arange(-128, 128))
    )
    pairs = packed(low, high)
    np.testing.assert_array_equal(products("dsp", PAIR_BITS, 8, 3, pairs, activation), pairs * activation)
