"""Microassembler: microcode is Python that calls the methods of `Assembler`, one a microinstruction.

A microinstruction has 32 bits. Registers are words of the register file (`FILE_WORDS`); a literal operand is a number:
0 to 255 as second operand stand in the microinstruction itself, all others become a register of the constant pool.

| bits | arithmetic and units | branches |
|---|---|---|
| 7:0 | register A | low bits of the target |
| 15:8 | register B, or the literal where `literal` is set | high bits of the target |
| 23:16 | destination D, or an argument of the unit | condition |
| 28:24 | operation (`Op`) | operation |
| 29 | the index register is ORed to the number of register A | |
| 30 | the same for D | |
| 31 | `literal` | |
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from tidemill.isa import Field

FILE_WORDS = 256
"""Registers of the register file."""
WORD_BITS = 32
TARGET_BITS = 11
"""Bits of a microinstruction's address."""
CALL_DEPTH = 4
"""Return addresses that the sequencer keeps."""
LITERAL_MAX = 255
_WORD = (1 << WORD_BITS) - 1
_NEGATED = 1 << 4


class Op(enum.IntEnum):
    """What a microinstruction does. From `BR` on nothing is read or written: these take one cycle."""

    ADD = 0
    SUB = 1
    AND = 2
    ANDN = 3
    OR = 4
    XOR = 5
    SLL = 6
    SRL = 7
    SRA = 8
    HIGH = 9
    INDEX = 10
    LOAD = 11
    STORE = 12
    MUL = 13
    TAKE = 14
    READ = 15
    WRITE = 16
    GIVE = 17
    RESPONSE = 18
    ROW = 19
    WEIGHTS = 20
    REPORT = 21
    BR = 24
    CALL = 25
    RET = 26
    JUMP = 27


class Flag(enum.IntEnum):
    """What a branch tests. The first four are of the latest arithmetic operation."""

    ALWAYS = 0
    ZERO = 1
    NEGATIVE = 2
    CARRY = 3
    """Of an addition; after a subtraction: A was at least B, unsigned."""
    LESS = 4
    """After a subtraction: A was less than B, signed."""
    READING = 5
    """A read burst has beats left."""
    WRITING = 6
    """A write burst has beats left."""
    OWED = 7
    """A write burst has not been answered."""
    BAD = 8
    """The latest bus operation met an error, or time went by (`LATE`)."""
    LATE = 9
    """It gave up waiting after a while: to be repeated."""
    DECERR = 10
    """The latest response was DECERR."""
    START = 11
    """The host has started a program."""


class Report(enum.IntFlag):
    """Argument of `REPORT`: changes of the status registers."""

    IDLE = 1
    DONE = 2
    ERROR = 4
    RESET_DONE = 8
    USER = 16
    STARTED = 32


class MicrocodeError(ValueError):
    """Microcode that cannot be assembled."""


@dataclass(frozen=True)
class Reg:
    """A register of the file; `indexed`: the index register is ORed to its number."""

    number: int
    indexed: bool = False

    @property
    def x(self) -> Reg:
        """That register of the array beginning here which the index register chooses. The array begins at a multiple
        of its length, a power of two."""
        return Reg(self.number, True)


Operand = Reg | int


def _bits(field: Field) -> tuple[int, int]:
    """(word of the instruction, lowest bit in it) of a field."""
    return divmod(field.lo, WORD_BITS)


class Assembler:
    """Collects microinstructions; `finish` resolves labels.

    Parameters
    ----------
    instruction : the four registers that hold the instruction's words.
    zero : a register that is always zero.
    scratch : a register that `extract` may use besides its destination.
    pool : registers for constants, in the order of their use.
    """

    def __init__(self, instruction: tuple[Reg, Reg, Reg, Reg], zero: Reg, scratch: Reg, pool: Iterable[int]) -> None:
        self._instruction, self._scratch = instruction, scratch
        self._words: list[int] = []
        self._targets: dict[int, str] = {}
        self._labels: dict[str, int] = {}
        self._pool = iter(pool)
        self._fresh = 0
        self.constants: dict[int, int] = {}
        """Value of each register of the pool that is in use, by number."""
        self._by_value: dict[int, Reg] = {0: zero}

    # ---- operands

    def const(self, value: int) -> Reg:
        """The register of the constant `value`, modulo 2**32. Raises `MicrocodeError` where none is left."""
        value &= _WORD
        if value not in self._by_value:
            number = next(self._pool, None)
            if number is None:
                raise MicrocodeError(f"no register is left for the constant {value:#x}")
            self._by_value[value] = Reg(number)
            self.constants[number] = value
        return self._by_value[value]

    def _emit(self, op: Op, d: Reg | int, a: Operand, b: Operand) -> None:
        first = self.const(a) if isinstance(a, int) else a
        literal = isinstance(b, int) and 0 <= b <= LITERAL_MAX
        second = b if literal else self.const(b) if isinstance(b, int) else b
        argument = d.number if isinstance(d, Reg) else d
        number = second.number if isinstance(second, Reg) else int(second)
        if isinstance(second, Reg) and second.indexed:
            raise MicrocodeError("operand B cannot be indexed")
        if not (0 <= first.number < FILE_WORDS and 0 <= number < FILE_WORDS and 0 <= argument < FILE_WORDS):
            raise MicrocodeError(f"{op.name}: a register or an argument is not in 0..{FILE_WORDS - 1}")
        word = first.number | number << 8 | argument << 16 | op << 24
        word |= int(first.indexed) << 29 | int(isinstance(d, Reg) and d.indexed) << 30 | int(literal) << 31
        self._words.append(word)

    # ---- arithmetic: D = A op B, modulo 2**32; sets the flags

    def add(self, d: Reg, a: Operand, b: Operand) -> None:
        """d = a + b."""
        self._emit(Op.ADD, d, a, b)

    def sub(self, d: Reg, a: Operand, b: Operand) -> None:
        """d = a - b."""
        self._emit(Op.SUB, d, a, b)

    def and_(self, d: Reg, a: Operand, b: Operand) -> None:
        """d = a & b."""
        self._emit(Op.AND, d, a, b)

    def andn(self, d: Reg, a: Operand, b: Operand) -> None:
        """d = a & ~b."""
        self._emit(Op.ANDN, d, a, b)

    def or_(self, d: Reg, a: Operand, b: Operand) -> None:
        """d = a | b."""
        self._emit(Op.OR, d, a, b)

    def xor(self, d: Reg, a: Operand, b: Operand) -> None:
        """d = a ^ b."""
        self._emit(Op.XOR, d, a, b)

    def sll(self, d: Reg, a: Operand, b: Operand) -> None:
        """d = a << (b & 31)."""
        self._emit(Op.SLL, d, a, b)

    def srl(self, d: Reg, a: Operand, b: Operand) -> None:
        """d = a >> (b & 31), unsigned."""
        self._emit(Op.SRL, d, a, b)

    def sra(self, d: Reg, a: Operand, b: Operand) -> None:
        """d = a >> (b & 31), signed."""
        self._emit(Op.SRA, d, a, b)

    def mov(self, d: Reg, a: Operand) -> None:
        """d = a."""
        if isinstance(a, int) and 0 <= a <= LITERAL_MAX:
            self._emit(Op.ADD, d, 0, a)
        else:
            self._emit(Op.ADD, d, a, 0)

    def mul(self, d: Reg, a: Operand, b: Operand) -> None:
        """d = low word of a * b, unsigned; `high` then gives the high word. Takes 11 cycles."""
        self._emit(Op.MUL, d, a, b)

    def high(self, d: Reg) -> None:
        """d = high word of the latest product."""
        self._emit(Op.HIGH, d, 0, 0)

    def index(self, a: Operand, b: Operand = 0) -> None:
        """Index register = low 8 bits of a + b."""
        self._emit(Op.INDEX, 0, a, b)

    # ---- units

    def load(self, d: Reg, a: Operand, offset: Operand = 0) -> None:
        """d = local memory word a + offset."""
        self._emit(Op.LOAD, d, a, offset)

    def store(self, a: Reg, value: Reg) -> None:
        """Local memory word a = value; then a = a + 1."""
        self._emit(Op.STORE, a, a, value)

    def row(self, act: Reg, acc: Reg, *, accumulate: bool) -> None:
        """Begin: the four words from `acc` on become the activation word at `act` times the weights, or that is added
        to them."""
        self._emit(Op.ROW, int(accumulate), act, acc)

    def weights(self, a: Operand, row: int) -> None:
        """Weights of array row `row`."""
        self._emit(Op.WEIGHTS, row, a, 0)

    def read(self, address: Reg, beats: Operand, *, fetch: bool = False) -> None:
        """Begin a read burst of `beats` + 1 beats."""
        self._emit(Op.READ, int(not fetch), address, beats)

    def take(self, d: Reg) -> None:
        """d = next beat of the read burst; flags BAD, LATE, DECERR."""
        self._emit(Op.TAKE, d, 0, 0)

    def write(self, address: Reg, beats: Operand) -> None:
        """Begin a write burst of `beats` + 1 beats."""
        self._emit(Op.WRITE, 0, address, beats)

    def give(self, a: Operand, *, strobe: bool = True, again: bool = False) -> None:
        """Next beat of the write burst; `again` only waits for the one before. Flags as for `take`."""
        self._emit(Op.GIVE, int(strobe) | int(again) << 1, a, 0)

    def response(self) -> None:
        """Wait for the response of the write burst; flags as for `take`."""
        self._emit(Op.RESPONSE, 0, 0, 0)

    def report(self, changes: Report) -> None:
        """Change the status registers."""
        self._emit(Op.REPORT, int(changes), 0, 0)

    # ---- sequence

    def label(self, name: str) -> str:
        """Give the next microinstruction a name."""
        if name in self._labels:
            raise MicrocodeError(f"label {name!r} twice")
        self._labels[name] = len(self._words)
        return name

    def fresh(self, name: str) -> str:
        """A label name that is not used elsewhere."""
        self._fresh += 1
        return f"{name}.{self._fresh}"

    def _branch(self, op: Op, condition: int, target: str) -> None:
        self._targets[len(self._words)] = target
        self._words.append(condition << 16 | op << 24)

    def go(self, target: str) -> None:
        """Go on at `target`."""
        self._branch(Op.BR, Flag.ALWAYS, target)

    def when(self, flag: Flag, target: str) -> None:
        """Go on at `target` if `flag` is set."""
        self._branch(Op.BR, flag, target)

    def unless(self, flag: Flag, target: str) -> None:
        """Go on at `target` if `flag` is clear."""
        self._branch(Op.BR, flag | _NEGATED, target)

    def call(self, target: str) -> None:
        """Go on at `target` until `ret`; at most `CALL_DEPTH` deep."""
        self._branch(Op.CALL, Flag.ALWAYS, target)

    def ret(self) -> None:
        """Go on after the latest `call`."""
        self._words.append(Op.RET << 24)

    def jump(self, table: str) -> None:
        """Go on at `table` plus the index register."""
        self._branch(Op.JUMP, Flag.ALWAYS, table)

    # ---- the instruction's fields

    def field_mask(self, field: Field) -> tuple[int, int]:
        """(word, mask in it) of a field that lies in one word."""
        word, low = _bits(field)
        return word, ((1 << field.width) - 1) << low

    def extract(self, d: Reg, field: Field) -> None:
        """d = the field of the instruction, sign-extended where it is signed. Sets the flags."""
        word, low = _bits(field)
        top = WORD_BITS - low - field.width
        right = self.sra if field.signed else self.srl
        if top >= 0:
            source = self._instruction[word]
            if top:
                self.sll(d, source, top)
                source = d
            right(d, source, WORD_BITS - field.width)
            return
        self.srl(d, self._instruction[word], low)
        self.sll(self._scratch, self._instruction[word + 1], WORD_BITS - low)
        self.or_(d, d, self._scratch)
        if field.width < WORD_BITS:
            self.sll(d, d, WORD_BITS - field.width)
            right(d, d, WORD_BITS - field.width)

    # ---- the result

    @property
    def labels(self) -> dict[str, int]:
        """Address of every label."""
        return dict(self._labels)

    def finish(self) -> list[int]:
        """The microinstructions. Raises `MicrocodeError` for a label that does not exist, and for too many."""
        words = list(self._words)
        if len(words) > 1 << TARGET_BITS:
            raise MicrocodeError(f"{len(words)} microinstructions; at most {1 << TARGET_BITS}")
        for at, name in self._targets.items():
            if name not in self._labels:
                raise MicrocodeError(f"no label {name!r}")
            words[at] |= self._labels[name]
        return words
