"""Bench of the whole NPU: programs over AXI models that stall at random, held against the simulator byte for byte."""

from __future__ import annotations

import random
from collections.abc import Iterator

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge, with_timeout
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiRam

from tidemill.config import preset
from tidemill.csr import Cause, bit, offset
from tidemill.driver.npu import open_npu
from tidemill.isa import RequantMode, encode
from tidemill.ops.gemm import Epilogue, build_gemm
from tidemill.program import Program
from tidemill_verif.agents.axi_monitors import watch
from tidemill_verif.agents.axi_rules import Limits
from tidemill_verif.benches import params

MEMORY = 1 << 20
"""Bytes of the RAM, which answers at every multiple of it."""
ARENA = 0x1000
CODE = MEMORY // 2
ORIGINS = (0xAAA, 0x555, 0xFFF, 0x000)
"""Multiples of `MEMORY` at which programs and their data lie: every address bit above it both ways."""
CYCLE = 10


class Bench:
    """The NPU with a RAM and a host."""

    def __init__(self, dut: object) -> None:
        self.dut = dut
        self.config = preset(str(params()["preset"]))
        self.rng = random.Random(int(params()["seed"]))
        Clock(dut.clk, CYCLE, "ns").start()
        self.ram = AxiRam(AxiBus.from_prefix(dut, "m_axi_"), dut.clk, dut.rst, size=MEMORY)
        watch(dut, Limits.of(self.config))
        self.host = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil_"), dut.clk, dut.rst)

    async def reset(self) -> None:
        """A few cycles of reset, then random stalls on every channel."""
        self.dut.rst.value = 1
        await ClockCycles(self.dut.clk, 4)
        self.dut.rst.value = 0
        await ClockCycles(self.dut.clk, 2)
        write, read = self.ram.write_if, self.ram.read_if
        for channel in (write.aw_channel, write.w_channel, write.b_channel, read.ar_channel, read.r_channel):
            channel.set_pause_generator(self.pauses(self.rng.uniform(0, 0.4)))
        for channel in (self.host.write_if.aw_channel, self.host.write_if.w_channel, self.host.read_if.ar_channel):
            channel.set_pause_generator(self.pauses(0.3))

    def pauses(self, share: float) -> Iterator[bool]:
        """Pause in about `share` of the cycles."""
        rng = random.Random(self.rng.random())
        while True:
            yield rng.random() < share

    async def write(self, name: str, value: int) -> None:
        """Write a register."""
        await self.host.write(offset(name), value.to_bytes(4, "little"))

    async def read(self, name: str) -> int:
        """Read a register."""
        return int.from_bytes((await self.host.read(offset(name), 4)).data, "little")

    async def start(self, words: list[int], window: tuple[int, int], origin: int = 0, watchdog: int = 100_000) -> None:
        """Put `words` behind the data and ring the doorbell; the machine finds them from address `origin` on."""
        self.ram.write(CODE, b"".join(word.to_bytes(16, "little") for word in words))
        for name, value in (
            ("PROG_ADDR", origin + CODE), ("PROG_LEN", len(words)), ("WATCHDOG", watchdog), ("IRQ_ENABLE", 3),
            ("READ_BASE", window[0]), ("READ_LIMIT", window[1]),
            ("WRITE_BASE", window[0]), ("WRITE_LIMIT", window[1]),
            ("CONTROL", bit("CONTROL", "start")),
        ):  # fmt: skip
            await self.write(name, value)

    async def interrupt(self) -> int:
        """Wait for the interrupt, acknowledge it and return STATUS."""
        if not self.dut.irq.value:
            await with_timeout(RisingEdge(self.dut.irq), 400_000 * CYCLE, "ns")
        await self.write("IRQ_STATUS", 7)
        return await self.read("STATUS")


def fill(program: Program, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Random inputs for the buffers of a matrix product."""
    inputs = {}
    for name in program.buffers.keys() - {"C"}:
        decl = program.buffers[name]
        if name == "P":
            values = rng.integers(-(1 << 16), 1 << 16, decl.shape)
            values[:, 1] = rng.integers(1 << 30, 1 << 31, values[:, 1].shape)
            values[:, 2] = rng.integers(-14, 0, values[:, 2].shape)
        else:
            values = rng.integers(-128, 128, decl.shape)
        inputs[name] = values.astype(decl.dtype)
    return inputs


@cocotb.test()
async def test_programs_leave_the_same_bytes_as_the_simulator(dut: object) -> None:
    """Matrix products of all three kinds, one after another on the same machine, all over the address space."""
    bench = Bench(dut)
    await bench.reset()
    rng = np.random.default_rng(int(params()["seed"]))
    epilogues = (
        Epilogue(), Epilogue(True), Epilogue(True, RequantMode.TFLITE, -3, -128, 100),
        Epilogue(True, RequantMode.ONNX, 5),
    )  # fmt: skip
    for epilogue, part in zip(epilogues, ORIGINS, strict=True):
        origin = part * MEMORY
        shape = [int(size) for size in rng.integers(1, 4 * bench.config.dim, 3)]
        program = build_gemm(bench.config, *shape, epilogue)
        inputs = fill(program, rng)
        with open_npu("iss", config=bench.config) as simulator:
            expected = simulator.run(simulator.load(program), inputs=inputs, outputs=["C"])
        addresses = program.layout(origin + ARENA)
        end = max(addresses[name] + decl.nbytes for name, decl in program.buffers.items())
        for name, values in inputs.items():
            bench.ram.write(addresses[name] % MEMORY, values.tobytes())
        await bench.start(list(program.relocated(addresses)), (origin + ARENA, end | 15), origin)
        status = await bench.interrupt()
        assert status == bit("STATUS", "done"), f"status {status:#x} for {shape} {epilogue}"
        decl = program.buffers["C"]
        got = np.frombuffer(bench.ram.read(addresses["C"] % MEMORY, decl.nbytes), decl.dtype).reshape(decl.shape)
        assert np.array_equal(got, expected.outputs["C"]), f"{shape} {epilogue}"


@cocotb.test()
async def test_an_error_stops_the_machine_and_a_soft_reset_recovers_it(dut: object) -> None:
    """A load outside its window among running engines; then a good program."""
    bench = Bench(dut)
    await bench.reset()
    row = bench.config.spad_row_bytes
    load = encode("ld.run", dst=0, dram=ARENA, n0=64)
    bad = encode("ld.run", dst=0, dram=ARENA + 256 * row, n0=1)
    store = encode("st.run", src=0, dram=ARENA + 64 * row, n0=64)
    for _ in range(3):
        await bench.start([load, store, load, bad, encode("halt")], (ARENA, ARENA + 128 * row - 1))
        status = await bench.interrupt()
        assert status & bit("STATUS", "error")
        assert await bench.read("ERROR_CAUSE") == Cause.WINDOW
        assert await bench.read("ERROR_PC") == CODE + 3 * 16
        assert await bench.read("ERROR_INFO") == ARENA + 256 * row
        await bench.write("CONTROL", bit("CONTROL", "soft_reset"))
        while await bench.read("STATUS"):
            pass
        data = bytes(bench.rng.randrange(256) for _ in range(64 * row))
        bench.ram.write(ARENA, data)
        words = [load, encode("fence"), store, encode("halt")]
        await bench.start(words, (ARENA, ARENA + 128 * row - 1))
        assert await bench.interrupt() == bit("STATUS", "done")
        assert bytes(bench.ram.read(ARENA + 64 * row, 64 * row)) == data
