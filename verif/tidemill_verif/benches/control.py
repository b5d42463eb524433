"""Bench of the control unit: cocotbext-axi as the host, the bench as the rest of the machine."""

from __future__ import annotations

import random
from itertools import combinations, cycle
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiLiteBus, AxiLiteMaster

from tidemill import csr
from tidemill.config import ISA_VERSION, preset
from tidemill.csr import Access, Cause, Unit, bit, offset
from tidemill_verif.agents.axi_monitors import watch
from tidemill_verif.agents.axi_rules import Limits
from tidemill_verif.agents.clock import start
from tidemill_verif.benches import params
from tidemill_verif.coverage.sampling import csr as coverage

BUSY, DONE, ERROR, RESETTING = (bit("STATUS", name) for name in ("busy", "done", "error", "resetting"))
START, SOFT_RESET = bit("CONTROL", "start"), bit("CONTROL", "soft_reset")
WIDTHS = {"PROG_LEN": 24, "IRQ_ENABLE": 3}
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
            if quiesced and not self.dut.quiesce.value and not self.dut.rst.value:
                assert self.dut.core_reset.value or self.resets, "the gateway listens again to a core that runs"
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


@cocotb.test()
async def test_registers(dut: Any) -> None:
    """Reset values, byte writes, read-only and unmapped words."""
    unit = await host(dut)
    rng = unit.rng
    config = preset(params()["preset"])
    expected = {register.name: register.reset for register in csr.CSRS}
    expected |= {
        "ISA_VERSION": ISA_VERSION,
        "CONFIG_HASH": config.hash,
        "CONFIG_SHAPE": config.rows | config.cols << 8 | config.requant_lanes << 16 | config.axi_bytes << 24,
    }
    for name, value in expected.items():
        assert await unit.read(name) == value, name
    writable = [register.name for register in csr.CSRS if register.access is Access.RW]
    for _ in range(200):
        name = rng.choice([register.name for register in csr.CSRS if register.access is not Access.W1])
        low = rng.randrange(4)
        size = rng.randint(1, 4 - low)
        value = rng.getrandbits(8 * size)
        await unit.bus.write(offset(name) + low, value.to_bytes(size, "little"))
        if name in writable:
            mask = ((1 << 8 * size) - 1) << 8 * low
            keep = 0xFFFF_FFF0 if name == "PROG_ADDR" else (1 << WIDTHS.get(name, 32)) - 1
            expected[name] = (expected[name] & ~mask | value << 8 * low) & keep
        checked = rng.choice([name, rng.choice(list(expected))])
        assert await unit.read(checked) == expected[checked], checked
    for name, port in (("PROG_ADDR", "prog_addr"), ("PROG_LEN", "prog_len"), ("READ_BASE", "read_window__base"),
                       ("READ_LIMIT", "read_window__limit"), ("WRITE_BASE", "write_window__base"),
                       ("WRITE_LIMIT", "write_window__limit")):  # fmt: skip
        assert int(getattr(dut, port).value) == expected[name]
    top = max(csr.counter_offsets().values()) + 4
    for at in (0x50, 0x7C, top, 0x200, 0xFFC):
        answer = await unit.bus.write(at, b"\xff" * 4)
        assert answer.resp == 0
        answer = await unit.bus.read(at, 4)
        assert (answer.resp, answer.data) == (0, bytes(4)), hex(at)
    assert unit.starts == 0
    assert not dut.irq.value


@cocotb.test()
async def test_start_and_halt(dut: Any) -> None:
    """Start resets and starts once; halt drains, then done and the interrupt; start while busy is ignored."""
    unit = await host(dut)
    await unit.write("IRQ_ENABLE", bit("IRQ_ENABLE", "done"))
    for _ in range(3):
        await unit.run()
        await unit.write("CONTROL", START)
        await unit.wait(20)
        assert await unit.read("STATUS") == BUSY
        assert not dut.irq.value
        await unit.halt()
        await unit.wait(3)
        assert dut.irq.value
        assert await unit.read("STATUS") == DONE
        assert await unit.read("IRQ_STATUS") == bit("IRQ_STATUS", "done")
        await unit.write("IRQ_STATUS", bit("IRQ_STATUS", "error"))
        assert await unit.read("IRQ_STATUS") == bit("IRQ_STATUS", "done")
        await unit.write("IRQ_STATUS", bit("IRQ_STATUS", "done"))
        await unit.wait(3)
        assert not dut.irq.value
        assert await unit.read("IRQ_STATUS") == 0
    assert unit.starts == 3
    await unit.recover()


@cocotb.test()
async def test_user_interrupt(dut: Any) -> None:
    """`irq` sets its status and code; start clears the code."""
    unit = await host(dut)
    await unit.write("IRQ_ENABLE", bit("IRQ_ENABLE", "user"))
    await unit.run()
    dut.user_code.value = 0xBEEF
    dut.user_irq.value = 1
    await unit.wait(1)
    dut.user_irq.value = 0
    dut.user_code.value = 0
    await unit.wait(4)
    assert dut.irq.value
    assert await unit.read("USER_CODE") == 0xBEEF
    await unit.halt()
    assert await unit.read("IRQ_STATUS") == bit("IRQ_STATUS", "user") | bit("IRQ_STATUS", "done")
    await unit.run()
    assert await unit.read("USER_CODE") == 0
    assert dut.irq.value, "interrupt status survives a start"


@cocotb.test()
async def test_faults(dut: Any) -> None:
    """The first fault, then the lowest unit, is kept; error rises before the drain ends; only a soft reset recovers."""
    unit = await host(dut)
    rng = unit.rng
    await unit.write("IRQ_ENABLE", 7)
    address = 0x1234_5670
    await unit.write("PROG_ADDR", address)
    pairs = list(combinations(range(len(Unit)), 2))
    causes = list(Cause)[1:]
    rounds = [[number] for number in range(len(Unit))] + [sorted({*pair, rng.randrange(len(Unit))}) for pair in pairs]
    for round_number, units in enumerate(rounds):
        faults = {i: (rng.choice(causes), rng.getrandbits(24), rng.getrandbits(32)) for i in units}
        faults[units[0]] = (causes[round_number % len(causes)], *faults[units[0]][1:])
        await unit.run()
        after_halt = round_number % 4 == 3
        if after_halt:
            dut.halted.value = 1
            await unit.wait(3)
        for i, values in faults.items():
            unit.fault(i, *values)
        await unit.wait(6)
        dut.halted.value = 0
        assert dut.irq.value
        assert dut.quiesce.value
        assert dut.core_reset.value
        unit.fault(0, Cause.LOOP, 1, 1)
        cause, pc, info = faults[units[0]]
        assert await unit.read("STATUS") == BUSY | ERROR
        expected = (cause, units[0], (address + 16 * pc) & 0xFFFFFFFF, info)
        assert await unit.error() == expected
        if round_number % 2:
            dut.quiet.value = 1
            await unit.wait(6)
            dut.quiet.value = 0
            assert not dut.quiesce.value
            assert not dut.core_reset.value
            assert await unit.read("STATUS") == ERROR
            starts = unit.starts
            await unit.write("CONTROL", START)
            await unit.wait(20)
            assert unit.starts == starts, "start with an error must be ignored"
        for i in range(len(Unit)):
            unit.fault(i, 0, 0, 0, valid=0)
        assert await unit.error() == expected
        assert await unit.read("IRQ_STATUS") == bit("IRQ_STATUS", "error")
        await unit.write("IRQ_STATUS", 7)
        await unit.recover()
        assert await unit.error() == (0, 0, 0, 0)


@cocotb.test()
async def test_soft_reset(dut: Any) -> None:
    """A soft reset ends a program at any point without done, error or interrupt, and wins over start."""
    unit = await host(dut)
    for delay in range(0, 14):
        await unit.write("CONTROL", START)
        await unit.wait(delay)
        await unit.recover()
    assert await unit.read("IRQ_STATUS") == 0
    await unit.write("CONTROL", START | SOFT_RESET)
    await unit.wait(12)
    assert await unit.read("STATUS") == RESETTING
    dut.quiet.value = 1
    await unit.wait(12)
    assert await unit.read("STATUS") == 0
    dut.quiet.value = 0
    await unit.run()
    await unit.halt()


@cocotb.test()
async def test_start_while_resetting_and_reset_while_halting(dut: Any) -> None:
    """A start during a soft reset is ignored; a soft reset after halt, before quiet, ends without done."""
    unit = await host(dut)
    await unit.run()
    await unit.write("CONTROL", SOFT_RESET)
    starts = unit.starts
    await unit.write("CONTROL", START)
    await unit.wait(20)
    assert await unit.read("STATUS") == RESETTING
    dut.quiet.value = 1
    await unit.wait(20)
    dut.quiet.value = 0
    assert unit.starts == starts
    assert await unit.read("STATUS") == 0
    await unit.run()
    dut.halted.value = 1
    await unit.wait(10)
    await unit.recover()
    dut.halted.value = 0
    assert await unit.read("IRQ_STATUS") == 0


@cocotb.test()
async def test_masked_events_show_in_the_status_only(dut: Any) -> None:
    """With no event enabled the interrupt line stays low; enabling one afterwards raises it."""
    unit = await host(dut)
    await unit.write("IRQ_ENABLE", 0)
    await unit.run()
    dut.user_irq.value = 1
    await unit.wait(1)
    dut.user_irq.value = 0
    unit.fault(2, Cause.WINDOW, 3, 4)
    await unit.wait(10)
    unit.fault(2, 0, 0, 0, valid=0)
    both = bit("IRQ_STATUS", "error") | bit("IRQ_STATUS", "user")
    assert await unit.read("IRQ_STATUS") == both
    assert not dut.irq.value
    await unit.write("IRQ_ENABLE", bit("IRQ_ENABLE", "user"))
    await unit.wait(3)
    assert dut.irq.value
    await unit.write("IRQ_STATUS", both)
    await unit.wait(3)
    assert not dut.irq.value
    await unit.recover()


@cocotb.test()
async def test_requests_that_wait_are_answered_in_order(dut: Any) -> None:
    """Reads and writes offered while others are under way."""
    unit = await host(dut)
    values = [unit.rng.getrandbits(32) for _ in range(12)]
    names = ("READ_BASE", "READ_LIMIT", "WRITE_BASE", "WRITE_LIMIT")
    writes = [unit.bus.init_write(offset(names[k % 4]), value.to_bytes(4, "little")) for k, value in enumerate(values)]
    reads = [unit.bus.init_read(offset("MAGIC"), 4) for _ in range(12)]
    for event in (*writes, *reads):
        await event.wait()
    assert [int.from_bytes(event.data.data, "little") for event in reads] == [csr.MAGIC] * 12
    assert [await unit.read(name) for name in names] == values[-4:]


@cocotb.test()
async def test_watchdog(dut: Any) -> None:
    """Fires after WATCHDOG cycles without progress, names the blocked instruction or the frontend's; 0: never."""
    unit = await host(dut)
    await unit.write("PROG_ADDR", 0x1000)
    for limit, blocked in ((100, 1), (57, 0)):
        await unit.write("WATCHDOG", limit)
        dut.blocked.value = blocked
        dut.blocked_pc.value = 5
        dut.blocked_mask.value = 0x8421
        dut.pc.value = 9
        dut.progress.value = 1
        await unit.run()
        await unit.wait(2 * limit)
        dut.progress.value = 0
        cycles = 0
        while not dut.core_reset.value:
            await RisingEdge(dut.clk)
            cycles += 1
            dut.progress.value = int(cycles == limit // 2)
        assert limit <= cycles - limit // 2 <= limit + 5, cycles
        expected = (Unit.SYNC, 0x1050, 0x8421) if blocked else (Unit.FRONTEND, 0x1090, 0)
        assert await unit.error() == (Cause.WATCHDOG, *expected)
        coverage.watchdog("blocked" if blocked else "frontend")
        coverage.watchdog("restarted")
        await unit.recover()
    await unit.write("WATCHDOG", 0)
    await unit.run()
    await unit.wait(300)
    assert await unit.read("STATUS") == BUSY
    coverage.watchdog("off")
    await unit.halt()


@cocotb.test()
async def test_counters(dut: Any) -> None:
    """Each counter counts its own events from start to done, and start clears it."""
    unit = await host(dut)
    rng = unit.rng
    counters = [counter for counter in csr.COUNTERS if counter.name != "CYCLES"]
    widths = [2 if counter.name.startswith("CONFLICT_") else 1 for counter in counters]
    for _ in range(2):
        dut.events.value = 0
        await unit.run()
        totals = [0] * len(counters)
        for _ in range(500):
            values = [rng.getrandbits(width) if rng.random() < 0.5 else 0 for width in widths]
            packed, position = 0, 0
            for i, (value, width) in enumerate(zip(values, widths, strict=True)):
                packed |= value << position
                coverage.counted(counters[i].name, value, width)
                position += width
                totals[i] += value
            dut.events.value = packed
            await RisingEdge(dut.clk)
        dut.events.value = 0
        await unit.wait(4)
        for counter, total in zip(counters, totals, strict=True):
            assert await unit.read(counter.name) == total, counter.name
        first = await unit.read("CYCLES")
        assert first > 500
        coverage.counted("CYCLES", first, 1)
        assert await unit.read("CYCLES") > first
        await unit.halt()
        dut.events.value = (1 << sum(widths)) - 1
        await unit.wait(50)
        cycles = await unit.read("CYCLES")
        assert await unit.read("CYCLES") == cycles
        assert [await unit.read(counter.name) for counter in counters] == totals
