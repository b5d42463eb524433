"""Bench of the queues and semaphores: random traffic against a counting model, and directed corners."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from tidemill.config import Config, preset
from tidemill.csr import Cause
from tidemill.isa import ENGINES
from tidemill_verif.agents.clock import reset, start
from tidemill_verif.agents.streams import StreamSink, StreamSource
from tidemill_verif.benches import params
from tidemill_verif.benches.sync_models import (
    DONES,
    MATRIX,
    WEIGHT_LOADER,
    CycleModel,
    engine_of,
    instruction,
    random_traffic,
    signal_of,
    wait_of,
)
from tidemill_verif.coverage.sampling import sync as coverage


class Model:
    """Drives `done` for what the engines took, and checks every issue against semaphores counted here."""

    def __init__(self, dut: Any, config: Config, seed: int, stall: float, work: int) -> None:
        self.dut = dut
        self.config = config
        self.rng = random.Random(f"{seed}/model")
        self.work = work
        self.sources = [StreamSource(dut, f"i_instr__{i}", seed=seed, stall=stall) for i in range(len(ENGINES))]
        self.sinks = [StreamSink(dut, f"o_instr__{i}", seed=seed, stall=stall) for i in range(len(ENGINES))]
        self.counts = [0] * 16
        self.inside: list[deque[tuple[int, int]]] = [deque() for _ in range(DONES)]
        self.entered = [0] * len(ENGINES)
        self.finished = [0] * len(ENGINES)
        self.history: list[list[int]] = [[] for _ in ENGINES]
        self.still = [0] * len(ENGINES)
        self.cycle = 0
        self.queues = [
            tuple(getattr(dut, f"{side}_instr__{i}__{part}") for side in "io" for part in ("valid", "ready", "payload"))
            for i in range(len(ENGINES))
        ]
        for i in range(DONES):
            getattr(dut, f"done__{i}__valid").value = 0
            getattr(dut, f"done__{i}__signal").value = 0
        cocotb.start_soon(self._run())
        coverage.watch(dut)

    async def _run(self) -> None:
        dut = self.dut
        offered = [False] * len(ENGINES)
        driven: list[int | None] = [None] * DONES
        while True:
            await RisingEdge(dut.clk)
            self.cycle += 1
            if dut.rst.value:
                continue
            # Signals on the wires in this cycle can be consumed from the next on.
            arrived = [(i, mask) for i, mask in enumerate(driven) if mask is not None]
            for i, (i_valid, i_ready, _, o_valid, o_ready, o_payload) in enumerate(self.queues):
                valid = bool(o_valid.value)
                if valid and not offered[i]:
                    mask = wait_of(int(o_payload.value))
                    for s in range(16):
                        if mask >> s & 1:
                            assert self.counts[s] > 0, f"engine {i} passed semaphore {s} at zero"
                            self.counts[s] -= 1
                offered[i] = valid and not o_ready.value
                if i_valid.value and i_ready.value:
                    self.entered[i] += 1
                    self.still[i] = 0
                if valid and o_ready.value:
                    payload = int(o_payload.value)
                    self.history[i].append(payload)
                    port = i
                    if i == MATRIX and self.rng.random() < 0.5:
                        port = WEIGHT_LOADER
                    last = self.inside[port][-1][0] if self.inside[port] else 0
                    due = max(last, self.cycle + self.rng.randint(0, self.work))
                    self.inside[port].append((due, signal_of(payload)))
            for port, mask in arrived:
                engine = engine_of(port)
                self.finished[engine] += 1
                self.still[engine] = 0
                for s in range(16):
                    self.counts[s] += mask >> s & 1
            idle = int(dut.idle.value)
            for i in range(len(ENGINES)):
                pending = self.entered[i] - self.finished[i]
                self.still[i] += 1
                assert not (idle >> i & 1 and pending and self.still[i] > 3), f"engine {i} called idle with work"
                assert idle >> i & 1 or pending or self.still[i] <= 4, f"engine {i} not called idle"
            for port in range(DONES):
                ready = self.inside[port] and self.inside[port][0][0] <= self.cycle
                driven[port] = self.inside[port].popleft()[1] if ready else None
                getattr(dut, f"done__{port}__valid").value = int(driven[port] is not None)
                getattr(dut, f"done__{port}__signal").value = (
                    self.rng.getrandbits(16) if driven[port] is None else driven[port]
                )


def program(rng: random.Random, config: Config, length: int) -> list[tuple[int, int]]:
    """(engine, payload) in program order that can run: waits only for what earlier instructions signal, and no
    semaphore signalled more often than it can count, since engines may run far ahead of each other."""
    available = [0] * 16
    sent = [0] * 16
    owner = [rng.randrange(len(ENGINES)) for _ in range(16)]
    limit = (1 << config.semaphore_width) - 1
    out = []
    for pc in range(length):
        engine = rng.randrange(len(ENGINES))
        wait = 0
        eager = rng.random() < 0.1
        if rng.random() < 0.6:
            for s in range(16):
                if owner[s] == engine and available[s] and (eager or rng.random() < 0.5):
                    wait |= 1 << s
                    available[s] -= 1
        signal = 0
        for s in range(16):
            if sent[s] < limit and rng.random() < 0.15:
                signal |= 1 << s
                available[s] += 1
                sent[s] += 1
        out.append((engine, instruction(rng, pc, wait, signal)))
    return out


def configuration() -> Config:
    """Of the design under test."""
    return preset(params()["preset"]).replace(**params().get("changes", {}))


async def model(dut: Any, stall: float, work: int) -> tuple[Model, random.Random]:
    """A reset model and the bench's random numbers."""
    result = Model(dut, configuration(), params()["seed"], stall, work)
    CycleModel(dut, result.config)
    await start(dut)
    return result, random.Random(params()["seed"])


@cocotb.test()
async def test_random_traffic(dut: Any) -> None:
    """Nothing is lost, reordered or started early; every program ends with the counts the model has."""
    unit, rng = await model(dut, 0.4, 12)
    for _ in range(params().get("programs", 12)):
        listing = program(rng, unit.config, 200)
        for history in unit.history:
            history.clear()
        for engine, payload in listing:
            unit.sources[engine].put(payload)
        began = unit.cycle
        while sum(len(history) for history in unit.history) < len(listing):
            await RisingEdge(dut.clk)
            assert not dut.fault__valid.value
            assert unit.cycle - began < 20_000, "deadlock"
        for i, history in enumerate(unit.history):
            assert history == [payload for engine, payload in listing if engine == i], f"order of engine {i}"
        while int(dut.idle.value) != 15:
            await RisingEdge(dut.clk)
        # Use up what is left: every count must be there, and not one more.
        drain = []
        for s in range(16):
            drain += [instruction(rng, 0, 1 << s)] * unit.counts[s]
        for payload in drain:
            unit.sources[rng.randrange(4)].put(payload)
        left = len(drain)
        while left:
            await RisingEdge(dut.clk)
            left = sum(unit.counts)
        for _ in range(20):
            await RisingEdge(dut.clk)
        while int(dut.idle.value) != 15:
            await RisingEdge(dut.clk)
        assert not dut.blocked.value


@cocotb.test()
async def test_shared_semaphore_goes_to_one_waiter(dut: Any) -> None:
    """Several engines that wait for one semaphore: each signal frees exactly one, the lowest engine first."""
    unit, rng = await model(dut, 0.0, 0)
    for i in range(1, 4):
        unit.sources[i].put(instruction(rng, 10 + i, 0b11))
    for _ in range(12):
        await RisingEdge(dut.clk)
    assert int(dut.blocked.value)
    assert int(dut.blocked_pc.value) & 0xFF == 11
    assert int(dut.blocked_mask.value) == 0b11
    assert int(dut.sem_wait.value) == 0b1110
    for count in range(1, 4):
        unit.sources[0].put(instruction(rng, 0, 0, 0b01))
        for _ in range(20):
            await RisingEdge(dut.clk)
        assert sum(map(len, unit.history[1:])) == count - 1, "one of two semaphores is not enough"
        unit.sources[0].put(instruction(rng, 0, 0, 0b10))
        for _ in range(20):
            await RisingEdge(dut.clk)
        assert [len(history) for history in unit.history[1:]] == [1] * count + [0] * (3 - count)
    assert not dut.blocked.value


@cocotb.test()
async def test_all_done_at_once(dut: Any) -> None:
    """Five signals of one semaphore in a cycle are five: five waiters go, or it overflows."""
    unit, rng = await model(dut, 0.0, 0)
    largest = (1 << unit.config.semaphore_width) - 1
    unit.work = 1 << 30
    for i in range(DONES):
        unit.sources[MATRIX if i == WEIGHT_LOADER else i].put(instruction(rng, i, 0, 0x8001))
    while sum(map(len, unit.inside)) < DONES:
        await RisingEdge(dut.clk)
    unit.work = 0
    for port in unit.inside:
        port.clear()
    for port in unit.inside:
        port.append((unit.cycle + 10, 0x8001))
    for history in unit.history:
        history.clear()
    for pc in range(DONES if largest >= DONES else 0):
        unit.sources[1].put(instruction(rng, pc, 0x8000))
    for _ in range(80):
        await RisingEdge(dut.clk)
    if largest < DONES:
        assert dut.fault__valid.value
        assert int(dut.fault__info.value) == 0x8001
        return
    assert len(unit.history[1]) == DONES
    assert not dut.fault__valid.value
    assert unit.counts[0] == DONES
    assert unit.counts[15] == 0


@cocotb.test()
async def test_full_masks(dut: Any) -> None:
    """Every completion port signals all semaphores at once, and every engine waits for all of them at once."""
    unit, rng = await model(dut, 0.2, 3)
    for number, i in enumerate((*range(len(ENGINES)), *[MATRIX] * 8), 1):
        unit.sources[i].put(instruction(rng, 1, 0xFFFF))
        while not dut.blocked.value:
            await RisingEdge(dut.clk)
        unit.sources[i - 2].put(instruction(rng, 2, 0, 0x7FFF))
        for _ in range(40):
            await RisingEdge(dut.clk)
        assert dut.blocked.value, "one of sixteen semaphores is missing"
        unit.sources[i - 1].put(instruction(rng, 3, 0, 0x8000))
        while sum(map(len, unit.history)) < 5 * number - 2:
            await RisingEdge(dut.clk)
        unit.sources[i].put(instruction(rng, 4, 0, 0xFFFF))
        unit.sources[i].put(instruction(rng, 5, 0xFFFF))
        while sum(map(len, unit.history)) < 5 * number or int(dut.idle.value) != 15:
            await RisingEdge(dut.clk)
        assert not any(unit.counts)
    assert not dut.fault__valid.value


@cocotb.test()
async def test_overflow_faults(dut: Any) -> None:
    """The largest count is legal, one more is SEM_OVERFLOW with the mask of the semaphores."""
    unit, rng = await model(dut, 0.2, 3)
    largest = (1 << unit.config.semaphore_width) - 1
    for s in range(16):
        await reset(dut)
        unit.counts = [0] * 16
        for _ in range(largest):
            unit.sources[rng.randrange(4)].put(instruction(rng, 0, 0, 1 << s))
        while unit.counts[s] < largest:
            await RisingEdge(dut.clk)
        for _ in range(10):
            await RisingEdge(dut.clk)
        assert not dut.fault__valid.value
        unit.sources[2].put(instruction(rng, 0, 0, 1 << s | 1 << (s + 1) % 16))
        for _ in range(100):
            await RisingEdge(dut.clk)
        assert dut.fault__valid.value
        assert int(dut.fault__cause.value) == Cause.SEM_OVERFLOW
        assert int(dut.fault__info.value) == 1 << s
        for _ in range(largest):
            unit.sources[rng.randrange(4)].put(instruction(rng, 0, 0, 1 << (s + 1) % 16))
        while unit.counts[(s + 1) % 16] <= largest:
            await RisingEdge(dut.clk)
        for _ in range(10):
            await RisingEdge(dut.clk)
        assert int(dut.fault__info.value) == 1 << s, "the first overflow counts"


@cocotb.test()
async def test_timing(dut: Any) -> None:
    """One instruction a cycle without waits; a signal reaches its waiter four cycles after `done`."""
    unit, rng = await model(dut, 0.0, 0)
    for pc in range(100):
        unit.sources[0].put(instruction(rng, pc))
    while len(unit.history[0]) < 1:
        await RisingEdge(dut.clk)
    began = unit.cycle
    while len(unit.history[0]) < 100:
        await RisingEdge(dut.clk)
    assert unit.cycle - began == 99
    unit.sources[1].put(instruction(rng, 0, 1))
    for _ in range(10):
        await RisingEdge(dut.clk)
    unit.sources[0].put(instruction(rng, 0, 0, 1))
    while not (dut.done__0__valid.value and int(dut.done__0__signal.value) & 1):
        await RisingEdge(dut.clk)
    began = unit.cycle
    while not dut.o_instr__1__valid.value:
        await RisingEdge(dut.clk)
    dut._log.info(f"done to issue: {unit.cycle - began} cycles")
    assert unit.cycle - began == 4


@cocotb.test()
async def test_every_cycle_of_random_traffic_with_resets(dut: Any) -> None:
    """Every port in every cycle, also after resets at any moment."""
    CycleModel(dut, configuration())
    await random_traffic(dut, random.Random(params()["seed"]), 2500)


@cocotb.test()
async def test_as_many_as_may_be_under_way(dut: Any) -> None:
    """255 instructions in each engine at once are all counted."""
    unit, rng = await model(dut, 0.2, 0)
    unit.work = 1 << 30
    for pc in range(255):
        for source in unit.sources:
            source.put(instruction(rng, pc))
    while min(map(len, unit.history)) < 255:
        await RisingEdge(dut.clk)
    for port in unit.inside:
        for number, (_, signal) in enumerate(port):
            port[number] = (unit.cycle + 2 * number + rng.randint(0, 2), signal)
    while sum(unit.finished) < 4 * 255:
        await RisingEdge(dut.clk)
    for _ in range(10):
        await RisingEdge(dut.clk)
    assert int(dut.idle.value) == 15
    assert not dut.busy.value
