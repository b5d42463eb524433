"""Bench of the store engine: beats, bursts, completions and faults against the golden walk."""

from __future__ import annotations

from random import Random

import cocotb
from cocotb.handle import SimHandleBase

from tidemill.config import Config, preset
from tidemill.csr import Cause
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
    random_program,
    sample_program,
    simulate,
    transfers,
)
from tidemill_verif.coverage.collect import wanted
from tidemill_verif.coverage.sampling import dma as coverage

EVERYWHERE = (0, 0xFFFF_FFFF)
Beat = tuple[int, bytes]


class WriteBus:
    """Takes bursts and their beats and answers; `errors` maps burst numbers to responses."""

    def __init__(self, dut: SimHandleBase, config: Config, rng: Random, stalls: Stalls, errors: dict[int, int]) -> None:
        self.dut, self.config, self.rng, self.stalls, self.errors = dut, config, rng, stalls, errors
        self.commands = Readiness(dut, "bus__cmd", rng, stalls.command)
        self.beats = Readiness(dut, "bus__beat", rng, stalls.beat)
        self.bursts: list[Burst] = []
        self.log: list[Beat] = []
        self.beat_cycles: list[int] = []
        self.command_cycles: list[int] = []
        self.answer_cycles: list[int] = []
        self.filled = self.answered = self.answered_beats = 0
        self.taking = self.accepting = self.offered = False
        self.held: int | None = None
        self.at_fault: int | None = None
        """Beats taken when the fault rose: from then on the gateway may leave the rest unwritten."""

    @property
    def transfers(self) -> int:
        return len(self.log) + len(self.bursts) + self.answered

    def sample(self, cycle: int) -> None:
        if self.at_fault is None and value(self.dut, "fault__valid"):
            self.at_fault = len(self.log)
        if self.offered and value(self.dut, "bus__resp__ready"):
            self.offered = False
            self.answered_beats += self.bursts[self.answered].beats
            self.answered += 1
            self.answer_cycles.append(cycle)
        valid = value(self.dut, "bus__beat__valid")
        payload = value(self.dut, "bus__beat__payload") if valid else None
        assert self.held is None or self.held == payload, "beat withdrawn or changed"
        self.held = None if self.accepting else payload
        if self.accepting and payload is not None:
            assert self.filled < len(self.bursts), "beat before its command"
            burst = self.bursts[self.filled]
            addr = burst.addr + len(burst.data) * self.config.axi_bytes
            self.log.append((addr, payload.to_bytes(self.config.axi_bytes, "little")))
            burst.data.append(payload)
            self.beat_cycles.append(cycle)
            if len(burst.data) == burst.beats:
                burst.cycle = cycle
                self.filled += 1
        if self.taking and value(self.dut, "bus__cmd__valid"):
            self.command_cycles.append(cycle)
            self.bursts.append(check_burst(self.config, value(self.dut, "bus__cmd__payload"), cycle))
            coverage.burst("store", self.config, self.bursts[-1].beats, len(self.bursts) - self.answered)
            assert len(self.bursts) - self.answered <= self.config.max_outstanding, "too many bursts in flight"

    def drive(self, cycle: int) -> None:
        self.taking = self.commands.next()
        self.accepting = self.beats.next()
        waiting = self.answered < self.filled and cycle >= self.bursts[self.answered].cycle + self.stalls.latency
        if not self.offered and waiting:
            self.offered = self.rng.random() >= self.stalls.response
        put(self.dut, "bus__resp__valid", self.offered)
        response = self.errors.get(self.answered, 0) if self.offered else self.rng.getrandbits(2)
        put(self.dut, "bus__resp__payload", response)


class ReadPortModel:
    """Answers row reads, in order, three cycles later or more."""

    def __init__(self, dut: SimHandleBase, name: str, rows: list[bytes], rng: Random, stall: float) -> None:
        self.dut, self.name, self.rows, self.rng, self.stall = dut, name, rows, rng, stall
        self.requests = Readiness(dut, f"{name}__req", rng, stall)
        self.pending: list[tuple[int, int]] = []
        self.ready = False
        self.transfers = 0

    def sample(self, cycle: int) -> None:
        if self.ready and value(self.dut, f"{self.name}__req__valid"):
            row = value(self.dut, f"{self.name}__req__payload")
            self.pending.append((row, cycle + 3))
            self.transfers += 1

    def drive(self, cycle: int) -> None:
        self.ready = self.requests.next()
        put(self.dut, f"{self.name}__stall", self.rng.random() < 0.3)
        answer = bool(self.pending) and cycle >= self.pending[0][1] and self.rng.random() >= self.stall
        put(self.dut, f"{self.name}__rsp_valid", answer)
        data = self.rows[self.pending.pop(0)[0]] if answer else self.rng.randbytes(len(self.rows[0]))
        put(self.dut, f"{self.name}__rsp_data", int.from_bytes(data, "little"))


def expected_beats(
    config: Config, program: list[Instruction], spad: list[bytes], acc: list[bytes], window: tuple[int, int]
) -> tuple[list[Beat], list[int], tuple[int, int, int] | None]:
    """All beats in order, how many there are by the end of each instruction, and the fault that ends them."""
    beats: list[Beat] = []
    counts: list[int] = []
    by_index = {transfer.index: transfer for transfer in transfers(config, program, "src")}
    for index in range(len(program)):
        if index in by_index:
            transfer = by_index[index]
            memory = acc if transfer.acc else spad
            row_bytes = len(memory[0])
            nbytes = transfer.values["n0"] * row_bytes
            for line, local, dram in zip(transfer.rows.lines, transfer.rows.local, transfer.rows.dram, strict=True):
                first = int(line)
                if first % config.axi_bytes:
                    return beats, counts, (Cause.MISALIGNED, pc_of(index), first)
                if first < window[0] or first + nbytes - 1 > window[1]:
                    return beats, counts, (Cause.WINDOW, pc_of(index), first)
                for row, target in zip(local.tolist(), dram.tolist(), strict=True):
                    if not 0 <= row < len(memory):
                        return beats, counts, (Cause.LOCAL_RANGE, pc_of(index), row & 0xFFFF_FFFF)
                    for at in range(0, row_bytes, config.axi_bytes):
                        beats.append((target + at, memory[row][at : at + config.axi_bytes]))
        counts.append(len(beats))
    return beats, counts, None


async def check(
    dut: SimHandleBase,
    rng: Random,
    program: list[Instruction],
    stalls: Stalls,
    window: tuple[int, int] = EVERYWHERE,
    error: tuple[int, int] | None = None,
    most: int | None = None,
) -> tuple[WriteBus, Completions]:
    """Runs `program` and compares everything. `error`: (burst number, response) of the only bad response; with `most`
    it leaves off after so many cycles and compares no more."""
    config = preset(params()["preset"])
    spad = [rng.randbytes(config.spad_row_bytes) for _ in range(config.spad_rows)]
    acc = [rng.randbytes(config.acc_row_bytes) for _ in range(config.acc_rows)]
    beats, counts, fault = expected_beats(config, program, spad, acc, window)
    bus = WriteBus(dut, config, rng, stalls, dict([error] if error else []))
    ports = [
        ReadPortModel(dut, "spad_r", spad, rng, stalls.port),
        ReadPortModel(dut, "acc_r", acc, rng, stalls.port),
    ]
    source = InstructionSource(dut, program, rng, stalls.instr)
    completions = Completions(dut, lambda: bus.answered_beats, lambda: source.sent)
    events = Events(
        dut,
        write_beat=lambda: moves(dut, "bus__beat"),
        bus_write_wait=lambda: bool(value(dut, "bus__beat__valid") and not value(dut, "bus__beat__ready")),
        progress=lambda: (
            moves(dut, "bus__beat", "bus__resp")
            or any(value(dut, f"{name}__rsp_valid") for name in ("spad_r", "acc_r"))
        ),
    )
    coverage.watch_engine(dut, "store")
    await simulate(dut, window, [source, bus, *ports, completions, events], completions, len(program), most)
    for number, (got, want) in enumerate(zip(bus.log, beats, strict=False)):
        assert got == want, f"beat {number}: got {got}, expected {want}"
    if most is not None:
        return bus, completions
    if error is not None:
        burst = bus.bursts[error[0]]
        before = sum(burst.beats for burst in bus.bursts[: error[0]])
        index = next(k for k, count in enumerate(counts) if count > before)
        cause = Cause.BUS_DECERR if error[1] == 3 else Cause.BUS_SLVERR
        assert completions.fault == (cause, pc_of(index), burst.addr)
        assert len(completions.done) <= index
    else:
        assert completions.fault == fault, f"fault {completions.fault}, expected {fault}"
        assert len(bus.log) == len(beats), f"{len(bus.log)} beats, expected {len(beats)}"
        assert fault is None or bus.at_fault == len(beats), f"{bus.at_fault} of {len(beats)} beats before the fault"
    if wanted():
        sample_program(config, program, "store", window, completions.fault, [burst.addr for burst in bus.bursts])
    signals = [values["signal"] for _, values in program]
    assert [signal for _, signal, _ in completions.done] == signals[: len(completions.done)]
    for number, (_, _, answered) in enumerate(completions.done):
        assert answered >= counts[number], f"done {number} came before its responses"
    assert len(bus.log) - events.count["write_beat"] in ((0,) if error is None else (0, 1))
    if fault is None and error is None:
        assert len(completions.done) == len(program)
        assert bus.filled == len(bus.bursts) == bus.answered
    return bus, completions


@cocotb.test()
async def test_random_programs(dut: SimHandleBase) -> None:
    """Beats, bursts and completions of a long random program under random stalls."""
    rng = Random(params()["seed"])
    await check(dut, rng, random_program(preset(params()["preset"]), rng, "st", 60, upper=UPPER), Stalls.random(rng))


@cocotb.test()
async def test_operands_at_their_limits(dut: SimHandleBase) -> None:
    """The largest counts, the extreme strides, the first and the last rows."""
    rng = Random(params()["seed"] + 3)
    await check(dut, rng, limits_program(preset(params()["preset"]), "st"), Stalls(latency=4))


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
    run = {"src": 4, "n0": n0, "n1": 1, "n2": 1, "signal": 2}
    inside = [("st.run", {**run, "dram": base}), ("st.run", {**run, "dram": limit + 1 - nbytes})]
    for outside in (base - beat, limit + 1 - nbytes + beat):
        program = [*inside, ("st.run", {**run, "dram": outside})]
        await check(dut, rng, program, Stalls.random(rng), window=(base, limit))


@cocotb.test()
async def test_random_programs_without_stalls(dut: SimHandleBase) -> None:
    """The same at full speed."""
    rng = Random(params()["seed"] + 1)
    await check(dut, rng, random_program(preset(params()["preset"]), rng, "st", 60, upper=UPPER), Stalls(latency=1))


@cocotb.test()
@cocotb.parametrize(extra=range(10, 18))
async def test_local_range(dut: SimHandleBase, extra: int) -> None:
    """A row outside the memory stops the engine there: all rows before are sent, none after."""
    rng = Random(params()["seed"] + extra)
    program = random_program(preset(params()["preset"]), rng, "st", 12, bad_rows=0.3)
    program.append(("st.run", {"src": 0x7FFF, "dram": 0x30000, "n0": 3, "n1": 1, "n2": 1, "signal": 0}))
    await check(dut, rng, program, Stalls.random(rng))


@cocotb.test()
@cocotb.parametrize(extra=range(30, 38))
async def test_window(dut: SimHandleBase, extra: int) -> None:
    """A line outside the window is never written and reported in program order."""
    rng = Random(params()["seed"] + extra)
    program = random_program(preset(params()["preset"]), rng, "st", 12, bad_rows=0.05)
    base = rng.randint(0, 0x10_0000) // 16 * 16
    limit = rng.choice((0x3F_0000, base + 0x28_0000)) | 15
    program.append(("st.run", {"src": 0, "dram": 0xFFFF_FFF0, "n0": 30, "n1": 1, "n2": 1, "signal": 0}))
    await check(dut, rng, program, Stalls.random(rng), window=(base, limit))


@cocotb.test()
@cocotb.parametrize(extra=range(50, 56))
async def test_misaligned(dut: SimHandleBase, extra: int) -> None:
    """A line that does not start at a beat is reported, with everything before it written."""
    rng = Random(params()["seed"] + extra)
    config = preset(params()["preset"])
    program = random_program(config, rng, "st", 6)
    offset = rng.randint(1, config.axi_bytes - 1)
    if rng.random() < 0.5:
        program.append(("st.stride", {"s1": 0x400 + offset, "s2": 0, "signal": 0}))
        offset = 0
    values = {"src": 0, "dram": 0x30000 + offset, "n0": 3, "n1": 3, "n2": 1, "signal": 0}
    program += [("st.src", {"d1": 0, "d2": 0, "signal": 0}), ("st.run", values)]
    if offset == 0 and program[-3][0] != "st.stride":
        raise AssertionError("the program has no misaligned line")
    await check(dut, rng, program, Stalls.random(rng))


@cocotb.test()
@cocotb.parametrize(extra=range(70, 78))
async def test_bus_error(dut: SimHandleBase, extra: int) -> None:
    """An error response stops the engine; the instruction of that burst never completes."""
    rng = Random(params()["seed"] + extra)
    config = preset(params()["preset"])
    run = {"src": 0, "dram": rng.randrange(0, 0xF000_0000, config.axi_bytes), "n0": 40, "n1": 2, "n2": 1, "signal": 0}
    program = [*random_program(config, rng, "st", 12, upper=UPPER), ("st.run", run)]
    await check(dut, rng, program, Stalls.random(rng), error=(rng.randint(0, 2), rng.choice((2, 3))))


@cocotb.test()
@cocotb.parametrize(dram=(0xFFFF_FFFC, 0xFFFF_FFFF))
async def test_wrap_of_the_address_space(dut: SimHandleBase, dram: int) -> None:
    """A line over the end of the address space is outside any window."""
    run = {"src": 0, "dram": dram, "n0": 2, "n1": 1, "n2": 1, "signal": 0}
    await check(dut, Random(params()["seed"]), [("st.run", run)], Stalls())


@cocotb.test()
@cocotb.parametrize(acc=(0, 1 << 15), loop=(1, 2))
async def test_rows_beyond_both_ends(dut: SimHandleBase, acc: int, loop: int) -> None:
    """The second line or plane leaves the memory, by a row or by far; 0x7FFF is beyond any memory."""
    config = preset(params()["preset"])
    last = (config.acc_rows if acc else config.spad_rows) - 1
    run = {"dram": 0x20000, "n0": 1, "n1": 1, "n2": 1, "signal": 0, f"n{loop}": 2}
    for step in (-1, 1, -0x8000, 0x7FFF):
        first = acc + (0 if step < 0 else last)
        program = [("st.src", {"d1": 0, "d2": 0, "signal": 0, f"d{loop}": step}), ("st.run", {**run, "src": first})]
        await check(dut, Random(params()["seed"]), program, Stalls(latency=1))
    beyond = ("st.run", {**run, "src": acc + 0x7FFF})
    await check(
        dut, Random(params()["seed"]), [beyond, *[("st.sync", {"signal": 1})] * 30], Stalls(instr=0.8, latency=1)
    )


@cocotb.test()
@cocotb.parametrize(response=(2, 3), burst=(0, 1, 2))
async def test_bus_error_in_a_burst(dut: SimHandleBase, response: int, burst: int) -> None:
    """An error of the first burst of a line, of one in the middle and of the last."""
    config = preset(params()["preset"])
    size = config.max_burst * config.axi_bytes
    run = {"src": 0, "dram": 0x20000, "n0": 3 * size // config.spad_row_bytes, "n1": 1, "n2": 1, "signal": 0}
    rng = Random(params()["seed"] + burst)
    await check(dut, rng, [("st.run", run)], Stalls.random(rng), error=(burst, response))


@cocotb.test()
async def test_reset_in_flight(dut: SimHandleBase) -> None:
    """After a reset in the middle of a program another one runs as if it were the first."""
    rng = Random(params()["seed"] + 6)
    config = preset(params()["preset"])
    for _ in range(6):
        most = rng.randint(20, 300)
        await check(dut, rng, random_program(config, rng, "st", 12, upper=UPPER), Stalls.random(rng), most=most)
        await check(dut, rng, random_program(config, rng, "st", 2, upper=UPPER), Stalls(latency=1))


@cocotb.test()
@cocotb.parametrize(acc=(0, 1))
async def test_latency(dut: SimHandleBase, acc: int) -> None:
    """The cycles of a transfer of one row without stalls; its instruction is taken in cycle 1."""
    run = {"src": acc << 15, "dram": 0x20000, "n0": 1, "n1": 1, "n2": 1, "signal": 1}
    bus, completions = await check(dut, Random(params()["seed"]), [("st.run", run)], Stalls(latency=4))
    command, beat, done = bus.command_cycles[0], bus.beat_cycles[0], completions.done[0][0]
    cycles = command, beat, done - bus.answer_cycles[0]
    assert cycles == (1 + 7, 1 + 12, 3), cycles


@cocotb.test()
@cocotb.parametrize(acc=(0, 1))
async def test_throughput(dut: SimHandleBase, acc: int) -> None:
    """One beat a cycle within a transfer; few bubbles between transfers."""
    rng = Random(params()["seed"])
    config = preset(params()["preset"])
    row_bytes = config.acc_row_bytes if acc else config.spad_row_bytes
    n0 = 3 * config.max_burst * config.axi_bytes // row_bytes
    run = {"src": acc << 15, "dram": 0x20000, "n0": n0, "n1": 1, "n2": 1, "signal": 0}
    bus, completions = await check(dut, rng, [("st.run", run)] * 4, Stalls(latency=4))
    cycles = bus.beat_cycles
    per_run = len(cycles) // 4
    assert cycles[per_run - 1] - cycles[0] + 1 == per_run, "bubbles within a transfer"
    bubbles = cycles[-1] - cycles[0] + 1 - len(cycles)
    assert bubbles <= 3 * 4, f"{bubbles} bubbles between 4 transfers"
    dut._log.info(
        "first beat in cycle %d, last beat %d, last done %d, %d bubbles",
        cycles[0], cycles[-1], completions.done[-1][0], bubbles,
    )  # fmt: skip
