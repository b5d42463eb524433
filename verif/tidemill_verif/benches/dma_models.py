"""What the benches of the load and store engines share: bus and memory port models, random programs, the harness.

Every model has `sample(cycle)`, called right before the clock edge that ends the cycle, and `drive(cycle)`, called
after it for the next one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

import numpy as np
from cocotb.clock import Clock
from cocotb.handle import SimHandleBase
from cocotb.triggers import RisingEdge

from tidemill.config import Config
from tidemill.csr import Cause
from tidemill.golden.dma import Walk, walk
from tidemill.isa import ACC_SPACE, encode
from tidemill_verif.agents.ports import put, value
from tidemill_verif.coverage.sampling import dma as coverage

MEMORY_BYTES = 1 << 16
Instruction = tuple[str, dict[str, int]]


PATIENCE = 2000
"""Cycles without any transfer after which an engine is stuck: more than any latency of a bench."""


INTAKE = 2
"""Instructions that an engine takes without executing them."""


class Model(Protocol):
    """A model of something outside the engine; `transfers`: how often something has moved there."""

    @property
    def transfers(self) -> int: ...

    def sample(self, cycle: int) -> None: ...
    def drive(self, cycle: int) -> None: ...


class Readiness:
    """When to be ready for a stream: with chance 1 - `stall`; half of those that stall wait for valid as well."""

    def __init__(self, dut: SimHandleBase, stream: str, rng: Random, stall: float) -> None:
        self.dut, self.stream, self.rng, self.stall = dut, stream, rng, stall
        self.waits = stall > 0 and rng.random() < 0.5

    def next(self) -> bool:
        """Drives ready for the next cycle."""
        ready = self.rng.random() >= self.stall and not (self.waits and not value(self.dut, f"{self.stream}__valid"))
        put(self.dut, f"{self.stream}__ready", ready)
        return ready


@dataclass
class Stalls:
    """Probabilities that a side withholds valid or ready in a cycle, and the bus latency in cycles."""

    instr: float = 0.0
    command: float = 0.0
    beat: float = 0.0
    response: float = 0.0
    port: float = 0.0
    latency: int = 4

    @classmethod
    def random(cls, rng: Random) -> Stalls:
        """Each chance is drawn on its own, sometimes none, sometimes heavy."""
        chance = [rng.choice((0.0, 0.1, 0.4, 0.8)) for _ in range(5)]
        return cls(*chance, latency=rng.choice((1, 4, 25)))


@dataclass
class Burst:
    """A burst that the engine asked for."""

    addr: int
    beats: int
    cycle: int
    data: list[int] = field(default_factory=list)


def check_burst(config: Config, payload: int, cycle: int) -> Burst:
    """The burst of a command payload; asserts alignment, length and the 4 KiB rule."""
    burst = Burst(payload & 0xFFFF_FFFF, (payload >> 32) + 1, cycle)
    assert burst.addr % config.axi_bytes == 0, f"burst at {burst.addr:#x} is not aligned"
    assert burst.beats <= config.max_burst, f"burst of {burst.beats} beats"
    end = burst.addr + burst.beats * config.axi_bytes - 1
    assert burst.addr // 4096 == end // 4096, f"burst at {burst.addr:#x} of {burst.beats} beats crosses 4 KiB"
    return burst


def pc_of(index: int) -> int:
    """The pc that instruction `index` of a program gets: any 24 bits, each once."""
    return (index * 0x5B_D1E9 + 5) & 0xFF_FFFF


class InstructionSource:
    """Feeds (word, pc) to `instr`; the pc of instruction k is `pc_of(k)`. Between them the payload is another one."""

    def __init__(self, dut: SimHandleBase, program: list[Instruction], rng: Random, stall: float) -> None:
        self.dut, self.rng, self.stall = dut, rng, stall
        # Engines do not look at `wait`.
        self.words = [
            encode(name, **{"wait": rng.getrandbits(16), **values}) | pc_of(k) << 128
            for k, (name, values) in enumerate(program)
        ]
        self.sent = 0
        self.offered = False

    @property
    def transfers(self) -> int:
        return self.sent

    def sample(self, cycle: int) -> None:
        if self.offered and value(self.dut, "instr__ready"):
            self.sent += 1
            self.offered = False

    def drive(self, cycle: int) -> None:
        if not self.offered and self.sent < len(self.words):
            self.offered = self.rng.random() >= self.stall
        put(self.dut, "instr__valid", self.offered)
        word = self.words[self.sent] if self.offered else self.rng.choice(self.words) ^ self.rng.getrandbits(144) << 8
        put(self.dut, "instr__payload", word)


class Completions:
    """Records `done` and `fault`. `progress()` is kept with each done, and as `at_fault`: what had happened by then.
    `taken()`: how many instructions the engine has taken."""

    def __init__(self, dut: SimHandleBase, progress: Callable[[], int], taken: Callable[[], int]) -> None:
        self.dut, self.progress, self.taken = dut, progress, taken
        self.done: list[tuple[int, int, int]] = []
        self.fault: tuple[int, int, int] | None = None
        self.taken_at_fault = self.at_fault = 0

    @property
    def transfers(self) -> int:
        return len(self.done)

    def sample(self, cycle: int) -> None:
        if value(self.dut, "done__valid"):
            self.done.append((cycle, value(self.dut, "done__signal"), self.progress()))
        if value(self.dut, "fault__valid"):
            fault = tuple(value(self.dut, f"fault__{name}") for name in ("cause", "pc", "info"))
            assert self.fault in (None, fault), "fault changed"
            if self.fault is None:
                self.at_fault = self.progress()
            self.fault = fault  # type: ignore[assignment]
            self.taken_at_fault = self.taken_at_fault or self.taken()
            assert self.taken() <= self.taken_at_fault + INTAKE, "instructions are executed after a fault"

    def drive(self, cycle: int) -> None:
        pass


class Events:
    """Holds one-bit outputs against `rules`: what each has to be one cycle later, None where it may be either.

    `count`: the cycles in which each was high.
    """

    def __init__(self, dut: SimHandleBase, **rules: Callable[[], bool | None]) -> None:
        self.dut, self.rules = dut, rules
        self.count = dict.fromkeys(rules, 0)
        self.expected: dict[str, bool | None] = dict.fromkeys(rules, False)
        self.transfers = 0

    def sample(self, cycle: int) -> None:
        for name, rule in self.rules.items():
            now = value(self.dut, name)
            assert self.expected[name] in (None, bool(now)), f"{name} is {now} in cycle {cycle}"
            self.count[name] += now
            self.expected[name] = rule()

    def drive(self, cycle: int) -> None:
        pass


def moves(dut: SimHandleBase, *streams: str) -> bool:
    """Whether some of the `streams` transfers in this cycle."""
    return any(value(dut, f"{name}__valid") and value(dut, f"{name}__ready") for name in streams)


async def simulate(
    dut: SimHandleBase,
    window: tuple[int, int],
    models: list[Model],
    completions: Completions,
    count: int,
    most: int | None = None,
) -> int:
    """Resets the engine and runs until `count` instructions are done or a fault stands; then 60 cycles more. After
    `most` cycles it stops as it is.

    Returns the cycles that took; asserts that something moves all the time.
    """
    Clock(dut.clk, 10, unit="ns").start()
    put(dut, "rst", 1)
    put(dut, "window__base", window[0])
    put(dut, "window__limit", window[1])
    for model in models:
        model.drive(0)
    put(dut, "instr__valid", 0)
    for _ in range(3):
        await RisingEdge(dut.clk)
    put(dut, "rst", 0)
    cycle, after = 0, 0
    transfers, moved = 0, 0
    while after < 60 and cycle != most:
        await RisingEdge(dut.clk)
        if cycle:
            for model in models:
                model.sample(cycle)
        cycle += 1
        for model in models:
            model.drive(cycle)
        if completions.fault is not None or len(completions.done) >= count:
            after += 1
        now = sum(model.transfers for model in models)
        if now != transfers:
            transfers, moved = now, cycle
        assert cycle < moved + PATIENCE, f"stuck: {len(completions.done)} of {count} instructions done"
    return cycle


@dataclass
class Transfer:
    """A run instruction with the configuration that applied to it."""

    index: int
    acc: bool
    dram: int
    values: dict[str, int]
    config: dict[str, int]
    rows: Walk


def transfers(config: Config, program: list[Instruction], local: str) -> list[Transfer]:
    """Every run of `program` that moves rows, in order, walked by the golden model; `local` is "dst" or "src"."""
    state: dict[str, int] = dict.fromkeys(("s1", "s2", "d1", "d2", "pad_lo", "pad_hi", "value"), 0)
    result = []
    for index, (name, values) in enumerate(program):
        operands = {key: number for key, number in values.items() if key != "signal"}
        if not name.endswith(".run"):
            state.update(operands)
            continue
        if state["pad_lo"] + operands["n0"] + state["pad_hi"] == 0:
            continue
        acc = bool(operands[local] & ACC_SPACE)
        sizes = {key: number for key, number in state.items() if key != "value"}
        row_bytes = config.acc_row_bytes if acc else config.spad_row_bytes
        rows = walk(
            operands[local] & ~ACC_SPACE, operands["dram"], operands["n0"], operands["n1"], operands["n2"],
            row_bytes=row_bytes, **sizes,
        )  # fmt: skip
        result.append(Transfer(index, acc, operands["dram"], operands, dict(state), rows))
    return result


def sample_program(
    config: Config,
    program: list[Instruction],
    name: str,
    window: tuple[int, int],
    fault: tuple[int, int, int] | None,
    bursts: list[int],
) -> None:
    """Counts what `program` covers, up to its `fault`, with the addresses of its bursts."""
    local = "dst" if name == "load" else "src"
    last = len(program) if fault is None else [pc_of(index) for index in range(len(program))].index(fault[1])
    state: dict[str, int] = {}
    for mnemonic, values in program[: last + 1]:
        coverage.instruction(mnemonic, values)
        if mnemonic.endswith(".run"):
            coverage.transfer(name, config, values, state)
        else:
            state.update(values)
    for transfer in transfers(config, program[: last + 1], local):
        nbytes = transfer.values["n0"] * (config.acc_row_bytes if transfer.acc else config.spad_row_bytes)
        lines = transfer.rows.lines.tolist() if nbytes else []
        for number, first in enumerate(lines):
            if fault is not None and transfer.index == last:
                cause, info = Cause(fault[0]), fault[2]
                if cause in (Cause.WINDOW, Cause.MISALIGNED):
                    here = info == first
                elif cause is Cause.LOCAL_RANGE:
                    here = number == 0
                else:
                    here = first <= info < first + nbytes
                if here:
                    mine = [addr for addr in bursts if first - config.axi_bytes < addr < first + nbytes]
                    coverage.fault(name, config, cause, info, transfer.acc, mine, number == 0)
                    if cause is Cause.WINDOW:
                        coverage.line(name, first, nbytes, window)
                    break
            coverage.line(name, first, nbytes, window)


UPPER = (0, 0x00C0_0000, 0x5500_0000, 0xAA00_0000, 0x7F80_0000, 0xFE00_0000)
"""What may be added to the addresses of `random_program`, to use all of their bits."""


def limits_program(config: Config, engine: str) -> list[Instruction]:
    """Transfers with the largest counts, the extreme strides of loops that run once, and the first and last rows."""
    load = engine == "ld"
    local, run = "dst" if load else "src", {"dram": 0x20000, "n0": 1, "n1": 1, "n2": 1}
    program: list[Instruction] = []
    for signal in (0, 1, 6, 0xFFFF):
        program.append((f"{engine}.sync", {"signal": signal}))
        for address in (0, config.spad_rows - 1, ACC_SPACE, ACC_SPACE + config.acc_rows - 1):
            program.append((f"{engine}.run", {**run, local: address, "signal": signal}))
        program += [(f"{engine}.stride", {"signal": signal}), (f"{engine}.{local}", {"signal": signal})]
    for count, largest, outer in (("n0", 4095, "n1"), ("n1", 1023, "n2"), ("n2", 1023, "n1")):
        program.append((f"{engine}.run", {**run, local: 0, count: largest}))
        # Where a bit of a count is missing these look like a count of 1, or of 0.
        for place in range(1, largest.bit_length()):
            again = 1 if count == "n2" or place > 10 else 2
            program.append((f"{engine}.run", {**run, local: 0, outer: again, count: (1 << place) + 1}))
            if count == "n0":
                program.append((f"{engine}.run", {**run, local: 0, count: 1 << place}))
    program += [(f"{engine}.run", {**run, local: 3, "dram": 0}), (f"{engine}.run", {**run, local: 5, "n0": 0})]
    program += [
        (f"{engine}.run", {local: space + 5, "dram": 0x20000, "n0": 0, "n1": n1, "n2": n2})
        for space in (0, ACC_SPACE) for n1 in (1, 3) for n2 in (1, 3)
    ]  # fmt: skip
    # Lines that end with a 4 KiB page.
    for space, row_bytes in ((0, config.spad_row_bytes), (ACC_SPACE, config.acc_row_bytes)):
        program.append((f"{engine}.run", {**run, local: space + 9, "dram": 0x31000 - 2 * row_bytes, "n0": 2}))
    unit = 1 if load else config.axi_bytes
    for extreme in (-(1 << 31), -unit, 0, unit, (1 << 31) - unit):
        rows = max(-(1 << 15), min(extreme, (1 << 15) - 1))
        program.append((f"{engine}.stride", {"s1": extreme, "s2": extreme}))
        program.append((f"{engine}.{local}", {"d1": rows // unit if abs(rows) <= unit else rows, "d2": rows}))
        program.append((f"{engine}.run", {**run, local: 7}))
    for extreme in (-1, (1 << 31) - 1):
        program.append((f"{engine}.stride", {"s1": extreme, "s2": extreme}))
        program.append((f"{engine}.run", {**run, local: 7}))
    if load:
        for low, high, value in ((255, 0, -128), (0, 255, 127), (255, 255, 0), (1, 1, -1)):
            program.append(("ld.dst", {"d1": 0, "d2": 0, "pad_lo": low, "pad_hi": high, "value": value}))
            program.append(("ld.run", {**run, "dst": 11, "n1": 2}))
            program.append(("ld.run", {**run, "dst": 11, "n0": 0}))
    return [(name, {"signal": 0, **values}) for name, values in program]


def random_program(
    config: Config,
    rng: Random,
    engine: str,
    runs: int,
    *,
    bad_rows: float = 0.0,
    upper: tuple[int, ...] = (0,),
) -> list[Instruction]:
    """`runs` transfers with random configuration between them. `engine` is "ld" or "st". All rows are inside the
    memories, but with chance `bad_rows` a run's may be anywhere. One of `upper` is added to each address. Small, but
    with every shape."""
    load = engine == "ld"
    program: list[Instruction] = []
    state = dict.fromkeys(("s1", "s2", "d1", "d2", "pad_lo", "pad_hi"), 0)
    unit = 1 if load else config.axi_bytes
    for _ in range(runs):
        acc = rng.random() < 0.4
        depth = config.acc_rows if acc else config.spad_rows
        row_bytes = config.acc_row_bytes if acc else config.spad_row_bytes
        n0 = rng.choice((0, 1, 1, 2, 3, rng.randint(4, 12), rng.randint(1, 40)))
        n1, n2 = rng.choice((1, 1, 2, 3, 5)), rng.choice((1, 1, 2, 3))
        if rng.random() < 0.6:
            line = n0 * row_bytes
            state["s1"] = rng.choice((line, -line, rng.randint(-3000, 3000) // unit * unit))
            state["s2"] = rng.choice((line * n1, rng.randint(-9000, 9000) // unit * unit))
            program.append((f"{engine}.stride", {"s1": state["s1"], "s2": state["s2"]}))
        if rng.random() < 0.6:
            state["d1"], state["d2"] = (rng.choice((n0, rng.randint(-50, 50))) for _ in range(2))
            values = {"d1": state["d1"], "d2": state["d2"]}
            if load:
                for pad in ("pad_lo", "pad_hi"):
                    state[pad] = values[pad] = rng.choice((0, 0, 1, 2, rng.randint(0, 9)))
                values["value"] = rng.randint(-128, 127)
            program.append((f"{engine}.{'dst' if load else 'src'}", values))
        if rng.random() < 0.3:
            program.append((f"{engine}.sync", {}))
        corners = [p * state["d2"] + q * state["d1"] for p in (0, n2 - 1) for q in (0, n1 - 1)]
        low, high = -min(corners), depth - max(corners) - state["pad_lo"] - n0 - state["pad_hi"]
        if low > high:
            continue
        row = rng.choice((low, high, rng.randint(low, high)))
        if rng.random() < bad_rows:
            row = rng.choice((0, rng.randint(0, 60), depth - 1 - rng.randint(0, 60), min(depth, 32767), 32767))
        near_page = 0x1000 * rng.randint(20, 400) + rng.randint(-300, 300)
        dram = rng.choice((near_page, rng.randint(0x2_0000, 0x40_0000))) // unit * unit + rng.choice(upper)
        values = {("dst" if load else "src"): row | ACC_SPACE * acc, "dram": dram, "n0": n0, "n1": n1, "n2": n2}
        program.append((f"{engine}.run", values))
    return [(name, {**values, "signal": rng.getrandbits(16)}) for name, values in program]


def random_memory(rng: Random) -> np.ndarray:
    """DRAM contents, uint8 [MEMORY_BYTES]; it repeats over the whole address space."""
    return np.frombuffer(rng.randbytes(MEMORY_BYTES), np.uint8)


def read_bytes(memory: np.ndarray, addr: int, count: int) -> bytes:
    """`count` bytes from `addr` of the repeating memory."""
    return memory[np.arange(addr, addr + count) % MEMORY_BYTES].tobytes()
