"""Which rows and which DRAM an instruction touches, as sets of bits that are quick to compare."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import product

from tidemill.isa import ENGINES, Engine

Dims = Sequence[tuple[int, int]]
"""(count, stride) of nested walks."""

MAX_LINES = 128
"""DRAM lines of one instruction that are looked at one by one; of more, everything between the first and the last
byte counts as touched."""


class Agent(IntEnum):
    """Who touches memories on its own: the engines, and `mx.wload`, which runs ahead of the other matrix
    instructions."""

    LOAD = 0
    STORE = 1
    MATRIX = 2
    VECTOR = 3
    WLOAD = 4

    @property
    def engine(self) -> int:
        """Position in `isa.ENGINES`."""
        return Agent.MATRIX if self is Agent.WLOAD else self


def engine_of(engine: Engine) -> int:
    """Position of `engine` in `isa.ENGINES`."""
    return ENGINES.index(engine)


@dataclass
class Footprint:
    """Bits of rows of `spad` and `acc`, and of bus beats of `dram`."""

    reads: dict[str, int] = field(default_factory=dict)
    writes: dict[str, int] = field(default_factory=dict)

    def add(self, other: Footprint) -> None:
        """Touch what `other` touches as well."""
        for mine, theirs in ((self.reads, other.reads), (self.writes, other.writes)):
            for space, bits in theirs.items():
                mine[space] = mine.get(space, 0) | bits

    def conflicts(self, other: Footprint) -> bool:
        """Whether the order of the two matters."""
        writes, others = self.writes, other.writes
        return (
            any(bits & others.get(space, 0) for space, bits in writes.items())
            or any(bits & other.reads.get(space, 0) for space, bits in writes.items())
            or any(bits & self.reads.get(space, 0) for space, bits in others.items())
        )


def extent(dims: Dims) -> tuple[int, int]:
    """Lowest and highest distance from the start."""
    reaches = [(n - 1) * s for n, s in dims]
    return sum(min(0, reach) for reach in reaches), sum(max(0, reach) for reach in reaches)


def nest_bits(start: int, dims: Dims) -> int:
    """The set of `start + sum of i_k * stride_k`, all of them 0 or more."""
    bits = 1
    for count, stride in dims:
        if count == 1 or stride == 0:
            continue
        step = abs(stride)
        if stride < 0:
            start += (count - 1) * stride
        have = 1
        while have < count:
            more = min(have, count - have)
            bits |= bits << (step * more)
            have += more
    return bits << start


def dram_bits(start: int, dims: Dims, run: int, beat: int) -> int:
    """The beats of `beat` bytes that hold `run` bytes at each point of a walk from byte `start`."""
    lines = 1
    for count, _ in dims:
        lines *= count
    low, high = extent(dims)
    if lines > MAX_LINES:
        return _span(start + low, high - low + run, beat)
    bits = 0
    for steps in product(*(range(count) for count, _ in dims)):
        bits |= _span(start + sum(i * stride for i, (_, stride) in zip(steps, dims, strict=True)), run, beat)
    return bits


def _span(first: int, run: int, beat: int) -> int:
    begin, end = first // beat, (first + run - 1) // beat + 1
    return ((1 << (end - begin)) - 1) << begin


def union(footprints: Iterable[Footprint]) -> Footprint:
    """Everything that one of `footprints` touches."""
    total = Footprint()
    for footprint in footprints:
        total.add(footprint)
    return total
