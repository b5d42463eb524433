"""MatrixEngine against the golden model, with memories modelled here that stall at random."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from tidemill.config import Config, preset
from tidemill.csr import Cause
from tidemill.isa import ACC_SPACE, BY_MNEMONIC, WAIT, encode
from tidemill_hdl.matrix.array import SystolicArray
from tidemill_hdl.matrix.engine import MatrixEngine
from tidemill_hdl.memory.accumulators import Accumulators
from tidemill_verif.agents import clock
from tidemill_verif.agents.streams import Stalls, StreamSource
from tidemill_verif.benches import params
from tidemill_verif.coverage.sampling import matrix as coverage
from tidemill_verif.matrix_reference import MatrixReference, random_program, row_bits

LIMIT = 200_000
SILENT = ("acc__valid", "row", "done__valid", "done_weights__valid", "progress")
"""Outputs that stay low after a reset and after a fault."""
WLOAD = BY_MNEMONIC["mx.wload"].opcode


def pc_of(index: int) -> int:
    """The pc that instruction `index` of a program gets: any 24 bits, each once."""
    return (index * 0x5B_D1E9 + 5) & 0xFF_FFFF


class ReadModel:
    """A scratchpad read port: random ready, responses in order after 3 or more cycles.

    `patience`: cycles that a request waits at most, and the response again.
    """

    def __init__(self, dut: Any, prefix: str, spad: np.ndarray, seed: int, stall: float, patience: int) -> None:
        self.dut, self.spad = dut, spad
        self.port = {name: getattr(dut, f"{prefix}__{name}") for name in ("req__valid", "req__ready", "req__payload")}
        self.rsp_valid, self.rsp_data = getattr(dut, f"{prefix}__rsp_valid"), getattr(dut, f"{prefix}__rsp_data")
        self.stalls = Stalls(f"{seed}/{prefix}", stall)
        self.rng = random.Random(f"{seed}/{prefix}/latency")
        self.stall = stall
        self.patience = patience
        self.responses = 0
        self.rsp_valid.value = 0
        self.port["req__ready"].value = 0
        cocotb.start_soon(self._run())

    async def _run(self) -> None:
        waiting: deque[tuple[int, int]] = deque()
        cycle, ready, refused = 0, False, 0
        while True:
            await RisingEdge(self.dut.clk)
            cycle += 1
            if self.dut.rst.value:
                waiting.clear()
            elif ready and self.port["req__valid"].value:
                extra = min(self.rng.choice((0, 0, 0, 1, 5, 20)), self.patience) if self.stall else 0
                waiting.append((cycle + 2 + extra, int(self.port["req__payload"].value)))
            answer = bool(waiting) and waiting[0][0] <= cycle
            self.rsp_valid.value = int(answer)
            if answer:
                self.rsp_data.value = row_bits(self.spad[waiting.popleft()[1]])
                self.responses += 1
            ready = not self.stalls() or refused == self.patience
            refused = 0 if ready else refused + 1
            self.port["req__ready"].value = int(ready)


class Monitor:
    """Records result rows and done pulses; checks the events, the distance of accumulates, and that a fault holds and
    is the last that is heard of the engine."""

    def __init__(self, dut: Any, weights: ReadModel, config: Config) -> None:
        self.dut, self.weights, self.psum_bits, self.cols = dut, weights, config.psum_bits, config.cols
        self.in_array = SystolicArray(config.rows, config.cols, config.psum_bits).latency
        """Cycles from the event of a row to its result."""
        self.cycle = 0
        self.clear()
        cocotb.start_soon(self._run())

    def clear(self) -> None:
        """Forget everything; for resets."""
        self.writes: list[tuple[int, int, bool, list[int]]] = []
        self.dones: list[tuple[int, int]] = []
        self.weight_dones: list[int] = []
        self.touched: dict[int, int] = {}
        self.last_response: dict[int, int] = {}
        self.rows = 0
        self.progress = 0
        self.weights.responses = 0
        self._flying = deque([False] * self.in_array)
        self._moved = self.cycle
        self._fault: tuple[int, ...] | None = None

    def _lanes(self, bits: int) -> list[int]:
        width = self.psum_bits
        values = [(bits >> (width * lane)) & ((1 << width) - 1) for lane in range(self.cols)]
        return [value - (1 << width) if value >> (width - 1) else value for value in values]

    def _events(self) -> None:
        dut = self.dut
        row, progress = bool(dut.row.value), bool(dut.progress.value)
        assert progress or not row, "a row without progress"
        assert self._flying.popleft() == bool(dut.acc__valid.value), "a result without its row, or a row without result"
        self._flying.append(row)
        self.rows += row
        self.progress += progress
        if progress:
            self._moved = self.cycle

    def _silence(self) -> None:
        dut = self.dut
        if self._fault is None and not dut.fault__valid.value:
            return
        fault = tuple(int(getattr(dut, f"fault__{name}").value) for name in ("valid", "cause", "pc", "info"))
        assert self._fault in (None, fault), f"fault changed from {self._fault} to {fault}"
        if self._fault is None:
            settled = self.in_array + Accumulators.commit_latency + MatrixEngine.SETTLE_CYCLES
            assert self.cycle - self._moved >= settled, f"fault {self.cycle - self._moved} cycles after the last move"
        self._fault = fault
        for name in SILENT:
            assert not getattr(dut, name).value, f"{name} after the fault"

    async def _run(self) -> None:
        dut = self.dut
        fresh = False
        while True:
            await RisingEdge(dut.clk)
            self.cycle += 1
            if dut.rst.value:
                self.clear()
                fresh = True
                continue
            if fresh:
                for name in ("fault__valid", "act__req__valid", "wgt__req__valid", *SILENT):
                    assert not getattr(dut, name).value, f"{name} after a reset"
                fresh = False
            self._events()
            self._silence()
            if dut.acc__valid.value:
                row, add = int(dut.acc__addr.value), bool(dut.acc__accumulate.value)
                if add and row in self.touched:
                    assert self.cycle - self.touched[row] >= Accumulators.hazard_distance, f"row {row} too early"
                self.touched[row] = self.cycle
                self.writes.append((self.cycle, row, add, self._lanes(int(dut.acc__data.value))))
            if dut.done_weights__valid.value:
                self.weight_dones.append(int(dut.done_weights__signal.value))
                needed = len(self.weight_dones) * self.cols
                assert self.weights.responses >= needed, "mx.wload done before its rows were read"
            if dut.done__valid.value:
                self.dones.append((self.cycle, int(dut.done__signal.value)))
                tiles = self.weights.responses // self.cols
                self.last_response[len(self.dones) - 1] = tiles


async def _setup(
    dut: Any, seed: int, stall: float, patience: int = 100
) -> tuple[Any, np.ndarray, StreamSource, Monitor]:
    config = preset(params()["preset"])
    rng = np.random.default_rng(seed)
    spad = rng.integers(-128, 128, (config.spad_rows, config.rows), dtype=np.int8)
    spad[rng.integers(0, config.spad_rows, 64)] = -128
    source = StreamSource(dut, "instr", seed=seed, stall=stall)
    ReadModel(dut, "act", spad, seed, stall, patience)
    weights = ReadModel(dut, "wgt", spad, seed, stall, patience)
    monitor = Monitor(dut, weights, config)
    await clock.start(dut)
    coverage.watch(dut, ports=True)
    return config, spad, source, monitor


async def _check_program(dut: Any, seed: int, stall: float, length: int) -> None:
    config, spad, source, monitor = await _setup(dut, seed, stall)
    await _check(dut, config, spad, source, monitor, random_program(random.Random(seed), config, length))


async def _wait(dut: Any, monitor: Monitor, dones: int) -> None:
    for _ in range(LIMIT):
        await RisingEdge(dut.clk)
        if len(monitor.dones) >= dones:
            break


def _check_progress(config: Config, monitor: Monitor, reference: MatrixReference) -> None:
    """A cycle has progress where a row, an instruction without rows or a row of weights moves."""
    at, steps = 0, len(reference.writes)
    for _, writes, _ in reference.dones:
        steps += writes == at
        at = writes
    weights = config.rows * len(reference.weight_dones)
    # The last tile stays in the loader's queue where the one before was never swapped in.
    assert max(steps, weights - config.rows) <= monitor.progress <= steps + weights


async def _check(
    dut: Any, config: Config, spad: np.ndarray, source: StreamSource, monitor: Monitor, program: list[int]
) -> None:
    reference = MatrixReference(config, spad, np.zeros((config.acc_rows, config.cols), np.int32))
    sampler = coverage.Engine()
    for pc, word in enumerate(program):
        reference.execute(word)
        sampler.instruction(word)
        # The engine does not look at `wait`.
        source.put(word | (pc_of(pc) & 0xFFFF) << WAIT.lo | pc_of(pc) << 128)
    for write in reference.writes:
        sampler.write(write.row, write.accumulate)
    await _wait(dut, monitor, len(reference.dones))
    assert not dut.fault__valid.value
    assert [signal for _, signal in monitor.dones] == [signal for signal, _, _ in reference.dones]
    assert monitor.weight_dones == reference.weight_dones
    for _ in range(100):
        await RisingEdge(dut.clk)
    assert monitor.rows == len(reference.writes)
    _check_progress(config, monitor, reference)
    got = [(row, add, lanes) for _, row, add, lanes in monitor.writes]
    assert got == [(write.row, write.accumulate, write.sums.tolist()) for write in reference.writes]
    for index, ((cycle, _), (_, writes, tiles)) in enumerate(zip(monitor.dones, reference.dones, strict=True)):
        assert monitor.last_response[index] >= tiles, f"done {index} before the weights were read"
        if writes:
            committed = monitor.writes[writes - 1][0] + Accumulators.commit_latency
            assert cycle >= committed, f"done {index} in cycle {cycle}, its rows commit in {committed}"


@cocotb.test()
async def test_random_programs_match_the_golden_model_with_stalls(dut: Any) -> None:
    await _check_program(dut, params()["seed"], 0.4, params()["length"])


@cocotb.test()
async def test_random_programs_match_the_golden_model_at_full_speed(dut: Any) -> None:
    await _check_program(dut, params()["seed"] + 1000, 0.0, params()["length"])


async def _check_fault(
    dut: Any,
    config: Config,
    source: StreamSource,
    monitor: Monitor,
    name: str,
    words: list[int],
    pc: int,
    cause: Cause,
    info: int,
    rows: int,
) -> None:
    """After a reset `words` stop at the one with index `pc` for `cause`, with `rows` result rows before."""
    source.clear()
    await clock.reset(dut)
    after = encode("mx.run", act=0, acc=ACC_SPACE, swap=0)
    for offset, word in enumerate([*words, after, after]):
        source.put(word | pc_of(offset) << 128)
    for _ in range(1000):
        await RisingEdge(dut.clk)
        if dut.fault__valid.value:
            break
    for _ in range(40):
        await RisingEdge(dut.clk)
    assert dut.fault__valid.value, f"{name}: no fault"
    sampler = coverage.Engine()
    for word in words[: pc + 1]:
        sampler.instruction(word)
    sampler.fault(words[pc], cause, config)
    got = (int(dut.fault__cause.value), int(dut.fault__pc.value), int(dut.fault__info.value))
    assert got == (cause, pc_of(pc), info & 0xFFFFFFFF), f"{name}: {got}"
    # Weights are fetched ahead: runs behind a faulty mx.wload may already be under way.
    late = 2 if words[pc] & 0xFF == WLOAD and cause == Cause.LOCAL_RANGE else 0
    assert rows <= len(monitor.writes) <= rows + late, f"{name}: {len(monitor.writes)} rows"
    dones = sum(word & 0xFF != WLOAD for word in words[:pc])
    assert dones <= len(monitor.dones) <= dones + late, f"{name}: {len(monitor.dones)} done pulses"


@cocotb.test()
async def test_faults_report_cause_instruction_and_row(dut: Any) -> None:
    # The engine counts on a memory that keeps no request waiting for long.
    config, _, source, monitor = await _setup(dut, params()["seed"], 0.3, patience=5)
    last, acc = config.spad_rows - 1, ACC_SPACE
    wload, run = encode("mx.wload", src=0), encode("mx.run", act=0, acc=acc, swap=0)
    up = encode("mx.act", n0=3, n1=2, s0=1, s1=-1)
    local, illegal = Cause.LOCAL_RANGE, Cause.ILLEGAL_OPERAND
    swap = encode("mx.run", act=0, acc=acc, swap=1)
    cases = [
        ([up, encode("mx.run", act=last - 1, acc=acc, swap=0)], 1, local, last + 1, 2),
        ([up, encode("mx.run", act=0, acc=acc, swap=0)], 1, local, -1, 3),
        ([run, encode("mx.run", act=5, acc=7, swap=0)], 1, local, 7, 1),
        ([encode("mx.run", act=acc + 5, acc=acc, swap=0)], 0, local, 5, 0),
        ([up, encode("mx.acc", t0=1), encode("mx.run", act=9, acc=acc + config.acc_rows - 1, swap=0)], 2, local,
         config.acc_rows, 1),
        ([up, encode("mx.acc", t0=-32768), encode("mx.run", act=9, acc=acc, swap=0)], 2, local, -32768, 1),
        ([encode("mx.run", act=32767, acc=acc, swap=0)], 0, local, 32767, 0),
        ([encode("mx.run", act=0xFFFF, acc=acc, swap=0)], 0, local, 32767, 0),
        ([encode("mx.run", act=0, acc=0, swap=0)], 0, local, 0, 0),
        ([encode("mx.run", act=0, acc=0xFFFF, swap=0)], 0, local, 32767, 0),
        ([encode("mx.wload", src=0xFFFF)], 0, local, 32767, 0),
        ([encode("mx.wload", src=9, stride=-32768)], 0, local, 9 - 32768, 0),
        ([encode("mx.wload", src=9, stride=32767)], 0, local, 9 + 32767, 0),
        ([run, encode("mx.wload", src=last)], 1, local, last + 1, 1),
        ([encode("mx.wload", src=1, stride=-2)], 0, local, -1, 0),
        ([encode("mx.wload", src=acc + 3)], 0, local, 3, 0),
        ([run, swap], 1, illegal, swap & 0xFFFFFFFF, 1),
        ([wload, run, wload], 2, illegal, wload & 0xFFFFFFFF, 1),
        ([wload, swap, run, swap], 3, illegal, swap & 0xFFFFFFFF, 2),
        # Three that come at once, where the stream does not pause: the last waits for the rows of both.
        *4 * [([run, run, swap], 2, illegal, swap & 0xFFFFFFFF, 2)],
    ]  # fmt: skip
    for number, case in enumerate(cases):
        await _check_fault(dut, config, source, monitor, f"case {number}", *case)
    source.clear()
    await clock.reset(dut)
    assert not dut.fault__valid.value


@cocotb.test()
async def test_every_loop_may_leave_either_memory(dut: Any) -> None:
    """Each loop of each operand goes below the first row and beyond the last, by one and by far; the row is told."""
    config, _, source, monitor = await _setup(dut, params()["seed"], 0.0)
    rng = random.Random(params()["seed"])
    for level in range(3):
        for stride in (-1, 1, -32768, 32767, rng.randint(-32768, -2), rng.randint(config.spad_rows, 32767)):
            for name, last in (("s", config.spad_rows - 1), ("t", config.acc_rows - 1)):
                base = 0 if stride < 0 else last
                act = {f"{name}{level}": stride} if name == "s" else {}
                acc = {f"{name}{level}": stride} if name == "t" else {}
                words = [
                    encode("mx.act", **{f"n{level}": 2}, **act),
                    encode("mx.acc", **acc),
                    encode("mx.run", act=base if act else 7, acc=ACC_SPACE + (base if acc else 7), swap=0),
                ]
                where = f"{name}{level} = {stride}"
                await _check_fault(dut, config, source, monitor, where, words, 2, Cause.LOCAL_RANGE, base + stride, 1)

    for stride in (rng.randint(-32768, -2), rng.randint(-32768, -2), rng.randint(config.spad_rows, 32767), 0x5555):
        for base in (3, rng.randrange(config.spad_rows)):
            words = [encode("mx.wload", src=base, stride=stride)]
            where = f"mx.wload {base} by {stride}"
            await _check_fault(dut, config, source, monitor, where, words, 0, Cause.LOCAL_RANGE, base + stride, 0)


@cocotb.test()
async def test_weights_are_zero_after_reset(dut: Any) -> None:
    _, _, source, monitor = await _setup(dut, params()["seed"], 0.0)
    for word in (encode("mx.wload", src=0), encode("mx.run", act=3, acc=ACC_SPACE)):
        source.put(word)
    for _ in range(400):
        await RisingEdge(dut.clk)
    assert any(monitor.writes[-1][3])
    source.clear()
    await clock.reset(dut)
    source.put(encode("mx.run", act=3, acc=ACC_SPACE, swap=0))
    for _ in range(400):
        await RisingEdge(dut.clk)
    assert len(monitor.writes) == 1
    assert not any(monitor.writes[-1][3])


@cocotb.test()
async def test_a_reset_forgets_what_is_under_way(dut: Any) -> None:
    seed = params()["seed"]
    config, spad, source, monitor = await _setup(dut, seed + 2000, 0.2)
    rng = random.Random(seed)
    for _ in range(20):
        for pc, word in enumerate(random_program(rng, config, 40)):
            source.put(word | pc_of(pc) << 128)
        for _ in range(rng.randint(1, 200)):
            await RisingEdge(dut.clk)
        source.clear()
        await clock.reset(dut, rng.choice((1, 1, 3)))
        await _check(dut, config, spad, source, monitor, random_program(rng, config, 8))
        await clock.reset(dut)


@cocotb.test()
async def test_rows_move_every_cycle_and_accumulates_at_their_distance(dut: Any) -> None:
    config, spad, source, monitor = await _setup(dut, params()["seed"], 0.0)
    rows = 40
    # (accumulate, the accumulator row repeats every so many rows)
    for accumulate, period in (
        (0, 1),
        (1, rows),
        *((1, period) for period in range(1, Accumulators.hazard_distance + 2)),
    ):
        program = [
            encode("mx.act", n0=period, n1=rows // period, s0=1, s1=2, signal=1),
            encode("mx.acc", t0=1, signal=2),
            encode("mx.run", act=9, acc=ACC_SPACE + 3, accumulate=accumulate, swap=0, signal=3),
            encode("mx.sync", signal=4),
            encode("mx.run", act=2, acc=ACC_SPACE + 200, accumulate=accumulate, swap=0, signal=5),
        ]
        await _check(dut, config, spad, source, monitor, program)
        cycles = [cycle for cycle, *_ in monitor.writes]
        count = period * (rows // period)
        for index in range(1, count):
            earliest = cycles[index - 1] + 1
            if accumulate and index >= period:
                earliest = max(earliest, cycles[index - period] + Accumulators.hazard_distance)
            assert cycles[index] == earliest, f"row {index} of period {period}: {cycles[index] - earliest} late"
        # The mx.sync and the start of the next run take a cycle each.
        assert cycles[count] - cycles[count - 1] <= 3
        done = [cycle for cycle, _ in monitor.dones]
        assert done[2] == cycles[count - 1] + Accumulators.commit_latency
        await clock.reset(dut)


@cocotb.test()
async def test_a_tile_costs_as_many_cycles_as_rows_move(dut: Any) -> None:
    config, spad, source, monitor = await _setup(dut, params()["seed"], 0.0)
    for rows in (1, config.rows - 1, config.rows, 3 * config.rows):
        tile = [encode("mx.wload", src=rows), encode("mx.run", act=0, acc=ACC_SPACE)]
        program = [encode("mx.act", n0=rows, s0=1), encode("mx.acc", t0=1), *12 * tile]
        await _check(dut, config, spad, source, monitor, program)
        done = [cycle for cycle, _ in monitor.dones]
        # Rows that were fetched while the first tile was loaded hide the cycle between runs for some time.
        assert 8 * max(rows, config.rows + 1) <= done[-1] - done[5] <= 8 * (max(rows, config.rows) + 1), (
            f"{rows}: {done}"
        )
        await clock.reset(dut)


@cocotb.test()
async def test_weights_alone_are_progress(dut: Any) -> None:
    config, _, source, monitor = await _setup(dut, params()["seed"], 0.0)
    source.put(encode("mx.wload", src=1))
    for _ in range(100):
        await RisingEdge(dut.clk)
    assert (monitor.progress, monitor.rows, monitor.weight_dones) == (config.rows, 0, [0])


@cocotb.test()
async def test_operands_at_their_limits(dut: Any) -> None:
    """The largest counts, the extreme strides and the first and last rows, each in a run."""
    config, spad, source, monitor = await _setup(dut, params()["seed"], 0.0)
    program = []
    last_row, last_acc = config.spad_rows - 1, ACC_SPACE + config.acc_rows - 1
    for level in range(3):
        program += [
            encode("mx.act", **{f"n{level}": 4095, "signal": 0xFFFF}),
            encode("mx.acc", signal=1 << level),
            encode("mx.wload", src=level * config.rows, signal=0xFFFF if level else 1),
            encode(
                "mx.run", act=(0, last_row, 7)[level], acc=(ACC_SPACE, last_acc, ACC_SPACE + 9)[level], signal=0xFFFF
            ),
        ]
    # An extreme stride of a loop that runs once must not matter.
    for extreme in (-32768, -1, 0, 1, 32767):
        program += [
            encode("mx.act", s0=extreme, s1=extreme, s2=extreme),
            encode("mx.acc", t0=extreme, t1=extreme, t2=extreme, signal=0xFFFF if extreme else 0),
            encode("mx.run", act=5, acc=ACC_SPACE + 5, accumulate=1, swap=0, signal=4),
        ]
    program += [
        encode("mx.wload", src=3, stride=0, signal=6), encode("mx.run", act=6, acc=ACC_SPACE + 6),
        encode("mx.wload", src=config.rows, stride=-1), encode("mx.run", act=6, acc=ACC_SPACE + 6, accumulate=1),
        *(encode(f"mx.{name}", signal=mask) for name in ("sync", "act", "acc") for mask in (0, 1, 6, 0xFFFF)),
    ]  # fmt: skip
    await _check(dut, config, spad, source, monitor, program)
