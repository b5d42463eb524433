"""The coverage plan: every cover point by name, with its bins and the reason why it is there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Point:
    """A cover point: `block.name`, what its bins are and why each of them must happen."""

    name: str
    bins: tuple[str, ...]
    reason: str

    @cached_property
    def bin_set(self) -> frozenset[str]:
        """The bins."""
        return frozenset(self.bins)

    @property
    def block(self) -> str:
        """The block it belongs to."""
        return self.name.partition(".")[0]


PLAN: dict[str, Point] = {}
"""Every cover point by name."""
