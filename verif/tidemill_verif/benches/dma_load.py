"""Bench of the load engine: row writes, bursts, completions and faults against the golden walk."""

from __future__ import annotations

from random import Random

import cocotb
import numpy as np
from cocotb.handle import SimHandleBase

from tidemill.config import Config, preset
from tidemill.csr import Cause
from tidemill_hdl.dma.load import COMPLETIONS
from tidemill_verif.agents.ports import put, value
from tidemill_verif.benches import params
from tidemill_verif.benches.dma_models import (
    UPPER,
    Burst,
    Completions,
    Events,
    Instruction,
    InstructionSource,
    Readiness,
    Stalls,
    check_burst,
    limits_program,
    moves,
    pc_of,
    random_memory,
    random_program,
    read_bytes,
    sample_program,
    simulate,
    transfers,
)
from tidemill_verif.coverage.collect import wanted
from tidemill_verif.coverage.sampling import dma as coverage

EVERYWHERE = (0, 0xFFFF_FFFF)
Write = tuple[bool, int, bytes]


class ReadBus:
    """Answers bursts from the repeating memory; `errors` maps beat addresses to responses."""

    def __init__(
        self,
        dut: SimHandleBase,
        config: Config,
        memory: np.ndarray,
        rng: Random,
        stalls: Stalls,
        errors: dict[int, int],
    ) -> None:
        self.dut, self.config, self.memory, self.rng = dut, config, memory, rng
        self.stalls, self.errors = stalls, errors
        self.commands = Readiness(dut, "bus__cmd", rng, stalls.command)
        self.flying: list[Burst] = []
        self.bursts: list[Burst] = []
        self.peak = 0
        self.position = 0
        self.ready = self.offered = False
        self.beat_cycles: list[int] = []
        self.command_cycles: list[int] = []

    @property
    def transfers(self) -> int:
        return len(self.beat_cycles) + len(self.bursts)

    def sample(self, cycle: int) -> None:
        if self.offered and value(self.dut, "bus__beat__ready"):
            self.offered = False
            self.beat_cycles.append(cycle)
            self.position += 1
            if self.position == self.flying[0].beats:
                self.flying.pop(0)
                self.position = 0
        if self.ready and value(self.dut, "bus__cmd__valid"):
            burst = check_burst(self.config, value(self.dut, "bus__cmd__payload"), cycle)
            self.flying.append(burst)
            self.bursts.append(burst)
            self.command_cycles.append(cycle)
            self.peak = max(self.peak, len(self.flying))
            coverage.burst("load", self.config, burst.beats, len(self.flying))
            assert self.peak <= self.config.max_outstanding, "too many bursts in flight"

    def drive(self, cycle: int) -> None:
        self.ready = self.commands.next()
        if not self.offered and self.flying and cycle >= self.flying[0].cycle + self.stalls.latency:
            self.offered = self.rng.random() >= self.stalls.beat
        put(self.dut, "bus__beat__valid", self.offered)
        width = self.config.axi_bytes
        if not self.offered:
            put(self.dut, "bus__beat__payload", self.rng.getrandbits(8 * width + 2))
        else:
            addr = self.flying[0].addr + self.position * width
            data = int.from_bytes(read_bytes(self.memory, addr, width), "little")
            resp = self.errors.get(addr, 0)
            put(self.dut, "bus__beat__payload", data | resp << (8 * width))


class WritePortModel:
    """Takes row writes, holds them back for random times, and drives `idle` as its contract allows at worst."""

    def __init__(
        self, dut: SimHandleBase, name: str, depth: int, row_bytes: int, rng: Random, stall: float, log: list[Write]
    ) -> None:
        self.dut, self.name, self.row_bytes, self.rng, self.stall, self.log = dut, name, row_bytes, rng, stall, log
        self.address_bits = (depth - 1).bit_length()
        self.waiting: list[tuple[int, int]] = []
        self.ready = False
        self.landed = 0
        self.cycles: list[int] = []

    @property
    def transfers(self) -> int:
        return len(self.cycles) + self.landed

    def sample(self, cycle: int) -> None:
        if self.waiting and cycle >= self.waiting[0][1]:
            self.waiting.pop(0)
            self.landed += 1
        if self.ready and value(self.dut, f"{self.name}__req__valid"):
            payload = value(self.dut, f"{self.name}__req__payload")
            data = (payload >> self.address_bits).to_bytes(self.row_bytes, "little")
            self.log.append((self.name == "acc", payload & ((1 << self.address_bits) - 1), data))
            self.cycles.append(cycle)
            late = 0
            while self.rng.random() < self.stall:
                late += 1
            self.waiting.append((cycle, cycle + 1 + late))

    def drive(self, cycle: int) -> None:
        self.ready = len(self.waiting) < 3 and self.rng.random() >= self.stall
        put(self.dut, f"{self.name}__req__ready", self.ready)
        put(self.dut, f"{self.name}__idle", not any(taken <= cycle - 2 for taken, _ in self.waiting))
        put(self.dut, f"{self.name}__stall", self.rng.random() < 0.3)


def expected_writes(
    config: Config,
    program: list[Instruction],
    memory: np.ndarray,
    window: tuple[int, int],
    errors: dict[int, int],
) -> tuple[list[Write], list[int], tuple[int, int, int] | None]:
    """All row writes in order, how many there are by the end of each instruction, and the fault that ends them."""
    writes: list[Write] = []
    by_index = {transfer.index: transfer for transfer in transfers(config, program, "dst")}
    counts: list[int] = []
    for index in range(len(program)):
        if index in by_index:
            transfer = by_index[index]
            depth = config.acc_rows if transfer.acc else config.spad_rows
            row_bytes = config.acc_row_bytes if transfer.acc else config.spad_row_bytes
            fill = bytes([transfer.config["value"] & 0xFF]) * row_bytes
            nbytes = transfer.values["n0"] * row_bytes
            rows = transfer.rows
            for line, local, dram in zip(rows.lines.tolist(), rows.local, rows.dram, strict=True):
                if nbytes and (line < window[0] or line + nbytes - 1 > window[1]):
                    return writes, counts, (Cause.WINDOW, pc_of(index), line)
                for row, source in zip(local.tolist(), dram.tolist(), strict=True):
                    if source >= 0:
                        first = source // config.axi_bytes * config.axi_bytes
                        for beat in range(first, source + row_bytes, config.axi_bytes):
                            if beat in errors:
                                block = config.axi_bytes * config.max_burst
                                cause = Cause.BUS_DECERR if errors[beat] == 3 else Cause.BUS_SLVERR
                                return writes, counts, (cause, pc_of(index), max(line, beat // block * block))
                    if not 0 <= row < depth:
                        return writes, counts, (Cause.LOCAL_RANGE, pc_of(index), row & 0xFFFF_FFFF)
                    data = fill if source < 0 else read_bytes(memory, source, row_bytes)
                    writes.append((transfer.acc, row, data))
        counts.append(len(writes))
    return writes, counts, None


def _events(dut: SimHandleBase, bus: ReadBus) -> Events:
    def waits() -> bool | None:
        """A burst counts from before its command until its beats have been used: only that it does is fixed here."""
        moved = moves(dut, "bus__beat")
        return not moved if moved or bus.flying else None

    return Events(
        dut,
        read_beat=lambda: moves(dut, "bus__beat"),
        bus_read_wait=waits,
        progress=lambda: moves(dut, "bus__beat", "spad__req", "acc__req"),
    )


async def check(
    dut: SimHandleBase,
    rng: Random,
    program: list[Instruction],
    stalls: Stalls,
    window: tuple[int, int] = EVERYWHERE,
    errors: dict[int, int] | None = None,
    most: int | None = None,
) -> tuple[ReadBus, list[WritePortModel], Completions]:
    """Runs `program` and compares everything; with `most` it leaves off after so many cycles and compares nothing."""
    config = preset(params()["preset"])
    memory = random_memory(rng)
    errors = errors or {}
    writes, counts, fault = expected_writes(config, program, memory, window, errors)
    log: list[Write] = []
    bus = ReadBus(dut, config, memory, rng, stalls, errors)
    ports = [
        WritePortModel(dut, "spad", config.spad_rows, config.spad_row_bytes, rng, stalls.port, log),
        WritePortModel(dut, "acc", config.acc_rows, config.acc_row_bytes, rng, stalls.port, log),
    ]
    source = InstructionSource(dut, program, rng, stalls.instr)
    completions = Completions(dut, lambda: sum(port.landed for port in ports), lambda: source.sent)
    events = _events(dut, bus)
    coverage.watch_engine(dut, "load")
    await simulate(dut, window, [source, bus, *ports, completions, events], completions, len(program), most)
    if most is not None:
        return bus, ports, completions
    assert completions.fault == fault, f"fault {completions.fault}, expected {fault}"
    if wanted():
        sample_program(config, program, "load", window, fault, [burst.addr for burst in bus.bursts])
    for number, (got, want) in enumerate(zip(log, writes, strict=False)):
        assert got == want, f"write {number}: got {got}, expected {want}"
    assert len(log) == len(writes), f"{len(log)} writes, expected {len(writes)}"
    assert fault is None or completions.at_fault == len(writes), "the fault came before its rows were in the memory"
    signals = [values["signal"] for _, values in program]
    assert [signal for _, signal, _ in completions.done] == signals[: len(completions.done)]
    for number, (_, _, landed) in enumerate(completions.done):
        assert landed >= counts[number], f"done {number} came before its rows were in the memory"
    assert events.count["read_beat"] == len(bus.beat_cycles)
    if fault is None:
        assert len(completions.done) == len(program)
        assert not bus.flying, "beats left over"
        assert not value(dut, "bus_read_wait")
    for burst in bus.bursts:
        end = burst.addr + burst.beats * config.axi_bytes
        assert window[0] // config.axi_bytes * config.axi_bytes <= burst.addr
        assert end - 1 <= window[1] | 15
    return bus, ports, completions


@cocotb.test()
async def test_random_programs(dut: SimHandleBase) -> None:
    """Rows, bursts and completions of a long random program under random stalls."""
    rng = Random(params()["seed"])
    await check(dut, rng, random_program(preset(params()["preset"]), rng, "ld", 60, upper=UPPER), Stalls.random(rng))


@cocotb.test()
async def test_operands_at_their_limits(dut: SimHandleBase) -> None:
    """The largest counts, the extreme strides, the first and the last rows."""
    rng = Random(params()["seed"] + 3)
    await check(dut, rng, limits_program(preset(params()["preset"]), "ld"), Stalls(latency=4))


@cocotb.test()
@cocotb.parametrize(upper=UPPER)
async def test_windows_anywhere(dut: SimHandleBase, upper: int) -> None:
    """Lines that begin at a window's first byte and end at its last, and one byte beyond each."""
    rng = Random(params()["seed"] + 4)
    config = preset(params()["preset"])
    beat, n0 = config.axi_bytes, 3
    nbytes = n0 * config.spad_row_bytes
    base = (upper + 0x4_1250) // 16 * 16
    limit = base + 16 * nbytes - 1
    run = {"dst": 4, "n0": n0, "n1": 1, "n2": 1, "signal": 2}
    inside = [("ld.run", {**run, "dram": base}), ("ld.run", {**run, "dram": limit + 1 - nbytes})]
    for outside in (base - beat, limit + 1 - nbytes + beat):
        program = [*inside, ("ld.run", {**run, "dram": outside})]
        await check(dut, rng, program, Stalls.random(rng), window=(base, limit))


@cocotb.test()
async def test_random_programs_without_stalls(dut: SimHandleBase) -> None:
    """The same at full speed."""
    rng = Random(params()["seed"] + 1)
    await check(dut, rng, random_program(preset(params()["preset"]), rng, "ld", 60, upper=UPPER), Stalls(latency=1))


@cocotb.test()
async def test_every_alignment(dut: SimHandleBase) -> None:
    """Lines from every byte of a beat, of one row and of several, in both memories, over a 4 KiB boundary."""
    rng = Random(params()["seed"] + 2)
    config = preset(params()["preset"])
    program: list[Instruction] = []
    for acc in (0, 1 << 15):
        for start in range(config.axi_bytes + 1):
            for n0 in (1, 2, 17):
                values = {"dst": 3 + acc, "dram": 0x6FFF0 + start, "n0": n0, "n1": 1, "n2": 1, "signal": 1}
                program.append(("ld.run", values))
    await check(dut, rng, program, Stalls.random(rng))


async def _local_range(dut: SimHandleBase, extra: int) -> None:
    rng = Random(params()["seed"] + extra)
    program = random_program(preset(params()["preset"]), rng, "ld", 12, bad_rows=0.3)
    program.append(("ld.run", {"dst": 0x7FFF, "dram": 0x30000, "n0": 3, "n1": 1, "n2": 1, "signal": 0}))
    await check(dut, rng, program, Stalls.random(rng))


async def _window(dut: SimHandleBase, extra: int) -> None:
    rng = Random(params()["seed"] + extra)
    program = random_program(preset(params()["preset"]), rng, "ld", 12, bad_rows=0.02)
    base = rng.randint(0, 0x10_0000) // 16 * 16
    limit = rng.choice((0x3F_0000, base + 0x28_0000)) | 15
    program.append(("ld.run", {"dst": 0, "dram": 0xFFFF_FFF1, "n0": 30, "n1": 1, "n2": 1, "signal": 0}))
    await check(dut, rng, program, Stalls.random(rng), window=(base, limit))


async def _bus_error(dut: SimHandleBase, extra: int) -> None:
    rng = Random(params()["seed"] + extra)
    config = preset(params()["preset"])
    program = random_program(config, rng, "ld", 12, upper=UPPER)
    beats = []
    for transfer in transfers(config, program, "dst"):
        beats += [int(row) // config.axi_bytes * config.axi_bytes for row in transfer.rows.dram.flat if row >= 0]
    errors = {beat + rng.choice((0, config.axi_bytes)): rng.choice((2, 3)) for beat in rng.sample(beats, 3)}
    await check(dut, rng, program, Stalls.random(rng), errors=errors)


@cocotb.test()
@cocotb.parametrize(extra=range(10, 18))
async def test_local_range(dut: SimHandleBase, extra: int) -> None:
    """A row outside the memory stops the engine there, with all rows before written and none after."""
    await _local_range(dut, extra)


@cocotb.test()
@cocotb.parametrize(extra=range(30, 38))
async def test_window(dut: SimHandleBase, extra: int) -> None:
    """A line outside the window is never read and reported in program order."""
    await _window(dut, extra)


@cocotb.test()
@cocotb.parametrize(extra=range(50, 58))
async def test_bus_error(dut: SimHandleBase, extra: int) -> None:
    """An error response stops the engine at the first row it spoils."""
    await _bus_error(dut, extra)


@cocotb.test()
@cocotb.parametrize(dram=(0xFFFF_FFFD, 0xFFFF_FFFF))
async def test_wrap_of_the_address_space(dut: SimHandleBase, dram: int) -> None:
    """A line over the end of the address space is outside any window."""
    run = {"dst": 0, "dram": dram, "n0": 2, "n1": 1, "n2": 1, "signal": 0}
    await check(dut, Random(params()["seed"]), [("ld.run", run)], Stalls())


@cocotb.test()
@cocotb.parametrize(acc=(0, 1 << 15), loop=(1, 2))
async def test_rows_beyond_both_ends(dut: SimHandleBase, acc: int, loop: int) -> None:
    """The second line or plane leaves the memory, by a row or by far; 0x7FFF is beyond any memory."""
    config = preset(params()["preset"])
    last = (config.acc_rows if acc else config.spad_rows) - 1
    run = {"dram": 0x20000, "n0": 1, "n1": 1, "n2": 1, "signal": 0, f"n{loop}": 2}
    for step in (-1, 1, -0x8000, 0x7FFF):
        first = acc + (0 if step < 0 else last)
        program = [("ld.dst", {"d1": 0, "d2": 0, "signal": 0, f"d{loop}": step}), ("ld.run", {**run, "dst": first})]
        await check(dut, Random(params()["seed"]), program, Stalls(latency=1))
    beyond = ("ld.run", {**run, "dst": acc + 0x7FFF})
    await check(
        dut, Random(params()["seed"]), [beyond, *[("ld.sync", {"signal": 1})] * 30], Stalls(instr=0.8, latency=1)
    )


@cocotb.test()
@cocotb.parametrize(response=(2, 3), place=((0, 0), (0, 2), (1, 2), (2, 2)))
async def test_bus_error_in_a_burst(dut: SimHandleBase, response: int, place: tuple[int, int]) -> None:
    """An error in the first burst of a line, in one in the middle and in the last; the line begins within a beat."""
    burst, beat = place
    config = preset(params()["preset"])
    size = config.max_burst * config.axi_bytes
    run = {"dst": 0, "dram": 0x20001, "n0": 3 * size // config.spad_row_bytes, "n1": 1, "n2": 1, "signal": 0}
    rng = Random(params()["seed"] + burst)
    errors = {0x20000 + burst * size + beat * config.axi_bytes: response}
    await check(dut, rng, [("ld.run", run)], Stalls.random(rng), errors=errors)


@cocotb.test()
async def test_reset_in_flight(dut: SimHandleBase) -> None:
    """After a reset in the middle of a program another one runs as if it were the first."""
    rng = Random(params()["seed"] + 6)
    config = preset(params()["preset"])
    for _ in range(6):
        most = rng.randint(20, 300)
        await check(dut, rng, random_program(config, rng, "ld", 12, upper=UPPER), Stalls.random(rng), most=most)
        await check(dut, rng, random_program(config, rng, "ld", 2, upper=UPPER), Stalls(latency=1))


@cocotb.test()
async def test_many_short_bursts(dut: SimHandleBase) -> None:
    """Transfers of one burst each keep as many bursts in flight as may be."""
    rng = Random(params()["seed"])
    config = preset(params()["preset"])
    run = {"dst": 0, "dram": 0x20000, "n0": 1, "n1": 1, "n2": 1, "signal": 1}
    bus, _, _ = await check(dut, rng, [("ld.run", run)] * 24, Stalls(latency=150))
    assert bus.peak == min(config.max_outstanding, COMPLETIONS)
    _, _, waiting = await check(dut, rng, [("ld.run", run)] * 24, Stalls(latency=1000), most=200)
    assert waiting.taken() >= COMPLETIONS, "transfers that wait for their rows keep others out"


@cocotb.test()
@cocotb.parametrize(acc=(0, 1))
async def test_latency(dut: SimHandleBase, acc: int) -> None:
    """The cycles of a transfer of one row without stalls; its instruction is taken in cycle 1."""
    run = {"dst": acc << 15, "dram": 0x20000, "n0": 1, "n1": 1, "n2": 1, "signal": 1}
    bus, ports, completions = await check(dut, Random(params()["seed"]), [("ld.run", run)], Stalls(latency=4))
    command, beat, row, done = bus.command_cycles[0], bus.beat_cycles[-1], ports[acc].cycles[0], completions.done[0][0]
    assert (command, row - beat, done - row) == (1 + 7, 3, 3), (command, row - beat, done - row)


@cocotb.test()
async def test_throughput(dut: SimHandleBase) -> None:
    """One beat a cycle within a transfer of several bursts; few bubbles between transfers."""
    rng = Random(params()["seed"])
    config = preset(params()["preset"])
    n0 = 3 * config.max_burst * config.axi_bytes // config.spad_row_bytes
    run = {"dst": 0, "dram": 0x20000, "n0": n0, "n1": 1, "n2": 1, "signal": 0}
    program: list[Instruction] = [("ld.run", {**run, "dst": k * n0 % 1024}) for k in range(4)]
    bus, ports, completions = await check(dut, rng, program, Stalls(latency=4))
    cycles = bus.beat_cycles
    per_run = len(cycles) // 4
    assert cycles[per_run - 1] - cycles[0] + 1 == per_run, "bubbles within a transfer"
    bubbles = cycles[-1] - cycles[0] + 1 - len(cycles)
    assert bubbles <= 3 * 4, f"{bubbles} bubbles between 4 transfers"
    dut._log.info(
        "first command in cycle %d, first beat %d, first row %d, last row %d, last done %d, %d bubbles",
        bus.command_cycles[0], cycles[0], ports[0].cycles[0], ports[0].cycles[-1], completions.done[-1][0], bubbles,
    )  # fmt: skip


@cocotb.test()
async def test_short_transfers_hide_the_latency(dut: SimHandleBase) -> None:
    """Transfers of one burst each keep `max_outstanding` of them in flight."""
    config = preset(params()["preset"])
    run = {"n0": 1, "n1": 1, "n2": 1, "signal": 0}
    program: list[Instruction] = [("ld.run", {**run, "dst": k, "dram": 0x20000 + 64 * k}) for k in range(24)]
    latency = 40
    bus, _, _ = await check(dut, Random(params()["seed"]), program, Stalls(latency=latency))
    assert bus.peak == config.max_outstanding
    rounds = len(program) / config.max_outstanding
    cycles = bus.command_cycles[-1] - bus.command_cycles[0]
    assert cycles < rounds * (latency + 10), f"{cycles} cycles for {len(program)} bursts at latency {latency}"
