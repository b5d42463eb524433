"""How a program may end: every report that some timing allows.

The streams of the engines are facts (`streams`); what remains is a game of tokens. It is played with every engine
stopping for good at its first fault. Whatever fault can be started then may be the first that the machine reports,
since nothing that comes after it is needed for it; where none can be started the program ends, or stands still and
the watchdog reports who waits. A move that can take no token from another engine is made at once (the order of such
moves does not change what can be reached); where several engines wait for one semaphore all orders are tried.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tidemill.config import Config
from tidemill.csr import Cause, Unit
from tidemill.isa import ENGINES, INSTRUCTION_BYTES
from tidemill.iss.machine import Failure
from tidemill_verif.illegal_programs.streams import AHEAD, MATRIX, Step, Streams, TooLong, streams
from tidemill_verif.random_programs.case import Case
from tidemill_verif.random_programs.lockstep import Outcome

ROOM = 4
"""Instructions that an engine may hold besides its queue: what waits at its head and what is on its way. The
architecture names only the queue's depth, so a program that stands still may do so at any of these depths."""
STATES = 3_000
"""States of the token game that are looked at; where there are more, every fault counts as possible."""
DONE = "done"
_BUS = (Cause.BUS_SLVERR, Cause.BUS_DECERR)

__all__ = ["DONE", "Ends", "TooLong", "possible_ends"]


@dataclass(frozen=True)
class Ends:
    """`reports` as `Outcome.end` words them. Besides, SEM_OVERFLOW of any semaphores of `overflow`; from `store_from`
    (byte address of an instruction) on, any report of the store engine. `why` more than one end is possible: empty
    where only one is."""

    reports: frozenset[str]
    overflow: int
    store_from: int | None
    why: str

    def allows(self, outcome: Outcome) -> bool:
        """Whether `outcome` ended in one of these ways."""
        if outcome.end in self.reports:
            return True
        registers = outcome.registers
        cause, unit, info = registers["ERROR_CAUSE"], registers["ERROR_UNIT"], registers["ERROR_INFO"]
        if not outcome.finished or outcome.breach:
            return False
        if cause == Cause.SEM_OVERFLOW:
            return unit == Unit.SYNC and info != 0 and not info & ~self.overflow
        return self.store_from is not None and unit == Unit.STORE and registers["ERROR_PC"] >= self.store_from


def possible_ends(case: Case) -> Ends:
    """How `case` may end. Raises `TooLong` for programs that are not worth running."""
    facts = streams(case)
    base = case.kept_start[0]

    def text(failure: Failure | None) -> str:
        if failure is None:
            return DONE
        at = base + INSTRUCTION_BYTES * failure.index & 0xFFFF_FFFF
        return f"{failure.cause.name} in {failure.unit.name} at {at:#x}, info {failure.info:#x}"

    games = [_Game(case.config, facts, case.config.queue_depth + room) for room in range(ROOM + 1)]
    found = [game.play() for game in games]
    reports = frozenset(text(failure) for ends in found for failure in ends)
    overflow = games[0].overflow
    store = facts.faults.get(Unit.STORE - 1)
    store_from = None
    if store is not None and store[1].cause in _BUS and text(store[1]) in reports:
        store_from = base + INSTRUCTION_BYTES * min(step.index for step in facts.steps if step.engine == Unit.STORE - 1)
    why = ""
    if any(game.given_up for game in games):
        why = "too many orders"
    elif store_from is not None:
        why = "bus error of a store"
    elif overflow:
        why = "a semaphore may overflow"
    elif any(ends != found[0] for ends in found):
        why = "room in a queue"
    elif len(reports) > 1:
        why = "several waiters of a semaphore" if games[0].contended else "several faults"
    return Ends(reports, overflow, store_from, why)


@dataclass
class _State:
    """Positions: of the frontend among the steps, and of each engine among those that it has begun."""

    front: int = 0
    begun: list[int] = field(default_factory=lambda: [0] * len(ENGINES))
    given: list[int] = field(default_factory=lambda: [0] * len(ENGINES))
    tokens: list[int] = field(default_factory=lambda: [0] * 16)

    def copy(self) -> _State:
        return _State(self.front, list(self.begun), list(self.given), list(self.tokens))

    @property
    def key(self) -> tuple[int, ...]:
        return (self.front, *self.begun)


class _Game:
    """`overflow`: semaphores that get more signals than they can hold; `contended`: those with several waiters."""

    def __init__(self, config: Config, facts: Streams, depth: int) -> None:
        self.facts, self.depth = facts, depth
        self.queues: list[list[Step]] = [[] for _ in ENGINES]
        for step in facts.steps:
            if step.engine is not None:
                self.queues[step.engine].append(step)
        self.stops = [facts.faults[e][0] if e in facts.faults else len(self.queues[e]) for e in range(len(ENGINES))]
        self.most = (1 << config.semaphore_width) - 1
        self.contended = self.overflow = 0
        for number in range(config.semaphores):
            waiters = sum(any(step.wait >> number & 1 for step in queue) for queue in self.queues)
            signals = sum(step.signal >> number & 1 for queue in self.queues for step in queue)
            self.contended |= (waiters > 1) << number
            self.overflow |= (signals > self.most) << number
        self.given_up = False

    def play(self) -> frozenset[Failure | None]:
        """Every fault that may come first; None for an end without one."""
        found: set[Failure | None] = set()
        seen: set[tuple[int, ...]] = set()
        states = [_State()]
        while states:
            state = states.pop()
            self._run(state)
            if state.key in seen:
                continue
            seen.add(state.key)
            if len(seen) > STATES:
                self.given_up = True
                return frozenset(found | self._every())
            faults = self._faults(state)
            found |= faults
            moves = [engine for engine in range(len(ENGINES)) if self._may_begin(state, engine)]
            for engine in moves:
                following = state.copy()
                self._begin(following, engine)
                states.append(following)
            if not faults and not moves and max(state.tokens) <= self.most:
                found.add(self._rest(state))
        return frozenset(found)

    def _every(self) -> set[Failure | None]:
        watchdogs = {
            Failure(Cause.WATCHDOG, Unit.SYNC, step.index, step.wait)
            for queue in self.queues
            for step in queue
            if step.wait
        }
        faults = {failure for _, failure in self.facts.faults.values()}
        last = set() if self.facts.failure is None else {self.facts.failure}
        return {None, *watchdogs, *faults, *self.facts.overtaking, *last}

    def _run(self, state: _State) -> None:
        """Make every move that takes nothing from another engine."""
        moved = True
        while moved:
            moved = False
            for engine in range(len(ENGINES)):
                while self._may_begin(state, engine) and not self._next(state, engine).wait & self.contended:
                    self._begin(state, engine)
                    moved = True
            while self._may_pass(state):
                step = self.facts.steps[state.front]
                if step.engine is not None:
                    state.given[step.engine] += 1
                state.front += 1
                moved = True

    def _next(self, state: _State, engine: int) -> Step:
        return self.queues[engine][state.begun[engine]]

    def _may_begin(self, state: _State, engine: int) -> bool:
        begun = state.begun[engine]
        if begun >= state.given[engine] or begun > self.stops[engine] + AHEAD:
            return False
        wait = self.queues[engine][begun].wait
        return all(state.tokens[number] for number in range(16) if wait >> number & 1)

    def _begin(self, state: _State, engine: int) -> None:
        """Start an instruction; it completes at once unless it faults or comes after a fault."""
        position = state.begun[engine]
        step = self.queues[engine][position]
        state.begun[engine] += 1
        completes = position < self.stops[engine] or (engine == MATRIX and position in self.facts.passed)
        for number in range(16):
            state.tokens[number] -= step.wait >> number & 1
            state.tokens[number] += completes and step.signal >> number & 1

    def _may_pass(self, state: _State) -> bool:
        """Whether the frontend gets on: room in the queue, or all engines of a fence idle."""
        if state.front >= len(self.facts.steps):
            return False
        step = self.facts.steps[state.front]
        if step.halt:
            return False
        if step.engine is None:
            return self._idle(state, step.mask)
        return state.given[step.engine] - state.begun[step.engine] < self.depth

    def _idle(self, state: _State, mask: int) -> bool:
        return all(
            state.begun[engine] == state.given[engine] <= self.stops[engine]
            for engine in range(len(ENGINES))
            if mask >> engine & 1
        )

    def _faults(self, state: _State) -> set[Failure | None]:
        found: set[Failure | None] = set()
        for engine, (position, failure) in self.facts.faults.items():
            if state.begun[engine] > position:
                found.add(failure)
                if engine == MATRIX:
                    found.update(self.facts.overtaking)
        if state.front == len(self.facts.steps) and self.facts.failure is not None:
            found.add(self.facts.failure)
        return found

    def _rest(self, state: _State) -> Failure | None:
        """How a program ends that has no fault and cannot go on."""
        for engine in range(len(ENGINES)):
            if state.begun[engine] < state.given[engine]:
                step = self._next(state, engine)
                return Failure(Cause.WATCHDOG, Unit.SYNC, step.index, step.wait)
        return None
