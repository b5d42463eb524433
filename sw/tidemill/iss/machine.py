"""The simulated machine: frontend, semaphores and engine queues in the order of their events.

Every instruction has its whole effect in the cycle in which it leaves its queue and is complete (signals, fences) in
the cycle that the timelines of `timing` give. So results are exact for programs without races, cycles are estimates.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tidemill.config import Config
from tidemill.csr import COUNTERS, Cause, Unit
from tidemill.driver.device import ErrorRange
from tidemill.isa import ENGINES, INSTRUCTION_BYTES, Post
from tidemill.iss.bus import Bus
from tidemill.iss.engines import DmaEngine, MatrixEngine, VectorEngine, Window
from tidemill.iss.frontend import Frontend, Instruction
from tidemill.iss.memory import LocalMemory, MachineFault
from tidemill.iss.timing import DmaTimeline, FetchTimeline, MatrixTimeline, Timing, VectorTimeline

_FAULT, _DONE, _COMPLETE, _TRY = range(4)
"""Kinds of events, in their order within one cycle."""

LOAD, STORE, MATRIX, VECTOR = range(len(ENGINES))


@dataclass(frozen=True)
class Failure:
    """The first error of a program. `index` is the instruction's position."""

    cause: Cause
    unit: Unit
    index: int
    info: int


@dataclass(frozen=True, slots=True)
class Pending:
    """An engine instruction in its queue: at the head no earlier than `ready`."""

    instruction: Instruction
    values: dict[str, int]
    index: int
    ready: int


class Queue:
    """One engine's queue and what is known of the engine's work."""

    def __init__(self) -> None:
        self.items: deque[Pending] = deque()
        self.inflight = 0
        self.busy_until = 0
        self.blocked_since: int | None = None
        self.full_since = 0
        self.wake_at = -1
        self.failed = False


class Machine:
    """Executes programs from `dram` (uint8, changed in place).

    `start` begins a program, `advance` lets time pass. `now` counts cycles since the start; `busy`, `done`, `failure`,
    `user_codes` (of `irq`, emptied by whoever reads them) and `counters` are its visible state.
    """

    def __init__(self, config: Config, dram: np.ndarray, timing: Timing, errors: tuple[ErrorRange, ...] = ()) -> None:
        self.config = config
        self.dram = dram
        self.timing = timing
        self.local = LocalMemory(config)
        self.bus = Bus(len(dram), config.axi_bytes, config.max_burst * config.axi_bytes, errors)
        self.load = DmaEngine(config, self.local, dram, self.bus, store=False)
        self.store = DmaEngine(config, self.local, dram, self.bus, store=True)
        self.matrix = MatrixEngine(config, self.local)
        self.vector = VectorEngine(config, self.local)
        self.frontend = Frontend(config)
        self.user_codes: list[int] = []
        self._semaphore_max = (1 << config.semaphore_width) - 1
        self._clear_counters()
        self.now = 0
        self.reset()

    def _clear_counters(self) -> None:
        self.counters = dict.fromkeys((counter.name for counter in COUNTERS), 0)
        self.load.beats = self.store.beats = self.matrix.rows_sent = self.vector.rows_read = 0

    def reset(self) -> None:
        """Stop at once and forget all but the memories and the counters."""
        self.busy = self.done = False
        self.failure: Failure | None = None
        for engine in (self.load, self.store, self.matrix, self.vector):
            engine.reset()
        self.user_codes.clear()
        self._queues = [Queue() for _ in ENGINES]
        self._semaphores = [0] * self.config.semaphores
        self._available = 0
        self._events: list[tuple[int, int, int, int, object]] = []
        self._sequence = 0
        self._front: int | None = None
        self._full: int | None = None
        self._fence: int | None = None
        self._last_event = 0
        self._load_time = DmaTimeline(self.config, self.timing, store=False)
        self._store_time = DmaTimeline(self.config, self.timing, store=True)
        self._matrix_time = MatrixTimeline(self.config, self.timing)
        self._vector_time = VectorTimeline(self.config, self.timing)
        self._fetch_time = FetchTimeline(self.config, self.timing, self._load_time)
        self._start_engine: tuple[Callable[[int, Pending], int], ...] = (
            self._start_load, self._start_store, self._start_matrix, self._start_vector,
        )  # fmt: skip

    def start(self, address: int, length: int, read: Window, write: Window, watchdog: int) -> None:
        """Begin the program of `length` instructions at byte `address`; `watchdog` 0 switches it off."""
        self.reset()
        self._clear_counters()
        self.load.window, self.store.window, self.watchdog = read, write, watchdog
        image = self.dram[address : address + length * INSTRUCTION_BYTES].tobytes()
        self.frontend.start(image, length, address, self._fetch_errors(address, len(image)))
        self._fetch_time = FetchTimeline(self.config, self.timing, self._load_time, length)
        self.now = 0
        self.busy = True
        self._front = self.timing.start

    def _fetch_errors(self, address: int, nbytes: int) -> dict[int, Cause]:
        """Indices of the instructions among `nbytes` from `address` that the bus answers with an error."""
        starts = address + np.arange(0, nbytes, INSTRUCTION_BYTES, dtype=np.int64)
        suspects = np.flatnonzero(self.bus.suspects(starts, INSTRUCTION_BYTES, write=False))
        found = (
            (index, self.bus.first_error(int(starts[index]), INSTRUCTION_BYTES, write=False)) for index in suspects
        )
        return {int(index): error[1] for index, error in found if error is not None}

    def advance(self, cycles: int, until: Callable[[], bool]) -> bool:
        """Let at most `cycles` pass, stopping as soon as `until` holds after an event. Returns whether it does."""
        limit = self.now + cycles
        while self.busy:
            event = self._events[0][0] if self._events else None
            front = self._front
            if event is None and front is None:
                if not self.watchdog or self._last_event + self.watchdog > limit:
                    break
                self.now = max(self.now, self._last_event + self.watchdog)
                self._bite()
            elif event is not None and (front is None or event <= front):
                if event > limit:
                    break
                self.now = self._last_event = event
                self._handle(*heapq.heappop(self._events)[1:])
            elif front is not None:
                if front > limit:
                    break
                self.now = self._last_event = front
                self._step()
            if until():
                return True
        self.now = max(self.now, limit) if self.busy else self.now
        return until()

    def counter(self, name: str) -> int:
        """Value of the counter called `name`."""
        match name:
            case "CYCLES":
                return self.now
            case "MATRIX_ROWS":
                return self.matrix.rows_sent
            case "VECTOR_ROWS":
                return self.vector.rows_read
            case "READ_BEATS":
                return self.load.beats
            case "WRITE_BEATS":
                return self.store.beats
            case _:
                return self.counters[name]

    # ---- events

    def _push(self, time: int, kind: int, which: int, data: object = None) -> None:
        self._sequence += 1
        heapq.heappush(self._events, (time, kind, which, self._sequence, data))

    def _handle(self, kind: int, which: int, _sequence: int, data: object) -> None:
        if kind == _TRY:
            self._try(which)
        elif kind == _COMPLETE:
            assert isinstance(data, Pending)
            self._complete(which, data)
        elif kind == _DONE:
            self.busy, self.done = False, True
        else:
            assert isinstance(data, Failure)
            self._fail(data)

    def _fail(self, failure: Failure) -> None:
        self.failure = failure
        self.busy = False
        self._events.clear()
        self._front = None

    def _bite(self) -> None:
        """The watchdog: nothing can ever happen again."""
        head = next((queue.items[0] for queue in self._queues if queue.items), None)
        if head is not None:
            self._fail(Failure(Cause.WATCHDOG, Unit.SYNC, head.index, head.values["wait"]))
        else:
            self._fail(Failure(Cause.WATCHDOG, Unit.FRONTEND, self.frontend.pc, 0))

    def _complete(self, which: int, item: Pending) -> None:
        queue = self._queues[which]
        queue.inflight -= 1
        signal = item.values["signal"]
        if signal:
            full = 0
            semaphores = self._semaphores
            for number in range(len(semaphores)):
                if signal >> number & 1:
                    if semaphores[number] == self._semaphore_max:
                        full |= 1 << number
                    else:
                        semaphores[number] += 1
            if full:
                self._fail(Failure(Cause.SEM_OVERFLOW, Unit.SYNC, 0, full))
                return
            self._available |= signal
            for number, other in enumerate(self._queues):
                if other.blocked_since is not None and not other.items[0].values["wait"] & ~self._available:
                    self._wake(number, self.now)
        if self._fence is not None:
            self._check_fence()

    def _wake(self, which: int, time: int) -> None:
        queue = self._queues[which]
        if queue.wake_at != time:
            queue.wake_at = time
            self._push(time, _TRY, which)

    # ---- frontend

    def _step(self) -> None:
        """Execute the instruction at the program counter, or wait for it."""
        frontend, timing, now = self.frontend, self.timing, self.now
        index = frontend.pc
        try:
            instruction = frontend.current()
            arrival = self._fetch_time.available(index, now)
            if arrival > now:
                self.counters["FETCH_WAIT"] += arrival - now
                self._front = arrival
                return
            which = instruction.queue
            if which >= 0:
                queue = self._queues[which]
                if len(queue.items) >= self.config.queue_depth:
                    self._full, self._front = which, None
                    queue.full_since = now
                    return
                ready = now + timing.queue
                queue.items.append(Pending(instruction, frontend.operands(instruction), index, ready))
                if len(queue.items) == 1:
                    self._wake(which, ready)
                frontend.pc += 1
                self._front = now + timing.dispatch
                self.counters["INSTRUCTIONS"] += 1
                return
            mnemonic = instruction.mnemonic
            if mnemonic in ("fence", "halt"):
                self._front = None
                self._fence = instruction.values["engines"] if mnemonic == "fence" else (1 << len(ENGINES)) - 1
                self._check_fence()
                return
            if mnemonic == "irq":
                self.user_codes.append(instruction.values["code"])
            back = frontend.step(instruction)
        except MachineFault as fault:
            self._fail(Failure(fault.cause, Unit.FRONTEND, index, fault.info))
            return
        extra = timing.loop_back if back else timing.loop_entry if mnemonic in ("loop", "slli") else 0
        self._front = now + timing.control + extra
        self.counters["INSTRUCTIONS"] += 1

    def _check_fence(self) -> None:
        """Go on after `fence` or `halt` once its engines are idle."""
        engines = self._fence or 0
        for number, queue in enumerate(self._queues):
            if engines >> number & 1 and (queue.items or queue.inflight):
                return
        self._fence = None
        self.counters["INSTRUCTIONS"] += 1
        if self.frontend.current().mnemonic == "halt":
            self._push(self.now + self.timing.halt, _DONE, 0)
        else:
            self.frontend.pc += 1
            self._front = self.now + self.timing.control

    # ---- engines

    def _try(self, which: int) -> None:
        """Let the instruction at the head of a queue leave it, if it may."""
        queue, now = self._queues[which], self.now
        queue.wake_at = -1
        if not queue.items or queue.failed:
            return
        item = queue.items[0]
        ready = max(item.ready, self._engine_ready(which, item.instruction.mnemonic))
        if ready > now:
            self._wake(which, ready)
            return
        wait = item.values["wait"]
        if wait & ~self._available:
            if queue.blocked_since is None:
                queue.blocked_since = now
            return
        if queue.blocked_since is not None:
            self.counters[f"SEM_{ENGINES[which].name}"] += now - queue.blocked_since
            queue.blocked_since = None
        if wait:
            self._take(wait)
            now += self.timing.wait
        queue.items.popleft()
        if self._full == which:
            self._full = None
            self._front = now + self.timing.dispatch
            self.counters["QUEUE_FULL"] += self._front - queue.full_since
        queue.inflight += 1
        try:
            complete = self._start_engine[which](now, item)
        except MachineFault as fault:
            queue.failed = True
            failure = Failure(fault.cause, Unit(Unit.LOAD + which), item.index, fault.info)
            self._push(now + 1 + fault.progress, _FAULT, failure.unit, failure)
            return
        self.counters[f"BUSY_{ENGINES[which].name}"] += max(0, complete - max(now, queue.busy_until))
        queue.busy_until = max(queue.busy_until, complete)
        self._push(complete + self.timing.signal, _COMPLETE, which, item)
        if queue.items:
            self._wake(which, now + 1)

    def _take(self, wait: int) -> None:
        for number in range(len(self._semaphores)):
            if wait >> number & 1:
                self._semaphores[number] -= 1
                if not self._semaphores[number]:
                    self._available &= ~(1 << number)

    def _engine_ready(self, which: int, mnemonic: str) -> int:
        if which == MATRIX:
            return self._matrix_time.ready(mnemonic)
        if which == VECTOR:
            return self._vector_time.ready
        return (self._load_time if which == LOAD else self._store_time).ready

    def _start_load(self, now: int, item: Pending) -> int:
        if item.instruction.mnemonic != "ld.run":
            self.load.configure(item.instruction.mnemonic, item.values)
            return self._load_time.begin_config(now)
        complete, waited = self._load_time.begin(now, self.load.run(item.values))
        self.counters["BUS_READ_WAIT"] += waited
        return complete

    def _start_store(self, now: int, item: Pending) -> int:
        if item.instruction.mnemonic != "st.run":
            self.store.configure(item.instruction.mnemonic, item.values)
            return self._store_time.begin_config(now)
        complete, waited = self._store_time.begin(now, self.store.run(item.values))
        if self.timing.bandwidth < 1:
            self.counters["BUS_WRITE_WAIT"] += waited
        return complete

    def _start_matrix(self, now: int, item: Pending) -> int:
        mnemonic, values = item.instruction.mnemonic, item.values
        word = item.instruction.word & 0xFFFF_FFFF
        if mnemonic == "mx.wload":
            self.matrix.wload(values, word)
            return self._matrix_time.begin_wload(now)
        if mnemonic == "mx.run":
            return self._matrix_time.begin_run(now, self.matrix.run(values, word), bool(values["swap"]))
        self.matrix.configure(mnemonic, values)
        return self._matrix_time.begin_config(now)

    def _start_vector(self, now: int, item: Pending) -> int:
        mnemonic, values = item.instruction.mnemonic, item.values
        if mnemonic == "vx.param":
            self.vector.param(values)
            return self._vector_time.begin_fixed(now, self.timing.vector_param)
        if mnemonic == "vx.lut":
            self.vector.lut(values)
            return self._vector_time.begin_fixed(now, self.timing.vector_lut)
        if "post" in values:
            rows, window = self.vector.operate(mnemonic, values)
            return self._vector_time.begin(now, rows, window, Post(values["post"]))
        self.vector.configure(mnemonic, values)
        return self._vector_time.begin_config(now)
