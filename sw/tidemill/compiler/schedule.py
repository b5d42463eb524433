"""From a sequential stream to a program whose engines run beside each other.

1. `dependencies`: what each instruction must wait for, from the rows and DRAM bytes it touches (read after write,
   write after read, write after write), leaving out what follows from earlier waits.
2. `order`: instructions sorted by the cycle in which they could start; every engine keeps its order. The frontend
   dispatches in this order, so loads run ahead as far as their rows are free.
3. `assemble`: semaphores. One semaphore for each ordered pair of (producer, consumer): the k-th wait takes the k-th
   signal, because both engines are in order. `mx.wload` is a producer of its own: it completes ahead of the runs
   around it.

Sequential meaning is kept: any two accesses of which one writes happen in stream order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from tidemill.builder import PC_LIMIT
from tidemill.checker.access import Access, Nest
from tidemill.compiler.ir import ModelError
from tidemill.compiler.stream import Instruction, Stream
from tidemill.isa import BY_MNEMONIC, Engine, encode
from tidemill.operands import space_rows
from tidemill.program import Program, Relocation, SourceLine

EXACT_LINES = 128
"""DRAM transfers of more lines are taken as one range from their first to their last byte."""
THROTTLE = 24
"""After so many signals of one pair the producer waits for the consumer, where it does not so far."""
MOST_SIGNALS = 40
"""Signals of one pair under way from which on a consumer waits for everything emitted so far instead of taking signals
one by one; a semaphore counts to 63."""
DISPATCH_AHEAD = 4
"""Cycles by which an instruction is dispatched before it can start."""


class Unit(IntEnum):
    """What completes in order by itself."""

    LOAD = 0
    STORE = 1
    RUN = 2
    WLOAD = 3
    VECTOR = 4


_ENGINE_OF = (Engine.LOAD, Engine.STORE, Engine.MATRIX, Engine.MATRIX, Engine.VECTOR)
_UNITS = tuple(Unit)


def unit_of(instruction: Instruction) -> Unit:
    """The unit an instruction belongs to."""
    match instruction.engine:
        case Engine.LOAD:
            return Unit.LOAD
        case Engine.STORE:
            return Unit.STORE
        case Engine.VECTOR:
            return Unit.VECTOR
        case _:
            return Unit.WLOAD if instruction.mnemonic == "mx.wload" else Unit.RUN


def _slices(nest: Nest, unit: int) -> Iterator[slice]:
    """Ranges of `unit`-sized elements that a nest touches; a superset."""
    dims = [(count, stride) for count, stride in nest.dims if count > 1]
    lines = 1
    for count, _ in dims:
        lines *= count
    if unit == 1 or lines > EXACT_LINES:
        low, high = nest.extent
        yield slice(low // unit, high // unit + 1)
        return
    starts = [nest.start]
    for count, stride in dims:
        starts = [start + i * stride for start in starts for i in range(count)]
    for start in starts:
        yield slice(start // unit, (start + nest.run - 1) // unit + 1)


class _Space:
    """Who last wrote and last read each element, per unit: sequence numbers within the unit, from 1."""

    def __init__(self, size: int) -> None:
        self.written = np.zeros((len(_UNITS), size), np.int32)
        self.read = np.zeros((len(_UNITS), size), np.int32)
        self.writers: list[Unit] = []
        self.readers: list[Unit] = []

    def need(self, where: slice, write: bool, needs: list[int]) -> None:
        for unit in self.writers:
            needs[unit] = max(needs[unit], int(self.written[unit, where].max()))
        if write:
            for unit in self.readers:
                needs[unit] = max(needs[unit], int(self.read[unit, where].max()))

    def touch(self, where: slice, write: bool, unit: Unit, number: int) -> None:
        known, table = (self.writers, self.written) if write else (self.readers, self.read)
        if unit not in known:
            known.append(unit)
        table[unit, where] = number


@dataclass
class Node:
    """An instruction with what it waits for: (unit, number within the unit), and whom it signals."""

    instruction: Instruction
    unit: Unit
    number: int
    waits: list[tuple[Unit, int]] = field(default_factory=list)
    signals: set[Engine] = field(default_factory=set)
    start: int = 0
    end: int = 0


class Dependencies:
    """Finds the waits of each instruction of one segment."""

    def __init__(self, stream: Stream) -> None:
        config = stream.config
        self.stream = stream
        self.spaces = {name: _Space(space_rows(config, name)) for name in ("spad", "acc")}
        self.grain = config.axi_bytes
        self.nodes: list[Node] = []
        self.by_unit: list[list[Node]] = [[] for _ in _UNITS]
        self._counts = [0] * len(_UNITS)
        self._known: dict[Engine, list[int]] = {engine: [0] * len(_UNITS) for engine in set(_ENGINE_OF)}
        self._knowledge: list[list[list[int]]] = [[[0] * len(_UNITS)] for _ in _UNITS]
        self._pairs: dict[tuple[Unit, Engine], list[Node]] = defaultdict(list)
        self._throttle: dict[Engine, list[int]] = {engine: [0] * len(_UNITS) for engine in set(_ENGINE_OF)}

    def add(self, instruction: Instruction) -> None:
        """The next instruction of the stream."""
        unit = unit_of(instruction)
        engine = instruction.engine
        touched = [(space, where, access.write) for access in instruction.accesses
                   for space, where in self._places(access, instruction)]  # fmt: skip
        needs, self._throttle[engine] = self._throttle[engine], [0] * len(_UNITS)
        for space, where, write in touched:
            space.need(where, write, needs)
        self._counts[unit] += 1
        node = Node(instruction, unit, self._counts[unit])
        known = self._known[engine]
        # The furthest knowledge first: what one producer knew may cover the others.
        for producer in sorted(_UNITS, key=lambda u: -needs[u]):
            if _ENGINE_OF[producer] is engine or needs[producer] <= known[producer]:
                continue
            self._wait(node, producer, needs[producer])
        for space, where, write in touched:
            space.touch(where, write, unit, node.number)
        completed = list(known)
        if unit is Unit.RUN:
            completed[Unit.WLOAD] = self._counts[Unit.WLOAD]
        self._knowledge[unit].append(completed)
        self.nodes.append(node)
        self.by_unit[unit].append(node)

    def _places(self, access: Access, instruction: Instruction) -> Iterator[tuple[_Space, slice]]:
        if access.space != "dram":
            for where in _slices(access.nest, 1):
                yield self.spaces[access.space], where
            return
        decl = self.stream.buffers[instruction.buffer or ""]
        if decl.data is not None:
            return
        key = f"dram:{decl.name}"
        if key not in self.spaces:
            self.spaces[key] = _Space(-(-decl.nbytes // self.grain) + 1)
        for where in _slices(access.nest, self.grain):
            yield self.spaces[key], where

    def _wait(self, node: Node, producer: Unit, number: int) -> None:
        engine = node.instruction.engine
        known = self._known[engine]
        pair = self._pairs[producer, engine]
        if len(pair) >= MOST_SIGNALS:
            old = pair[-MOST_SIGNALS]
            if self._knowledge[producer][number][old.unit] < old.number:
                number = self._counts[producer]
        source = self.by_unit[producer][number - 1]
        node.waits.append((producer, number))
        source.signals.add(engine)
        # What the producer knew when it started holds now, and it has completed itself.
        for unit, value in enumerate(self._knowledge[producer][number]):
            known[unit] = max(known[unit], value)
        known[producer] = max(known[producer], number)
        pair.append(node)
        if len(pair) >= THROTTLE and len(pair) % (THROTTLE // 2) == 0:
            # The producer must not run further ahead than this many signals.
            old = pair[len(pair) - THROTTLE]
            back = self._throttle[_ENGINE_OF[producer]]
            back[old.unit] = max(back[old.unit], old.number)


def order(nodes: list[Node]) -> list[Node]:
    """Sort by the cycle of dispatch in an estimate of the run; stable, so every engine keeps its order."""
    numbered: dict[tuple[Unit, int], Node] = {(node.unit, node.number): node for node in nodes}
    free = [0] * len(_UNITS)
    key: dict[Engine, int] = defaultdict(int)
    swapped = weights = 0
    keys = []
    for node in nodes:
        instruction = node.instruction
        start = free[node.unit]
        for unit, number in node.waits:
            start = max(start, numbered[unit, number].end)
        if instruction.mnemonic == "mx.wload":
            start = max(start, swapped)
        elif instruction.mnemonic == "mx.run":
            start = max(start, weights)
            swapped = start
        node.start, node.end = start, start + instruction.latency
        free[node.unit] = start + instruction.cycles
        if instruction.mnemonic == "mx.wload":
            weights = node.end
        dispatch = max(key[instruction.engine], start - DISPATCH_AHEAD)
        key[instruction.engine] = dispatch
        keys.append(dispatch)
    return [nodes[i] for i in sorted(range(len(nodes)), key=lambda i: (keys[i], i))]


@dataclass(frozen=True)
class Segment:
    """Instructions `first .. first + count - 1` of the program; `estimate` in cycles."""

    first: int
    count: int
    estimate: int


@dataclass(frozen=True)
class Scheduled:
    """The program, its segments, and the operation each instruction belongs to (-1: halt)."""

    program: Program
    segments: tuple[Segment, ...]
    op_of: tuple[int, ...]


def schedule(stream: Stream, labels: list[str]) -> Scheduled:
    """Order the stream and place semaphores; `labels` names the operations, for messages and reports.

    Raises ModelError where the program becomes too long.
    """
    if len(stream.instructions) + len(stream.ends) > PC_LIMIT:
        raise ModelError(f"the program would have {len(stream.instructions)} instructions; at most {PC_LIMIT}")
    words: list[int] = []
    relocations: list[Relocation] = []
    source: list[SourceLine] = []
    ops: list[int] = []
    segments: list[Segment] = []
    begin = 0
    semaphores = _Semaphores()
    for end in stream.ends:
        found = Dependencies(stream)
        for instruction in stream.instructions[begin:end]:
            found.add(instruction)
        first = len(words)
        for node in order(found.nodes):
            if node.instruction.buffer is not None:
                relocations.append(Relocation(len(words), "dram", node.instruction.buffer))
            words.append(semaphores.apply(node))
            label = labels[node.instruction.op]
            source.append(SourceLine(label, node.instruction.op + 1, node.instruction.mnemonic))
            ops.append(node.instruction.op)
        words.append(encode("halt"))
        source.append(SourceLine("", 0, "halt"))
        ops.append(-1)
        estimate = max((node.end for node in found.nodes), default=0)
        segments.append(Segment(first, len(words) - first, estimate))
        begin = end
    program = Program(
        config=stream.config,
        words=tuple(words),
        buffers=dict(stream.buffers),
        relocations=tuple(relocations),
        semaphores=semaphores.names,
        source=tuple(source),
    )
    return Scheduled(program, tuple(segments), tuple(ops))


class _Semaphores:
    """The semaphore of each (producer, consumer) pair, and its bits in instruction words."""

    def __init__(self) -> None:
        self.numbers: dict[tuple[Unit, Engine], int] = {}
        for producer in _UNITS:
            for consumer in (Engine.LOAD, Engine.STORE, Engine.MATRIX, Engine.VECTOR):
                if consumer is not _ENGINE_OF[producer] and (producer, consumer) != (Unit.WLOAD, Engine.STORE):
                    self.numbers[producer, consumer] = len(self.numbers)
        self.names = tuple(f"{producer.name.lower()}_{consumer.name.lower()}" for producer, consumer in self.numbers)

    def apply(self, node: Node) -> int:
        """The node's word with its semaphores."""
        op = BY_MNEMONIC[node.instruction.mnemonic]
        word = node.instruction.word
        engine = node.instruction.engine
        for producer, _ in node.waits:
            word |= 1 << (op.field("wait").lo + self.numbers[producer, engine])
        for consumer in node.signals:
            word |= 1 << (op.field("signal").lo + self.numbers[node.unit, consumer])
        return word
