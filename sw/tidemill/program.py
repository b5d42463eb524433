"""A program: instructions, the DRAM buffers they name, and where the buffers' addresses go.

Instructions hold DRAM addresses relative to a buffer. `relocations` says which instruction's field belongs to which
buffer; whoever places the buffers (the driver) adds the buffer's address there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from tidemill.config import Config
from tidemill.isa import BY_OPCODE

DTYPES: dict[str, np.dtype] = {
    name: np.dtype(name).newbyteorder("<") for name in ("int8", "uint8", "int16", "int32", "float32")
}
"""Element types a DRAM buffer may have."""

BUFFER_ALIGNMENT = 64
"""Bytes every buffer's address is a multiple of."""


@dataclass(frozen=True)
class BufferDecl:
    """A named region of DRAM. `data` is its content when the program starts (a constant), None where the host
    supplies it or the program writes it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: bytes | None = None

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize


@dataclass(frozen=True)
class Relocation:
    """Add the address of `buffer` to field `field` of instruction `index`."""

    index: int
    field: str
    buffer: str


@dataclass(frozen=True)
class SourceLine:
    """Where an instruction came from; `file` and `line` are empty and 0 for built programs."""

    file: str
    line: int
    text: str


@dataclass(frozen=True)
class Program:
    """Instructions for one configuration with everything needed to place and run them."""

    config: Config
    words: tuple[int, ...]
    buffers: dict[str, BufferDecl] = field(default_factory=dict)
    relocations: tuple[Relocation, ...] = ()
    semaphores: tuple[str, ...] = ()
    """Names of the semaphores, by index; may be shorter than 16."""
    source: tuple[SourceLine, ...] = ()
    """One entry an instruction, or empty."""

    def layout(self, base: int = 0) -> dict[str, int]:
        """Byte address of each buffer when they are placed one after another from `base`."""
        addresses, address = {}, base
        for buffer in self.buffers.values():
            address = -(-address // BUFFER_ALIGNMENT) * BUFFER_ALIGNMENT
            addresses[buffer.name] = address
            address += buffer.nbytes
        return addresses

    def part(self, first: int, count: int) -> Program:
        """A program of instructions `first .. first + count - 1` alone, with all buffers."""
        inside = range(first, first + count)
        relocations = (replace(r, index=r.index - first) for r in self.relocations if r.index in inside)
        return replace(
            self,
            words=self.words[first : first + count],
            relocations=tuple(relocations),
            source=self.source[first : first + count],
        )

    def relocated(self, addresses: dict[str, int]) -> tuple[int, ...]:
        """The instruction words with every buffer at its address."""
        words = list(self.words)
        for relocation in self.relocations:
            word = words[relocation.index]
            spec = BY_OPCODE[word & 0xFF].field(relocation.field)
            mask = (1 << spec.width) - 1
            value = ((word >> spec.lo) + addresses[relocation.buffer]) & mask
            words[relocation.index] = word & ~(mask << spec.lo) | value << spec.lo
        return tuple(words)

    def image(self, addresses: dict[str, int]) -> bytes:
        """The relocated instructions as the bytes the hardware fetches."""
        return b"".join(word.to_bytes(16, "little") for word in self.relocated(addresses))
