"""Accumulators: the array's port against the golden model, with traffic on all other ports."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from tidemill.config import Config, preset
from tidemill.golden.matrix import accumulate
from tidemill_verif.agents import clock
from tidemill_verif.agents.memory_ports import ReadRequester, WriteRequester
from tidemill_verif.benches import params
from tidemill_verif.benches.memory_models import ArrayPort, MemoryModel, Shape, random_traffic
from tidemill_verif.coverage.sampling import memory as coverage
from tidemill_verif.matrix_reference import row_bits

READERS, WRITERS = 3, 2
LATENCY = 5


def _sums_bits(sums: np.ndarray, width: int) -> int:
    return sum((int(value) & ((1 << width) - 1)) << (width * lane) for lane, value in enumerate(sums))


def _model(dut: Any, config: Config) -> MemoryModel:
    array = ArrayPort(config.cols, config.psum_bits, params()["commit_latency"], params()["hazard_distance"])
    return MemoryModel(dut, Shape(config.acc_rows, config.acc_banks, READERS, WRITERS, LATENCY), array)


async def _setup(dut: Any, stall: float) -> tuple[Config, list[ReadRequester], list[WriteRequester]]:
    config, seed = preset(params()["preset"]), params()["seed"]
    readers = [ReadRequester(dut, f"r__{p}", seed=seed, stall=stall) for p in range(READERS)]
    bits = (config.acc_rows - 1).bit_length()
    writers = [WriteRequester(dut, f"w__{p}", bits, seed=seed, stall=stall) for p in range(WRITERS)]
    dut.array__valid.value = 0
    _model(dut, config)
    await clock.start(dut)
    coverage.watch_accumulators(dut, config, params()["commit_latency"], params()["hazard_distance"])
    return config, readers, writers


async def _access(dut: Any, config: Any, row: int, sums: np.ndarray, add: bool) -> None:
    dut.array__valid.value = 1
    dut.array__addr.value = row
    dut.array__data.value = _sums_bits(sums, config.psum_bits)
    dut.array__accumulate.value = int(add)
    await RisingEdge(dut.clk)
    dut.array__valid.value = 0


@cocotb.test()
async def test_random_traffic_matches_the_golden_model(dut: Any) -> None:
    config, readers, writers = await _setup(dut, 0.4)
    seed = params()["seed"]
    rng, choice = np.random.default_rng(seed), random.Random(seed)
    distance, commit = params()["hazard_distance"], params()["commit_latency"]
    model = rng.integers(-(2**31), 2**31, (config.acc_rows, config.cols), dtype=np.int64).astype(np.int32)
    model[::3], model[1::3] = 2**31 - 1, -(2**31)
    bank = config.acc_rows // config.acc_banks
    edges = [row for first in range(0, config.acc_rows, bank) for row in (first, first + bank - 1)]
    for port, rows in ((0, range(config.acc_rows)), (1, edges)):
        for row in rows:
            writers[port].put(row, row_bits(model[row]))
        await writers[port].drain()
    limit = 1 << (config.psum_bits - 1)
    for _ in range(6):
        rows = list(dict.fromkeys([*edges, *choice.sample(range(config.acc_rows), 48)]))[:48]
        choice.shuffle(rows)
        mine, others, read = rows[:16], rows[16:32], rows[32:]
        start = [len(reader.responses) for reader in readers]
        for row in others:
            values = rng.integers(-(2**31), 2**31, config.cols, dtype=np.int64).astype(np.int32)
            model[row] = values
            choice.choice(writers).put(row, row_bits(values))
        for reader in readers:
            for _ in range(60):
                reader.put(choice.choice(read))
        recent: list[int | None] = [None] * (distance - 1)
        for _ in range(200):
            row = choice.choice(mine[:8] if choice.random() < 0.5 else mine)
            add = choice.random() < 0.7
            if choice.random() < 0.2 or (add and row in recent):
                await RisingEdge(dut.clk)
                recent = [None, *recent[:-1]]
                continue
            sums = rng.integers(-limit, limit, config.cols, dtype=np.int64).astype(np.int32)
            coverage.accumulate(model[row], sums, add)
            model[row] = accumulate(model[row], sums) if add else sums
            recent = [row, *recent[:-1]]
            await _access(dut, config, row, sums, add)
        for _ in range(commit):
            await RisingEdge(dut.clk)
        for writer in writers:
            await writer.drain()
        for reader in readers:
            for row in (*reversed(mine), *others):
                reader.put(row)
        for reader in readers:
            await reader.drain()
        for reader, begin in zip(readers, start, strict=True):
            for row, value, _ in reader.responses[begin:]:
                assert value == row_bits(model[row]), f"row {row}"
    assert any(reader.stall_cycles for reader in readers)


@cocotb.test()
async def test_a_read_taken_at_commit_latency_sees_the_row(dut: Any) -> None:
    config = preset(params()["preset"])
    for port in [*(f"r__{p}" for p in range(3)), *(f"w__{p}" for p in range(2))]:
        getattr(dut, f"{port}__req__valid").value = 0
    dut.array__valid.value = 0
    await clock.start(dut)
    sums = np.arange(1, config.cols + 1, dtype=np.int32)
    for row in range(8):
        await _access(dut, config, row, sums * (row + 1), False)
        for _ in range(params()["commit_latency"] - 1):
            await RisingEdge(dut.clk)
        dut.r__2__req__valid.value = 1
        dut.r__2__req__payload.value = row
        await RisingEdge(dut.clk)
        assert dut.r__2__req__ready.value
        dut.r__2__req__valid.value = 0
        while not dut.r__2__rsp_valid.value:
            await RisingEdge(dut.clk)
        assert int(dut.r__2__rsp_data.value) == row_bits(sums * (row + 1)), f"row {row}"
        await RisingEdge(dut.clk)


@cocotb.test()
async def test_accumulates_of_one_row_at_the_hazard_distance_add_up(dut: Any) -> None:
    config, readers, _ = await _setup(dut, 0.0)
    ones = np.ones(config.cols, np.int32)
    await _access(dut, config, 5, ones * -3, False)
    for _ in range(20):
        for _ in range(params()["hazard_distance"] - 1):
            await RisingEdge(dut.clk)
        await _access(dut, config, 5, ones * -7, True)
    for _ in range(params()["commit_latency"]):
        await RisingEdge(dut.clk)
    readers[0].put(5)
    await readers[0].drain()
    assert readers[0].responses[-1][1] == row_bits(ones * -143)


@cocotb.test()
async def test_every_cycle_of_random_traffic_with_resets(dut: Any) -> None:
    """Who is served, who waits and what is read, cycle by cycle; a reset forgets what waits and keeps the memory."""
    config = preset(params()["preset"])
    bank = config.acc_rows // config.acc_banks
    rows = [first + row for first in range(0, config.acc_rows, bank) for row in (0, 1, bank // 2, bank - 1)]
    await random_traffic(dut, _model(dut, config), random.Random(params()["seed"]), 1500, rows, 32 * config.cols)
