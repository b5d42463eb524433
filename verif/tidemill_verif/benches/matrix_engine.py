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
from tidemill.isa import ACC_SPACE, WAIT, encode
from tidemill_hdl.memory.accumulators import Accumulators
from tidemill_verif.agents import clock
from tidemill_verif.agents.streams import Stalls, StreamSource
from tidemill_verif.benches import params
from tidemill_verif.coverage.sampling import matrix as coverage
from tidemill_verif.matrix_reference import MatrixReference, random_program, row_bits

LIMIT = 200_000


def pc_of(index: int) -> int:
    """The pc that instruction `index` of a program gets: any 24 bits, each once."""
    return (index * 0x5B_D1E9 + 5) & 0xFF_FFFF


class ReadModel:
    """A scratchpad read port: random ready, responses in order after 3 or more cycles."""

    def __init__(self, dut: Any, prefix: str, spad: np.ndarray, seed: int, stall: float) -> None:
        self.dut, self.spad = dut, spad
        self.port = {name: getattr(dut, f"{prefix}__{name}") for name in ("req__valid", "req__ready", "req__payload")}
        self.rsp_valid, self.rsp_data = getattr(dut, f"{prefix}__rsp_valid"), getattr(dut, f"{prefix}__rsp_data")
        self.lost = getattr(dut, f"{prefix}__stall")
        self.stalls = Stalls(f"{seed}/{prefix}", stall)
        self.rng = random.Random(f"{seed}/{prefix}/latency")
        self.stall = stall
        self.responses = 0
        self.rsp_valid.value = 0
        self.port["req__ready"].value = 0
        cocotb.start_soon(self._run())

    async def _run(self) -> None:
        waiting: deque[tuple[int, int]] = deque()
        cycle, ready = 0, False
        while True:
            await RisingEdge(self.dut.clk)
            cycle += 1
            if self.dut.rst.value:
                waiting.clear()
            elif ready and self.port["req__valid"].value:
                extra = self.rng.choice((0, 0, 0, 1, 5, 20)) if self.stall else 0
                waiting.append((cycle + 2 + extra, int(self.port["req__payload"].value)))
            answer = bool(waiting) and waiting[0][0] <= cycle
            self.rsp_valid.value = int(answer)
            if answer:
                self.rsp_data.value = row_bits(self.spad[waiting.popleft()[1]])
                self.responses += 1
            ready = not self.stalls()
            self.port["req__ready"].value = int(ready)
            self.lost.value = int(self.stall > 0 and self.rng.random() < 0.3)


class Monitor:
    """Records result rows, done pulses and the fault, and checks the distance of accumulates."""

    def __init__(self, dut: Any, weights: ReadModel, psum_bits: int, cols: int) -> None:
        self.dut, self.weights, self.psum_bits, self.cols = dut, weights, psum_bits, cols
        self.cycle = 0
        self.writes: list[tuple[int, int, bool, list[int]]] = []
        self.dones: list[tuple[int, int]] = []
        self.weight_dones: list[int] = []
        self.touched: dict[int, int] = {}
        self.last_response: dict[int, int] = {}
        self.rows = 0
        cocotb.start_soon(self._run())

    def _lanes(self, bits: int) -> list[int]:
        width = self.psum_bits
        values = [(bits >> (width * lane)) & ((1 << width) - 1) for lane in range(self.cols)]
        return [value - (1 << width) if value >> (width - 1) else value for value in values]

    async def _run(self) -> None:
        dut = self.dut
        while True:
            await RisingEdge(dut.clk)
            self.cycle += 1
            if dut.rst.value:
                continue
            self.rows += int(dut.row.value)
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


async def _setup(dut: Any, seed: int, stall: float) -> tuple[Any, np.ndarray, StreamSource, Monitor]:
    config = preset(params()["preset"])
    rng = np.random.default_rng(seed)
    spad = rng.integers(-128, 128, (config.spad_rows, config.rows), dtype=np.int8)
    spad[rng.integers(0, config.spad_rows, 64)] = -128
    source = StreamSource(dut, "instr", seed=seed, stall=stall)
    ReadModel(dut, "act", spad, seed, stall)
    weights = ReadModel(dut, "wgt", spad, seed, stall)
    monitor = Monitor(dut, weights, config.psum_bits, config.cols)
    await clock.start(dut)
    coverage.watch(dut, ports=True)
    return config, spad, source, monitor


async def _check_program(dut: Any, seed: int, stall: float, length: int) -> None:
    config, spad, source, monitor = await _setup(dut, seed, stall)
    await _check(dut, config, spad, source, monitor, random_program(random.Random(seed), config, length))


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
    for _ in range(LIMIT):
        await RisingEdge(dut.clk)
        if len(monitor.dones) >= len(reference.dones):
            break
    assert not dut.fault__valid.value
    assert [signal for _, signal in monitor.dones] == [signal for signal, _, _ in reference.dones]
    assert monitor.weight_dones == reference.weight_dones
    for _ in range(100):
        await RisingEdge(dut.clk)
    assert monitor.rows == len(reference.writes)
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
        *(encode("mx.sync", signal=mask) for mask in (0, 1, 6, 0xFFFF)),
    ]  # fmt: skip
    await _check(dut, config, spad, source, monitor, program)


@cocotb.test()
async def test_faults_report_cause_instruction_and_row(dut: Any) -> None:
    config, _, source, monitor = await _setup(dut, params()["seed"], 0.3)
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
    ]  # fmt: skip
    for number, (words, pc, cause, info, rows) in enumerate(cases):
        source.clear()
        await clock.reset(dut)
        monitor.touched.clear()
        before = len(monitor.writes)
        for offset, word in enumerate([*words, run, run]):
            source.put(word | pc_of(offset) << 128)
        for _ in range(500):
            await RisingEdge(dut.clk)
        assert dut.fault__valid.value, f"case {number}: no fault"
        sampler = coverage.Engine()
        for word in words[: pc + 1]:
            sampler.instruction(word)
        sampler.fault(words[pc], cause, config)
        got = (int(dut.fault__cause.value), int(dut.fault__pc.value), int(dut.fault__info.value))
        assert got == (cause, pc_of(pc), info & 0xFFFFFFFF), f"case {number}: {got}"
        # Weights are fetched ahead: runs behind a faulty mx.wload may already be under way.
        late = 2 if words[pc] & 0xFF == wload & 0xFF and cause == local else 0
        found = len(monitor.writes) - before
        assert rows <= found <= rows + late, f"case {number}: {found} rows"
    source.clear()
    await clock.reset(dut)
    assert not dut.fault__valid.value


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
    monitor.touched.clear()
    source.put(encode("mx.run", act=3, acc=ACC_SPACE, swap=0))
    for _ in range(400):
        await RisingEdge(dut.clk)
    assert len(monitor.writes) == 2
    assert not any(monitor.writes[-1][3])
