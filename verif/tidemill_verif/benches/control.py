"""Bench of the control unit: cocotbext-axi as the host, the bench as the rest of the machine."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from tidemill import csr
from tidemill.config import ISA_VERSION, preset
from tidemill.csr import Access, Cause, Unit, bit, offset
from tidemill_verif.benches import params
from tidemill_verif.benches.control_models import BUSY, DONE, ERROR, RESETTING, SOFT_RESET, START, host
from tidemill_verif.coverage.sampling import csr as coverage

WIDTHS = {"PROG_LEN": 24, "IRQ_ENABLE": 3}


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
    for _ in range(120):
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
    for name in (*writable, "CONTROL", "IRQ_STATUS"):
        for distance in (1 << k for k in range(8, 12)):
            await unit.bus.write(offset(name) ^ distance, unit.rng.randbytes(4))
            answer = await unit.bus.read(offset(name) ^ distance, 4)
            assert (answer.resp, answer.data) == (0, bytes(4)), f"{name} shows at {offset(name) ^ distance:#x}"
    await unit.bus.write(offset("CONTROL") + 1, b"\xff\xff\xff")
    for name, value in expected.items():
        assert await unit.read(name) == value, name
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
async def test_reset_and_drain_take_their_cycles(dut: Any) -> None:
    """`core_reset` lasts 4 cycles before a start and 1 after a program; `quiet` counts from the drain's fourth cycle
    on, also where a soft reset comes in the middle of another drain."""
    unit = await host(dut)
    dut.quiet.value = 1
    for _ in range(3):
        unit.spans = {"core_reset": [], "quiesce": []}
        await unit.run()
        dut.halted.value = 1
        await unit.wait(12)
        dut.halted.value = 0
        assert unit.spans == {"core_reset": [4, 1, 0], "quiesce": [5, 0]}
    unit.spans = {"core_reset": [], "quiesce": []}
    await unit.run()
    unit.fault(3, Cause.WINDOW, 1, 2)
    await unit.wait(12)
    unit.fault(3, 0, 0, 0, valid=0)
    await unit.write("CONTROL", SOFT_RESET)
    await unit.wait(12)
    assert unit.spans == {"core_reset": [4, 4, 4, 0], "quiesce": [4, 4, 0]}
    dut.quiet.value = 0
    for ends in ("fault", "halt", "soft reset"):
        await unit.run()
        unit.spans = {"core_reset": [], "quiesce": []}
        if ends == "soft reset":
            await unit.write("CONTROL", SOFT_RESET)
        dut.halted.value = int(ends == "halt")
        unit.fault(1, Cause.WINDOW, 1, 2, valid=int(ends == "fault"))
        await unit.wait(8)
        dut.quiet.value = 1
        reset = 0 if ends == "halt" else unit.spans["core_reset"][-1]
        drain = unit.spans["quiesce"][-1]
        await unit.wait(12)
        dut.quiet.value = 0
        unit.fault(1, 0, 0, 0, valid=0)
        dut.halted.value = 0
        assert unit.spans["quiesce"] == [drain + (2 if ends == "halt" else 1), 0]
        assert unit.spans["core_reset"] == [reset + 1, 0]
        await unit.recover()


@cocotb.test()
async def test_fault_and_quiet_together(dut: Any) -> None:
    """A fault before the cycle of `quiet` makes the program end in error, one from it on does not count."""
    unit = await host(dut)
    for delay in range(-3, 4):
        await unit.write("IRQ_STATUS", 7)
        await unit.run()
        dut.halted.value = 1
        await unit.wait(10)
        for now in range(-3, 5):
            dut.quiet.value = int(now == 0)
            unit.fault(4, Cause.LOCAL_RANGE, 7, 8, valid=int(now >= delay))
            await unit.wait(1)
        dut.halted.value = 0
        name = "error" if delay < 0 else "done"
        assert await unit.read("STATUS") == (BUSY | ERROR if delay < 0 else DONE), delay
        assert await unit.read("IRQ_STATUS") == bit("IRQ_STATUS", name), delay
        unit.fault(4, 0, 0, 0, valid=0)
        await unit.recover()


@cocotb.test()
async def test_reset_at_any_point(dut: Any) -> None:
    """The reset of the whole ends what is under way and sets every register, whatever the machine and its host do."""
    unit = await host(dut)
    reset_values = {register.name: register.reset for register in csr.CSRS if register.access is not Access.RO}
    reset_values |= dict.fromkeys(("STATUS", "ERROR_CAUSE", "ERROR_UNIT", "ERROR_PC", "ERROR_INFO", "USER_CODE"), 0)
    for number in range(6):
        for name in reset_values:
            if name not in ("CONTROL", "STATUS"):
                await unit.write(name, 0xFFFF_FFFF)
        await unit.run()
        dut.user_code.value = 0xFFFF
        dut.user_irq.value = 1
        dut.events.value = (1 << len(dut.events)) - 1
        await unit.wait(2 * number)
        if number % 3 == 0:
            unit.fault(5, 15, 0xFF_FFFF, 0xFFFF_FFFF)
        dut.halted.value = int(number % 3 == 1)
        for channel in (unit.bus.write_if.b_channel, unit.bus.read_if.r_channel):
            channel.clear_pause_generator()
            channel.pause = True
        unit.bus.init_read(offset("MAGIC"), 4)
        unit.bus.init_write(offset("CONTROL"), SOFT_RESET.to_bytes(4, "little"))
        await unit.wait(6 + 2 * number)
        dut.user_irq.value = 0
        dut.halted.value = 0
        dut.events.value = 0
        unit.fault(5, 0, 0, 0, valid=0)
        dut.rst.value = 1
        await unit.wait(2)
        for name in ("irq", "start", "core_reset", "quiesce"):
            assert not getattr(dut, name).value, name
        dut.rst.value = 0
        for channel in (unit.bus.write_if.b_channel, unit.bus.read_if.r_channel):
            channel.pause = False
        await unit.wait(4)
        for name, value in reset_values.items():
            assert await unit.read(name) == value, name
        for name in ("CYCLES", *(counter.name for counter in csr.COUNTERS)):
            assert await unit.read(name) == 0, name


@cocotb.test()
async def test_user_interrupt(dut: Any) -> None:
    """`irq` sets its status, the latest its code; start clears the code; the status goes by its own bit only."""
    unit = await host(dut)
    await unit.write("IRQ_ENABLE", bit("IRQ_ENABLE", "user"))
    user, done = bit("IRQ_STATUS", "user"), bit("IRQ_STATUS", "done")
    for _ in range(8):
        await unit.run()
        assert await unit.read("USER_CODE") == 0
        for code in (0, 0xFFFF, unit.rng.getrandbits(16), unit.rng.getrandbits(16)):
            dut.user_code.value = code
            dut.user_irq.value = 1
            await unit.wait(1)
            dut.user_irq.value = 0
            dut.user_code.value = unit.rng.getrandbits(16)
            await unit.wait(4)
            assert dut.irq.value
            assert await unit.read("USER_CODE") == code
        await unit.halt()
        await unit.bus.write(offset("IRQ_STATUS") + 1, b"\xff\xff\xff")
        assert await unit.read("IRQ_STATUS") == user | done
        assert await unit.read("USER_CODE") == code
        await unit.write("IRQ_STATUS", done)
        assert await unit.read("IRQ_STATUS") == user
        assert dut.irq.value, "interrupt status survives a start"


@cocotb.test()
async def test_an_event_wins_over_its_clear(dut: Any) -> None:
    """An `irq` in the cycle in which its status is cleared keeps it set: the line does not even fall."""
    unit = await host(dut)
    user = bit("IRQ_STATUS", "user")
    await unit.write("IRQ_ENABLE", user)
    await unit.run()
    for channel in (unit.bus.write_if.aw_channel, unit.bus.write_if.w_channel, unit.bus.write_if.b_channel):
        channel.clear_pause_generator()
        channel.pause = False
    await unit.wait(4)
    falls = []
    for delay in range(10):
        dut.user_irq.value = 1
        await unit.wait(1)
        dut.user_irq.value = 0
        await unit.wait(4)
        unit.bus.init_write(offset("IRQ_STATUS"), user.to_bytes(4, "little"))
        low = 0
        for now in range(20):
            dut.user_irq.value = int(now == delay)
            await RisingEdge(dut.clk)
            low += not dut.irq.value
        falls.append(low)
    late = falls.index(0)
    assert all(low > 8 for low in falls[:late]), "an event before its clear is cleared"
    assert falls[late + 1 :] == list(range(1, len(falls) - late)), "an event after a clear sets the status again"


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
    for limit, blocked in ((100, 1), (57, 0), (31, 1), (64, 0), (33, 1), (1, 0)):
        await unit.write("WATCHDOG", limit)
        dut.blocked.value = blocked
        blocked_pc, pc, mask = unit.rng.getrandbits(24), unit.rng.getrandbits(24), unit.rng.getrandbits(16)
        dut.blocked_pc.value = blocked_pc
        dut.blocked_mask.value = mask
        dut.pc.value = pc
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
        expected = (Unit.SYNC, 0x1000 + 16 * blocked_pc, mask) if blocked else (Unit.FRONTEND, 0x1000 + 16 * pc, 0)
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
async def test_watchdog_waits(dut: Any) -> None:
    """A long limit does not fire early, whatever its bits; nor does it outside of RUN."""
    unit = await host(dut)
    for limit in (*((1 << place) + 12 for place in range(6, 32)), 0xFFFF_FFFF):
        await unit.write("WATCHDOG", limit)
        await unit.run()
        await unit.wait(20)
        assert await unit.read("STATUS") == BUSY, f"{limit:#x}"
        await unit.halt()
    await unit.write("WATCHDOG", 10)
    await unit.wait(40)
    assert await unit.read("STATUS") == DONE
    dut.progress.value = 1
    await unit.run()
    dut.halted.value = 1
    await unit.wait(3)
    dut.progress.value = 0
    await unit.wait(40)
    assert await unit.read("STATUS") == BUSY
    await unit.halt()
    dut.progress.value = 1
    await unit.run()
    dut.halted.value = 1
    await unit.wait(3)
    dut.halted.value = 0
    dut.progress.value = 0
    await unit.wait(40)
    await unit.recover()
    await unit.write("WATCHDOG", 0)
    await unit.run()
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
    dut.events.value = 0
    await unit.run()
    dut.events.value = (1 << sum(widths)) - 1
    await unit.wait(10)
    unit.fault(1, Cause.WINDOW, 1, 2)
    await unit.wait(20)
    unit.fault(1, 0, 0, 0, valid=0)
    expected = [11 * ((1 << width) - 1) for width in widths]
    assert [await unit.read(counter.name) for counter in counters] == expected, "events after a fault do not count"
