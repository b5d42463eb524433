"""The frontend: instructions, scalar registers and loops."""

from __future__ import annotations

from dataclasses import dataclass

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
    values: dict[str, int] | None = None
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
    """Program counter, registers and loop stack. It knows no time: the machine asks for one step after another."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._image = b""
        self._program: list[Instruction] = []
        self._decoded: dict[int, Instruction] = {}
        self.length = 0
        self.start(b"", 0)

    def start(self, image: bytes, length: int) -> None:
        """Begin a program of `length` instructions; `image` may be shorter where the bus ends."""
        if image != self._image:
            self._image = image
            words = (
                int.from_bytes(image[at : at + INSTRUCTION_BYTES], "little")
                for at in range(0, len(image) - INSTRUCTION_BYTES + 1, INSTRUCTION_BYTES)
            )
            self._program = [self._decode(word) for word in words]
        self.length = length
        self.pc = 0
        self.registers = [0] * SCALAR_REGISTERS
        self._loops: list[tuple[int, int]] = []

    def _decode(self, word: int) -> Instruction:
        instruction = self._decoded.get(word)
        if instruction is None:
            instruction = self._decoded[word] = decode_instruction(word)
        return instruction

    def current(self) -> Instruction:
        """The instruction at `pc`. Raises `MachineFault`: PC_RANGE, BUS_DECERR and what `Instruction.cause` says."""
        if self.pc >= self.length:
            raise MachineFault(Cause.PC_RANGE, self.pc)
        if self.pc >= len(self._program):
            raise MachineFault(Cause.BUS_DECERR, 0)
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
        too_long = not self._loops and values["length"] + 1 > self.config.ibuf_depth
        too_deep = len(self._loops) == self.config.loop_depth
        if count == 0:
            self.pc += values["length"] + 1
        elif too_long or too_deep:
            raise MachineFault(Cause.LOOP, instruction.word & _U32)
        else:
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
