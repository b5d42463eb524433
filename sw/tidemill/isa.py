"""The instruction set as data: the one place where an instruction is defined.

Decoder layout, assembler, disassembler, simulator, program builder, reference manual and random programs are
generated from `OPS`. An instruction is 128 bits, little-endian; see `docs/architecture.md` for what the machine
does with it.

Every instruction has its opcode in bits 7:0; the opcode's upper three bits name the engine. Engine instructions
carry a semaphore wait mask (bits 23:8) and a signal mask (bits 39:24). Address operands sit in fixed slots so that
the frontend adds scalar registers to them without knowing the opcode: slot 0 at bits 63:48 (register `ra`,
bits 43:40), slot 1 from bit 64 (register `rb`, bits 47:44; 32 bits wide on LOAD and STORE, 16 bits elsewhere),
slot 2 at bits 95:80 (register `rc`, bits 99:96).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import cached_property

INSTRUCTION_BITS = 128
INSTRUCTION_BYTES = 16
SCALAR_REGISTERS = 16
"""Scalar registers r0 to r15, 32 bits; r0 always reads zero."""

ACC_SPACE = 1 << 15
"""Bit of a local address that selects the accumulator memory; clear: the scratchpad."""


class Engine(enum.IntEnum):
    """Who executes an instruction: bits 7:5 of the opcode."""

    CONTROL = 0
    LOAD = 1
    STORE = 2
    MATRIX = 3
    VECTOR = 4


ENGINES: tuple[Engine, ...] = (Engine.LOAD, Engine.STORE, Engine.MATRIX, Engine.VECTOR)
"""The engines with a queue, in the order of every per-engine array in the hardware."""


class Kind(enum.Enum):
    """What a field's number means, which decides how it is written in assembly."""

    INT = "number"
    REGISTER = "scalar register"
    LOCAL = "local address: `spad[row]` or `acc[row]`"
    DRAM = "DRAM byte address: `buffer + offset`"
    SEMAPHORES = "set of semaphores"
    ENUM = "one of a list of names"


class Post(enum.IntEnum):
    """What the vector engine does with a row after the operation and its window reduction."""

    NONE = 0
    RQ = 1
    LUT = 2
    LSUM = 3
    LMAX = 4


class RequantMode(enum.IntEnum):
    """Rounding of the requantizer."""

    TFLITE = 0
    ONNX = 1
    DIV = 2


class Combine(enum.Enum):
    """How the vector engine folds the values of one window into one row."""

    SUM = "sum"
    MAX = "max"
    MIN = "min"


@dataclass(frozen=True)
class Field:
    """One field of an instruction: bits `lo + width - 1 : lo`.

    `minimum` and `maximum` are the legal values (default: all the bits can hold); the hardware raises
    ILLEGAL_OPERAND outside them. `index` names the register field whose register is added at dispatch;
    the sum is taken modulo 2**width.
    """

    name: str
    lo: int
    width: int
    doc: str
    unit: str = ""
    signed: bool = False
    kind: Kind = Kind.INT
    minimum: int | None = None
    maximum: int | None = None
    default: int | None = None
    index: str | None = None
    choices: type[enum.IntEnum] | None = None

    @cached_property
    def hi(self) -> int:
        """Highest bit."""
        return self.lo + self.width - 1

    @cached_property
    def bits_min(self) -> int:
        """Smallest value the bits can hold."""
        return -(1 << (self.width - 1)) if self.signed else 0

    @cached_property
    def bits_max(self) -> int:
        """Largest value the bits can hold."""
        return (1 << (self.width - self.signed)) - 1

    @cached_property
    def legal_min(self) -> int:
        """Smallest legal value."""
        return self.bits_min if self.minimum is None else self.minimum

    @cached_property
    def legal_max(self) -> int:
        """Largest legal value."""
        return self.bits_max if self.maximum is None else self.maximum


@dataclass(frozen=True)
class Op:
    """One instruction. `fields` are its operands in assembly order, without opcode and semaphore masks.

    `combine` is set for vector ALU operations: the fold over the window.
    """

    mnemonic: str
    opcode: int
    doc: str
    fields: tuple[Field, ...] = ()
    combine: Combine | None = None

    @cached_property
    def engine(self) -> Engine:
        """The engine that executes it."""
        return Engine(self.opcode >> 5)

    @cached_property
    def all_fields(self) -> tuple[Field, ...]:
        """Every field with the common ones: `opcode`, and for engine instructions `wait` and `signal`."""
        common = (OPCODE,) if self.engine is Engine.CONTROL else (OPCODE, WAIT, SIGNAL)
        return common + self.fields

    @cached_property
    def used_mask(self) -> int:
        """Mask of the bits the instruction defines; all others must be zero."""
        mask = 0
        for field in self.all_fields:
            mask |= ((1 << field.width) - 1) << field.lo
        return mask

    def field(self, name: str) -> Field:
        """The field called `name`; KeyError if there is none."""
        for field in self.all_fields:
            if field.name == name:
                return field
        raise KeyError(f"{self.mnemonic} has no field {name!r}")


OPCODE = Field("opcode", 0, 8, "which instruction")
WAIT = Field(
    "wait", 8, 16, "semaphores that must all be above zero; each is decremented", kind=Kind.SEMAPHORES, default=0
)
SIGNAL = Field(
    "signal", 24, 16, "semaphores incremented once the instruction is complete", kind=Kind.SEMAPHORES, default=0
)

_RA = Field("ra", 40, 4, "register added to the first address", kind=Kind.REGISTER, default=0)
_RB = Field("rb", 44, 4, "register added to the second address", kind=Kind.REGISTER, default=0)
_RC = Field("rc", 96, 4, "register added to the third address", kind=Kind.REGISTER, default=0)


def _local0(name: str, doc: str) -> Field:
    return Field(name, 48, 16, doc, "rows", kind=Kind.LOCAL, index="ra")


def _local1(name: str, doc: str) -> Field:
    return Field(name, 64, 16, doc, "rows", kind=Kind.LOCAL, index="rb")


def _dram(doc: str) -> Field:
    return Field("dram", 64, 32, doc, "bytes", kind=Kind.DRAM, index="rb")


def _stride(name: str, lo: int, doc: str) -> Field:
    return Field(name, lo, 16, doc, "rows", signed=True, default=0)


def _count(name: str, lo: int, width: int, doc: str, minimum: int = 1) -> Field:
    return Field(name, lo, width, doc, minimum=minimum, default=1)


_RD = Field("rd", 8, 4, "destination register", kind=Kind.REGISTER)
_RS = Field("rs", 12, 4, "source register", kind=Kind.REGISTER)
_RT = Field("rt", 16, 4, "second source register", kind=Kind.REGISTER)
_IMM32 = Field("imm", 32, 32, "immediate", signed=True)

_TRANSFER_COUNTS = (
    _count("n0", 96, 12, "rows of one line, contiguous in DRAM and in local memory", minimum=0),
    _count("n1", 108, 10, "lines of one plane"),
    _count("n2", 118, 10, "planes"),
)
_DRAM_STRIDES = (
    Field("s1", 40, 32, "DRAM distance from line to line", "bytes", signed=True, default=0),
    Field("s2", 72, 32, "DRAM distance from plane to plane", "bytes", signed=True, default=0),
)


def _vector(mnemonic: str, number: int, doc: str, combine: Combine = Combine.SUM) -> Op:
    return Op(
        mnemonic,
        0x80 + number,
        doc,
        (
            _local0("dst", "first destination row"),
            _local1("a", "first row of operand A"),
            Field(
                "b", 80, 16, "first row of operand B; with b_imm a signed number", "rows", kind=Kind.LOCAL, index="rc"
            ),
            Field("b_imm", 100, 1, "1: operand B is the number in field b, sign-extended, in every lane", default=0),
            Field("post", 101, 3, "what follows the reduction", kind=Kind.ENUM, choices=Post, maximum=4, default=0),
            _RA,
            _RB,
            _RC,
        ),
        combine,
    )


OPS: tuple[Op, ...] = (
    # ---- control: executed by the frontend, in order
    Op("nop", 0x00, "Does nothing."),
    Op("halt", 0x01, "Waits until every engine is idle, then ends the program: STATUS.done, interrupt."),
    Op(
        "fence",
        0x02,
        "Waits until the named engines have completed everything dispatched to them.",
        (Field("engines", 8, 4, "bit 0 load, 1 store, 2 matrix, 3 vector", minimum=1, default=15),),
    ),
    Op(
        "irq",
        0x03,
        "Puts `code` into CSR USER_CODE, sets IRQ_STATUS.user and goes on.",
        (Field("code", 8, 16, "number for the host", default=0),),
    ),
    Op("addi", 0x04, "rd = rs + imm, modulo 2**32. `li rd, imm` is `addi rd, r0, imm`.", (_RD, _RS, _IMM32)),
    Op("add", 0x05, "rd = rs + rt, modulo 2**32.", (_RD, _RS, _RT)),
    Op("sub", 0x06, "rd = rs - rt, modulo 2**32.", (_RD, _RS, _RT)),
    Op(
        "slli",
        0x07,
        "rd = rs << amount, modulo 2**32.",
        (_RD, _RS, Field("amount", 32, 5, "bits to shift by")),
    ),
    Op(
        "loop",
        0x08,
        "Runs the instructions up to the matching `endloop` count + rs times; zero times skips them.",
        (
            Field("count", 32, 16, "times; register rs is added, modulo 2**16"),
            _RS,
            Field("length", 64, 12, "instructions from this one to its endloop", "instructions", minimum=1),
        ),
    ),
    Op("endloop", 0x09, "Ends the innermost loop's body."),
    # ---- load: DRAM to scratchpad or accumulators
    Op("ld.sync", 0x20, "Only waits and signals."),
    Op("ld.stride", 0x21, "Sets the DRAM strides of the following ld.run.", _DRAM_STRIDES),
    Op(
        "ld.dst",
        0x22,
        "Sets local strides and padding of the following ld.run. A line occupies pad_lo + n0 + pad_hi local rows.",
        (
            _stride("d1", 40, "local distance from line to line"),
            _stride("d2", 56, "local distance from plane to plane"),
            Field("pad_lo", 72, 8, "padding rows before each line", "rows", default=0),
            Field("pad_hi", 80, 8, "padding rows after each line", "rows", default=0),
            Field("value", 88, 8, "byte written into every lane byte of a padding row", signed=True, default=0),
        ),
    ),
    Op(
        "ld.run",
        0x23,
        "Loads n2 planes of n1 lines of n0 rows. Any DRAM byte address. n0 = 0 only pads.",
        (_local0("dst", "first local row of the first line"), _dram("first byte"), *_TRANSFER_COUNTS, _RA, _RB),
    ),
    # ---- store: scratchpad or accumulators to DRAM
    Op("st.sync", 0x40, "Only waits and signals."),
    Op("st.stride", 0x41, "Sets the DRAM strides of the following st.run: multiples of the bus width.", _DRAM_STRIDES),
    Op(
        "st.src",
        0x42,
        "Sets the local strides of the following st.run.",
        (
            _stride("d1", 40, "local distance from line to line"),
            _stride("d2", 56, "local distance from plane to plane"),
        ),
    ),
    Op(
        "st.run",
        0x43,
        "Stores n2 planes of n1 lines of n0 rows. DRAM addresses are multiples of the bus width.",
        (_local0("src", "first local row of the first line"), _dram("first byte"), *_TRANSFER_COUNTS, _RA, _RB),
    ),
    # ---- matrix
    Op("mx.sync", 0x60, "Only waits and signals."),
    Op(
        "mx.act",
        0x61,
        "Sets counts and activation strides of the following mx.run: three nested loops, n0 innermost.",
        (
            _count("n0", 40, 12, "innermost count"),
            _count("n1", 52, 12, "middle count"),
            _count("n2", 64, 12, "outermost count"),
            _stride("s0", 76, "scratchpad distance of an innermost step"),
            _stride("s1", 92, "scratchpad distance of a middle step"),
            _stride("s2", 108, "scratchpad distance of an outermost step"),
        ),
    ),
    Op(
        "mx.acc",
        0x62,
        "Sets the accumulator strides of the following mx.run, for the same three loops.",
        (
            _stride("t0", 40, "accumulator distance of an innermost step"),
            _stride("t1", 56, "accumulator distance of a middle step"),
            _stride("t2", 72, "accumulator distance of an outermost step"),
        ),
    ),
    Op(
        "mx.wload",
        0x63,
        "Loads a weight tile, one scratchpad row per array row, into the second weight buffer.",
        (
            _local0("src", "scratchpad row that holds array row 0"),
            Field("stride", 64, 16, "distance from array row to array row", "rows", signed=True, default=1),
            _RA,
        ),
    ),
    Op(
        "mx.run",
        0x64,
        "Sends n2 * n1 * n0 activation rows through the array; each result row goes to its accumulator row.",
        (
            _local0("act", "first activation row in the scratchpad"),
            _local1("acc", "first accumulator row"),
            Field("accumulate", 96, 1, "1: add to the accumulator row; 0: overwrite it", default=0),
            Field("swap", 97, 1, "1: switch to the weights of the latest mx.wload first", default=1),
            _RA,
            _RB,
        ),
    ),
    # ---- vector
    Op("vx.sync", 0x80, "Only waits and signals."),
    Op(
        "vx.dims",
        0x81,
        "Sets counts and destination strides: n1 * n0 output rows, each folded from k1 * k0 window rows.",
        (
            _count("n0", 40, 12, "output rows, inner"),
            _count("n1", 52, 12, "output rows, outer"),
            _count("k0", 64, 10, "window rows, inner"),
            _count("k1", 74, 10, "window rows, outer"),
            _stride("d0", 84, "destination distance of an inner output step"),
            _stride("d1", 100, "destination distance of an outer output step"),
        ),
    ),
    Op(
        "vx.astride",
        0x82,
        "Sets the strides of operand A.",
        (
            _stride("n0", 40, "distance of an inner output step"),
            _stride("n1", 56, "distance of an outer output step"),
            _stride("k0", 72, "distance of an inner window step"),
            _stride("k1", 88, "distance of an outer window step"),
        ),
    ),
    Op(
        "vx.bstride",
        0x83,
        "Sets the strides of operand B.",
        (
            _stride("n0", 40, "distance of an inner output step"),
            _stride("n1", 56, "distance of an outer output step"),
            _stride("k0", 72, "distance of an inner window step"),
            _stride("k1", 88, "distance of an outer window step"),
        ),
    ),
    Op(
        "vx.quant",
        0x84,
        "Sets what requantization and clamp use.",
        (
            Field("zero_point", 40, 8, "added after scaling", signed=True, default=0),
            Field("qmin", 48, 8, "smallest result", signed=True, default=-128),
            Field("qmax", 56, 8, "largest result", signed=True, default=127),
            Field("preshift", 64, 5, "left shift before scaling", "bits", default=0),
            Field("mode", 72, 2, "rounding", kind=Kind.ENUM, choices=RequantMode, maximum=2, default=0),
        ),
    ),
    Op(
        "vx.param",
        0x85,
        "Loads per-lane parameters from three accumulator rows: bias, multiplier, shift.",
        (_local0("src", "accumulator row of the biases; multipliers and shifts follow"), _RA),
    ),
    Op(
        "vx.lut",
        0x86,
        "Loads the 256-entry int32 table from 256 / cols accumulator rows.",
        (_local0("src", "accumulator row of entries 0 to cols - 1"), _RA),
    ),
    _vector("vx.add", 0x10, "a + b; the window is summed."),
    _vector("vx.sub", 0x11, "a - b; the window is summed."),
    _vector("vx.mul", 0x12, "Product of the low 16 bits of a and b as signed numbers; the window is summed."),
    _vector("vx.min", 0x13, "The smaller of a and b; the window's smallest.", Combine.MIN),
    _vector("vx.max", 0x14, "The larger of a and b; the window's largest.", Combine.MAX),
    _vector("vx.shl", 0x15, "a << (b & 31), modulo 2**32; the window is summed."),
    _vector("vx.shr", 0x16, "a >> (b & 31), arithmetic, rounding down; the window is summed."),
    _vector("vx.clamp", 0x17, "a limited to qmin..qmax of vx.quant, b ignored; the window is summed."),
    _vector("vx.maxpool", 0x18, "a, b ignored; the window's largest.", Combine.MAX),
)
"""Every instruction."""

BY_MNEMONIC: dict[str, Op] = {op.mnemonic: op for op in OPS}
BY_OPCODE: dict[int, Op] = {op.opcode: op for op in OPS}


def _validate() -> None:
    if len(BY_MNEMONIC) != len(OPS) or len(BY_OPCODE) != len(OPS):
        raise AssertionError("two instructions share a mnemonic or an opcode")
    for op in OPS:
        seen = 0
        for field in op.all_fields:
            mask = ((1 << field.width) - 1) << field.lo
            if seen & mask or field.hi >= INSTRUCTION_BITS:
                raise AssertionError(f"{op.mnemonic}.{field.name}: bits overlap or lie outside the instruction")
            seen |= mask
            if not field.bits_min <= field.legal_min <= field.legal_max <= field.bits_max:
                raise AssertionError(f"{op.mnemonic}.{field.name}: impossible legal range")
            if field.index is not None:
                op.field(field.index)


_validate()


class EncodingError(ValueError):
    """An instruction that cannot be encoded or decoded; `field` names the culprit where there is one."""

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


def encode(mnemonic: str, **values: int) -> int:
    """Encode one instruction into its 128-bit integer.

    Fields not given take their default. Raises `EncodingError` for an unknown mnemonic or field, a missing field
    and a value outside the legal range.
    """
    op = BY_MNEMONIC.get(mnemonic)
    if op is None:
        raise EncodingError(f"unknown instruction {mnemonic!r}")
    known = {field.name for field in op.all_fields} - {"opcode"}
    for name in values:
        if name not in known:
            raise EncodingError(f"{mnemonic} has no field {name!r}", name)
    word = op.opcode
    for field in op.all_fields[1:]:
        value = values.get(field.name, field.default)
        if value is None:
            raise EncodingError(f"{mnemonic} needs field {field.name!r}", field.name)
        value = int(value)
        low, high = field.legal_min, field.legal_max
        if field.name == "b" and values.get("b_imm"):
            low, high = -(1 << 15), (1 << 15) - 1
        if not low <= value <= high:
            raise EncodingError(f"{mnemonic} field {field.name!r}: {value} is not in {low}..{high}", field.name)
        word |= (value & ((1 << field.width) - 1)) << field.lo
    return word


def extract(word: int, field: Field) -> int:
    """The value of `field` in the 128-bit `word`, sign-extended where the field is signed."""
    value = (word >> field.lo) & ((1 << field.width) - 1)
    if field.signed and value >> (field.width - 1):
        value -= 1 << field.width
    return value


@dataclass(frozen=True)
class Decoded:
    """A decoded instruction: its `op` and the value of each field but the opcode."""

    op: Op
    values: dict[str, int]


def decode(word: int) -> Decoded:
    """Decode a 128-bit integer; raises `EncodingError` whose message starts with the name of the hardware's cause:
    ILLEGAL_OPCODE, RESERVED_BITS or ILLEGAL_OPERAND, checked in this order."""
    op = BY_OPCODE.get(word & 0xFF)
    if op is None:
        raise EncodingError(f"ILLEGAL_OPCODE: {word & 0xFF:#04x}")
    if word & ~op.used_mask:
        raise EncodingError(f"RESERVED_BITS: {op.mnemonic} with bits {word & ~op.used_mask:#x} set")
    values = {}
    for field in op.all_fields[1:]:
        value = extract(word, field)
        if not field.legal_min <= value <= field.legal_max:
            raise EncodingError(
                f"ILLEGAL_OPERAND: {op.mnemonic} field {field.name!r}: {value} is not in "
                f"{field.legal_min}..{field.legal_max}",
                field.name,
            )
        values[field.name] = value
    return Decoded(op, values)
