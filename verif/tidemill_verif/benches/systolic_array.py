"""SystolicArray against the golden product: gaps, reruns, shadow loads at the earliest moment."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from tidemill.golden.matrix import product
from tidemill_verif.agents import clock
from tidemill_verif.benches import params
from tidemill_verif.coverage.sampling import matrix as coverage
from tidemill_verif.matrix_reference import row_bits


def _lanes(bits: int, lanes: int, width: int) -> list[int]:
    values = [(bits >> (width * lane)) & ((1 << width) - 1) for lane in range(lanes)]
    return [value - (1 << width) if value >> (width - 1) else value for value in values]


class Feeder:
    """Drives both inputs, one cycle at a time, and checks every output row and its latency."""

    def __init__(self, dut: Any) -> None:
        values = params()
        self.dut = dut
        self.rows, self.cols, self.psum_bits = values["rows"], values["cols"], values["psum_bits"]
        self.latency = values["latency"]
        self.cycle = 0
        self.expected: list[tuple[int, list[int]]] = []
        self.seen = 0
        self.shadow = np.zeros((self.rows, self.cols), np.int8)
        self.active = np.zeros((self.rows, self.cols), np.int8)
        self.settled = self.shadow.copy()
        self.loads: list[tuple[int, int, np.ndarray]] = []
        self.coverage = coverage.Array()

    async def step(
        self, row: np.ndarray | None = None, swap: bool = False, weight: tuple[int, np.ndarray] | None = None
    ) -> None:
        """One cycle with an activation row and a weight row, each or none."""
        dut = self.dut
        self.coverage.step(row, swap, weight[1] if weight else None)
        dut.act__valid.value = int(row is not None)
        dut.act__swap.value = int(swap)
        dut.weight__valid.value = int(weight is not None)
        if weight is not None:
            index, values = weight
            self.loads.append((self.cycle, index, values))
            dut.weight__index.value = index
            dut.weight__row.value = row_bits(values)
        if weight is not None and row is not None and swap:
            # The last row of a tile may come with the swap that takes it.
            self.shadow[index] = values
        if row is not None:
            dut.act__row.value = row_bits(row)
            if swap:
                self.active = self.shadow.copy()
            self.expected.append((self.cycle + self.latency, product(row[None], self.active)[0].tolist()))
        if weight is not None:
            self.shadow[index] = values
        await RisingEdge(dut.clk)
        if dut.out__valid.value:
            assert self.seen < len(self.expected), "a row too many"
            due, sums = self.expected[self.seen]
            assert self.cycle == due, f"row {self.seen} in cycle {self.cycle}, expected in {due}"
            assert _lanes(int(dut.out__row.value), self.cols, self.psum_bits) == sums, f"row {self.seen}"
            self.coverage.sums(sums, self.rows)
            self.seen += 1
        self.cycle += 1

    async def reset(self, also: bool) -> None:
        """One cycle of reset, with inputs that say the same as in the cycle before where `also`, else nothing.

        The shadow weights keep the loads so far: a load reaches column c c + 1 cycles after its own.
        """
        dut = self.dut
        dut.act__valid.value = dut.act__swap.value = dut.weight__valid.value = int(also)
        dut.rst.value = 1
        await RisingEdge(dut.clk)
        dut.rst.value = 0
        for cycle, index, values in self.loads:
            reached = max(0, self.cycle - cycle)
            self.settled[index, :reached] = values[:reached]
        self.shadow = self.settled.copy()
        self.active[:] = 0
        self.loads.clear()
        self.expected.clear()
        self.seen = 0

    async def drain(self) -> None:
        """Wait for the rows under way."""
        for _ in range(self.latency + 2):
            await self.step()
        assert self.seen == len(self.expected)


def _row(rng: np.random.Generator, lanes: int) -> np.ndarray:
    if rng.random() < 0.2:
        return rng.choice(np.array([-128, 127], np.int8), lanes)
    return rng.integers(-128, 128, lanes, dtype=np.int8)


async def _feeder(dut: Any) -> Feeder:
    dut.act__valid.value = 0
    dut.weight__valid.value = 0
    await clock.start(dut)
    return Feeder(dut)


@cocotb.test()
async def test_products_match_the_golden_model_with_gaps(dut: Any) -> None:
    feeder = await _feeder(dut)
    seed = params()["seed"]
    rng, choice = np.random.default_rng(seed), random.Random(seed)
    await feeder.step(_row(rng, feeder.rows))
    for _ in range(40):
        gap = choice.choice((0.0, 0.5))
        activations = choice.choice((1, 2, feeder.rows, 3 * feeder.rows))
        weights = [(r, _row(rng, feeder.cols)) for r in range(feeder.rows)]
        while weights or activations:
            weight = weights.pop(0) if weights and choice.random() >= gap else None
            row = _row(rng, feeder.rows) if activations and choice.random() >= gap else None
            activations -= row is not None
            await feeder.step(row, False, weight)
        await feeder.step(_row(rng, feeder.rows), True)
    await feeder.step(_row(rng, feeder.rows), True)
    await feeder.drain()


@cocotb.test()
async def test_extreme_values_do_not_overflow(dut: Any) -> None:
    feeder = await _feeder(dut)
    lowest = np.full(feeder.cols, -128, np.int8)
    for r in range(feeder.rows):
        await feeder.step(weight=(r, lowest))
    await feeder.step(np.full(feeder.rows, -128, np.int8), True)
    await feeder.step(np.full(feeder.rows, 127, np.int8))
    await feeder.drain()


@cocotb.test()
async def test_shadow_loads_may_begin_and_end_with_a_swap(dut: Any) -> None:
    feeder = await _feeder(dut)
    rng = np.random.default_rng(params()["seed"])
    for r in range(feeder.rows):
        await feeder.step(weight=(r, _row(rng, feeder.cols)))
    for _ in range(20):
        await feeder.step(_row(rng, feeder.rows), True)
        for r in range(feeder.rows - 1):
            await feeder.step(_row(rng, feeder.rows), False, (r, _row(rng, feeder.cols)))
        await feeder.step(_row(rng, feeder.rows), True, (feeder.rows - 1, _row(rng, feeder.cols)))
        for r in range(feeder.rows):
            await feeder.step(None, False, (r, _row(rng, feeder.cols)))
    await feeder.drain()


@cocotb.test()
async def test_a_reset_clears_the_weights_and_forgets_what_is_under_way(dut: Any) -> None:
    feeder = await _feeder(dut)
    rng = np.random.default_rng(params()["seed"])
    for r in range(feeder.rows):
        await feeder.step(weight=(r, _row(rng, feeder.cols)))
    await feeder.drain()
    for under_way in range(1, 2 * feeder.latency, max(1, feeder.latency // 8)):
        for r in range(feeder.rows):
            await feeder.step(weight=(r, _row(rng, feeder.cols)))
        for number in range(under_way):
            weight = (number - 1, _row(rng, feeder.cols)) if 1 <= number <= feeder.rows else None
            await feeder.step(_row(rng, feeder.rows), number == 0, weight)
        # What comes with the reset is forgotten, too.
        await feeder.reset(also=under_way % 2 == 1)
        await feeder.step()
        for _ in range(feeder.latency):
            await feeder.step(_row(rng, feeder.rows))
        await feeder.step(_row(rng, feeder.rows), True)
        for _ in range(feeder.rows):
            await feeder.step(_row(rng, feeder.rows))
        await feeder.drain()


@cocotb.test()
async def test_rows_may_be_loaded_again_in_any_order(dut: Any) -> None:
    """Clear of any swap: the other rows of the shadow weights stay."""
    feeder = await _feeder(dut)
    seed = params()["seed"]
    rng, choice = np.random.default_rng(seed), random.Random(seed)
    for r in range(feeder.rows):
        await feeder.step(weight=(r, _row(rng, feeder.cols)))
    for _ in range(30):
        for r in choice.sample(range(feeder.rows), choice.randint(1, feeder.rows)):
            await feeder.step(weight=(r, _row(rng, feeder.cols)))
        for _ in range(2):
            await feeder.step()
        await feeder.step(_row(rng, feeder.rows), True)
        for _ in range(feeder.rows + feeder.cols):
            await feeder.step(_row(rng, feeder.rows))
    await feeder.drain()
