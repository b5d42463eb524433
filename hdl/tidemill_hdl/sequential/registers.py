"""Where everything is: the register file and the local memory of the sequential NPU.

Registers 0 to 15 are the program's scalar registers, 192 to 255 the control and status registers in the order of
their offsets, as the host sees them. Names without further explanation are temporary.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

from tidemill import csr
from tidemill.config import Config
from tidemill.isa import BY_MNEMONIC, ENGINES, SCALAR_REGISTERS
from tidemill_hdl.sequential.assembler import FILE_WORDS, MicrocodeError, Reg

CSR_WORDS = 64
CSR_BASE = FILE_WORDS - CSR_WORDS
TABLE_WORDS = 256
"""Words of the vector unit's table."""
ENTRY_WORDS = 8
"""Words of the local memory for an instruction in a queue: itself, and its position in the program."""
QUEUE_ENTRIES = 8
"""Instructions that the local memory has room for in each queue."""

SCALAR = Reg(0)
SEMAPHORES = Reg(16)
LOOP_BEGIN, LOOP_LEFT = Reg(32), Reg(36)
"""Loop stack: first instruction of the body, iterations left."""
QUEUED, QUEUE_HEAD, QUEUE_TAIL = Reg(40), Reg(44), Reg(48)
"""Of each engine: instructions in its queue, local memory words of the first and of the next free entry."""

_numbers = count(52)


def _new(names: int) -> list[Reg]:
    return [Reg(next(_numbers)) for _ in range(names)]


(PC, OUTERMOST, LOOPS, AVAILABLE, PENDING_LOAD, QUEUED_ALL) = _new(6)
"""Instruction's position; that of the outermost `loop`; active loops; semaphores above zero; whether weights wait;
instructions in all queues. Zero at the start of a program."""
WEIGHTS = _new(4)
"""Second weight buffer."""

CONFIGURED = ("ld.stride", "ld.dst", "st.stride", "st.src", "mx.act", "mx.acc", "vx.dims", "vx.astride", "vx.bstride",
              "vx.quant")  # fmt: skip
SETTING: dict[tuple[str, str], Reg] = {
    (mnemonic, field.name): Reg(next(_numbers)) for mnemonic in CONFIGURED for field in BY_MNEMONIC[mnemonic].fields
}
"""What configuration instructions set, by mnemonic and field."""
BIAS, MULTIPLIER, SHIFT = _new(4), _new(4), _new(4)
"""Parameters of `vx.param`, a register a lane."""
STATE_END = next(_numbers)
"""Registers below are zeroed at the start of a program."""
INSTRUCTION = (I0, I1, I2, I3) = tuple(Reg(next(_numbers)) for _ in range(4))
EXECUTED, ENGINE, PATIENCE, MADE_PROGRESS = _new(4)
"""Position of the instruction that an engine executes; its engine; cycles before the watchdog bites."""
CAUSE, INFO = _new(2)
"""The error that is being reported: cause in bits 3:0, unit from bit 4 on."""
BEAT_ADDRESS, BEATS_LEFT, LINE = _new(3)
"""Of the transfer: address of the next beat, beats left in the line, the line's first byte."""
T0, T1, T2, T3, T4, T5, T6, T7, T8, T9 = _new(10)
SCRATCH, COLD = _new(2)
"""Of `Assembler.extract`; whether the local memory has never been written."""
A_N1, A_N0, A_K1, A_K0, B_N1, B_N0, B_K1, B_K0, D_N1, D_N0 = _new(10)
"""The vector unit's rows: at the step of each loop."""
N1, N0, K1, K0 = _new(4)
"""Turns that are left of each loop."""
A_DEPTH, B_DEPTH, D_DEPTH, A_BASE, B_BASE, D_BASE = _new(6)
"""Rows of the operands' memories, and their first word: zero for the scratchpad."""
FOLD, POST, FIRST, OPERATION = _new(4)
A, B, V = _new(4), _new(4), _new(4)
"""Lanes of the operands and of the result."""
_POOL_BEGIN = next(_numbers)


def csr_register(name: str, part: int = 0) -> Reg:
    """The register behind a control and status register, or word `part` of a counter."""
    offsets = {**{register.name: register.offset for register in csr.CSRS}, **csr.counter_offsets()}
    return Reg(CSR_BASE + offsets[name] // 4 + part)


@dataclass(frozen=True)
class MemoryMap:
    """The local memory in words of 32 bits: a scratchpad row is one, an accumulator row four.

    Members
    -------
    acc, table, queues : int: first words; the scratchpad begins at 0.
    words : int: all of them.
    """

    acc: int
    table: int
    queues: int
    words: int

    @staticmethod
    def of(config: Config) -> MemoryMap:
        """That of `config`."""
        acc = config.spad_rows
        table = acc + config.cols * config.acc_rows
        queues = table + TABLE_WORDS
        return MemoryMap(acc, table, queues, queues + len(ENGINES) * QUEUE_ENTRIES * ENTRY_WORDS)

    def queue(self, index: int) -> int:
        """First word of an engine's queue."""
        return self.queues + index * QUEUE_ENTRIES * ENTRY_WORDS


UNMAPPED = (*range(20, 32), *range(56, CSR_WORDS))
"""Words among the control and status registers that are none: the host reads zero, the microcode has constants."""


def pool() -> tuple[int, ...]:
    """Registers for constants."""
    used = {CSR_BASE + register.offset // 4 for register in csr.CSRS}
    used |= {CSR_BASE + offset // 4 for offset in csr.counter_offsets().values()}
    unmapped = tuple(CSR_BASE + word for word in UNMAPPED)
    if _POOL_BEGIN > CSR_BASE or used & set(unmapped):
        raise MicrocodeError("the register file is full")
    return (*range(_POOL_BEGIN, CSR_BASE), *unmapped)


assert SEMAPHORES.number == SCALAR_REGISTERS
