"""Control and status registers, error causes and counters as data: the AXI4-Lite side of the machine.

The CSR block in hardware, the simulator's CSRs, the driver and the reference manual all read these tables.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

MAGIC = int.from_bytes(b"TDML", "little")


class Access(enum.Enum):
    """How the host may use a register."""

    RO = "read-only"
    RW = "read-write"
    W1 = "write one to act, reads zero"
    W1C = "write one to clear"


@dataclass(frozen=True)
class Csr:
    """One 32-bit register at byte `offset`; `bits` names single bits, lowest first."""

    name: str
    offset: int
    access: Access
    doc: str
    bits: tuple[str, ...] = ()
    reset: int = 0


class Cause(enum.IntEnum):
    """Why the machine stopped (CSR `ERROR_CAUSE`)."""

    NONE = 0
    ILLEGAL_OPCODE = 1
    RESERVED_BITS = 2
    ILLEGAL_OPERAND = 3
    LOCAL_RANGE = 4
    WINDOW = 5
    BUS_SLVERR = 6
    BUS_DECERR = 7
    SEM_OVERFLOW = 8
    WATCHDOG = 9
    LOOP = 10
    PC_RANGE = 11
    MISALIGNED = 12


CAUSE_DOC: dict[Cause, str] = {
    Cause.NONE: "no error",
    Cause.ILLEGAL_OPCODE: "the opcode is not in the instruction table",
    Cause.RESERVED_BITS: "a bit that the instruction does not define is set",
    Cause.ILLEGAL_OPERAND: "a field is outside its legal range",
    Cause.LOCAL_RANGE: "a scratchpad or accumulator row outside the memory, or in the wrong one of the two",
    Cause.WINDOW: "a DMA transfer outside the address window",
    Cause.BUS_SLVERR: "the bus answered SLVERR",
    Cause.BUS_DECERR: "the bus answered DECERR",
    Cause.SEM_OVERFLOW: "a semaphore was signalled past its largest count",
    Cause.WATCHDOG: "no instruction made progress for WATCHDOG cycles",
    Cause.LOOP: "loops nested too deep, endloop without loop, or a loop body longer than the loop buffer",
    Cause.PC_RANGE: "execution ran past the end of the program",
    Cause.MISALIGNED: "a store whose DRAM address is not a multiple of the bus width",
}


class Unit(enum.IntEnum):
    """Which unit reported the error (CSR `ERROR_UNIT`); also the order in which simultaneous errors win."""

    FRONTEND = 0
    LOAD = 1
    STORE = 2
    MATRIX = 3
    VECTOR = 4
    SYNC = 5


_RO, _RW, _W1, _W1C = Access.RO, Access.RW, Access.W1, Access.W1C

CSRS: tuple[Csr, ...] = (
    Csr("MAGIC", 0x00, _RO, "the bytes 'TDML'", reset=MAGIC),
    Csr("ISA_VERSION", 0x04, _RO, "version of the instruction set"),
    Csr("CONFIG_HASH", 0x08, _RO, "hash of the configuration; a program for another one is refused by the driver"),
    Csr("CONFIG_SHAPE", 0x0C, _RO, "rows in bits 7:0, cols in 15:8, requantizer lanes in 23:16, bus bytes in 31:24"),
    Csr("CONTROL", 0x10, _W1, "start runs the program; soft_reset stops and recovers", ("start", "soft_reset")),
    Csr(
        "STATUS",
        0x14,
        _RO,
        "busy from the doorbell to done or error; resetting until a soft reset has finished",
        ("busy", "done", "error", "resetting"),
    ),
    Csr("IRQ_ENABLE", 0x18, _RW, "which events drive the interrupt line", ("done", "error", "user")),
    Csr("IRQ_STATUS", 0x1C, _W1C, "events since they were last cleared", ("done", "error", "user")),
    Csr("ERROR_CAUSE", 0x20, _RO, "first error since start: a Cause"),
    Csr("ERROR_UNIT", 0x24, _RO, "the Unit that reported it"),
    Csr("ERROR_PC", 0x28, _RO, "byte address of the offending instruction in DRAM; PROG_ADDR for SEM_OVERFLOW"),
    Csr("ERROR_INFO", 0x2C, _RO, "the offending value: address, row, opcode or semaphore mask"),
    Csr("PROG_ADDR", 0x30, _RW, "byte address of the program, a multiple of 16"),
    Csr("PROG_LEN", 0x34, _RW, "instructions in the program"),
    Csr("WATCHDOG", 0x38, _RW, "cycles without progress that count as an error; 0 switches it off", reset=1_000_000),
    Csr("USER_CODE", 0x3C, _RO, "code of the latest `irq` instruction"),
    Csr("READ_BASE", 0x40, _RW, "first byte that load DMA may read"),
    Csr("READ_LIMIT", 0x44, _RW, "last byte that load DMA may read"),
    Csr("WRITE_BASE", 0x48, _RW, "first byte that store DMA may write"),
    Csr("WRITE_LIMIT", 0x4C, _RW, "last byte that store DMA may write"),
)

COUNTER_BASE = 0x80


@dataclass(frozen=True)
class Counter:
    """A 32-bit event counter, cleared at start. `width` 64 takes two registers, low word first."""

    name: str
    doc: str
    width: int = 32


COUNTERS: tuple[Counter, ...] = (
    Counter("CYCLES", "cycles from the doorbell to done or error", 64),
    Counter("INSTRUCTIONS", "instructions executed by the frontend, loop bodies every time"),
    Counter("BUSY_LOAD", "cycles with an instruction in the load engine"),
    Counter("BUSY_STORE", "cycles with an instruction in the store engine"),
    Counter("BUSY_MATRIX", "cycles with an instruction in the matrix engine"),
    Counter("BUSY_VECTOR", "cycles with an instruction in the vector engine"),
    Counter("SEM_LOAD", "cycles the load engine's next instruction waited for a semaphore"),
    Counter("SEM_STORE", "cycles the store engine's next instruction waited for a semaphore"),
    Counter("SEM_MATRIX", "cycles the matrix engine's next instruction waited for a semaphore"),
    Counter("SEM_VECTOR", "cycles the vector engine's next instruction waited for a semaphore"),
    Counter("QUEUE_FULL", "cycles the frontend waited for room in an engine queue"),
    Counter("FETCH_WAIT", "cycles the frontend waited for instructions from DRAM"),
    Counter("BUS_READ_WAIT", "cycles the load engine had read bursts in flight and received no beat"),
    Counter("BUS_WRITE_WAIT", "cycles the store engine offered a beat that the bus did not take"),
    Counter("CONFLICT_LOAD", "cycles a load engine access lost its bank to another engine"),
    Counter("CONFLICT_STORE", "cycles a store engine access lost its bank to another engine"),
    Counter("CONFLICT_MATRIX", "cycles a matrix engine access lost its bank"),
    Counter("CONFLICT_VECTOR", "cycles a vector engine access lost its bank"),
    Counter("MATRIX_ROWS", "activation rows sent into the array; each is rows * cols MACs"),
    Counter("VECTOR_ROWS", "operand rows consumed by the vector engine"),
    Counter("READ_BEATS", "data beats read by the load engine"),
    Counter("WRITE_BEATS", "data beats written by the store engine"),
)


def counter_offsets() -> dict[str, int]:
    """Byte offset of each counter's low word."""
    offsets, offset = {}, COUNTER_BASE
    for counter in COUNTERS:
        offsets[counter.name] = offset
        offset += counter.width // 8
    return offsets


BY_NAME: dict[str, Csr] = {csr.name: csr for csr in CSRS}


def offset(name: str) -> int:
    """Byte offset of the register called `name`."""
    return BY_NAME[name].offset


def bit(register: str, name: str) -> int:
    """Mask of the bit called `name` in `register`."""
    return 1 << BY_NAME[register].bits.index(name)
