"""What goes wrong on a serial line, at a chosen byte."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from tidemill_fpga.board_sim.board import Kind, symbol

TO_BOARD, TO_HOST = "to board", "to host"
KINDS = {
    TO_BOARD: ("drop", "double", "flip", "framing", "garbage", "stall", "break", "reset", "kill"),
    TO_HOST: ("drop", "double", "flip", "garbage", "stall", "kill"),
}
"""What can happen in each direction."""
_BREAK_BITS = 60
_MOST_GARBAGE = 40
_LONGEST_STALL = 0.5
"""Seconds, about as many of the board's time."""


@dataclass
class Fault:
    """One fault: `kind` happens in `direction` to the byte after `after` others; `amount` bytes are hit."""

    kind: str
    direction: str
    after: int
    amount: int = 1

    def __str__(self) -> str:
        return f"{self.kind} of {self.amount} {self.direction} after {self.after} bytes"


def random_fault(rng: random.Random, span: int) -> Fault:
    """A fault somewhere in the next `span` bytes; mostly of one byte."""
    direction = rng.choice((TO_BOARD, TO_HOST))
    amount = 1 if rng.random() < 0.7 else rng.randint(2, 12)
    return Fault(rng.choice(KINDS[direction]), direction, rng.randrange(span), amount)


class FaultInjector:
    """Sits between pseudo-terminal and pin, and lets one `Fault` after another happen.

    `kill` is called for a fault that cuts the line, `reset` for one that resets the board. `seed` decides on the
    values of garbage and flips.
    """

    def __init__(self, seed: int, baud: int, kill: Callable[[], None], reset: Callable[[], None]) -> None:
        self._rng = random.Random(seed)
        self._baud = baud
        self._kill = kill
        self._reset = reset
        self._fault: Fault | None = None
        self._held_until = 0.0
        self.happened = False
        """Whether the armed fault has come to pass."""

    def arm(self, fault: Fault | None) -> None:
        """Let `fault` happen next; None takes it back."""
        self._fault, self.happened, self._held_until = fault, False, 0.0

    @property
    def holding(self) -> bool:
        """Bytes to the host are held back now."""
        return time.monotonic() < self._held_until

    def to_board(self, data: bytes) -> list[int]:
        """The symbols that arrive where the host sent `data`."""
        return self._pass(TO_BOARD, data)

    def to_host(self, data: bytes) -> bytes:
        """The bytes that arrive where the board sent `data`."""
        return bytes(self._pass(TO_HOST, data))

    def _pass(self, direction: str, data: bytes) -> list[int]:
        fault = self._fault
        if fault is None or fault.direction != direction:
            return list(data)
        symbols: list[int] = []
        for byte in data:
            if fault.after > 0:
                fault.after -= 1
                symbols.append(byte)
            elif fault.amount > 0:
                fault.amount -= 1
                self.happened = True
                symbols += self._hit(fault.kind, direction, byte)
            else:
                symbols.append(byte)
        return symbols

    def _hit(self, kind: str, direction: str, byte: int) -> list[int]:
        rng = self._rng
        match kind:
            case "drop":
                return []
            case "double":
                return [byte, byte]
            case "flip":
                return [byte ^ 1 << rng.randrange(8)]
            case "framing":
                return [symbol(Kind.BAD_STOP, byte)]
            case "garbage":
                return [*rng.randbytes(rng.randint(1, _MOST_GARBAGE)), byte]
            case "break":
                return [symbol(Kind.LOW, _BREAK_BITS), symbol(Kind.PAUSE, 2), byte]
            case "stall":
                seconds = rng.uniform(0.0, _LONGEST_STALL)
                if direction == TO_BOARD:
                    return [symbol(Kind.PAUSE, round(seconds * self._baud)), byte]
                self._held_until = max(self._held_until, time.monotonic() + seconds)
                return [byte]
            case "reset":
                self._reset()
                return []
            case "kill":
                self._kill()
                return []
        raise ValueError(f"unknown fault {kind!r}")
