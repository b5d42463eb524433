"""Build programs in Python: one method per instruction, loops as `with` blocks, names for buffers and semaphores.

b = ProgramBuilder(preset("base"))
a = b.buffer("A", "int8", (16, 16))
ready = b.semaphore("ready")
b.ld_run(dst=spad(0), dram=a, n0=16, signal=[ready])
b.mx_wload(src=spad(0), wait=[ready])
b.halt()
program = b.build()
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from tidemill.config import Config
from tidemill.isa import BY_MNEMONIC, SCALAR_REGISTERS, EncodingError, Field, Kind, Op, encode
from tidemill.operands import (
    R0,
    REQUIRED_SPACE,
    BufferRef,
    LocalAddress,
    Register,
    RegisterSum,
    Semaphore,
    acc,
    space_rows,
    spad,
)
from tidemill.program import DTYPES, BufferDecl, Program, Relocation, SourceLine

__all__ = ["BufferRef", "BuildError", "LocalAddress", "ProgramBuilder", "Register", "Semaphore", "acc", "spad"]

RELOCATABLE_FIELDS = ("dram", "imm")
"""Fields that may hold the address of a buffer."""

PC_LIMIT = 1 << 24
"""Instructions a program may have."""


class BuildError(EncodingError):
    """A program that cannot be built; the message names instruction, field, value and legal range."""


class ProgramBuilder:
    """Collects instructions, buffers and semaphores for one `config`, then makes a `Program`.

    Engine instructions take `wait` and `signal`: a Semaphore, an iterable of them, or a bit mask. Addresses are
    `spad(row)`, `acc(row)`, a BufferRef or (DRAM only) an absolute byte address; each takes `+ Register`. Operand
    `b` of vector instructions takes an address or a number.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self._words: list[int] = []
        self._source: list[SourceLine] = []
        self._buffers: dict[str, BufferDecl] = {}
        self._relocations: list[Relocation] = []
        self._semaphores: list[str] = []
        self._used: dict[int, str] = {}
        self._open: list[int] = []

    # ---- names

    def buffer(self, name: str, dtype: str, shape: Iterable[int], data: np.ndarray | bytes | None = None) -> BufferRef:
        """Declare a DRAM buffer; `data` (an array of that shape, or its little-endian bytes) makes it a constant."""
        if not isinstance(name, str) or name == "":
            raise BuildError(f"buffer name must be a non-empty string, not {name!r}", "name")
        if name in self._buffers:
            raise BuildError(f"buffer {name!r} is declared already", "name")
        if dtype not in DTYPES:
            raise BuildError(f"buffer {name!r} dtype: {dtype!r} is not one of {', '.join(DTYPES)}", "dtype")
        dims = tuple(int(size) for size in shape)
        if any(size < 1 for size in dims):
            raise BuildError(f"buffer {name!r} shape: {dims} must have sizes of 1 and more", "shape")
        nbytes = math.prod(dims) * DTYPES[dtype].itemsize
        content = None
        if data is not None:
            content = data if isinstance(data, bytes) else _content(name, dtype, dims, data)
            if len(content) != nbytes:
                raise BuildError(f"buffer {name!r} data: {len(content)} bytes, its shape needs {nbytes}", "data")
        self._buffers[name] = BufferDecl(name, dtype, dims, content)
        return BufferRef(name, nbytes)

    def semaphore(self, name: str | None = None) -> Semaphore:
        """The next free semaphore, under `name`."""
        index = len(self._semaphores)
        if index >= self.config.semaphores:
            raise BuildError(f"no semaphore left for {name!r}: there are {self.config.semaphores}", "semaphore")
        name = f"s{index}" if name is None else name
        if name in self._semaphores:
            raise BuildError(f"semaphore {name!r} is declared already", "semaphore")
        self._semaphores.append(name)
        return Semaphore(index, name)

    def register(self, name: str | None = None) -> Register:
        """Allocate one of r1 to r15; give it back with `free` or by using it in a `with` statement."""
        for number in range(1, SCALAR_REGISTERS):
            if number not in self._used:
                self._used[number] = name or f"r{number}"
                return Register(number, self._used[number], self.free)
        taken = ", ".join(self._used.values())
        raise BuildError(f"no scalar register left for {name!r}; in use: {taken}", "register")

    def free(self, register: Register) -> None:
        """Give an allocated register back."""
        if self._used.pop(register.number, None) is None:
            raise BuildError(f"register {register} is not allocated", "register")

    # ---- instructions

    @property
    def index(self) -> int:
        """Index of the next instruction."""
        return len(self._words)

    def op(self, mnemonic: str, *, source: SourceLine | None = None, **operands: Any) -> int:
        """Append one instruction and return its index; operands by field name, those left out take their default.

        Raises BuildError naming field, value and legal range.
        """
        op = BY_MNEMONIC.get(mnemonic)
        if op is None:
            hint = difflib.get_close_matches(mnemonic, BY_MNEMONIC, 1)
            raise BuildError(f"unknown instruction {mnemonic!r}" + (f"; did you mean {hint[0]!r}?" if hint else ""))
        if len(self._words) >= PC_LIMIT:
            raise BuildError(f"a program has at most {PC_LIMIT} instructions")
        word, buffers = encode_operands(self.config, op, operands)
        for buffer in buffers.values():
            if buffer not in self._buffers:
                raise BuildError(f"{mnemonic}: buffer {buffer!r} is not declared in this program", "dram")
        index = len(self._words)
        self._words.append(word)
        self._source.append(source or SourceLine("", 0, ""))
        self._relocations += [Relocation(index, name, buffer) for name, buffer in buffers.items()]
        return index

    def __getattr__(self, name: str) -> Callable[..., int]:
        """`b.ld_run(...)` is `b.op("ld.run", ...)`; control instructions have their own name (`b.nop()`)."""
        mnemonic = name if name in BY_MNEMONIC else name.replace("_", ".", 1)
        if name.startswith("_") or mnemonic not in BY_MNEMONIC:
            raise AttributeError(f"ProgramBuilder has no instruction or attribute {name!r}")
        return partial(self.op, mnemonic)

    def li(self, rd: Register, value: int | BufferRef) -> int:
        """rd = value (modulo 2**32), or the address of a buffer."""
        return self.op("addi", rd=rd, rs=R0, imm=value)

    def addi(self, rd: Register, rs: Register, imm: int | BufferRef) -> int:
        """rd = rs + imm, modulo 2**32."""
        return self.op("addi", rd=rd, rs=rs, imm=imm)

    def add(self, rd: Register, rs: Register, rt: Register) -> int:
        """rd = rs + rt, modulo 2**32."""
        return self.op("add", rd=rd, rs=rs, rt=rt)

    def sub(self, rd: Register, rs: Register, rt: Register) -> int:
        """rd = rs - rt, modulo 2**32."""
        return self.op("sub", rd=rd, rs=rs, rt=rt)

    def slli(self, rd: Register, rs: Register, amount: int) -> int:
        """rd = rs << amount, modulo 2**32."""
        return self.op("slli", rd=rd, rs=rs, amount=amount)

    @contextmanager
    def loop(self, count: int | Register | RegisterSum) -> Iterator[None]:
        """Instructions inside run `count` times: a number, a register, or `register + number`."""
        self.loop_begin(count)
        yield
        self.loop_end()

    def loop_begin(self, count: int | Register | RegisterSum, source: SourceLine | None = None) -> int:
        """Open a loop; `loop_end` closes it. Most callers want `loop`."""
        if isinstance(count, Register):
            count = RegisterSum(0, count)
        number, plus = (count.number, count.register) if isinstance(count, RegisterSum) else (count, R0)
        if len(self._open) >= self.config.loop_depth:
            raise BuildError(f"loop: nested deeper than loop_depth = {self.config.loop_depth}", "count")
        index = self.op("loop", count=number, rs=plus, length=1, source=source)
        self._open.append(index)
        return index

    def loop_end(self, source: SourceLine | None = None) -> int:
        """Close the innermost loop."""
        if not self._open:
            raise BuildError("endloop without loop")
        start = self._open.pop()
        index = self.op("endloop", source=source)
        length, spec = index - start, BY_MNEMONIC["loop"].field("length")
        if not self._open and length + 1 > self.config.ibuf_depth:
            raise BuildError(
                f"loop at instruction {start}: {length + 1} instructions; an outermost loop has at most "
                f"ibuf_depth = {self.config.ibuf_depth}, loop and endloop included",
                "length",
            )
        if length > spec.legal_max:
            raise BuildError(f"loop field 'length': {length} is not in {spec.legal_min}..{spec.legal_max}", "length")
        mask = ((1 << spec.width) - 1) << spec.lo
        self._words[start] = self._words[start] & ~mask | length << spec.lo
        return index

    def raw(self, word: int, source: SourceLine | None = None) -> int:
        """Append a 128-bit word as it stands, legal or not."""
        if not 0 <= word < 1 << 128:
            raise BuildError(f"word {word:#x} does not fit in 128 bits")
        self._words.append(word)
        self._source.append(source or SourceLine("", 0, ""))
        return len(self._words) - 1

    def build(self) -> Program:
        """The program so far."""
        if self._open:
            raise BuildError(f"loop at instruction {self._open[-1]} has no endloop")
        return Program(
            config=self.config,
            words=tuple(self._words),
            buffers=dict(self._buffers),
            relocations=tuple(self._relocations),
            semaphores=tuple(self._semaphores),
            source=tuple(self._source) if any(line.line for line in self._source) else (),
        )


def encode_operands(config: Config, op: Op, operands: dict[str, Any]) -> tuple[int, dict[str, str]]:
    """Encode `op` from operand objects: the word, and the buffer each relocated field names. Raises BuildError."""
    values: dict[str, int] = {}
    buffers: dict[str, str] = {}
    specs = {field.name: field for field in op.all_fields[1:]}
    for name, value in operands.items():
        spec = specs.get(name)
        if spec is None:
            hint = difflib.get_close_matches(name, specs, 1)
            suffix = f"; did you mean {hint[0]!r}?" if hint else f"; its fields: {', '.join(specs) or 'none'}"
            raise BuildError(f"{op.mnemonic} has no field {name!r}{suffix}", name)
        try:
            number, register, buffer = _number(config, op, spec, value, values)
        except (TypeError, ValueError) as error:
            if isinstance(error, BuildError):
                raise
            raise BuildError(f"{op.mnemonic} field {name!r}: {error}", name) from error
        values[name] = number
        if register is not None and register.number:
            if spec.index is None:
                raise BuildError(f"{op.mnemonic} field {name!r}: takes no register", name)
            if operands.get(spec.index) is not None:
                raise BuildError(f"{op.mnemonic} field {name!r}: register given twice", name)
            values[spec.index] = register.number
        if buffer is not None:
            buffers[name] = buffer
    try:
        return encode(op.mnemonic, **values), buffers
    except EncodingError as error:
        raise BuildError(str(error), error.field) from None


def _number(
    config: Config, op: Op, spec: Field, value: Any, values: dict[str, int]
) -> tuple[int, Register | None, str | None]:
    """The bits' value of one operand, its register and its buffer; sets b_imm in `values` for operand b."""
    if spec.kind is Kind.SEMAPHORES:
        return _mask(value), None, None
    if spec.kind is Kind.REGISTER:
        if not isinstance(value, (Register, int, np.integer)) or isinstance(value, bool):
            raise TypeError(f"{value!r} is not a register")
        return value.number if isinstance(value, Register) else int(value), None, None
    if isinstance(value, LocalAddress):
        if spec.kind is not Kind.LOCAL:
            raise TypeError(f"{value} is a local address; it takes a {spec.kind.value}")
        if spec.name == "b":
            values.setdefault("b_imm", 0)
        check_local(config, op, spec, value)
        return value.bits, value.register, None
    if isinstance(value, BufferRef):
        if spec.name not in RELOCATABLE_FIELDS:
            raise TypeError(f"{value} is a DRAM address; it takes a {spec.kind.value}")
        if spec.name == "imm" and value.register.number:
            raise ValueError("takes a buffer and an offset, no register")
        if not -(1 << 31) <= value.offset < 1 << 32:
            raise ValueError(f"offset {value.offset} is not in {-(1 << 31)}..{(1 << 32) - 1}")
        offset = value.offset & 0xFFFFFFFF
        if spec.signed and offset >> 31:
            offset -= 1 << 32
        return offset, value.register, value.buffer
    if spec.kind is Kind.LOCAL:
        if spec.name != "b":
            raise TypeError(f"{value} is not a local address (spad or acc)")
        values["b_imm"] = 1
    if isinstance(value, Register) and spec.index is not None:
        value = RegisterSum(0, value)
    if isinstance(value, RegisterSum):
        if spec.index is None:
            raise TypeError("takes no register")
        return value.number, value.register, None
    if spec.kind is Kind.ENUM and isinstance(value, str):
        assert spec.choices is not None
        names = {choice.name.lower(): int(choice) for choice in spec.choices}
        if value.lower() not in names:
            raise ValueError(f"{value!r} is not one of {', '.join(names)}")
        return names[value.lower()], None, None
    if isinstance(value, Register):
        raise TypeError(f"{value} is a register; it takes a {spec.kind.value}")
    number = int(value)
    if number != value:
        raise TypeError(f"{value!r} is not an integer")
    if spec.name == "imm" and 1 << 31 <= number < 1 << 32:
        number -= 1 << 32
    return number, None, None


def check_local(config: Config, op: Op, spec: Field, address: LocalAddress) -> None:
    """Raise BuildError unless the address lies in the right memory, and its row in that memory where it is static."""
    required = REQUIRED_SPACE.get((op.mnemonic, spec.name))
    if required is not None and address.space != required:
        raise BuildError(f"{op.mnemonic} field {spec.name!r}: {address} must lie in {required}", spec.name)
    low, high = 0, space_rows(config, address.space) - 1
    if address.register.number:
        low, high = -(1 << 15), (1 << 15) - 1
    if not low <= address.row <= high:
        raise BuildError(
            f"{op.mnemonic} field {spec.name!r}: {address.space} row {address.row} is not in {low}..{high}", spec.name
        )


def _mask(value: int | Semaphore | Iterable[Semaphore]) -> int:
    if isinstance(value, Semaphore):
        return value.mask
    if isinstance(value, (int, np.integer)):
        return int(value)
    mask = 0
    for semaphore in value:
        if not isinstance(semaphore, Semaphore):
            raise TypeError(f"{semaphore!r} is not a semaphore")
        mask |= semaphore.mask
    return mask


def _content(name: str, dtype: str, shape: tuple[int, ...], data: Any) -> bytes:
    array = np.asarray(data)
    if array.shape != shape:
        raise BuildError(f"buffer {name!r} data: shape {array.shape} is not {shape}", "data")
    target = DTYPES[dtype]
    converted = array.astype(target)
    if not np.array_equal(converted, array, equal_nan=array.dtype.kind == "f"):
        raise BuildError(f"buffer {name!r} data: values do not fit in {dtype}", "data")
    return converted.tobytes()
