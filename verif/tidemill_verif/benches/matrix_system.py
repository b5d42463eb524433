"""Matrix engine, scratchpad and accumulators together: results in memory, and what a tile costs."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from tidemill.config import preset
from tidemill.isa import ACC_SPACE, encode
from tidemill_verif.agents import clock
from tidemill_verif.agents.memory_ports import ReadRequester, WriteRequester
from tidemill_verif.agents.streams import StreamSource
from tidemill_verif.benches import params
from tidemill_verif.matrix_reference import MatrixReference, random_program, row_bits

LIMIT = 100_000


class System:
    """The design with its agents and memories filled at random."""

    def __init__(self, dut: Any, seed: int, stall: float) -> None:
        self.dut = dut
        self.config = config = preset(params()["preset"])
        rng = np.random.default_rng(seed)
        self.spad = rng.integers(-128, 128, (config.spad_rows, config.rows), dtype=np.int8)
        self.acc = rng.integers(-(2**31), 2**31, (config.acc_rows, config.cols), dtype=np.int64).astype(np.int32)
        self.source = StreamSource(dut, "instr", seed=seed, stall=stall)
        spad_bits, acc_bits = (config.spad_rows - 1).bit_length(), (config.acc_rows - 1).bit_length()
        self.spad_load = WriteRequester(dut, "spad_load", spad_bits, seed=seed, stall=0)
        self.acc_load = WriteRequester(dut, "acc_load", acc_bits, seed=seed, stall=0)
        self.readers = {
            name: ReadRequester(dut, name, seed=seed, stall=stall)
            for name in ("spad_vector", "acc_vector", "acc_store")
        }
        self.dones: list[tuple[int, int]] = []
        self.weight_dones: list[int] = []
        self.cycle = 0

    async def start(self) -> None:
        """Reset and fill the memories."""
        await clock.start(self.dut)
        for row, values in enumerate(self.spad):
            self.spad_load.put(row, row_bits(values))
        for row, values in enumerate(self.acc):
            self.acc_load.put(row, row_bits(values))
        await self.spad_load.drain()
        await self.acc_load.drain()
        cocotb.start_soon(self._watch())

    async def _watch(self) -> None:
        while True:
            await RisingEdge(self.dut.clk)
            self.cycle += 1
            if self.dut.done__valid.value:
                self.dones.append((self.cycle, int(self.dut.done__signal.value)))
            if self.dut.done_weights__valid.value:
                self.weight_dones.append(int(self.dut.done_weights__signal.value))

    async def wait_for(self, dones: int) -> None:
        """Wait until `dones` instructions other than mx.wload are complete."""
        for _ in range(LIMIT):
            if len(self.dones) >= dones:
                return
            await RisingEdge(self.dut.clk)
        raise AssertionError(f"{len(self.dones)} of {dones} instructions done")

    async def check_memory(self, reference: MatrixReference) -> None:
        """Read all accumulator rows, right after the last done, and compare."""
        store = self.readers["acc_store"]
        store.responses.clear()
        rows = sorted({write.row for write in reference.writes}, key=lambda row: -row)
        last = reference.writes[-1].row
        for row in [last, *rows]:
            store.put(row)
        await store.drain()
        for row, value, _ in store.responses:
            assert value == row_bits(reference.acc[row]), f"accumulator row {row}"


async def _check(dut: Any, seed: int, stall: float) -> None:
    system = System(dut, seed, stall)
    await system.start()
    program = random_program(random.Random(seed), system.config, params()["length"])
    reference = MatrixReference(system.config, system.spad, system.acc.copy())
    for word in program:
        reference.execute(word)
        system.source.put(word)
    rng = random.Random(seed)
    config = system.config
    traffic = system.readers["spad_vector"]
    sent = []
    for _ in range(3000 if stall else 0):
        sent.append(rng.randrange(config.spad_rows))
        traffic.put(sent[-1])
        system.readers["acc_vector"].put(rng.randrange(config.acc_rows))
    await system.wait_for(len(reference.dones))
    assert [signal for _, signal in system.dones] == [signal for signal, _, _ in reference.dones]
    await system.check_memory(reference)
    await traffic.drain()
    assert [row for row, _, _ in traffic.responses] == sent
    for row, value, _ in traffic.responses:
        assert value == row_bits(system.spad[row]), f"scratchpad row {row}"
    assert system.weight_dones == reference.weight_dones
    assert not dut.fault__valid.value


@cocotb.test()
async def test_results_in_memory_match_the_golden_model_with_contention(dut: Any) -> None:
    await _check(dut, params()["seed"], 0.4)


@cocotb.test()
async def test_results_in_memory_match_the_golden_model_at_full_speed(dut: Any) -> None:
    await _check(dut, params()["seed"] + 1000, 0.0)


async def _steady_cycles(system: System, rows: int, tiles: int, between: list[int]) -> float:
    """Cycles a tile of mx.wload and mx.run with `rows` activation rows costs in the middle of a sequence."""
    config = system.config
    program = [encode("mx.act", n0=rows, s0=1), encode("mx.acc", t0=1)]
    quarter = config.spad_rows // config.spad_banks
    for tile in range(tiles):
        program.append(encode("mx.wload", src=quarter + config.rows * tile))
        program += between
        program.append(encode("mx.run", act=0, acc=ACC_SPACE, accumulate=1))
    reference = MatrixReference(config, system.spad, system.acc)
    first = len(system.dones)
    for word in program:
        reference.execute(word)
        system.source.put(word)
    await system.wait_for(first + len(reference.dones))
    await system.check_memory(reference)
    runs = [cycle for cycle, _ in system.dones][first + 2 + len(between) :: len(between) + 1]
    return (runs[-1] - runs[3]) / (len(runs) - 4)


@cocotb.test()
async def test_a_tile_costs_as_many_cycles_as_rows_move(dut: Any) -> None:
    system = System(dut, params()["seed"], 0.0)
    await system.start()
    array_rows = system.config.rows
    for rows in (1, array_rows, 2 * array_rows, 16 * array_rows):
        cycles = await _steady_cycles(system, rows, 24, [])
        dut._log.info("tile of %d rows: %.2f cycles", rows, cycles)
        assert cycles <= max(rows, array_rows) + 2, f"{rows} rows: {cycles} cycles a tile"
    configuration = [encode("mx.act", n0=array_rows, s0=1), encode("mx.acc", t0=1)]
    cycles = await _steady_cycles(system, array_rows, 24, configuration)
    dut._log.info("tile of %d rows with mx.act and mx.acc: %.2f cycles", array_rows, cycles)
    assert cycles <= array_rows + 4
