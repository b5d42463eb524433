"""Bench of a LiteX system around the NPU: the host's port is its processor; programs run from the system's RAM."""

from __future__ import annotations

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge, with_timeout
from cocotbext.axi import AxiLiteBus, AxiLiteMaster

from tidemill.config import preset
from tidemill.csr import MAGIC, Cause, bit, offset
from tidemill.driver.npu import open_npu
from tidemill.isa import encode
from tidemill.ops.gemm import Epilogue, build_gemm
from tidemill_verif.benches import params

CYCLE = 10
PROGRAM = 0x4000
"""Where in the RAM programs are; data lie before."""


class Bench:
    """The system and its host."""

    def __init__(self, dut: object) -> None:
        self.dut = dut
        self.config = preset(str(params()["preset"]))
        self.ram, self.size, self.registers = (int(params()[name]) for name in ("ram", "ram_size", "npu"))
        Clock(dut.clk, CYCLE, "ns").start()
        self.host = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "host"), dut.clk, dut.rst)

    async def reset(self) -> None:
        """A few cycles of reset."""
        self.dut.rst.value = 1
        await ClockCycles(self.dut.clk, 4)
        self.dut.rst.value = 0
        await ClockCycles(self.dut.clk, 2)

    async def write(self, name: str, value: int) -> None:
        """Write a register."""
        await self.host.write(self.registers + offset(name), value.to_bytes(4, "little"))

    async def read(self, name: str) -> int:
        """Read a register."""
        return int.from_bytes((await self.host.read(self.registers + offset(name), 4)).data, "little")

    async def run(self, words: list[int]) -> int:
        """Run a program whose windows are all of the RAM; returns STATUS after its interrupt."""
        await self.host.write(self.ram + PROGRAM, b"".join(word.to_bytes(16, "little") for word in words))
        for name, value in (
            ("PROG_ADDR", self.ram + PROGRAM), ("PROG_LEN", len(words)), ("WATCHDOG", 100_000), ("IRQ_ENABLE", 3),
            ("READ_BASE", self.ram), ("READ_LIMIT", self.ram + self.size - 1),
            ("WRITE_BASE", self.ram), ("WRITE_LIMIT", self.ram + PROGRAM - 1),
            ("CONTROL", bit("CONTROL", "start")),
        ):  # fmt: skip
            await self.write(name, value)
        if not self.dut.irq.value:
            await with_timeout(RisingEdge(self.dut.irq), 400_000 * CYCLE, "ns")
        await self.write("IRQ_STATUS", 7)
        return await self.read("STATUS")


@cocotb.test()
async def test_registers_are_where_the_system_put_them(dut: object) -> None:
    """Every register answers at its offset and nowhere below."""
    bench = Bench(dut)
    await bench.reset()
    assert await bench.read("MAGIC") == MAGIC
    assert await bench.read("CONFIG_HASH") == bench.config.hash
    await bench.write("WATCHDOG", 0x1234_5678)
    assert await bench.read("WATCHDOG") == 0x1234_5678


@cocotb.test()
async def test_a_matrix_product_leaves_the_same_bytes_as_the_simulator(dut: object) -> None:
    """Operands and result in the system's RAM, which the host reads back."""
    bench = Bench(dut)
    await bench.reset()
    rng = np.random.default_rng(int(params()["seed"]))
    for epilogue in (Epilogue(), Epilogue(True)):
        program = build_gemm(bench.config, 11, 9, 7, epilogue)
        addresses = program.layout(bench.ram)
        inputs = {}
        for name in program.buffers.keys() - {"C"}:
            decl = program.buffers[name]
            inputs[name] = rng.integers(-100, 100, decl.shape).astype(decl.dtype)
            await bench.host.write(addresses[name], inputs[name].tobytes())
        with open_npu("iss", config=bench.config) as simulator:
            expected = simulator.run(simulator.load(program), inputs=inputs, outputs=["C"])
        assert await bench.run(list(program.relocated(addresses))) == bit("STATUS", "done")
        decl = program.buffers["C"]
        result = (await bench.host.read(addresses["C"], decl.nbytes)).data
        assert bytes(result) == np.ascontiguousarray(expected.outputs["C"]).tobytes(), epilogue


@cocotb.test()
async def test_a_load_outside_its_window_stops_the_program(dut: object) -> None:
    """The error is reported, and after a soft reset the next program runs."""
    bench = Bench(dut)
    await bench.reset()
    outside = bench.ram - 64
    status = await bench.run([encode("ld.run", dst=0, dram=outside, n0=1), encode("halt")])
    assert status & bit("STATUS", "error")
    assert await bench.read("ERROR_CAUSE") == Cause.WINDOW
    assert await bench.read("ERROR_INFO") == outside
    await bench.write("CONTROL", bit("CONTROL", "soft_reset"))
    while await bench.read("STATUS"):
        pass
    assert await bench.run([encode("halt")]) == bit("STATUS", "done")
