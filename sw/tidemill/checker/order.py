"""Order between engines: a token game over the semaphores, vector clocks, and the accesses that nothing orders.

A clock has one component per agent: the engines, with `mx.wload` as an agent of its own because it runs ahead of the
other matrix instructions. Component c of an instruction's clock is the number of instructions of c's engine up to
which agent c's accesses are known to be complete when the instruction starts.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from tidemill.checker.access import Access
from tidemill.checker.findings import Finding, where
from tidemill.checker.trace import Step
from tidemill.isa import ENGINES, Engine
from tidemill.program import Program

_AGENTS = 5
_WLOAD = 4
_CLOCK = _AGENTS + len(ENGINES)
"""Components: what each agent has completed, then what each engine has started."""
_QUEUE_SLACK = 4
"""Instructions an engine may hold besides its queue."""

_CACHED_SETS = 4096
"""Row sets kept for instructions that come again."""

Clock = np.ndarray


def check_order(program: Program, steps: list[Step]) -> list[Finding]:
    """Findings about deadlocks, semaphores and unordered accesses."""
    return _Game(program, steps).run()


@dataclass
class _Semaphore:
    """The tokens of one semaphore: end clocks of signals by agent, waits by engine."""

    signals: dict[int, list[Clock]] = field(default_factory=dict)
    totals: dict[int, int] = field(default_factory=dict)
    waits: dict[int, list[int]] = field(default_factory=dict)
    count: int = 0
    last_signal: int = 0


class _Game:
    def __init__(self, program: Program, steps: list[Step]) -> None:
        self._program, self._steps = program, steps
        self._findings: list[Finding] = []
        self._semaphores = [_Semaphore() for _ in range(16)]
        self._queues: list[deque[tuple[Step, int, Clock]]] = [deque() for _ in ENGINES]
        self._starts = [np.zeros(_CLOCK, np.int64) for _ in ENGINES]
        self._ends = [np.zeros(_CLOCK, np.int64) for _ in ENGINES]
        self._static: list[list[int]] = [[] for _ in ENGINES]
        self._memory = _Memory(program, steps)
        self._limit = (1 << program.config.semaphore_width) - 1
        for step in steps:
            for bit in _bits(step.signal):
                totals = self._semaphores[bit].totals
                totals[_agent(step)] = totals.get(_agent(step), 0) + 1

    def run(self) -> list[Finding]:
        """Play the program: dispatch in order, start whatever can start."""
        frontend = np.zeros(_CLOCK, np.int64)
        depth = self._program.config.queue_depth
        for step in self._steps:
            if step.engine is Engine.CONTROL:
                self._drain()
                engines = [e for e in range(len(ENGINES)) if step.mask >> e & 1]
                if any(self._queues[e] for e in engines):
                    return self._deadlock(f"{where(self._program, step.index)} waits for ever")
                for engine in engines:
                    np.maximum(frontend, self._ends[engine], out=frontend)
                continue
            engine = step.engine - 1
            if len(self._queues[engine]) >= depth:
                self._drain()
                if len(self._queues[engine]) >= depth:
                    return self._deadlock(f"the queue is full at {where(self._program, step.index)}")
            self._static[engine].append(step.index)
            position = len(self._static[engine])
            started = _AGENTS + engine
            frontend[started] = max(frontend[started], position - depth - _QUEUE_SLACK)
            self._queues[engine].append((step, position, frontend.copy()))
        self._drain()
        if any(self._queues):
            return self._deadlock("the program ends with instructions that never start")
        self._report_semaphores()
        return self._findings + self._memory.findings(self._static)

    def _drain(self) -> None:
        progress = True
        while progress:
            progress = False
            for engine, queue in enumerate(self._queues):
                while queue and all(self._semaphores[bit].count for bit in _bits(queue[0][0].wait)):
                    self._start(engine, *queue.popleft())
                    progress = True

    def _start(self, engine: int, step: Step, position: int, dispatched: Clock) -> None:
        clock = self._starts[engine]
        np.maximum(clock, dispatched, out=clock)
        clock[_AGENTS + engine] = position
        for bit in _bits(step.wait):
            semaphore = self._semaphores[bit]
            semaphore.count -= 1
            semaphore.waits.setdefault(engine, []).append(position)
            nth = len(semaphore.waits[engine])
            for agent, signals in semaphore.signals.items():
                others = sum(total for other, total in semaphore.totals.items() if other != agent)
                if nth > others:
                    np.maximum(clock, signals[nth - others - 1], out=clock)
        agent = _agent(step)
        self._memory.touch(step, agent, position, clock)
        end = self._ends[engine]
        np.maximum(end, clock, out=end)
        end[agent] = position
        if engine == Engine.MATRIX - 1 and agent != _WLOAD:
            end[_WLOAD] = position
        signalled = end
        if agent == _WLOAD:
            signalled = clock.copy()
            signalled[_WLOAD] = position
        for bit in _bits(step.signal):
            self._signal(bit, agent, step, signalled)

    def _signal(self, bit: int, agent: int, step: Step, clock: Clock) -> None:
        semaphore = self._semaphores[bit]
        semaphore.signals.setdefault(agent, []).append(clock.copy())
        semaphore.count += 1
        semaphore.last_signal = step.index
        if len(semaphore.totals) == 1:
            done = sum(
                int(np.searchsorted(positions, clock[_AGENTS + engine], side="right"))
                for engine, positions in semaphore.waits.items()
            )
            most = len(semaphore.signals[agent]) - done
        else:
            most = semaphore.count
        if most > self._limit:
            message = f"semaphore {self._name(bit)!r} can be signalled past its largest count {self._limit}"
            self._findings.append(Finding("error", "SEM_OVERFLOW", message, step.index))

    def _deadlock(self, what: str) -> list[Finding]:
        stuck = []
        for queue in self._queues:
            if queue:
                step = queue[0][0]
                missing = [self._name(bit) for bit in _bits(step.wait) if not self._semaphores[bit].count]
                stuck.append((step.index, f"{where(self._program, step.index)} waits for {', '.join(missing)}"))
        message = f"deadlock: {what}; " + "; ".join(text for _, text in stuck)
        finding = Finding("error", "deadlock", message, min(stuck)[0])
        return [*self._findings, finding, *self._memory.findings(self._static)]

    def _report_semaphores(self) -> None:
        for bit, semaphore in enumerate(self._semaphores):
            name = self._name(bit)
            signallers = sum(_engine(agent) not in semaphore.waits for agent in semaphore.totals)
            for kind, users in (("waiters", len(semaphore.waits)), ("signallers", signallers)):
                if users > 1:
                    message = f"semaphore {name!r} has several {kind}; the checker assumes the least order"
                    self._findings.append(
                        Finding("warning", f"several {kind} of {name}", message, semaphore.last_signal)
                    )
            if semaphore.count:
                message = f"semaphore {name!r} is left at {semaphore.count} when the program ends"
                self._findings.append(Finding("warning", f"leftover {name}", message, semaphore.last_signal))

    def _name(self, bit: int) -> str:
        names = self._program.semaphores
        return names[bit] if bit < len(names) else f"sem[{bit}]"


class _Memory:
    """Per row (and stretch of DRAM bytes): the latest read and write of each agent."""

    def __init__(self, program: Program, steps: list[Step]) -> None:
        self._program = program
        self._latest: dict[tuple[str, bool], np.ndarray] = {}
        self._units = _shared_stretches(steps)
        self._sets: dict[tuple[str, Access], np.ndarray] = {}
        self._pairs: dict[tuple[int, int, int, int, bool, bool, str], int] = {}

    def touch(self, step: Step, agent: int, position: int, clock: Clock) -> None:
        """Record the accesses of a starting instruction and note those nothing orders after earlier ones."""
        for access in step.accesses:
            space, units = self._rows(access, step.buffer or "")
            if units is None:
                continue
            for written in (True, False):
                if not (written or access.write):
                    continue
                latest = self._table(space, written)
                for other in range(_AGENTS):
                    if _engine(other) == _engine(agent):
                        continue
                    seen = latest[other, units]
                    late = seen > clock[other]
                    if late.any():
                        self._note(space, units, seen, late, (agent, position, other, access.write, written))
        for access in step.accesses:
            space, units = self._rows(access, step.buffer or "")
            if units is not None:
                self._table(space, access.write)[agent, units] = position

    def _note(
        self, space: str, units: np.ndarray, seen: np.ndarray, late: np.ndarray, race: tuple[int, int, int, bool, bool]
    ) -> None:
        agent, position, other, write, written = race
        positions, first = np.unique(seen[late], return_index=True)
        for value, at in zip(positions.tolist(), units[late][first].tolist(), strict=True):
            self._pairs.setdefault((agent, position, other, value, write, written, space), at)

    def findings(self, static: list[list[int]]) -> list[Finding]:
        """One finding per pair of instructions; `static` maps engine and position to the instruction."""
        found: dict[tuple[int, int], Finding] = {}
        for (agent, position, other, value, write, written, space), at in self._pairs.items():
            here, there = static[_engine(agent)][position - 1], static[_engine(other)][value - 1]
            (first, first_writes), (second, second_writes) = sorted([(here, write), (there, written)])
            if (first, second) in found:
                continue
            kind = "WAW" if first_writes and second_writes else "RAW" if first_writes else "WAR"
            place = f"buffer {space[5:]!r}" if space.startswith("dram:") else f"{space} row {at}"
            place = "DRAM" if space == "dram:" else place
            message = (
                f"{kind}: {where(self._program, first)} {'writes' if first_writes else 'reads'} and "
                f"{where(self._program, second)} {'writes' if second_writes else 'reads'} {place}, nothing orders them"
            )
            found[first, second] = Finding("error", "unordered access", message, second, first)
        return list(found.values())

    def _table(self, space: str, write: bool) -> np.ndarray:
        if (space, write) not in self._latest:
            config = self._program.config
            size = {"spad": config.spad_rows, "acc": config.acc_rows}.get(space) or len(self._units[space[5:]])
            self._latest[space, write] = np.zeros((_AGENTS, size), np.int32)
        return self._latest[space, write]

    def _rows(self, access: Access, buffer: str) -> tuple[str, np.ndarray | None]:
        space = f"dram:{buffer}" if access.space == "dram" else access.space
        if access.space == "dram" and buffer not in self._units:
            return space, None
        key = (space, access)
        if key not in self._sets:
            if len(self._sets) >= _CACHED_SETS:
                self._sets.clear()
            if access.space == "dram":
                edges, starts = self._units[buffer], access.nest.starts()
                ranges = zip(
                    np.searchsorted(edges, starts), np.searchsorted(edges, starts + access.nest.run), strict=True
                )
                self._sets[key] = np.unique(np.concatenate([np.arange(low, high) for low, high in ranges]))
            else:
                self._sets[key] = access.nest.elements()
        return space, self._sets[key]


def _shared_stretches(steps: list[Step]) -> dict[str, np.ndarray]:
    """For each buffer that is both read and written: the sorted edges of all lines; stretch i begins at edge i."""
    nests: dict[str, dict[bool, set[Access]]] = {}
    for step in steps:
        for access in step.accesses:
            if access.space == "dram":
                nests.setdefault(step.buffer or "", {}).setdefault(access.write, set()).add(access)
    edges = {}
    for buffer, kinds in nests.items():
        if len(kinds) == 2:
            points = [
                edge
                for access in (*kinds[True], *kinds[False])
                for edge in (access.nest.starts(), access.nest.starts() + access.nest.run)
            ]
            edges[buffer] = np.unique(np.concatenate(points))
    return edges


def _agent(step: Step) -> int:
    return _WLOAD if step.mnemonic == "mx.wload" else step.engine - 1


def _engine(agent: int) -> int:
    return Engine.MATRIX - 1 if agent == _WLOAD else agent


def _bits(mask: int) -> list[int]:
    return [bit for bit in range(16) if mask >> bit & 1] if mask else []
