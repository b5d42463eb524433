"""Names and the values of expressions."""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Iterable

from tidemill.asm.diagnostics import Location, SourceError
from tidemill.asm.parser import Binary, Expression, Index, Name, Number, SizeOf, Unary
from tidemill.isa import ENGINES, SCALAR_REGISTERS
from tidemill.operands import BufferRef, LocalAddress, Register, RegisterSum, Semaphore, acc, spad

Value = int | Register | RegisterSum | LocalAddress | BufferRef | Semaphore

RESERVED = frozenset({"spad", "acc", "sem", "sizeof", "zero", *(f"r{i}" for i in range(SCALAR_REGISTERS))})
"""Words that cannot be names (except quoted)."""

PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
ENGINE_BITS = {engine.name.lower(): 1 << position for position, engine in enumerate(ENGINES)}
"""Names in the operand of `fence`."""

_OPERATORS: dict[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.floordiv,
    "%": operator.mod,
    "&": operator.and_,
    "|": operator.or_,
}
_LONGEST_SHIFT = 128


def as_int(value: Value, location: Location) -> int:
    """`value` where it is a number; raises SourceError."""
    if not isinstance(value, int):
        raise SourceError(location, f"expected a number, not {_describe(value)}")
    return value


class Scope:
    """All names of a program; constants are evaluated when they are needed, so order does not matter."""

    def __init__(self) -> None:
        self.labels: dict[str, int] = {}
        self._constants: dict[str, Expression] = {}
        self._values: dict[str, Value] = {}
        self._semaphores: dict[str, Semaphore] = {}
        self._places: dict[str, Location] = {}
        self._active: list[str] = []

    def define(self, name: str, value: Value, location: Location) -> None:
        """Give `name` a value; SourceError where it has one."""
        self._claim(name, location)
        self._values[name] = value

    def define_label(self, name: str, index: int, location: Location) -> None:
        """A label at instruction `index`."""
        self.define(name, index, location)
        self.labels[name] = index

    def define_constant(self, name: str, value: Expression, location: Location) -> None:
        """A constant with its expression."""
        self._claim(name, location)
        self._constants[name] = value

    def define_semaphore(self, semaphore: Semaphore, location: Location) -> None:
        """A semaphore; their names do not meet other names, because only `wait=` and `signal=` read them."""
        _check_reserved(semaphore.name, location)
        self._semaphores[semaphore.name] = semaphore

    def _claim(self, name: str, location: Location) -> None:
        _check_reserved(name, location)
        if name in self._places:
            before = self._places[name]
            raise SourceError(location, f"{name!r} is defined already ({before.file}:{before.line})")
        self._places[name] = location

    def semaphores(self, expression: Expression) -> int:
        """The mask of `a | b | sem[3]`; 0 is the empty set."""
        if isinstance(expression, Binary) and expression.operator == "|":
            return self.semaphores(expression.left) | self.semaphores(expression.right)
        if isinstance(expression, Name):
            if expression.name not in self._semaphores:
                raise SourceError(
                    expression.location,
                    f"unknown semaphore {expression.name!r}{_hint(expression.name, self._semaphores)}",
                )
            return self._semaphores[expression.name].mask
        value = self.evaluate(expression)
        if isinstance(value, Semaphore):
            return value.mask
        if value == 0:
            return 0
        raise SourceError(expression.location, f"expected a semaphore, not {_describe(value)}")

    def evaluate(self, expression: Expression, engines: bool = False) -> Value:
        """The value of `expression`; with `engines` the names of engines are bits. Raises SourceError."""
        match expression:
            case Number(value=int() as number):
                return number
            case Name():
                return self._name(expression, engines)
            case Unary():
                return -as_int(self.evaluate(expression.operand, engines), expression.operand.location)
            case Binary():
                return self._binary(expression, engines)
            case Index():
                return self._index(expression)
            case SizeOf():
                value = self.evaluate(expression.inner)
                if not isinstance(value, BufferRef):
                    raise SourceError(expression.inner.location, f"sizeof takes a buffer, not {_describe(value)}")
                return value.nbytes
        raise SourceError(expression.location, "expected a whole number, a name or an address")

    def _name(self, name: Name, engines: bool) -> Value:
        if not name.quoted and re.fullmatch(r"r\d+", name.name):
            number = int(name.name[1:])
            if number >= SCALAR_REGISTERS:
                raise SourceError(name.location, f"register {name.name} is not in r0..r{SCALAR_REGISTERS - 1}")
            return Register(number)
        if engines and name.name in ENGINE_BITS and not name.quoted:
            return ENGINE_BITS[name.name]
        if name.name in self._values:
            return self._values[name.name]
        if name.name not in self._constants:
            hint = _hint(name.name, [*self._values, *self._constants])
            raise SourceError(name.location, f"unknown name {name.name!r}{hint}")
        if name.name in self._active:
            raise SourceError(name.location, f"{name.name!r} is defined by itself")
        self._active.append(name.name)
        try:
            self._values[name.name] = self.evaluate(self._constants[name.name])
        finally:
            self._active.pop()
        return self._values[name.name]

    def _index(self, expression: Index) -> Value:
        inner = self.evaluate(expression.inner)
        if expression.space == "sem":
            number = as_int(inner, expression.inner.location)
            if not 0 <= number <= 15:
                raise SourceError(expression.inner.location, f"semaphore {number} is not in 0..15")
            return Semaphore(number)
        if not isinstance(inner, (int, Register, RegisterSum)):
            raise SourceError(expression.inner.location, f"a row is a number plus a register, not {_describe(inner)}")
        return (acc(0) if expression.space == "acc" else spad(0)) + inner

    def _binary(self, expression: Binary, engines: bool) -> Value:
        left, right = self.evaluate(expression.left, engines), self.evaluate(expression.right, engines)
        name, location = expression.operator, expression.location
        if isinstance(left, int) and isinstance(right, int):
            if name in ("<<", ">>"):
                if not 0 <= right <= _LONGEST_SHIFT:
                    raise SourceError(location, f"shift by {right} is not in 0..{_LONGEST_SHIFT}")
                return left << right if name == "<<" else left >> right
            if name in "/%" and right == 0:
                raise SourceError(location, "division by zero")
            return _OPERATORS[name](left, right)
        if name == "-" and isinstance(right, int):
            right, name = -right, "+"
        if name == "+":
            if isinstance(left, (int, Register, RegisterSum)) and isinstance(right, BufferRef):
                left, right = right, left
            if isinstance(left, BufferRef) and isinstance(right, (int, Register, RegisterSum)):
                try:
                    return left + right
                except ValueError as error:
                    raise SourceError(location, str(error)) from None
            if isinstance(left, int) and isinstance(right, (Register, RegisterSum)):
                left, right = right, left
            if isinstance(left, Register) and isinstance(right, int):
                return left + right
            if isinstance(left, RegisterSum) and isinstance(right, int):
                return RegisterSum(left.number + right, left.register)
        raise SourceError(location, f"cannot compute {_describe(left)} {expression.operator} {_describe(right)}")


def _check_reserved(name: str, location: Location) -> None:
    if name in RESERVED and location.text[location.column - 1 : location.column] != '"':
        raise SourceError(location, f"{name!r} is a reserved word")


def _hint(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _describe(value: Value) -> str:
    kinds = {
        Register: "a register", RegisterSum: "a register sum", LocalAddress: "a local address", BufferRef: "a buffer",
        Semaphore: "a semaphore",
    }  # fmt: skip
    return str(value) if isinstance(value, int) else kinds[type(value)]
