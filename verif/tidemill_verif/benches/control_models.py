"""The host of the control unit's bench, and the rest of the machine as far as the unit sees it."""

from __future__ import annotations

import random
from itertools import cycle
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiLiteBus, AxiLiteMaster

from tidemill import csr
from tidemill.config import preset
from tidemill.csr import Unit, bit, offset
from tidemill_verif.agents.axi_monitors import watch
from tidemill_verif.agents.axi_rules import Limits
from tidemill_verif.agents.clock import start
from tidemill_verif.benches import params
from tidemill_verif.coverage.sampling import csr as coverage

BUSY, DONE, ERROR, RESETTING = (bit("STATUS", name) for name in ("busy", "done", "error", "resetting"))
START, SOFT_RESET = bit("CONTROL", "start"), bit("CONTROL", "soft_reset")
INPUTS = ("quiet", "halted", "user_irq", "user_code", "pc", "blocked", "blocked_pc", "blocked_mask", "progress")


class Host:
    """Registers by name, over a bus with random stalls; counts pulses of `start`."""

    def __init__(self, dut: Any, seed: int) -> None:
        self.dut = dut
        self.rng = random.Random(seed)
        self.bus = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil_"), dut.clk, dut.rst, reset_active_level=True)
        for channel in (
            self.bus.write_if.aw_channel,
            self.bus.write_if.w_channel,
            self.bus.write_if.b_channel,
            self.bus.read_if.ar_channel,
            self.bus.read_if.r_channel,
        ):
            pattern = [self.rng.random() < 0.4 for _ in range(61)]
            channel.set_pause_generator(cycle(pattern))
        self.starts = 0
        self.resets = 0
        self.spans: dict[str, list[int]] = {"core_reset": [], "quiesce": []}
        """Cycles that each output was high, every time; the last may go on."""
        for name in (*INPUTS, "events"):
            getattr(dut, name).value = 0
        for i in range(len(Unit)):
            for part in ("valid", "cause", "pc", "info"):
                getattr(dut, f"faults__{i}__{part}").value = 0
        cocotb.start_soon(self._watch())
        coverage.watch(dut)
        watch(dut, Limits.of(preset(params()["preset"])), axi4=None)

    async def _watch(self) -> None:
        quiesced = False
        while True:
            await RisingEdge(self.dut.clk)
            for name, spans in self.spans.items():
                if getattr(self.dut, name).value:
                    spans[-1:] = [spans[-1] + 1] if spans else [1]
                elif spans and spans[-1]:
                    spans.append(0)
            if quiesced and not self.dut.quiesce.value and not self.dut.rst.value:
                assert self.resets, "the gateway listens again to a core that runs"
            quiesced = bool(self.dut.quiesce.value)
            if self.dut.start.value:
                self.starts += 1
                assert self.resets >= 2, "start without a reset before"
                assert not self.dut.core_reset.value
                assert not self.dut.quiesce.value
            self.resets = self.resets + 1 if self.dut.core_reset.value else (0 if self.dut.start.value else self.resets)

    async def read(self, name: str) -> int:
        """Value of a register or of a counter's low word."""
        at = csr.counter_offsets()[name] if name in csr.counter_offsets() else offset(name)
        return int.from_bytes((await self.bus.read(at, 4)).data, "little")

    async def write(self, name: str, value: int) -> None:
        """Write a register."""
        await self.bus.write(offset(name), value.to_bytes(4, "little"))

    async def wait(self, cycles: int) -> None:
        """Let cycles pass."""
        for _ in range(cycles):
            await RisingEdge(self.dut.clk)

    async def run(self) -> None:
        """Start and wait for the start pulse."""
        before = self.starts
        await self.write("CONTROL", START)
        await self.wait(12)
        assert self.starts == before + 1
        assert await self.read("STATUS") == BUSY

    async def halt(self) -> None:
        """End the program as the frontend and the gateway would."""
        self.dut.halted.value = 1
        await self.wait(10)
        assert self.dut.quiesce.value
        assert not self.dut.core_reset.value
        assert await self.read("STATUS") == BUSY, "busy until quiet"
        self.dut.quiet.value = 1
        await self.wait(4)
        self.dut.quiet.value = 0
        self.dut.halted.value = 0
        assert not self.dut.quiesce.value

    async def recover(self) -> None:
        """Soft reset to the end."""
        await self.write("CONTROL", SOFT_RESET)
        await self.wait(8)
        assert await self.read("STATUS") == RESETTING
        assert self.dut.quiesce.value
        assert self.dut.core_reset.value
        self.dut.quiet.value = 1
        await self.wait(4)
        self.dut.quiet.value = 0
        assert not self.dut.quiesce.value
        assert not self.dut.core_reset.value
        assert await self.read("STATUS") == 0

    def fault(self, unit: int, cause: int, pc: int, info: int, valid: int = 1) -> None:
        """Drive one unit's fault."""
        for part, value in (("valid", valid), ("cause", cause), ("pc", pc), ("info", info)):
            getattr(self.dut, f"faults__{unit}__{part}").value = value

    async def error(self) -> tuple[int, int, int, int]:
        """Cause, unit, address and info registers."""
        names = ("ERROR_CAUSE", "ERROR_UNIT", "ERROR_PC", "ERROR_INFO")
        cause, unit, pc, info = [await self.read(name) for name in names]
        return cause, unit, pc, info


async def host(dut: Any) -> Host:
    """A host on a freshly reset machine."""
    result = Host(dut, params()["seed"])
    await start(dut, 4)
    await result.wait(4)
    return result
