"""Scratchpad: random traffic on all ports against a model, order, priority, throughput and latency."""

from __future__ import annotations

import random
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from tidemill.config import Config, preset
from tidemill_verif.agents import clock
from tidemill_verif.agents.memory_ports import ReadRequester, WriteRequester
from tidemill_verif.benches import params
from tidemill_verif.benches.memory_models import MemoryModel, Shape, random_traffic
from tidemill_verif.coverage.sampling import memory as coverage

READERS, WRITERS = 5, 2
LATENCY = 5


def _shape(config: Config) -> Shape:
    return Shape(config.spad_rows, config.spad_banks, READERS, WRITERS, LATENCY)


async def _setup(dut: Any, stall: float) -> tuple[Config, list[ReadRequester], list[WriteRequester]]:
    config, seed = preset(params()["preset"]), params()["seed"]
    readers = [ReadRequester(dut, f"r__{p}", seed=seed, stall=stall) for p in range(READERS)]
    bits = (config.spad_rows - 1).bit_length()
    writers = [WriteRequester(dut, f"w__{p}", bits, seed=seed, stall=stall) for p in range(WRITERS)]
    MemoryModel(dut, _shape(config))
    await clock.start(dut)
    coverage.watch_scratchpad(dut, config)
    return config, readers, writers


@cocotb.test()
async def test_random_traffic_reads_what_was_written(dut: Any) -> None:
    config, readers, writers = await _setup(dut, 0.4)
    rng = random.Random(params()["seed"])
    model: dict[int, int] = {}
    for _ in range(12):
        # Rows of one half are written while the other half is read.
        bank = config.spad_rows // config.spad_banks
        edges = [row for first in range(0, config.spad_rows, bank) for row in (first, first + bank - 1)]
        half = rng.sample(sorted({*rng.sample(range(config.spad_rows), 200), *edges}), 200)
        written, read = half[:100], [*half[100:], *rng.sample(list(model), min(len(model), 100))]
        read = [row for row in read if row not in written]
        updates = {row: rng.getrandbits(8 * config.rows) for row in written}
        for row, value in updates.items():
            writers[rng.randrange(WRITERS)].put(row, value)
        before = [len(reader.responses) for reader in readers]
        readable = set(read)
        wanted = [[rng.choice(read) for _ in range(100)] + [row for row in edges if row in readable] for _ in readers]
        for reader, rows in zip(readers, wanted, strict=True):
            for row in rows:
                reader.put(row)
        for reader in readers:
            await reader.drain()
        for writer in writers:
            await writer.drain()
        for reader, start, rows in zip(readers, before, wanted, strict=True):
            responses = reader.responses[start:]
            assert [row for row, _, _ in responses] == rows
            for row, value, cycles in responses:
                assert value == model.get(row, 0), f"row {row}"
                assert cycles >= LATENCY
        model |= updates
    assert readers[0].stall_cycles == 0
    assert sum(reader.stall_cycles for reader in readers[1:]) > 0


@cocotb.test()
async def test_ports_on_different_banks_get_a_row_every_cycle(dut: Any) -> None:
    config, readers, _ = await _setup(dut, 0.0)
    bank = config.spad_rows // config.spad_banks
    for p in range(4):
        for row in range(64):
            readers[p].put(p * bank + row)
    cycles = 0
    while not all(reader.idle for reader in readers):
        await RisingEdge(dut.clk)
        cycles += 1
    assert cycles <= 64 + LATENCY + 4
    for reader in readers[:4]:
        assert {cycles for _, _, cycles in reader.responses} == {LATENCY}
        assert reader.stall_cycles == 0


@cocotb.test()
async def test_the_lower_port_wins_a_bank(dut: Any) -> None:
    _, readers, writers = await _setup(dut, 0.0)
    for row in range(40):
        for reader in readers:
            reader.put(row)
        for writer in writers:
            writer.put(row, row)
    for reader in readers:
        await reader.drain()
    for writer in writers:
        await writer.drain()
    assert {cycles for _, _, cycles in readers[0].responses} == {LATENCY}
    assert [reader.stall_cycles > 0 for reader in readers] == [False, True, True, True, True]
    assert [writer.stall_cycles > 0 for writer in writers] == [False, True]
    assert readers[4].stall_cycles > readers[1].stall_cycles


@cocotb.test()
async def test_every_cycle_of_random_traffic_with_resets(dut: Any) -> None:
    """Who is served, who waits and what is read, cycle by cycle; a reset forgets what waits and keeps the memory."""
    config = preset(params()["preset"])
    bank = config.spad_rows // config.spad_banks
    rows = [first + row for first in range(0, config.spad_rows, bank) for row in (0, 1, bank // 2, bank - 1)]
    model = MemoryModel(dut, _shape(config))
    await random_traffic(dut, model, random.Random(params()["seed"]), 1500, rows, 8 * config.rows)
