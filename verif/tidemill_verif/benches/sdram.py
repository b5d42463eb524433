"""Bench of the SDRAM controller: two masters behind the arbiter, a device that checks every command."""

from __future__ import annotations

from typing import Any

import cocotb
from cocotb.triggers import Combine
from cocotbext.axi import AxiResp

from tidemill_verif.agents import clock, sdram
from tidemill_verif.benches import params
from tidemill_verif.benches.board_memory import Bench


class SdramBench(Bench):
    """The bench of a board's memory with a device on the pins."""

    def __init__(self, dut: Any) -> None:
        super().__init__(dut)
        self.device = sdram.Sdram(params()["part"], float(params()["period"]))

    async def start(self, stall: float) -> None:
        """As for on-chip memory; the device is there from the first edge on."""
        sdram.start(self.dut, self.device, int(params()["delay"]), int(params()["seed"]))
        await super().start(stall)


@cocotb.test()
@cocotb.parametrize(stall=[0.0, 0.35])
async def test_both_masters_see_their_bytes(dut: Any, stall: float) -> None:
    """Each master in its half, both at once; then each reads the other's half. All banks, rows that conflict, refreshes
    in the middle of bursts."""
    bench = SdramBench(dut)
    await bench.start(stall)
    half = bench.size // 2
    tasks = [
        cocotb.start_soon(bench.work("npu", 0, half, 40)),
        cocotb.start_soon(bench.work("link", half, bench.size, 40)),
    ]
    await Combine(*tasks)
    await bench.work("link", 0, half, 8)
    await bench.work("npu", half, bench.size, 8)
    assert (await bench.masters["npu"].read(0, bench.size)).data == bench.content
    assert bench.device.refreshes > 10
    assert bench.device.counts[sdram.ACTIVATE] > 2 * bench.device.refreshes


@cocotb.test()
async def test_addresses_beyond_the_memory_are_refused(dut: Any) -> None:
    """DECERR for reads and writes, among good ones; no command reaches the device for them."""
    bench = SdramBench(dut)
    await bench.start(0.2)
    data = bench.rng.randbytes(256)
    for name, master in bench.masters.items():
        await master.write(0x100, data)
        writes = bench.device.counts[sdram.WRITE]
        for address in (bench.size, bench.size + 0x100, 0x8000_0100, 0xFFFF_FF00):
            write = cocotb.start_soon(master.write(address, bytes(64)))
            assert (await master.read(address, 64)).resp == AxiResp.DECERR, f"{name} read {address:#x}"
            await write
            assert write.result().resp == AxiResp.DECERR, f"{name} wrote {address:#x}"
            good = await master.read(0x100, len(data))
            assert (good.resp, good.data) == (AxiResp.OKAY, data)
        assert bench.device.counts[sdram.WRITE] == writes


@cocotb.test()
async def test_a_burst_moves_a_word_a_cycle(dut: Any) -> None:
    """4 KiB of one master: its words, what opening four rows and one refresh take, and little else."""
    bench = SdramBench(dut)
    await bench.start(0.0)
    master, size = bench.masters["npu"], 4096
    await master.read(0, 4)
    times = []
    for access in (master.write(0, bench.rng.randbytes(size)), master.read(0, size)):
        begun = cocotb.utils.get_sim_time("ns")
        await access
        times.append((cocotb.utils.get_sim_time("ns") - begun) / clock.PERIOD_NS)
    bursts = -(-size // int(params()["bus_bytes"]) // 256)
    assert max(times) < 1.1 * size / 2 + 30 * bursts, f"{times} cycles for {size // 2} words"
    dut._log.info("4 KiB take %.0f cycles to write, %.0f to read", *times)


@cocotb.test()
async def test_an_idle_memory_is_refreshed(dut: Any) -> None:
    """Nothing asked for: a refresh an interval, and what was written is still there."""
    bench = SdramBench(dut)
    await bench.start(0.0)
    data = bench.rng.randbytes(32)
    await bench.masters["link"].write(64, data)
    before = bench.device.refreshes
    part = params()["part"]
    interval = part["t_refresh"] / (1 << part["row_bits"])
    await cocotb.triggers.ClockCycles(dut.clk, int(20 * interval / bench.device.period))
    assert bench.device.refreshes - before in (19, 20, 21)
    assert (await bench.masters["npu"].read(64, 32)).data == data
