"""Operands of instructions as objects: registers, local addresses, DRAM addresses, semaphores.

The program builder takes them, the assembler produces them; `+` with a number or a register gives a new operand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Self

from tidemill.config import Config
from tidemill.isa import ACC_SPACE, SCALAR_REGISTERS

REQUIRED_SPACE: dict[tuple[str, str], str] = {
    ("mx.wload", "src"): "spad",
    ("mx.run", "act"): "spad",
    ("mx.run", "acc"): "acc",
    ("vx.param", "src"): "acc",
    ("vx.lut", "src"): "acc",
}
"""The memory that a (mnemonic, field) must lie in; operands not listed take either."""


def space_rows(config: Config, space: str) -> int:
    """Rows of the memory called `space` ("spad" or "acc")."""
    return config.acc_rows if space == "acc" else config.spad_rows


@dataclass(frozen=True)
class Register:
    """Scalar register `number`, 0 to 15. As a context manager it frees itself at the end (where a builder made it)."""

    number: int
    name: str = field(default="", compare=False)
    release: Callable[[Register], None] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.number < SCALAR_REGISTERS:
            raise ValueError(f"register number must be 0..{SCALAR_REGISTERS - 1}, not {self.number!r}")

    def __add__(self, other: int) -> RegisterSum:
        return RegisterSum(int(other), self)

    def __str__(self) -> str:
        return f"r{self.number}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.release is not None:
            self.release(self)


@dataclass(frozen=True)
class RegisterSum:
    """`number` plus a register at run time: an absolute DRAM address, a loop count or a vector immediate."""

    number: int
    register: Register

    def __str__(self) -> str:
        return _sum(self.number, self.register)


R0 = Register(0, "zero")
"""The register that always reads zero."""


@dataclass(frozen=True)
class LocalAddress:
    """Row `row` of the scratchpad ("spad") or of the accumulators ("acc"), plus a register at run time."""

    space: str
    row: int
    register: Register = R0

    def __add__(self, other: int | Register | RegisterSum) -> LocalAddress:
        if isinstance(other, RegisterSum):
            return self + other.number + other.register
        if isinstance(other, Register):
            if self.register.number != 0:
                raise ValueError(f"{self} already has a register; an address takes one")
            return replace(self, register=other)
        return replace(self, row=self.row + int(other))

    def __sub__(self, other: int) -> LocalAddress:
        return self + -int(other)

    def __str__(self) -> str:
        return f"{self.space}[{_sum(self.row, self.register)}]"

    @property
    def bits(self) -> int:
        """The 16-bit local address without the register."""
        return ((ACC_SPACE if self.space == "acc" else 0) + self.row) & 0xFFFF

    @staticmethod
    def from_bits(bits: int, register: int = 0) -> LocalAddress:
        """The address that the 16 bits `bits` and the register mean."""
        return LocalAddress("acc" if bits & ACC_SPACE else "spad", bits & (ACC_SPACE - 1), Register(register))


def spad(row: int = 0) -> LocalAddress:
    """Scratchpad row `row`."""
    return LocalAddress("spad", int(row))


def acc(row: int = 0) -> LocalAddress:
    """Accumulator row `row`."""
    return LocalAddress("acc", int(row))


@dataclass(frozen=True)
class BufferRef:
    """A DRAM address: `offset` bytes into the buffer called `buffer`, plus a register at run time.

    `nbytes` is the size of the whole buffer.
    """

    buffer: str
    nbytes: int
    offset: int = 0
    register: Register = R0

    def __add__(self, other: int | Register | RegisterSum) -> BufferRef:
        if isinstance(other, RegisterSum):
            return self + other.number + other.register
        if isinstance(other, Register):
            if self.register.number != 0:
                raise ValueError(f"{self} already has a register; an address takes one")
            return replace(self, register=other)
        return replace(self, offset=self.offset + int(other))

    def __sub__(self, other: int) -> BufferRef:
        return self + -int(other)

    def __str__(self) -> str:
        return " + ".join(
            [self.buffer]
            + ([str(self.offset)] if self.offset else [])
            + ([str(self.register)] if self.register.number else [])
        )


@dataclass(frozen=True)
class Semaphore:
    """Counting semaphore `index`."""

    index: int
    name: str = field(default="", compare=False)

    @property
    def mask(self) -> int:
        """Its bit in `wait` and `signal` masks."""
        return 1 << self.index


def _sum(number: int, register: Register) -> str:
    if register.number == 0:
        return str(number)
    return f"{number} + {register}" if number else str(register)
