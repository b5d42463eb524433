"""The frontend: instructions, scalar registers and loops."""

from __future__ import annotations

from dataclasses import dataclass, field

from tidemill.config import Config
from tidemill.csr import Cause
from tidemill.isa import ENGINES, INSTRUCTION_BYTES, SCALAR_REGISTERS, EncodingError, Engine, decode
from tidemill.iss.memory import MachineFault

_U32 = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class Instruction:
    """A decoded instruction of the program. `queue` is the engine's position in `ENGINES`, -1 for control;
    `indexed` holds (field, register, mask) of the addresses a register is added to. `cause` is set where the frontend
    refuses it."""

    word: int
    mnemonic: str = ""
    queue: int = -1
    values: dict[str, int] = field(default_factory=dict)
    indexed: tuple[tuple[str, int, int], ...] = ()
    cause: Cause | None = None


def decode_instruction(word: int) -> Instruction:
    """Decode once; every execution of the instruction uses the result."""
    try:
        decoded = decode(word)
    except EncodingError as error:
        return Instruction(word, cause=Cause[str(error).partition(":")[0]])
    op, values = decoded.op, decoded.values
    if op.engine is Engine.CONTROL:
        return Instruction(word, op.mnemonic, -1, values)
    indexed = tuple(
        (field.name, values[field.index], (1 << field.width) - 1)
        for field in op.fields
        if field.index is not None and values[field.index]
    )
    return Instruction(word, op.mnemonic, ENGINES.index(op.engine), values, indexed)


class Frontend:
    """Program counter, registers and loop stack. It knows no time: the machine asks for one step after another.

    A loop's `length` must be right: an instruction `ibuf_depth` or more after the outermost active `loop` is a LOOP
    fault.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self._image = b""
        self._program: list[Instruction] = []
        self._decoded: dict[int, Instruction] = {}
        self.length = 0
        self.start(b"", 0)

    def start(self, image: bytes, length: int, address: int = 0, errors: dict[int, Cause] | None = None) -> None:
        """Begin the program of `length` instructions at byte `address`.

        `image` holds the instructions, fewer where DRAM ends (then fetch is answered with DECERR); `errors` the indices
        of instructions that the bus answers with an error.
        """
        if image != self._image:
            self._image = image
            words = (
                int.from_bytes(image[at : at + INSTRUCTION_BYTES], "little")
                for at in range(0, len(image) - INSTRUCTION_BYTES + 1, INSTRUCTION_BYTES)
            )
            self._program = [self._decode(word) for word in words]
        self.length = length
        self.address = address
        self._errors = errors or {}
        self.pc = 0
        self.registers = [0] * SCALAR_REGISTERS
        self._loops: list[tuple[int, int]] = []
        self._outermost = 0

    def _decode(self, word: int) -> Instruction:
        instruction = self._decoded.get(word)
        if instruction is None:
            instruction = self._decoded[word] = decode_instruction(word)
        return instruction

    def current(self) -> Instruction:
        """The instruction at `pc`. Raises `MachineFault`: PC_RANGE, LOOP, bus errors and `Instruction.cause`."""
        if self.pc >= self.length:
            raise MachineFault(Cause.PC_RANGE, self.pc)
        if self._loops and self.pc - self._outermost >= self.config.ibuf_depth:
            raise MachineFault(Cause.LOOP, 0)
        if self.pc in self._errors or self.pc >= len(self._program):
            cause = self._errors.get(self.pc, Cause.BUS_DECERR)
            raise MachineFault(cause, self.address + INSTRUCTION_BYTES * self.pc)
        instruction = self._program[self.pc]
        if instruction.cause is not None:
            raise MachineFault(instruction.cause, instruction.word & _U32)
        return instruction

    def operands(self, instruction: Instruction) -> dict[str, int]:
        """Fields of an engine instruction with registers added to its addresses."""
        if not instruction.indexed:
            return instruction.values
        values = dict(instruction.values)
        for name, register, mask in instruction.indexed:
            values[name] = (values[name] + self.registers[register]) & mask
        return values

    def step(self, instruction: Instruction) -> bool:
        """Execute scalar arithmetic, `loop` and `endloop`, and advance `pc`; every other instruction only advances.
        Returns True where a loop goes back. Raises `MachineFault` LOOP."""
        values, registers = instruction.values, self.registers
        mnemonic = instruction.mnemonic
        if mnemonic == "loop":
            self._loop(instruction)
            return False
        if mnemonic == "endloop":
            return self._endloop(instruction)
        if mnemonic == "addi":
            self._write(values["rd"], registers[values["rs"]] + values["imm"])
        elif mnemonic == "add":
            self._write(values["rd"], registers[values["rs"]] + registers[values["rt"]])
        elif mnemonic == "sub":
            self._write(values["rd"], registers[values["rs"]] - registers[values["rt"]])
        elif mnemonic == "slli":
            self._write(values["rd"], registers[values["rs"]] << values["amount"])
        self.pc += 1
        return False

    def _write(self, register: int, value: int) -> None:
        if register:
            self.registers[register] = value & _U32

    def _loop(self, instruction: Instruction) -> None:
        values = instruction.values
        count = (values["count"] + self.registers[values["rs"]]) & 0xFFFF
        if values["length"] + 1 > self.config.ibuf_depth or len(self._loops) == self.config.loop_depth:
            raise MachineFault(Cause.LOOP, instruction.word & _U32)
        if count == 0:
            self.pc += values["length"] + 1
        else:
            if not self._loops:
                self._outermost = self.pc
            self._loops.append((self.pc + 1, count))
            self.pc += 1

    def _endloop(self, instruction: Instruction) -> bool:
        if not self._loops:
            raise MachineFault(Cause.LOOP, instruction.word & _U32)
        begin, remaining = self._loops.pop()
        if remaining == 1:
            self.pc += 1
            return False
        self._loops.append((begin, remaining - 1))
        self.pc = begin
        return True
