"""Queues and semaphores cycle by cycle: what every port must show, and random traffic with resets in its middle."""

from __future__ import annotations

from collections import deque
from random import Random
from typing import Any

from cocotb.triggers import RisingEdge

from tidemill.config import Config
from tidemill.csr import Cause
from tidemill.isa import ENGINES, INSTRUCTION_BITS, SIGNAL, WAIT, Engine
from tidemill_verif.agents.clock import start
from tidemill_verif.benches.every_cycle import EveryCycle
from tidemill_verif.coverage.sampling.wires import Wires

SEMAPHORES = range(16)
DONES = 5
WEIGHT_LOADER = 4
MATRIX = ENGINES.index(Engine.MATRIX)
_PHASE = 64
"""Cycles in which the ports' appetite stays the same."""
_RESET = 0.02
"""Chance that a reset begins, by cycle."""
_LONGEST = 100
"""Instructions under way in an engine, of random traffic."""


def instruction(rng: Random, pc: int, wait: int = 0, signal: int = 0) -> int:
    """Payload of an instruction with these masks and otherwise random bits."""
    word = rng.getrandbits(INSTRUCTION_BITS)
    pc |= rng.getrandbits(16) << 8
    for spec, value in ((WAIT, wait), (SIGNAL, signal)):
        word = word & ~(((1 << spec.width) - 1) << spec.lo) | value << spec.lo
    return word | pc << INSTRUCTION_BITS


def wait_of(payload: int) -> int:
    """Wait mask of a payload."""
    return payload >> WAIT.lo & 0xFFFF


def signal_of(payload: int) -> int:
    """Signal mask of a payload."""
    return payload >> SIGNAL.lo & 0xFFFF


def engine_of(port: int) -> int:
    """The engine that a `done` port belongs to."""
    return MATRIX if port == WEIGHT_LOADER else port


class _Queue:
    """An engine's queue and head: `depth` entries, of which the last is at the output, the instruction offered and a
    place before it, which takes the output's entry without a look at the engine."""

    def __init__(self, depth: int) -> None:
        self.inner: deque[int] = deque()
        self.output: int | None = None
        self.next: int | None = None
        self.head: int | None = None
        self.offered = False
        self._depth = depth

    @property
    def ready(self) -> bool:
        """Another instruction fits."""
        return len(self.inner) < self._depth - 1

    @property
    def waiting(self) -> bool:
        """The head waits for semaphores."""
        return self.head is not None and not self.offered

    @property
    def mask(self) -> int:
        """Wait mask of the head."""
        return wait_of(self.head) if self.head is not None else 0

    def step(self, entry: int | None, taken: bool, granted: bool) -> None:
        """One edge: `entry` comes in, the head was taken by the engine, or may go."""
        if self.next is None:
            self.next, self.output = self.output, None
        if self.head is None or taken:
            self.head, self.next = self.next, None
            self.offered = self.head is not None and not self.mask
        elif granted:
            self.offered = True
        # A queue of two entries is a skid buffer: what comes goes to a free output at once.
        if self._depth == 2 and entry is not None:
            self.inner.append(entry)
        if self.output is None and self.inner:
            self.output = self.inner.popleft()
        if self._depth > 2 and entry is not None:
            self.inner.append(entry)


class CycleModel(EveryCycle):
    """Checks every cycle of all ports from now to the end of the test, by the timing in the docstring of `Sync`.

    A signal is counted two cycles after `done`, what a grant takes two cycles after the grant. A head looks at the
    counts in every cycle but that of a grant and the one after; one that finds all it waits for goes in the next cycle
    unless a lower engine that found the same shares a semaphore, and is offered in the cycle after. After an overflow
    only the fault is checked, until reset.
    """

    def __init__(self, dut: Any, config: Config) -> None:
        super().__init__(dut)
        self._config = config
        self._largest = (1 << config.semaphore_width) - 1
        self.watch()

    def _forget(self) -> None:
        engines = range(len(ENGINES))
        self._queues = [_Queue(self._config.queue_depth) for _ in engines]
        self._counts = [0 for _ in SEMAPHORES]
        self._finds = [False for _ in engines]
        self._signals: list[int] = []
        self._used: list[int] = []
        self._overflow = 0
        self._fault = 0
        self._entered = [False for _ in engines]
        self._left = [False for _ in engines]
        self._completed = [0 for _ in engines]
        self._known = [0 for _ in engines]
        self._inside = [0 for _ in engines]
        self._events = {"sem_wait": 0, "dispatched": 0, "completed": 0, "blocked": 0}
        self._blocked: int | None = None

    def _check(self) -> None:
        """Compare the outputs with the state."""
        wires = self._wires
        assert wires["fault__valid"] == bool(self._fault), f"fault valid is not {bool(self._fault)}"
        if self._fault:
            fault = (wires["fault__cause"], wires["fault__info"], wires["fault__pc"])
            assert fault == (Cause.SEM_OVERFLOW, self._fault, 0), f"fault is {fault}, expected mask {self._fault:#x}"
        if self._fault or self._overflow:
            return
        for i, queue in enumerate(self._queues):
            assert wires[f"i_instr__{i}__ready"] == queue.ready, f"queue {i}: ready is not {queue.ready}"
            assert wires[f"o_instr__{i}__valid"] == queue.offered, f"engine {i}: offered is not {queue.offered}"
            if queue.offered:
                assert wires[f"o_instr__{i}__payload"] == queue.head, f"engine {i}: offered is not {queue.head:#x}"
        states = self._events | {
            "idle": sum((not known and not entered) << i for i, (known, entered) in enumerate(self._knowledge())),
            "busy": sum(bool(inside) << i for i, inside in enumerate(self._inside)),
        }
        for name, value in states.items():
            assert wires[name] == value, f"{name} is {wires[name]:#b}, expected {value:#b}"
        if self._blocked is not None:
            expected = (self._blocked >> INSTRUCTION_BITS, wait_of(self._blocked))
            blocked = (wires["blocked_pc"], wires["blocked_mask"])
            assert blocked == expected, f"blocked (pc, mask) is {blocked}, expected {expected}"

    def _knowledge(self) -> list[tuple[int, bool]]:
        return list(zip(self._known, self._entered, strict=True))

    def _cycle(self) -> None:
        """What this cycle's inputs change."""
        wires, queues = self._wires, self._queues
        engines = range(len(ENGINES))
        dones = [port for port in range(DONES) if wires[f"done__{port}__valid"]]
        entries = [
            wires[f"i_instr__{i}__payload"] if wires[f"i_instr__{i}__valid"] and queues[i].ready else None
            for i in engines
        ]
        taken = [bool(queues[i].offered and wires[f"o_instr__{i}__ready"]) for i in engines]
        masks = [queue.mask for queue in queues]
        waiting = [queue.waiting for queue in queues]
        granted = [
            self._finds[i] and not any(self._finds[j] and masks[i] & masks[j] for j in range(i)) for i in engines
        ]
        present = sum(bool(count) << s for s, count in enumerate(self._counts))
        self._finds = [waiting[i] and not masks[i] & ~present and not (any(granted) or self._used) for i in engines]

        self._fault, self._overflow = self._fault or self._overflow, 0
        for s in SEMAPHORES if self._used or self._signals else ():
            self._counts[s] += sum(mask >> s & 1 for mask in self._signals) - sum(mask >> s & 1 for mask in self._used)
            self._overflow |= (self._counts[s] > self._largest) << s
        self._used = [mask for mask, goes in zip(masks, granted, strict=True) if goes]
        self._signals = [wires[f"done__{port}__signal"] for port in dones]

        for i in engines:
            self._known[i] += self._entered[i] - self._completed[i]
            self._inside[i] += self._left[i] - self._completed[i]
            self._completed[i] = sum(engine_of(port) == i for port in dones)
        self._entered, self._left = [entry is not None for entry in entries], taken
        self._events = {
            "sem_wait": sum(waits << i for i, waits in enumerate(waiting)),
            "dispatched": int(any(self._entered) or any(taken)),
            "completed": int(bool(dones)),
            "blocked": int(any(waiting)),
        }
        self._blocked = queues[waiting.index(True)].head if any(waiting) else None
        for queue, entry, went, goes in zip(queues, entries, taken, granted, strict=True):
            queue.step(entry, went, goes)


async def random_traffic(dut: Any, rng: Random, cycles: int) -> None:
    """Start, then random instructions, appetites of the engines and completions for some cycles, with resets.

    Every instruction taken completes once, with a signal mask of its own. Signals and waits are as frequent as each
    other, so that semaphores are often at zero and sometimes overflow.
    """
    engines = range(len(ENGINES))
    wires = Wires(dut)
    starts = [f"{name}__{i}__{part}" for name, part in (("i_instr", "valid"), ("o_instr", "ready")) for i in engines]
    starts += [f"done__{port}__valid" for port in range(DONES)]
    for name in starts:
        getattr(dut, name).value = 0
    await start(dut)
    inside = [0 for _ in engines]
    offering = [False for _ in engines]
    chance = dict.fromkeys(starts, 0.5)
    resetting = 0
    for cycle in range(cycles):
        await RisingEdge(dut.clk)
        if cycle % _PHASE == 0:
            chance = {name: rng.choice((0.05, 0.5, 0.95)) for name in starts}
        for i in engines:
            inside[i] = 0 if dut.rst.value else inside[i] + wires.transfer(f"o_instr__{i}")
            offering[i] = offering[i] and not dut.rst.value and not wires[f"i_instr__{i}__ready"]
        if resetting:
            resetting -= 1
        elif rng.random() < _RESET:
            resetting = rng.randint(1, 3)
        dut.rst.value = int(resetting > 0)
        for i in engines:
            name = f"i_instr__{i}__valid"
            if not offering[i] and rng.random() < chance[name]:
                offering[i] = True
                payload = instruction(rng, cycle & 0xFF, _mask(rng, 0.4), _mask(rng, 0.8))
                getattr(dut, f"i_instr__{i}__payload").value = payload
            getattr(dut, name).value = int(offering[i])
            name = f"o_instr__{i}__ready"
            getattr(dut, name).value = int(rng.random() < chance[name] and inside[i] < _LONGEST)
        for port in range(DONES):
            name = f"done__{port}__valid"
            done = inside[engine_of(port)] > 0 and rng.random() < chance[name]
            inside[engine_of(port)] -= done
            getattr(dut, name).value = int(done)
            getattr(dut, f"done__{port}__signal").value = _mask(rng, 0.8)
    dut.rst.value = 0


def _mask(rng: Random, chance: float) -> int:
    """Semaphores, with `chance` any at all: one, two or many."""
    if rng.random() >= chance:
        return 0
    return rng.choice((1 << rng.randrange(16), 1 << rng.randrange(16) | 1 << rng.randrange(16), rng.getrandbits(16)))
