"""Puts the engines of a tree in order: semaphores and fences wherever two engines touch the same rows or bytes.

The bookkeeping is that of vector clocks. A clock says, for each agent, up to which position of its engine everything is
known to be complete, and for each engine, up to which position its instructions are known to have started. Positions of
a loop body stand for the latest iteration; what crosses the border of an iteration is ordered by a fence or by a
semaphore that is signalled once before the loop.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

from tidemill.config import Config
from tidemill.isa import ENGINES
from tidemill_verif.random_programs.footprint import Agent, Footprint, union
from tidemill_verif.random_programs.tree import Item, Loop, Node, Tokens, items

Clock = list[int]

STARTED = len(Agent)
"""First component of a clock that says what has started."""
_COMPONENTS = STARTED + len(ENGINES)
_IN_FLIGHT = 6
"""Instructions that an engine may have taken from its queue and not started, at most."""
SYNC = ("ld.sync", "st.sync", "mx.sync", "vx.sync")
"""The instruction of each engine that only waits and signals."""


class TooLong(Exception):
    """A loop does not fit the loop buffer."""


@dataclass
class Word:
    """One instruction of the program, semaphores included."""

    mnemonic: str
    values: dict[str, int]


@dataclass
class Done:
    """An engine's instruction that has been written."""

    agent: Agent
    position: int
    index: int
    block: int
    footprint: Footprint
    start: Clock
    clock: Clock
    """What its signal says."""
    word: Word


@dataclass
class Semaphore:
    """`owner` is (who signals, which engine waits); `waits` the engine and position of every wait since it has been the
    owner's, `spans` the indices of signal and wait."""

    owner: tuple[Agent, int] | None = None
    last: int = 0
    waits: list[tuple[int, int]] = field(default_factory=list)
    spans: list[tuple[int, int]] = field(default_factory=list)
    free: bool = True


@dataclass(frozen=True)
class Style:
    """How engines are put in order: chances of a fence instead of semaphores, of a signal from an instruction that is
    there already, of semaphores that nothing needs, and of a semaphore changing its owner."""

    fence: float
    late: float
    noise: float
    reuse: float


class Orderer:
    """Writes `words` from a tree."""

    def __init__(self, config: Config, rng: Random, style: Style) -> None:
        self.config, self.rng, self.style = config, rng, style
        self.words: list[Word] = []
        self._front = [0] * _COMPONENTS
        self._start = [[0] * _COMPONENTS for _ in ENGINES]
        self._end = [[0] * _COMPONENTS for _ in ENGINES]
        self._position = [0] * len(ENGINES)
        self._history: list[list[Done]] = [[] for _ in Agent]
        self._semaphores = [Semaphore() for _ in range(config.semaphores)]
        rng.shuffle(self._semaphores)
        self._numbers = {id(semaphore): number for number, semaphore in enumerate(self._semaphores)}
        self._most = (1 << config.semaphore_width) - 1
        self._cap = self._most - config.queue_depth - _IN_FLIGHT
        self._block = 0
        self._depth = 0
        self._blocks = 0

    def write(self, nodes: list[Node]) -> None:
        """Append `nodes`. Raises `TooLong`."""
        for node in nodes:
            if isinstance(node, Loop):
                self._loop(node)
            elif isinstance(node, Tokens):
                self._tokens(node.kind)
            elif node.agent is None:
                self._control(node)
            else:
                self._item(node, node.agent)

    # ---- instructions

    def _control(self, item: Item) -> None:
        self.words.append(Word(item.mnemonic, dict(item.values)))
        if item.mnemonic == "fence":
            self._passed(item.values["engines"])

    def _fence(self, mask: int) -> None:
        self.words.append(Word("fence", {"engines": mask}))
        self._passed(mask)

    def _passed(self, mask: int) -> None:
        for engine in range(len(ENGINES)):
            if mask >> engine & 1:
                self._front = _most(self._front, self._end[engine])

    def _item(self, item: Item, agent: Agent) -> None:
        waits, clocks = self._order(agent.engine, item.footprint)
        if self.rng.random() < self.style.noise:
            waits, clocks = self._noise(agent.engine, waits, clocks)
        if waits and self.rng.random() < 0.2:
            self._sync(agent.engine, waits, clocks)
            waits, clocks = [], []
        self._emit(item.mnemonic, dict(item.values), agent, item.footprint, waits, clocks)

    def _sync(self, engine: int, waits: Sequence[Semaphore] = (), clocks: Sequence[Clock] = ()) -> Done:
        return self._emit(SYNC[engine], {}, Agent(engine), Footprint(), waits, clocks)

    def _emit(
        self,
        mnemonic: str,
        values: dict[str, int],
        agent: Agent,
        footprint: Footprint,
        waits: Sequence[Semaphore],
        clocks: Sequence[Clock],
    ) -> Done:
        engine = agent.engine
        self._position[engine] += 1
        position = self._position[engine]
        start = _most(self._start[engine], self._front, *clocks)
        start[STARTED + engine] = position
        self._start[engine] = start
        end = _most(self._end[engine], start)
        end[agent] = position
        if agent is Agent.MATRIX:
            end[Agent.WLOAD] = position
        self._end[engine] = end
        clock = list(end)
        if agent is Agent.WLOAD:
            clock = list(start)
            clock[Agent.WLOAD] = position
        for semaphore in waits:
            semaphore.waits.append((engine, position))
        word = Word(mnemonic, values | {"wait": self._mask(waits), "signal": 0})
        self.words.append(word)
        done = Done(agent, position, len(self.words) - 1, self._block, footprint, list(start), clock, word)
        self._history[agent].append(done)
        return done

    def _mask(self, semaphores: Sequence[Semaphore]) -> int:
        return sum(1 << self._numbers[id(semaphore)] for semaphore in semaphores)

    # ---- order

    def _known(self, engine: int) -> Clock:
        return _most(self._start[engine], self._front)

    def _order(self, engine: int, footprint: Footprint) -> tuple[list[Semaphore], list[Clock]]:
        """Semaphores to wait for before `engine` touches `footprint`, and what they say; may write fences and syncs."""
        waits: list[Semaphore] = []
        clocks: list[Clock] = []
        for agent in sorted(Agent, key=lambda _: self.rng.random()):
            if agent.engine == engine:
                continue
            known = _most(self._known(engine), *clocks)
            position = self._conflict(agent, footprint, known[agent])
            if position:
                if self.rng.random() >= self.style.fence:
                    edge = self._edge(agent, position, engine, waits)
                    if edge is not None:
                        waits.append(edge[0])
                        clocks.append(edge[1])
                        continue
                self._fence(1 << agent.engine | (self.rng.randrange(16) if self.rng.random() < 0.3 else 0))
        return waits, clocks

    def _conflict(self, agent: Agent, footprint: Footprint, known: int) -> int:
        """Latest position of `agent` after `known` that touches what `footprint` touches; 0 where there is none."""
        for done in reversed(self._history[agent]):
            if done.position <= known:
                return 0
            if done.footprint.conflicts(footprint):
                return done.position
        return 0

    def _noise(self, engine: int, waits: list[Semaphore], clocks: list[Clock]) -> tuple[list[Semaphore], list[Clock]]:
        """Semaphores that nothing needs."""
        for _ in range(self.rng.randint(1, 3)):
            agent = self.rng.choice([agent for agent in Agent if agent.engine != engine])
            found = [done for done in self._history[agent][-6:] if done.block == self._block]
            if found:
                edge = self._edge(agent, self.rng.choice(found).position, engine, waits)
                if edge is not None:
                    waits, clocks = [*waits, edge[0]], [*clocks, edge[1]]
        return waits, clocks

    def _edge(self, agent: Agent, position: int, engine: int, taken: list[Semaphore]) -> tuple[Semaphore, Clock] | None:
        """A semaphore that says that `agent` is complete up to `position`, for `engine` to wait for next."""
        if self.rng.random() < self.style.late:
            found = list(self._signallers(agent, position))
            self.rng.shuffle(found)
            for done in found:
                semaphore = self._semaphore(done.agent, done, engine, taken)
                if semaphore is not None:
                    return self._signal(semaphore, done, engine), done.clock
        helper = Agent(agent.engine)
        if self._semaphore(helper, None, engine, taken) is None:
            return None
        done = self._sync(helper)
        semaphore = self._semaphore(helper, done, engine, taken)
        return None if semaphore is None else (self._signal(semaphore, done, engine), done.clock)

    def _signallers(self, agent: Agent, position: int) -> Iterator[Done]:
        """Instructions of this block whose signal says that `agent` is complete up to `position`."""
        sources = (Agent.MATRIX, Agent.WLOAD) if agent is Agent.WLOAD else (agent,)
        for source in sources:
            for done in reversed(self._history[source][-12:]):
                if done.position >= position and done.block == self._block:
                    yield done

    def _semaphore(self, agent: Agent, done: Done | None, engine: int, taken: list[Semaphore]) -> Semaphore | None:
        """A semaphore that `done` (None: a sync that comes next) may signal for `engine`."""
        owner = (agent, engine)
        candidates = []
        for semaphore in self._semaphores:
            if not semaphore.free or any(semaphore is other for other in taken):
                continue
            if semaphore.owner == owner:
                begin = len(self.words) if done is None else done.index
                if done is not None and done.position <= semaphore.last:
                    continue
                if sum(wait > begin for _, wait in semaphore.spans) < self._cap:
                    candidates.append(semaphore)
            elif self._cap > 0 and (semaphore.owner is None or self._may_change(semaphore, agent, done, engine)):
                candidates.append(semaphore)
        return self.rng.choice(candidates) if candidates else None

    def _may_change(self, semaphore: Semaphore, agent: Agent, done: Done | None, engine: int) -> bool:
        """Whether everyone who waited on `semaphore` is known to have started when its new owner signals it, and when
        the new owner's `engine` waits for it."""
        if self._depth or self.rng.random() >= self.style.reuse:
            return False
        signals, waits = self._known(agent.engine) if done is None else done.start, self._known(engine)
        return all(
            min(signals[STARTED + waiter], waits[STARTED + waiter] if waiter != engine else position) >= position
            for waiter, position in semaphore.waits
        )

    def _signal(self, semaphore: Semaphore, done: Done, engine: int) -> Semaphore:
        owner = (done.agent, engine)
        if semaphore.owner != owner:
            semaphore.owner, semaphore.waits, semaphore.spans = owner, [], []
        semaphore.last = done.position
        semaphore.spans.append((done.index, len(self.words)))
        done.word.values["signal"] |= self._mask([semaphore])
        return semaphore

    # ---- tokens

    def _tokens(self, kind: str) -> None:
        """Semaphores that nothing needs, in patterns that the order of accesses does not bring. Each is empty
        afterwards; whoever waited for it last must be known to have started before it is used again."""
        rng = self.rng
        idle = [s for s in self._semaphores if s.free and s.owner is None and not s.waits]
        if not idle:
            return
        engines = list(range(len(ENGINES)))
        rng.shuffle(engines)
        first, others = engines[0], engines[1 : rng.randint(2, len(engines))]
        one = rng.choice(idle)
        if kind == "mask":
            some = rng.sample(idle, rng.randint(1, min(6, len(idle))))
            done = self._sync(first)
            done.word.values["signal"] |= self._mask(some)
            self._sync(others[0], some, [done.clock])
            for semaphore in some:
                self._use_up(semaphore)
        elif kind == "pile" and self._depth == 0 and self._most < 1 << 8:
            self._repeat(SYNC[first], {"wait": 0, "signal": self._mask([one])})
            self._repeat(SYNC[others[0]], {"wait": self._mask([one]), "signal": 0})
            self._use_up(one)
        elif kind == "join":
            for _ in range(rng.randint(1, 5)):
                for engine in others:
                    self._sync(engine).word.values["signal"] |= self._mask([one])
                for _ in others:
                    self._sync(first, [one])
            self._use_up(one)
        elif kind == "spread" and self._depth == 0:
            for _ in others:
                self._sync(first).word.values["signal"] |= self._mask([one])
            for engine in others:
                self._sync(engine, [one])
            self._use_up(one)

    def _use_up(self, semaphore: Semaphore) -> None:
        """No one may use `semaphore` again, but for programs that let semaphores change their owner."""
        semaphore.owner = (Agent.LOAD, int(Agent.LOAD))
        semaphore.free = not self._depth and self.style.reuse > 0

    def _repeat(self, mnemonic: str, values: dict[str, int]) -> None:
        engine = SYNC.index(mnemonic)
        self.words.append(Word("loop", {"count": self._most, "rs": 0, "length": 2}))
        self._position[engine] += 1
        self.words.append(Word(mnemonic, dict(values)))
        self.words.append(Word("endloop", {}))
        if values["wait"]:
            for number, semaphore in enumerate(self._semaphores):
                if values["wait"] >> number & 1:
                    semaphore.waits.append((engine, self._position[engine]))

    # ---- loops

    def _loop(self, loop: Loop) -> None:
        rng = self.rng
        touched = {agent: union(item.footprint for item in items(loop.body) if item.agent is agent) for agent in Agent}
        for agent in Agent:
            waits, clocks = self._order(agent.engine, touched[agent])
            if waits:
                self._sync(agent.engine, waits, clocks)
        pairs = _across(touched) if loop.most > 1 else []
        fence = 0
        ends = []
        for source, target in pairs:
            semaphore = None
            if rng.random() >= self.style.fence:
                semaphore = next((s for s in self._semaphores if s.free and s.owner is None and not s.waits), None)
            if semaphore is None or self._cap <= 0:
                fence |= 1 << source
            else:
                semaphore.free = False
                ends.append((source, target, semaphore))
        for source, _, semaphore in ends:
            foreign = self.style.reuse > 0 and rng.random() < 0.5
            engine = rng.randrange(len(ENGINES)) if foreign else source
            self._sync(engine).word.values["signal"] |= self._mask([semaphore])
        before = (list(self._front), [list(c) for c in self._start], [list(c) for c in self._end])
        begin = len(self.words)
        self.words.append(Word("loop", dict(loop.values)))
        outer = self._block
        self._blocks += 1
        self._block = self._blocks
        self._depth += 1
        for _, target, semaphore in ends:
            self._sync(target, [semaphore])
        first = bool(fence) and rng.random() < 0.3
        if first:
            self._fence(fence)
        self.write(loop.body)
        for source, _, semaphore in ends:
            last = self._history[source][-1:]
            if last and last[0].block == self._block and last[0].position == self._position[source]:
                last[0].word.values["signal"] |= self._mask([semaphore])
            else:
                self._sync(source).word.values["signal"] |= self._mask([semaphore])
        if fence and not first:
            self._fence(fence)
        self._depth -= 1
        self._block = outer
        self._end_loop(begin)
        for _, target, semaphore in ends:
            if rng.random() < 0.8:
                self._sync(target, [semaphore])
                if self.style.reuse and not self._depth:
                    semaphore.free, semaphore.owner = True, (Agent.LOAD, int(Agent.LOAD))
        if loop.least == 0:
            self._skipped(before)

    def _end_loop(self, begin: int) -> None:
        if self._depth == 0 and self.rng.random() < 0.05:
            missing = self.config.ibuf_depth - (len(self.words) - begin) - 1
            self.words += [Word("nop", {}) for _ in range(missing)]
        length = len(self.words) - begin
        if length + 1 > self.config.ibuf_depth:
            raise TooLong
        self.words[begin].values["length"] = length
        self.words.append(Word("endloop", {}))

    def _skipped(self, before: tuple[Clock, list[Clock], list[Clock]]) -> None:
        """What a loop that may not run at all has told is forgotten; what it has done counts as done."""
        self._front, self._start = list(before[0]), before[1]
        for engine, end in enumerate(before[2]):
            for component in (engine, *((Agent.WLOAD,) if engine == Agent.MATRIX else ()), STARTED + engine):
                end[component] = self._end[engine][component]
            self._end[engine] = end


def _most(*clocks: Clock) -> Clock:
    return [max(parts) for parts in zip(*clocks, strict=True)] if len(clocks) > 1 else list(clocks[0])


def _across(touched: dict[Agent, Footprint]) -> list[tuple[int, int]]:
    """(engine, engine that must wait) of what two engines touch in different iterations."""
    return sorted(
        {
            (one.engine, other.engine)
            for one in Agent
            for other in Agent
            if one.engine != other.engine and touched[one].conflicts(touched[other])
        }
    )
