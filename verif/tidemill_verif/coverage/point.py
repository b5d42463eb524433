"""What a cover point is, and how bins are named."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Point:
    """A cover point: `block.name`, its bins, and why each of them must happen."""

    name: str
    reason: str
    bins: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.bins or len(self.bin_set) != len(self.bins):
            raise ValueError(f"cover point {self.name!r} must have bins, each once")

    @cached_property
    def bin_set(self) -> frozenset[str]:
        """The bins."""
        return frozenset(self.bins)

    @property
    def block(self) -> str:
        """The block it belongs to."""
        return self.name.partition(".")[0]


def join(*parts: object) -> str:
    """Name of a bin of a cross."""
    return ", ".join(map(str, parts))


def cross(*axes: Iterable[object]) -> tuple[str, ...]:
    """Names of all bins of a cross, the last axis fastest."""
    return tuple(join(*parts) for parts in itertools.product(*axes))


def pairs(names: Iterable[object]) -> tuple[str, ...]:
    """Names of all unordered pairs, in order."""
    return tuple(join(*pair) for pair in itertools.combinations(names, 2))


STREAM_STATES = ("back to back", "stalled", "starved")
"""What a ready/valid stream must have done: two transfers in a row; valid without ready; ready without valid."""


def streams(block: str, names: Iterable[str], *never: str) -> Point:
    """The cover point of a block's streams, without the bins `never` that its contract excludes."""
    bins = tuple(name for name in cross(names, STREAM_STATES) if name not in never)
    reason = "Each stream runs at full speed, waits for its consumer and waits for its producer."
    return Point(f"{block}.stream", reason, bins)
